"""Assign each line of a report one colour, marker and stroke, the same in all of its figures and tables. No torch.

Colours come first, so that up to nine lines differ in them; from the tenth on lines of one colour differ in marker and
stroke. The colours are our choice: they were searched for by computer, so that any two are at least 24 apart in CIELAB
also as seen by readers with protanopia, deuteranopia or tritanopia, simulated by the matrices of Machado, Oliveira and
Fernandes (2009); `tests/reporting/test_looks.py` measures it. Each has a form for a light and one for a dark page, of a
contrast of 3 and more.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from snn_exp.reporting.comparison import Comparison, Line

# colour on a light page -> on a dark one
COLOURS = {
    "#5577ff": "#7766dd",  # blue
    "#884400": "#cc5500",  # brown
    "#00aa66": "#00cc66",  # green
    "#bb0088": "#ee88aa",  # magenta
    "#bb8811": "#ddbb00",  # ochre
    "#221199": "#9966aa",  # indigo
    "#006644": "#228855",  # dark green
    "#9988dd": "#aabbff",  # lavender
    "#1a1a1a": "#f2f2f2",  # ink
}
# of matplotlib -> of the charts of a page
MARKERS = {"o": "circle", "s": "square", "^": "triangle", "D": "diamond", "v": "inverted_triangle", "*": "star",
           "h": "hex", "P": "plus"}  # fmt: skip
STROKES = {"-": "solid", "--": "dashed", "-.": "dotdash", ":": "dotted"}


@dataclasses.dataclass(frozen=True)
class Look:
    """How a line is drawn.

    Args:
        colour: on a light page, as #rrggbb.
        dark: on a dark page.
        marker: of matplotlib.
        stroke: of matplotlib.
    """

    colour: str
    dark: str
    marker: str
    stroke: str


def looks(names: Iterable[str], methods: Mapping[str, str] | None = None) -> dict[str, Look]:
    """Return name -> look.

    A method has the colour that a hash of its name says, wherever it appears, unless another one of the report has
    taken it: then the next of those that fewest have. Lines of one colour differ in marker (up to eight) and stroke.

    Args:
        names: of the lines, in the order of the report.
        methods: name -> the method, for lines that share a colour; left out: each line is a method of its own.

    Example:
        >>> found = looks(["bn", "psp", "none"])
        >>> len({look.colour for look in found.values()})
        3
        >>> deep = looks(["bn d8", "bn d20"], {"bn d8": "bn", "bn d20": "bn"})
        >>> deep["bn d8"].colour == deep["bn d20"].colour, deep["bn d8"].marker == deep["bn d20"].marker
        (True, False)
    """
    colours, markers, strokes = list(COLOURS), list(MARKERS), list(STROKES)
    places: dict[str, int] = {}
    ranks = [0] * len(colours)
    found: dict[str, Look] = {}
    for name in dict.fromkeys(names):
        method = (methods or {}).get(name, name)
        if method not in places:
            preferred = hashlib.sha256(method.encode("utf-8", "backslashreplace")).digest()[0] % len(colours)
            taken = Counter(places.values())
            places[method] = min(range(len(colours)), key=lambda i: (taken[i], (i - preferred) % len(colours)))
        place = places[method]
        colour, rank = colours[place], ranks[place]
        ranks[place] += 1
        marker, stroke = markers[(place + rank) % len(markers)], strokes[(rank + rank // len(markers)) % len(strokes)]
        found[name] = Look(colour, COLOURS[colour], marker, stroke)
    return found


def of_comparison(comparison: Comparison) -> dict[str, Look]:
    """Return the look of each line of a comparison, the same in all panels.

    Lines that differ in depth alone have one colour, unless all lines do. The name of a line without its depth, under
    which a figure against depth draws it, has the look of the first line that it stands for.
    """
    lines = [line for panel in comparison.panels for line in panel.lines]
    methods = {line.name: without_depth(line) for line in lines}
    found = looks(methods, methods if len(set(methods.values())) > 1 else None)
    for name, method in methods.items():
        found.setdefault(method, found[name])
    return found


def without_depth(line: Line) -> str:
    """Return the name of a line without its depth.

    Example:
        >>> without_depth(Line({"norm": "bn", "depth.num_layers": "20"}, {}))
        'bn'
    """
    labels: Mapping[str, str] = {key: value for key, value in line.labels.items() if key != "depth.num_layers"}
    return dataclasses.replace(line, labels=labels).name
