"""Interactive charts of a page: what each draws of its picture's numbers, and the library that draws it. No torch.

The library is Bokeh: well kept, under a BSD licence, and the only one of its kind whose Python package carries a bundle
of about a megabyte (Plotly's carries 4.8). None of its Python is imported: the page holds its two scripts, packed to
0.5 MB, and unpacks them when a chart comes into view. Until then, in print, and in a browser that runs no scripts, the
page shows the same picture as SVG.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import gzip
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from snn_exp.reporting.looks import MARKERS, STROKES, Look

SCRIPTS = ("bokeh.min.js", "bokeh-api.min.js")


@dataclasses.dataclass(frozen=True)
class Axes:
    """One of the axes of a chart.

    Args:
        where: column -> value of the rows of the picture's data that it shows.
        title: above it.
        x_label: of its abscissa.
        y_label: of its ordinate.
        x_factor: of the numbers, such as 1e-3 to show pJ as nJ.
        y_factor: likewise.
        log_x: whether the abscissa is logarithmic.
        log_y: whether the ordinate is.
        x_ticks: where the abscissa has its ticks; empty: wherever the library puts them.
        rule: where a dotted horizontal line is drawn.
    """

    where: Mapping[str, str]
    title: str
    x_label: str = ""
    y_label: str = ""
    x_factor: float = 1.0
    y_factor: float = 1.0
    log_x: bool = False
    log_y: bool = False
    x_ticks: Sequence[float] = ()
    rule: float | None = None


@dataclasses.dataclass(frozen=True)
class Chart:
    """How a page draws the numbers of a picture.

    Args:
        kind: curves, points with their spread both ways, or a map of values.
        x: the column of the abscissa.
        y: the column of the ordinate.
        axes: in the order of the page.
        looks: name of a line -> its look; other lines are grey.
        spread: the column of the sd of y; "" for none.
        x_spread: likewise of x.
        aside: by what factor the marks of a line lie aside from those of the one before it, so that no interval hides
            another.
        band: whether the spread of curves is a band, and no bars.
        joined: a column of True and False: whether a point belongs to the line that joins the optimal ones.
        value: the column of the values of a map.
        but_equal: whether cells of which x and y are equal are grey: those of a confusion matrix that are right.
    """

    kind: Literal["curves", "points", "map"]
    x: str
    y: str
    axes: Sequence[Axes]
    looks: Mapping[str, Look] = dataclasses.field(default_factory=dict)
    spread: str = ""
    x_spread: str = ""
    aside: float = 1.0
    band: bool = False
    joined: str = ""
    value: str = ""
    but_equal: bool = False

    def spec(self) -> dict[str, Any]:
        """Return what the script of the page reads."""
        looks = {name: [look.colour, look.dark, MARKERS[look.marker], STROKES[look.stroke]]
                 for name, look in self.looks.items()}  # fmt: skip
        axes = [dataclasses.asdict(one) for one in self.axes]
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {
            "looks": looks,
            "axes": axes,
        }


@functools.cache
def library() -> tuple[str, str]:
    """Return the version of Bokeh, and its scripts, gzipped and in base64.

    Example:
        >>> version, packed = library()
        >>> len(packed) < 600_000
        True
    """
    spec = importlib.util.find_spec("bokeh")
    assert spec is not None and spec.submodule_search_locations is not None  # a dependency of ours
    folder = Path(spec.submodule_search_locations[0]) / "server" / "static" / "js"
    scripts = b"\n".join((folder / name).read_bytes() for name in SCRIPTS)
    return importlib.metadata.version("bokeh"), base64.b64encode(gzip.compress(scripts, 9, mtime=0)).decode()
