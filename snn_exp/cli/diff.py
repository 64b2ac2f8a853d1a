"""`snn-exp diff`: where two finished runs differ."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from snn_exp.cli.parsing import RUN, command_parser, print_table
from snn_exp.escaping import add_row, rich


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp diff`."""
    parser = command_parser("diff", "Show where two finished runs differ.")
    parser.add_argument("runs", nargs=2, metavar="RUN", help=RUN)
    given = parser.parse_args(arguments)

    from snn_exp.runs import store
    from snn_exp.runs.find import find_run

    a, b = (find_run(run) for run in given.runs)
    differing = store.difference(a, b)
    table = Table(title="" if differing else "the two do not differ")
    for heading in ("", a.path.name, b.path.name):
        table.add_column(rich(heading))
    for row in differing:
        add_row(table, *row)
    print_table(table, prose=(a.path.name, b.path.name))
    return 0
