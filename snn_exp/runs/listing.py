"""Stored runs as rows: which columns, in which order, as a table or as JSON. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from snn_exp.errors import unknown
from snn_exp.escaping import add_row
from snn_exp.runs.store import StoredRun, to_the_minute

OWN = ("run", "state", "ended", "method", "cpu_s", "duration_s")  # beside choices and metrics


def columns_of(runs: Sequence[StoredRun]) -> list[str]:
    """Return the columns that runs have: their own, choices and metrics."""
    found = dict.fromkeys(OWN)
    for run in runs:
        found |= dict.fromkeys(run.choices)
        found |= dict.fromkeys(run.result.metrics if run.result else ())
    return list(found)


def require_columns(names: Sequence[str], runs: Sequence[StoredRun], flag: str) -> None:
    """Refuse a column that none of the runs has.

    Raises:
        UserError: with the columns that there are.
    """
    there = columns_of(runs)
    for name in names:
        if name not in there:
            raise unknown("column", name, there, f"{flag} {{}}")


def value_of(run: StoredRun, column: str) -> Any:
    """Return the value of a run in a column, as stored; None where it has none."""
    if column == "run":
        return run.name
    if column == "state":
        return run.state
    if column == "method":
        return run.label("method")
    if column == "ended":
        return run.result.finished_at if run.result else None
    if column in ("cpu_s", "duration_s"):
        return getattr(run.result, column, None)
    if run.result and column in run.result.metrics:
        return run.result.metrics[column]
    return run.stored.chosen.get(column, run.choices.get(column))


def in_order(runs: Sequence[StoredRun], column: str) -> list[StoredRun]:
    """Sort runs by a column, numbers as numbers, by a leading - from the largest; those without a value come last."""
    largest_first, column = column.startswith("-"), column.removeprefix("-")
    values = {run.name: value_of(run, column) for run in runs}
    there = [run for run in runs if not _is_missing(values[run.name])]
    are_numbers = all(isinstance(values[run.name], int | float) for run in there)
    there.sort(key=lambda run: values[run.name] if are_numbers else str(values[run.name]), reverse=largest_first)
    return there + [run for run in runs if _is_missing(values[run.name])]


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def table(runs: Sequence[StoredRun], columns: Sequence[str]) -> Table:
    """Return a table with the columns that were asked for."""
    drawn = Table()
    for column in columns:
        is_number = all(isinstance(value_of(run, column), int | float | None) for run in runs)
        drawn.add_column(column, justify="right" if is_number else "left", no_wrap=True)
    for run in runs:
        add_row(drawn, *(_shown(value_of(run, column), column) for column in columns))
    return drawn


def _shown(value: Any, column: str) -> str:
    """Format a value: metrics with four decimals where they are at most 1, a date to the minute."""
    if value is None:
        return "-"
    if column == "ended":
        return to_the_minute(value)
    if "/" in column and isinstance(value, float) and abs(value) <= 1:
        return f"{value:.4f}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def as_plain(runs: Sequence[StoredRun], columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return one mapping per run, for JSON: the columns asked for, or all that the run has; no value is null."""
    plain = []
    for run in runs:
        values = {column: value_of(run, column) for column in columns or columns_of([run])}
        plain.append({column: None if _is_missing(value) else value for column, value in values.items()})
    return plain
