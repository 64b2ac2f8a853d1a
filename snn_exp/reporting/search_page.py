"""The page of a search: history, importance of parameters, parallel coordinates, front with intervals. No torch.

Pruned trials are marked in the history and are nowhere else: all other figures and tables are of whole trials.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import pandas as pd

from snn_exp import escaping
from snn_exp.escaping import mathtext
from snn_exp.files import write_text
from snn_exp.reporting.axes import LEFT, legend_below, legend_width, make_grid
from snn_exp.reporting.figures import Picture, optimal
from snn_exp.reporting.formatting import is_cost, scale, shown
from snn_exp.reporting.stats import CONFIDENCE
from snn_exp.runs.provenance import now

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHOLE, PRUNED = "whole", "pruned"


@dataclasses.dataclass(frozen=True)
class TrialShown:
    """A trial of a search.

    Args:
        number: its number.
        state: whole, pruned, or in words why it has neither curve nor values.
        params: axis -> what it proposed; an axis that it does not have is left out.
        values: objective -> value; of a pruned trial, as it stood after its last epoch.
        run: the run id; "" where the rules refuse it.
        cpu_s: of training.
        epochs: trained, as "4 of 12"; "" where none is known.
        repeats: objective -> values on further seeds.
    """

    number: int
    state: str
    params: Mapping[str, Any]
    values: Mapping[str, float]
    run: str
    cpu_s: float
    epochs: str = ""
    repeats: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class AxisShown:
    """An axis of a space.

    Args:
        key: of the override.
        line: the override.
        is_log: uniform in its logarithm.
        is_number: not a choice among names.
    """

    key: str
    line: str
    is_log: bool
    is_number: bool


@dataclasses.dataclass(frozen=True)
class SearchShown:
    """What the page of a search shows.

    Args:
        name: of the search.
        command: the command that continues it.
        facts: name -> value of what it is.
        objectives: the names of what it optimises.
        axes: what it leaves open.
        trials: those that have ended.
        importances: axis -> share, by Optuna; empty where it can tell none.
        answer: what to type next.
    """

    name: str
    command: str
    facts: Mapping[str, str]
    objectives: Sequence[str]
    axes: Sequence[AxisShown]
    trials: Sequence[TrialShown]
    importances: Mapping[str, float]
    answer: Sequence[str]

    @property
    def whole(self) -> list[TrialShown]:
        """Return the trials that were trained to their end."""
        return [trial for trial in self.trials if trial.state == WHOLE]


def pictures(search: SearchShown) -> list[Picture]:
    """Return the figures that its trials allow."""
    made = [history(search), importance(search), parallel(search), front(search)]
    return [picture for picture in made if picture]


def history(search: SearchShown) -> Picture | None:
    """Plot validation accuracy over the trials, and the best so far; None before the first whole trial."""
    if not search.whole:
        return None
    best, found = -math.inf, list[dict[str, Any]]()
    for trial in sorted(search.trials, key=lambda trial: trial.number):
        if (value := trial.values.get("val/acc")) is not None:
            best = max(best, value) if trial.state == WHOLE else best
            found.append({"trial": trial.number, "state": trial.state, "val/acc": value, "cpu_s": trial.cpu_s,
                          "best": best if best > -math.inf else math.nan})  # fmt: skip
    caption = "Every trial and the best so far; a pruned one as it stood when it was stopped, which is no result of it."
    return Picture("history", caption, pd.DataFrame(found), lambda of: _draw_history(of, f"search {search.name}"))


def _draw_history(data: pd.DataFrame, title: str) -> Figure:
    factor, _, unit = scale("val/acc")
    names = [WHOLE, PRUNED] if (data["state"] == PRUNED).any() else [WHOLE]
    figure, ((axes,),) = make_grid(1, 1, 6.5, 3.2, title, [*names, "best of the whole ones"])
    for state, look in zip(names, ({"marker": "o"}, {"marker": "x"}), strict=False):
        of = data[data["state"] == state]
        axes.scatter(of["trial"], factor * of["val/acc"], s=18, label=state, color="C0" if state == WHOLE else "grey",
                     **look)  # fmt: skip
    axes.step(data["trial"], factor * data["best"], where="post", color="C1", label="best of the whole ones")
    axes.set_xlabel("trial", fontsize=8)
    axes.set_ylabel(f"val/acc{unit}", fontsize=8)
    axes.tick_params(labelsize=7)
    legend_below(figure)
    return figure


def importance(search: SearchShown) -> Picture | None:
    """Plot the importance of each parameter for validation accuracy, as Optuna computes it; None where it cannot."""
    if not search.importances:
        return None
    data = pd.DataFrame({"parameter": list(search.importances), "importance": list(search.importances.values())})
    caption = (
        f"Importance for validation accuracy, {len(search.whole)} whole trials: Optuna's PED-ANOVA, which compares the "
        f"best trials with all; shares of 1. With few trials it is uncertain."
    )
    return Picture("importance", caption, data, lambda of: _draw_importance(of, f"search {search.name}"))


def _draw_importance(data: pd.DataFrame, title: str) -> Figure:
    from matplotlib.figure import Figure

    inside, below, above, row = legend_width([*data["parameter"]]) + 0.1, 0.5, 0.4, 0.28
    width, height = inside + 5.0, below + above + row * len(data)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((inside / width, below / height, 4.7 / width, row * len(data) / height))
    axes.barh([mathtext(name) for name in data["parameter"][::-1]], data["importance"][::-1], height=0.6)
    axes.set_xlabel("share of the importance", fontsize=8)
    axes.tick_params(labelsize=7)
    figure.suptitle(mathtext(title), fontsize=10)
    return figure


def parallel(search: SearchShown) -> Picture | None:
    """Plot what each whole trial proposed, and its accuracy; None for fewer than two trials."""
    if len(search.whole) < 2:
        return None
    data = pd.DataFrame([
        {"trial": trial.number, **{axis.key: trial.params.get(axis.key, math.nan) for axis in search.axes},
         **{name: trial.values[name] for name in search.objectives}}
        for trial in search.whole
    ])  # fmt: skip
    caption = "What the whole trials proposed; a line breaks where a trial has no such parameter. The best are on top."
    return Picture("parallel", caption, data, lambda of: _draw_parallel(of, search))


def _draw_parallel(data: pd.DataFrame, search: SearchShown) -> Figure:
    from matplotlib import colormaps

    columns = [*(axis.key for axis in search.axes), *search.objectives]
    is_log = {axis.key: axis.is_log for axis in search.axes} | {name: is_cost(name) for name in search.objectives}
    heights, ticks = {}, {}
    for column in columns:
        heights[column], ticks[column] = _heights(data[column], is_log[column], column)
    ranks = data["val/acc"].rank(pct=True)
    figure, ((axes,),) = make_grid(1, 1, max(5.0, 1.5 * len(columns) + LEFT), 3.8, f"search {search.name}")
    colours = colormaps["viridis"]
    for row in data["val/acc"].sort_values().index:
        axes.plot(range(len(columns)), [heights[column][row] for column in columns], marker=".", linewidth=1,
                  color=colours(ranks[row]), alpha=0.4 + 0.6 * ranks[row])  # fmt: skip
    for place, column in enumerate(columns):
        axes.axvline(place, color="lightgrey", linewidth=0.8, zorder=0)
        for height, text in ticks[column]:
            axes.annotate(mathtext(text), (place, height), (3, 0), "data", "offset points", fontsize=6, va="center")
    axes.set_xticks(range(len(columns)), [mathtext(column) for column in columns], fontsize=7)
    axes.set_yticks([])
    axes.set_xlim(-0.2, len(columns) - 0.4)
    return figure


def _heights(column: pd.Series[Any], is_log: bool, name: str) -> tuple[dict[Any, float], list[tuple[float, str]]]:
    """Return where each trial lies on an axis, from 0 to 1, and its ticks."""
    there = column.dropna()
    try:
        numbers = there.astype(float)
    except ValueError:
        names = sorted({str(value) for value in there})
        at = {text: place / max(1, len(names) - 1) for place, text in enumerate(names)}
        found = {row: at[str(value)] for row, value in there.items()}
        return dict.fromkeys(column.index, math.nan) | found, [(height, text) for text, height in at.items()]
    ends = (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 1.0)
    scaled = numbers.map(math.log) if is_log and ends[0] > 0 else numbers
    low, span = float(scaled.min()), float(scaled.max() - scaled.min()) or 1.0
    found = {row: (value - low) / span for row, value in scaled.items()}
    in_words = [shown(end, name) if name.startswith("val/") else f"{end:.3g}" for end in ends]
    ticks = list(zip((0.0, 1.0), in_words, strict=True)) if ends[0] < ends[1] else [(0.0, in_words[0])]
    return dict.fromkeys(column.index, math.nan) | found, ticks


def front(search: SearchShown) -> Picture | None:
    """Plot accuracy against energy, joining the Pareto-optimal, with intervals where trials were repeated.

    None unless both are objectives.
    """
    if "val/energy_pj" not in search.objectives or not search.whole:
        return None
    found = []
    for trial in search.whole:
        entry = {"trial": trial.number, **{name: trial.values[name] for name in search.objectives}, "n": 0}
        for name, sample in trial.repeats.items():
            entry |= {f"{name} repeated": fmean(sample), f"{name} interval": half_width(sample), "n": len(sample)}
        found.append(entry)
    best = optimal({str(one["trial"]): (one["val/energy_pj"], one["val/acc"]) for one in found})
    data = pd.DataFrame([{**one, "optimal": str(one["trial"]) in best} for one in found])
    num = int((data["n"] > 1).sum())
    caption = "Every whole trial by the seed of the search; joined: the Pareto-optimal." + (
        f" Squares: the mean of {num} of them over further seeds, with 95 % intervals." if num else
        " None is repeated on further seeds yet."
    )  # fmt: skip
    return Picture("front", caption, data, lambda of: _draw_front(of, f"search {search.name}"))


def half_width(sample: Sequence[float]) -> float:
    """Return half the 95 % interval of a mean, by Student's t; 0 for a single value.

    Example:
        >>> round(half_width([1.0, 2.0, 3.0]), 3)
        2.484
    """
    if len(sample) < 2:
        return 0.0
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, len(sample) - 1)) * stdev(sample) / math.sqrt(len(sample))


def _draw_front(data: pd.DataFrame, title: str) -> Figure:
    factor, _, unit = scale("val/acc")
    figure, ((axes,),) = make_grid(1, 1, 6.0, 4.0, title)
    axes.scatter(data["val/energy_pj"] / 1000, factor * data["val/acc"], s=18, color="C0")
    joined = data[data["optimal"]].sort_values("val/energy_pj")
    axes.plot(joined["val/energy_pj"] / 1000, factor * joined["val/acc"], color="grey", linewidth=0.8)
    if (data["n"] > 1).any():
        of = data[data["n"] > 1]
        axes.errorbar(of["val/energy_pj repeated"] / 1000, factor * of["val/acc repeated"],
                      factor * of["val/acc interval"], of["val/energy_pj interval"] / 1000, fmt="s", color="C1",
                      markersize=4)  # fmt: skip
    for _, one in joined.iterrows():
        at = (one["val/energy_pj"] / 1000, factor * one["val/acc"])
        axes.annotate(str(int(one["trial"])), at, (3, 3), textcoords="offset points", fontsize=7)
    axes.set_xlabel("energy of one validation sample, nJ", fontsize=8)
    axes.set_ylabel(f"val/acc{unit}", fontsize=8)
    axes.tick_params(labelsize=7)
    return figure


def table(search: SearchShown) -> tuple[list[str], list[list[tuple[str, float | None]]]]:
    """Return headings and rows of all trials, the best whole ones first: each cell with its number, if it is one."""
    headings = ["trial", "state", *search.objectives, *(axis.key for axis in search.axes), "epochs", "CPU s", "run"]
    is_whole = {trial.number: trial.state == WHOLE for trial in search.trials}
    ranked = sorted(search.trials, key=lambda t: (not is_whole[t.number], -t.values.get("val/acc", 0.0), t.number))
    return headings, [_row(search, trial) for trial in ranked]


def _row(search: SearchShown, trial: TrialShown) -> list[tuple[str, float | None]]:
    is_whole = trial.state == WHOLE
    return [
        (str(trial.number), trial.number),
        (trial.state, None),
        *((shown(trial.values[name], name), trial.values[name]) if is_whole else ("-", None)
          for name in search.objectives),
        *(_cell(trial.params.get(axis.key), axis.is_number) for axis in search.axes),
        (trial.epochs or "-", None),
        (f"{trial.cpu_s:.0f}", trial.cpu_s),
        (trial.run or "-", None),
    ]  # fmt: skip


def _cell(value: Any, is_number: bool) -> tuple[str, float | None]:
    if value is None:
        return "-", None
    return (f"{float(value):.4g}", float(value)) if is_number else (str(value), None)


def write(search: SearchShown, folder: Path) -> Path:
    """Write the page, and the numbers of each figure as CSV beside it; return the page.

    Args:
        search: what it shows.
        folder: of the search.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("snn_exp.reporting"), autoescape=True, finalize=escaping.html, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    drawn = pictures(search)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for picture in drawn:
        write_text(folder / "figures" / f"{picture.name}.csv", escaping.csv(picture.data))
    headings, rows = table(search)
    page = folder / "search.html"
    text = environment.get_template("search.html").render(
        search=search, headings=headings, rows=rows, made_at=now(), pictures=[(one, one.svg()) for one in drawn]
    )
    write_text(page, text)
    return page
