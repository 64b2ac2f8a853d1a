"""Forest plots: the intervals that a claim rests on, one line per comparison. Reads results only; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from snn_exp.escaping import mathtext
from snn_exp.reporting.axes import BOTTOM, CHARACTER, LETTERS, RIGHT, ROW
from snn_exp.reporting.claims import Finding
from snn_exp.reporting.figures import Picture
from snn_exp.reporting.formatting import in_unit
from snn_exp.reporting.verdicts import Answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 2  # lines: one interval is read in its table as well
COLOURS: dict[Finding, str] = {
    "holds": "tab:blue",
    "not shown": "tab:grey",
    "the opposite holds": "tab:red",
    "no test": "tab:olive",
}
MARKERS: dict[Finding, str] = {"holds": "o", "not shown": "s", "the opposite holds": "D", "no test": "^"}
INNER = 3.4  # inches of the axes' width
TOP = 0.12  # inches above the axes


def forest(answer: Answer, name: str) -> Picture | None:
    """Plot the mean and 95 % interval of each comparison of a claim; None for fewer than two.

    Args:
        answer: the claim and its verdicts.
        name: of the picture.
    """
    found = [
        {"comparison": f"{v.setting}, {v.compared}", "finding": v.finding, "quantity": m.quantity, "mean": m.mean,
         "low": m.low, "high": m.high, "n": m.n}
        for v in answer.verdicts
        if (m := v.outcome.measured) is not None
    ]  # fmt: skip
    if len(found) < FEWEST:
        return None
    bounds = next(m.bounds for v in answer.verdicts if (m := v.outcome.measured) is not None)
    metric = answer.claim.metric
    return Picture(
        name,
        "Means with 95 % intervals; dashed: what they are held against.",
        pd.DataFrame(found).astype({"low": float, "high": float}),
        lambda of: _draw(of, bounds, metric, answer.claim.metrics),
    )


def _draw(data: pd.DataFrame, bounds: tuple[float, ...], metric: str, metrics: str) -> Figure:
    from matplotlib.figure import Figure

    quantity = str(data["quantity"].iloc[0])
    factor, unit = in_unit(metric, quantity)
    left = CHARACTER * max(map(len, data["comparison"])) + 0.2
    wide, inner, below = left + INNER + RIGHT, ROW * 1.25 * (len(data) + 0.6), BOTTOM + ROW * 1.6
    high = TOP + inner + below
    figure = Figure(figsize=(wide, high))
    axes = figure.add_axes((left / wide, below / high, INNER / wide, inner / high))
    for bound in bounds:
        axes.axvline(factor * bound, color="black", linewidth=0.8, linestyle="--", zorder=0)
    places = pd.Series(range(len(data)), index=data.index)
    for finding in COLOURS:
        of = data[data["finding"] == finding]
        if of.empty:
            continue
        mean = factor * of["mean"]
        # arrays: matplotlib 3.10 takes a Series of one value for a number, and pandas 2.2 warns of that
        whiskers = [
            whisker.fillna(0.0).to_numpy() for whisker in (mean - factor * of["low"], factor * of["high"] - mean)
        ]
        axes.errorbar(mean, places[of.index], xerr=whiskers, fmt=MARKERS[finding], markersize=4, capsize=2,
                      linewidth=1.2, color=COLOURS[finding], label=finding)  # fmt: skip
    axes.set_yticks(list(places), [mathtext(name) for name in data["comparison"]], fontsize=LETTERS)
    axes.set_ylim(len(data) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=LETTERS)
    axes.grid(axis="x", linewidth=0.3)
    words = {"difference": f"difference of {metrics}", "mean": metrics, "ratio": f"ratio of {metrics}"}[quantity]
    axes.set_xlabel(mathtext(f"{words}{', ' + unit if unit else ''}"), fontsize=8)
    figure.legend(fontsize=LETTERS, loc="lower center", ncols=len(COLOURS), frameon=False, borderaxespad=0.1)
    return figure
