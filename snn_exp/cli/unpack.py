"""`snn-exp unpack`: the run or the study of a file that `snn-exp pack` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from snn_exp.cli.parsing import command_parser
from snn_exp.escaping import say


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp unpack`."""
    parser = command_parser(
        "unpack", "Check a file of snn-exp pack, and put its runs into outputs/runs and its study into studies/."
    )
    parser.add_argument("file", help="the file")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.studies import packing
    from snn_exp.training.load import load_checked

    for line in packing.unpack(Path(given.file), load_checked):
        say(line)
    return 0
