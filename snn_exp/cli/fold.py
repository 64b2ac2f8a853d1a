"""`snn-exp fold`: a trained network without its norms, in int8 as well."""

from __future__ import annotations

from collections.abc import Sequence

from snn_exp.cli.parsing import RUN, command_parser
from snn_exp.cli.trained_run import trained_run
from snn_exp.escaping import say
from snn_exp.waiting import working


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp fold`."""
    parser = command_parser("fold", "Write a trained network without its norms, and compare the two.")
    parser.add_argument("run", help=RUN)
    parser.add_argument("--int8", action="store_true", help="also with int8 weights: accuracy, flips, size")
    given = parser.parse_args(arguments)

    folder, config = trained_run(given.run)

    say(f"run {folder.path.name}: {config.label}")  # before the seconds of importing torch
    with working("folding, and comparing the two networks"):
        from snn_exp.export import folded_run
        from snn_exp.training.threads import threads_of

        with threads_of(config):
            folded = folded_run.fold_run(folder, config).text()
    say(folded)
    say(f"written: {folder.folded}; snn_exp.load('{folder.path.name}', for_inference=True) uses such a network")
    if given.int8:
        with working("converting to int8, and comparing the two networks"), threads_of(config):
            from snn_exp.export import int8

            in_int8 = int8.integer_run(folder, config).text()
        say(in_int8)
    return 0
