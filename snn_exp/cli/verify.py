"""`snn-exp verify`: train a finished run again, and compare."""

from __future__ import annotations

from collections.abc import Sequence

from snn_exp.cli.parsing import RUN, command_parser
from snn_exp.cli.trained_run import trained_run
from snn_exp.escaping import say


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp verify`."""
    parser = command_parser("verify", "Train a finished run again, elsewhere, and compare weights and metrics.")
    parser.add_argument("run", help=RUN)
    given = parser.parse_args(arguments)

    folder, config = trained_run(given.run)
    say(f"run {folder.path.name}: {config.label}; training it again")

    from snn_exp.training.verify import verify

    found = verify(folder, config)
    say("\n".join([found.finding, *(f"  {reason}" for reason in found.reasons)]))
    return 1 if found.finding == "different" else 0
