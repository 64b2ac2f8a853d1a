"""`snn-exp evidence`: what all studies say of the sentences of the two abstracts, as pages."""

from __future__ import annotations

from collections.abc import Sequence

from snn_exp.cli.parsing import command_parser
from snn_exp.escaping import say


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp evidence`."""
    parser = command_parser(
        "evidence",
        "Write studies/README.md and the answers in docs/evidence.md and README.md from the studies' claims.",
    )
    parser.parse_args(arguments)

    from snn_exp.studies import evidence_page

    for path in evidence_page.write():
        say(f"written: {path}")
    return 0
