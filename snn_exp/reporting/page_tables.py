"""Tables of a page: best first, decimal points in a line, lines with the marks that they have in figures. No torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from snn_exp.reporting.looks import Look
from snn_exp.reporting.tables import Entry

_NUMBER = re.compile(r"(?P<whole>[+\-\u2212<]?\s?\d[\d,]*)(?P<decimals>\.\d+)?(?=\s|$|[%\[(±])")
FIGURE_SPACE, POINT_SPACE = "\u2007", "\u2008"  # as wide as a digit, and as a full stop
# how a swatch of 28 x 12 shows a line: matplotlib's names of strokes and markers
_DASHES = {"-": "", "--": "5 2", "-.": "5 2 1 2", ":": "1 2"}
_SHAPES = {
    "o": "M10 6a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    "s": "M10 2h8v8h-8z",
    "^": "M14 1.5l4.5 8h-9z",
    "v": "M14 10.5l4.5-8h-9z",
    "D": "M14 1l5 5-5 5-5-5z",
    "*": "M14 1l1.2 3.6h3.8l-3 2.3 1.1 3.7-3.1-2.2-3.1 2.2 1.1-3.7-3-2.3h3.8z",
    "h": "M10 3.7l4-2.3 4 2.3v4.6l-4 2.3-4-2.3z",
    "P": "M12.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
}


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading.

    Args:
        text: as shown.
        best_is_high: whether a click sorts by falling numbers first.
        order: ascending or descending, if the rows are sorted by it; "" if not.
    """

    text: str
    best_is_high: bool = False
    order: str = ""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell.

    Args:
        lead: what stands left of the line of decimal points and its decimals, or the text.
        tail: the rest.
        width: of all tails of the column, in widths of a digit; 0: there is none.
        number: by which its column sorts.
        swatch: of the line that it names.
        picture: address of a picture of what it names.
    """

    lead: str
    tail: str = ""
    width: float = 0.0
    number: float | None = None
    swatch: str = ""
    picture: str = ""


@dataclasses.dataclass(frozen=True)
class PageTable:
    """A table of a page."""

    headings: Sequence[Heading]
    rows: Sequence[Sequence[Cell]]


def of(
    headings: Sequence[str],
    rows: Sequence[Sequence[Entry]],
    looks: Mapping[str, Look],
    *,
    best_is_high: Sequence[str] = (),
    by: str = "",
    order: Sequence[str] = (),
) -> PageTable:
    """Return a table as a page shows it.

    Args:
        headings: of the columns.
        rows: the entries; the first of each names the line.
        looks: name of a line -> its look.
        best_is_high: headings of quantities of which more is better.
        by: the heading by which the rows are sorted, the best first and those without a number last.
        order: names of lines in whose order the rows stand, where `by` is left out.
    """
    sign, shown = (-1 if by in best_is_high else 1), list(rows)
    if by:
        place = list(headings).index(by)
        shown.sort(key=lambda row: (row[place].number is None, sign * (row[place].number or 0.0)))
    elif order:
        places = {name: place for place, name in enumerate(order)}
        shown.sort(key=lambda row: places.get(row[0].text, len(places)))
    columns = [[Cell(row[0].text, number=row[0].number, picture=row[0].picture) for row in shown]]
    columns += [_aligned([row[place] for row in shown]) for place in range(1, len(headings))]
    cells = [[column[number] for column in columns] for number in range(len(shown))]
    for row in cells:
        if (look := looks.get(row[0].lead)) is not None:
            row[0] = dataclasses.replace(row[0], swatch=swatch(look))
    said = "descending" if by in best_is_high else "ascending"
    return PageTable([Heading(h, h in best_is_high, said if by == h else "") for h in headings], cells)


def _aligned(column: Sequence[Entry]) -> list[Cell]:
    """Split each entry behind its first number, so that decimal points lie in a line."""
    found = [_NUMBER.match(entry.text) for entry in column]
    if not any(found):
        return [Cell(entry.text, number=entry.number) for entry in column]
    digits = max(len(match["decimals"] or ".") - 1 for match in found if match)
    width = max(_width(entry.text[match.end() :]) for entry, match in zip(column, found, strict=True) if match)
    cells = []
    for entry, match in zip(column, found, strict=True):
        if match is None:
            cells.append(Cell(entry.text, "", width, entry.number))
            continue
        lacking = digits - len(match["decimals"] or ".") + 1
        point = POINT_SPACE if digits and not match["decimals"] else ""
        cells.append(Cell(match[0] + point + FIGURE_SPACE * lacking, entry.text[match.end() :], width, entry.number))
    return cells


def _width(text: str) -> float:
    """Estimate the width of a text in widths of a digit."""
    return round(sum(0.62 if c in " .,:;[]()" else 1.35 if c in "+±%\u2212<" else 1.0 for c in text), 1)


def swatch(look: Look) -> str:
    """Return the SVG element that shows a line beside its name: stroke and marker, in its colour.

    Example:
        >>> from snn_exp.reporting.looks import looks
        >>> swatch(looks(["bn"])["bn"])[:16]
        '<svg class="look'
    """
    dashes = f' stroke-dasharray="{dashes}"' if (dashes := _DASHES[look.stroke]) else ""
    return (
        f'<svg class="look" style="--light:{look.colour};--dark:{look.dark}" viewBox="0 0 28 12" aria-hidden="true">'
        f'<path class="stroke" d="M0 6H28"{dashes}/><path d="{_SHAPES[look.marker]}"/></svg>'
    )
