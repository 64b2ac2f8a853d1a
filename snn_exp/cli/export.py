"""`snn-exp export`: a trained network in another format, read back and compared."""

from __future__ import annotations

from collections.abc import Sequence

from snn_exp.cli.parsing import RUN, command_parser
from snn_exp.cli.trained_run import trained_run
from snn_exp.escaping import say
from snn_exp.waiting import working


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp export`."""
    parser = command_parser("export", "Write a trained network in another format, read it back and compare the two.")
    parser.add_argument("run", help=RUN)
    parser.add_argument("--format", required=True, help="onnx, nir or safetensors")
    parser.add_argument("--folded", action="store_true", help="without its norms; fold the run first if necessary")
    given = parser.parse_intermixed_args(arguments)

    with working("importing torch, and what writes the format"):
        from snn_exp.export import export_run, folded_run, require_format
        from snn_exp.training.threads import threads_of

    require_format(given.format)
    folder, config = trained_run(given.run)
    say(f"run {folder.path.name}: {config.label}")
    with threads_of(config):
        if given.folded and not folder.folded.exists():
            with working("folding, and comparing the two networks"):
                folded = folded_run.fold_run(folder, config).text()
            say(folded)
        with working(f"writing {given.format}, reading it back, and comparing"):
            exported = export_run(folder, config, given.format, folded=given.folded).text()
    say(exported)
    return 0
