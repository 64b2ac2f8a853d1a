"""Figures with axes of equal size, and margins for labels, title and legend, drawn by matplotlib. No torch.

The margins are fixed: a layout that measures every label costs as much as drawing the figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from snn_exp.escaping import mathtext

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# inches around each axes for its labels, and above all of them for the title
LEFT, RIGHT, TOP, BOTTOM, TITLE = 0.55, 0.12, 0.28, 0.45, 0.35
# inches of a legend in a font of LETTERS points: a character, the marker beside a name, a row
LETTERS, CHARACTER, MARK, ROW = 7, 0.062, 0.5, 0.16


def make_grid(
    down: int, across: int, width: float, height: float, title: str, names: Sequence[str] = (), beside: float = 0.0
) -> tuple[Figure, Any]:
    """Make a figure, and its axes as an array of down x across.

    Args:
        down: rows of axes.
        across: columns of axes.
        width: of one axes with its labels, inches.
        height: likewise.
        title: above all axes.
        names: of the lines that `legend_below` will name.
        beside: room kept at the right, inches.

    Example:
        >>> figure, axes = make_grid(2, 3, 3.0, 2.0, "what is shown", names=["bn", "psp"])
        >>> axes.shape, figure.get_size_inches().round(2).tolist()
        ((2, 3), [9.0, 4.59])
    """
    from matplotlib.figure import Figure

    wide = across * width + beside
    below = ROW * (-(-len(names) // _columns(names, wide)) + 0.5) if names else 0.0
    high = down * height + TITLE + below
    inner_width, inner_height = width - LEFT - RIGHT, height - TOP - BOTTOM
    figure = Figure(figsize=(wide, high))
    axes = figure.subplots(
        down,
        across,
        squeeze=False,
        gridspec_kw={
            "left": LEFT / wide,
            "right": 1 - (RIGHT + beside) / wide,
            "bottom": (BOTTOM + below) / high,
            "top": 1 - (TITLE + TOP) / high,
            "wspace": (LEFT + RIGHT) / inner_width,
            "hspace": (TOP + BOTTOM) / inner_height,
        },
    )
    figure.suptitle(mathtext(title), fontsize=10, y=1 - 0.08 / high)
    return figure, axes


def legend_below(figure: Figure) -> None:
    """Draw a legend of the lines of the first axes below all axes, in the margin that `make_grid` reserved."""
    handles, names = figure.axes[0].get_legend_handles_labels()
    columns = _columns(names, figure.get_figwidth())
    figure.legend(handles, names, loc="lower center", ncols=columns, fontsize=LETTERS, columnspacing=1.0)


def legend_width(names: Sequence[str]) -> float:
    """Return the width in inches of a legend of one column.

    Example:
        >>> legend_width(["bn", "psp standardized"]) > legend_width(["bn"])
        True
    """
    return MARK + CHARACTER * max(map(len, names), default=0)


def _columns(names: Sequence[str], wide: float) -> int:
    return min(len(names), max(1, int(wide / (legend_width(names) + 0.1)))) or 1
