"""Confusion matrices of a panel as a picture: what the samples of each class were taken for. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from snn_exp.escaping import mathtext
from snn_exp.reporting.axes import CHARACTER, make_grid
from snn_exp.reporting.charts import Axes, Chart
from snn_exp.reporting.comparison import Comparison, Panel
from snn_exp.reporting.figures import Picture
from snn_exp.reporting.per_class import matrices

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 30  # of a picture: beyond, its cells are too small to be read, and the table of classes remains
MOST_COUNTED = 12  # classes up to which the counts stand in the cells
CELL = 0.24  # inches


def confusion(comparison: Comparison, panel: Panel) -> Picture | None:
    """Plot what the test samples of each class were taken for, summed over the seeds: one matrix per line.

    None where the table of classes has none either (`per_class.matrices`), or there are more than MOST_CLASSES classes.

    Args:
        comparison: the data.
        panel: one of its panels.
    """
    found = matrices(panel)
    if found is None or len(found.classes) > MOST_CLASSES:
        return None
    marks = [
        {"line": line, "class": name, "taken for": other, "count": int(summed[k, j]),
         "share": float(summed[k, j] / max(summed[k].sum(), 1))}
        for line, of in found.by_line.items()
        for summed in [np.asarray(of).sum(axis=0)]
        for k, name in enumerate(found.classes)
        for j, other in enumerate(found.classes)
    ]  # fmt: skip
    data = pd.DataFrame(marks)
    axes = [Axes({"line": line}, line, "taken for", "class") for line in found.by_line]
    chart = Chart("map", "taken for", "class", axes, value="share", but_equal=True)
    caption = (
        "What test samples were taken for, summed over the seeds: the share of each class; grey: those recognised."
    )
    title = f"{comparison.title}, {panel.name}"
    return Picture(f"confusion_{panel.name}", caption, data, lambda of: _draw(of, title), chart)


def _draw(data: pd.DataFrame, title: str) -> Figure:
    lines, classes = list(data["line"].unique()), list(data["class"].unique())
    longest = CHARACTER * max(len(str(name)) for name in classes)
    across = min(len(lines), 3)
    inner = max(CELL * len(classes), 1.6)
    down = -(-len(lines) // across)
    figure, grid = make_grid(down, across, inner + 0.85 + longest, inner + 0.9 + longest, title, beside=0.95)
    wrong = data.loc[data["class"] != data["taken for"], "share"]
    most = float(wrong.max()) or 1.0
    image = None
    for axes, line in zip(grid.flat, lines, strict=False):
        of = data[data["line"] == line]
        shares = of.pivot(index="class", columns="taken for", values="share").loc[classes, classes].to_numpy()
        counts = of.pivot(index="class", columns="taken for", values="count").loc[classes, classes].to_numpy()
        axes.set_facecolor("lightgrey")
        image = axes.imshow(np.ma.masked_where(np.eye(len(classes), dtype=bool), shares), vmin=0, vmax=most)
        for k, j in np.ndindex(*counts.shape) if len(classes) <= MOST_COUNTED else ():
            dark = k != j and shares[k, j] < 0.6 * most
            if counts[k, j]:
                axes.text(j, k, str(counts[k, j]), ha="center", va="center", fontsize=5, color="w" if dark else "k")
        axes.set_xticks(range(len(classes)), [mathtext(name) for name in classes], rotation=90, fontsize=6)
        axes.set_yticks(range(len(classes)), [mathtext(name) for name in classes], fontsize=6)
        axes.set_xlabel("taken for", fontsize=7)
        axes.set_ylabel("class", fontsize=7)
        axes.set_title(mathtext(line), fontsize=8)
    for axes in grid.flat[len(lines) :]:
        axes.axis("off")
    if image is not None:
        wide = figure.get_figwidth()
        bar = figure.colorbar(image, cax=figure.add_axes((1 - 0.85 / wide, 0.2, 0.15 / wide, 0.6)))
        bar.set_label("share of the class", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure
