"""`snn-exp export`: a trained network in another format, read back and compared."""

from __future__ import annotations

from collections.abc import Sequence

from snn_exp.cli.parsing import RUN, command_parser
from snn_exp.cli.trained_run import trained_run
from snn_exp.escaping import say


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp export`."""
    parser = command_parser("export", "Write a trained network in another format, read it back and compare the two.")
    parser.add_argument("run", help=RUN)
    parser.add_argument("--format", required=True, help="onnx, nir or safetensors")
    parser.add_argument("--folded", action="store_true", help="without its norms; fold the run first if necessary")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.export import export_run, require_format

    require_format(given.format)
    folder, config = trained_run(given.run)
    from snn_exp.training.threads import threads_of

    say(f"run {folder.path.name}: {config.label}")
    with threads_of(config.trainer):
        if given.folded and not folder.folded.exists():
            from snn_exp.export import folded_run

            say(folded_run.fold_run(folder, config).text())
        say(export_run(folder, config, given.format, folded=given.folded).text())
    return 0
