"""`snn-exp runs`: list the stored runs, and remove some."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from snn_exp.cli.parsing import command_parser, print_table
from snn_exp.errors import UserError, say_once
from snn_exp.escaping import say


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp runs`."""
    parser = command_parser("runs", "List or remove stored runs. Nothing is removed without --yes.")
    parser.add_argument("words", nargs="*", metavar="[list|clean] key=value", help="such as clean state=failed")
    parser.add_argument("--yes", action="store_true", help="remove what clean names")
    parser.add_argument("--sort", metavar="COLUMN", help="such as ended or test/acc; --sort=-test/acc: largest first")
    parser.add_argument("--columns", metavar="A,B", help="such as run,neuron,optim.lr,test/acc,ended")
    parser.add_argument("--json", action="store_true", help="one object per run, with all its choices and metrics")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.files import printable
    from snn_exp.runs import listing, store
    from snn_exp.runs.find import foreign_names
    from snn_exp.runs.paths import output_root

    cleaning = given.words[:1] == ["clean"]
    filters = given.words[1:] if cleaning or given.words[:1] == ["list"] else given.words
    if cleaning and given.json:
        raise UserError("--json lists runs and removes none; type snn-exp runs --json, or leave --json out")
    if cleaning and not filters:
        raise UserError("snn-exp runs clean needs a filter, so that it does not remove every run; type state=failed")
    selection = store.selected(filters)
    found = selection.runs
    if given.sort is not None:
        listing.require_columns([given.sort.removeprefix("-")], found, "--sort")
        found = listing.in_order(found, given.sort)
    columns = [column.strip() for column in given.columns.split(",")] if given.columns is not None else []
    listing.require_columns(columns, found, "--columns")
    if given.json:
        say(json.dumps(listing.as_plain(found, columns), indent=2))
        return 0
    if columns:
        print_table(listing.table(found, columns), columns[:0:-1], more="--json prints all")
    elif found or not selection.notes:  # else the notes say what was asked for and why there is none
        print_table(
            store.table(found), ("CPU s", "ended"), ("what",), "--columns run,test/acc,ended,cpu_s those you name"
        )
    for note in selection.notes:
        say(note)
    if others := foreign_names():
        some = ", ".join(map(printable, others[:5])) + (", ..." if len(others) > 5 else "")
        say_once(f"skipped in {output_root() / 'runs'} (not a run): {some}")
    if cleaning and given.yes:
        removed, failures = store.remove(found)
        for path in removed:
            say(f"removed {path}")
        for failure in failures:
            say(f"snn-exp: {failure}", file=sys.stderr)
        return 1 if failures else 0
    if cleaning and found:
        say("nothing is removed yet; add --yes to remove these")
    return 0
