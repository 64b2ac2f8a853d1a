"""Fit a table into a terminal: prose is wrapped at words, columns are left out and named, and no value is cut."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Column, Table

from snn_exp import escaping

PROSE = 18  # a column of prose is no narrower than this, or than its longest text


def show(
    table: Table, console: Console, leave_out: Sequence[str] = (), prose: Collection[str] = (), more: str = ""
) -> None:
    """Print a table with the columns that there is room for, and below it which others there are.

    Args:
        table: the table; what its columns say of wrapping is set here.
        console: where to.
        leave_out: the headings of the columns that may be left out, the first one first.
        prose: the headings of the columns that may be wrapped at words.
        more: how to see what is left out, besides in a wider terminal.
    """
    kept, left_out = fitted(table, console, leave_out, prose)
    console.print(kept)
    if left_out:
        also = f", and {more}" if more else ""
        says = f"without room at {console.width} columns: {', '.join(left_out)}; a wider terminal has all{also}"
        console.print(escaping.rich(says))


def fitted(
    table: Table, console: Console, leave_out: Sequence[str] = (), prose: Collection[str] = ()
) -> tuple[Table, list[str]]:
    """Return the table without the columns that have no room, and their headings.

    Args:
        table: as in `show`.
        console: likewise.
        leave_out: likewise.
        prose: likewise.

    Example:
        >>> table = Table("run", "what", "CPU s")
        >>> table.add_row("0123456789", "lif bn", "1,234")
        >>> kept, left_out = fitted(table, escaping.PlainConsole(width=26), leave_out=["CPU s"])
        >>> [column.header for column in kept.columns], left_out
        (['run', 'what'], ['CPU s'])
    """
    unbounded = console.options.update(width=10_000)
    columns = _columns(table, prose)
    left_out: list[str] = []
    for heading in leave_out:
        needed = console.measure(_of(table, columns), options=unbounded).minimum
        if needed <= console.width:
            break
        if any(_heading(column) == heading for column in columns):
            columns = [column for column in columns if _heading(column) != heading]
            left_out.append(heading)
    if console.measure(_of(table, columns), options=unbounded).minimum > console.width:
        for column in columns:
            column.no_wrap, column.min_width = False, None
    return _of(table, columns), left_out


def needed(table: Table, prose: Collection[str] = ()) -> int:
    """Return the width at which no column is left out."""
    console = escaping.PlainConsole(width=10_000)
    return console.measure(_of(table, _columns(table, prose))).minimum


def _columns(table: Table, prose: Collection[str]) -> list[Column]:
    """Return copies of the columns, in which prose is wrapped at words and nothing else is wrapped."""
    console = escaping.PlainConsole(width=10_000)
    columns = [copy.copy(column) for column in table.columns]
    for column in columns:
        column.overflow = "fold"  # where even the columns that stay have no room, a value goes on below
        longest = console.measure(_of(table, [column])).maximum - 4  # without its edges
        column.no_wrap = _heading(column) not in prose
        column.min_width = longest if column.no_wrap else min(PROSE, longest)
    return columns


def _heading(column: Column) -> str:
    return str(column.header)


def _of(table: Table, columns: list[Column]) -> Table:
    """Return the table with these columns alone."""
    made = copy.copy(table)
    made.columns = columns
    return made
