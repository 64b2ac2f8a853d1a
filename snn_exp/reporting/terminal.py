"""A comparison in the terminal: the same tables, captions and sentences after a sweep, a study and a report."""

from __future__ import annotations

from rich.console import Console, JustifyMethod
from rich.table import Table

from snn_exp import escaping
from snn_exp.reporting import tables
from snn_exp.reporting.comparison import Comparison, Panel

# Columns that a table has where there is room for them, the first one first; all others it always has.
WHERE_THERE_IS_ROOM = (
    "energy nJ", "firing rate", "T", "p", "energy /", "val/acc %", "fit, CPU s", "AC", "MAC", "highest layer",
)  # fmt: skip
WIDTH = 320  # where the output is not a terminal, so that there is room
CAPTION = 120  # most columns of a caption, which is prose


def show(comparison: Comparison, console: Console) -> None:
    """Print one table per panel, and a caption below the last one.

    Args:
        comparison: the data.
        console: where to; its width decides which columns there is room for.
    """
    if not comparison.panels:
        return
    shown: dict[str, None] = {}
    left_out: dict[str, None] = {}
    for panel in comparison.panels:
        drawn, headings, others = _fitted(comparison, panel, console)
        shown |= dict.fromkeys(headings)
        left_out |= dict.fromkeys(others)
        console.print(drawn)
    says = tables.caption(comparison, shown)
    if left_out:
        says += (
            f" Without room at {console.width} columns: {'; '.join(left_out)}. A wider terminal has them, and so have "
            f"the files of snn-exp report."
        )
    console.print(escaping.rich(says), width=min(console.width, CAPTION))


def outcome(comparison: Comparison, headline: str | None = None) -> str:
    """Say which line is best, and below it, one per line, what is missing or left out.

    Args:
        comparison: the data.
        headline: that of a report, which also counts claims; of the tables alone if left out.
    """
    first = tables.headline(comparison) if headline is None else headline
    gaps = [f"  {escaping.one_line(gap)}" for gap in tables.gaps(comparison)]
    return "\n".join([*filter(None, [escaping.one_line(first)]), *gaps])


def _fitted(comparison: Comparison, panel: Panel, console: Console) -> tuple[Table, list[str], list[str]]:
    """Return the table of a panel, its headings, and those that it has no room for."""
    title = escaping.rich(f"{comparison.title}, {panel.name}")
    headings, rows = tables.table(comparison, panel)
    unbounded = console.options.update(width=10_000)

    def drawn(shown: set[str]) -> Table:
        table = Table(title=title, title_justify="left")
        for heading in headings:
            if heading in shown:
                justify: JustifyMethod = "left" if heading == headings[0] else "right"
                table.add_column(escaping.rich(heading), justify=justify, overflow="fold")  # no digit is cut
        for row in rows:
            texts = (escaping.one_line(entry.text) for h, entry in zip(headings, row, strict=True) if h in shown)
            escaping.add_row(table, *texts)
        return table

    optional = [heading for first in WHERE_THERE_IS_ROOM for heading in headings if _is(heading, first)]
    shown = set(headings)
    if console.measure(drawn(shown), options=unbounded).maximum > console.width:
        shown -= set(optional)
    for heading in optional if shown < set(headings) else ():
        if console.measure(drawn(shown | {heading}), options=unbounded).maximum <= console.width:
            shown.add(heading)
    return drawn(shown), [h for h in headings if h in shown], [h for h in optional if h not in shown]


def _is(heading: str, first: str) -> bool:
    return heading == first or (first.endswith("/") and heading.startswith(first))
