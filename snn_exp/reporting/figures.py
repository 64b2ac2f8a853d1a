"""Plots of a comparison, each drawn from the table that is saved beside it. Reads results only; no torch."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import pandas as pd

from snn_exp.escaping import file_name, mathtext
from snn_exp.files import whole_file
from snn_exp.reporting import looks
from snn_exp.reporting.axes import LETTERS, ROW, legend_below, legend_width, make_grid
from snn_exp.reporting.charts import Axes, Chart
from snn_exp.reporting.comparison import Comparison, Line, Panel, values
from snn_exp.reporting.formatting import is_cost, scale, tie
from snn_exp.reporting.looks import Look
from snn_exp.runs.folder import DamagedRun, RunFolder
from snn_exp.runs.paths import output_root

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# quantity -> its axis, and whether it is drawn on a logarithmic one
QUANTITIES = {
    "firing_rate": ("firing rate", False),
    "variance": ("Var(u) / theory", True),
    "gradient_norm": ("|dL/dW|", True),
    "dead_channels": ("dead channels", False),
}
WHEN = {"init": "at initialisation", "trained": "after training"}
CURVES = {"train/loss": "training loss", "val/acc": "validation accuracy", "val/firing_rate": "firing rate, validation"}
SMALLEST = 1e-12  # a logarithmic axis has no 0
MOST_LINES = 12  # that can be distinguished in one figure
PER_LAYER = "val/firing_rate/"  # columns of metrics.csv
MOST_NAMED = 40  # lines of the figure against energy: beyond, the optimal ones alone have a look of their own
ASIDE = 1.012  # from one line to the next at the same depth, so that no interval hides another
MARKERS_FROM = {marker: number for number, marker in enumerate(looks.MARKERS)}  # so that marks lie beside each other
TALL = 0.04  # inches of a layer in the map of firing rates
DPI = {"png": 300, "pdf": 300, "svg": 90}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A plot, its caption and its data.

    Args:
        name: of its files, made a valid file name.
        caption: what it shows, in a sentence.
        data: every number that is drawn, one row per mark.
        draw: draws the figure from the data alone.
        chart: how a page draws the same data to be explored; None: it shows the picture alone.
    """

    name: str
    caption: str
    data: pd.DataFrame
    draw: Callable[[pd.DataFrame], Figure]
    chart: Chart | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", file_name(self.name))  # a panel has the name of its data

    def save(self, path: Path, dpi: int | None = None) -> Path:
        """Save the plot.

        Args:
            path: with the format as its extension: .png, .pdf, .svg.
            dpi: dots per inch of what is no line and no letter; 300 if left out, as journals ask for.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as scratch:
            self._written(scratch, path.suffix[1:], dpi)
        return path

    def svg(self) -> str:
        """Return the plot as an SVG element, with coordinates to a hundredth of a point."""
        text = io.StringIO()
        self._written(text, "svg")
        element = "".join(text.getvalue().partition("<svg")[1:])
        element = re.sub(r"(?<=[MLCQ \"])(-?\d+\.\d\d)\d+(?=[ \n\"])", r"\1", element)
        return re.sub(r"\n\s+", "\n", element)

    def _written(self, where: Any, kind: str, dpi: int | None = None) -> None:
        import matplotlib

        # text stays text, and the same data give the same file
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.name}):
            self.draw(self.data).savefig(
                where, format=kind, dpi=dpi or DPI.get(kind, 300), metadata=dict.fromkeys(_DATED[kind])
            )


# Metadata that would make two files of the same data differ
_DATED = {"png": ["Software"], "svg": ["Creator", "Date"], "pdf": ["Creator", "Producer", "CreationDate"]}


def pictures(comparison: Comparison) -> list[Picture]:
    """Return the plots that can be drawn from the finished runs."""
    panels = comparison.panels
    made = [
        depth(comparison),
        *(pareto(comparison, panel) for panel in panels),
        *(curves(comparison, panel) for panel in panels),
        *(heat(comparison, panel) for panel in panels),
        *(layers(comparison, panel) for panel in panels),
    ]
    return [picture for picture in made if picture]


def _told_apart(comparison: Comparison, panel: Panel) -> tuple[Sequence[Line], str]:
    """Return the lines of a figure, only the best if there are too many, and the caption's remark on that."""
    if len(panel.lines) <= MOST_LINES:
        return panel.lines, ""
    means = {line.name: fmean(of.values()) for line in panel.lines if (of := values(line.rows, comparison.metric))}
    ranked = sorted(means, key=lambda name: means[name], reverse=not is_cost(comparison.metric))
    best, rest = ranked[:MOST_LINES], ranked[MOST_LINES:]
    ties = sum(tie(means[name], means[best[-1]]) for name in rest)
    which = f" The {MOST_LINES} best of {len(panel.lines)} lines{f'; {ties} more tie with the last' if ties else ''}."
    return [line for line in panel.lines if line.name in best], which


def depth(comparison: Comparison) -> Picture | None:
    """Plot metric and firing rate against depth: one column per group of lines that differ in depth alone."""
    metric = comparison.metric
    found = [
        {"group": _family(panel.name), "line": looks.without_depth(line), "layers": layers, "quantity": quantity,
         "mean": fmean(of), "sd": _sd(of), "n": len(of)}
        for panel in comparison.panels
        for line in panel.lines
        for quantity in dict.fromkeys((metric, "test/firing_rate"))
        if (of := list(values(line.rows, quantity).values()))
        for layers in [next(iter(line.rows.values())).result.config["depth"]["num_layers"]]
    ]  # fmt: skip
    if not found:
        return None
    data = pd.DataFrame(found)
    several = data.groupby("group")["layers"].transform("nunique") > 1
    data = data[several].sort_values(["group", "layers"], kind="stable", ignore_index=True)
    if data.empty:
        return None
    title = f"{comparison.title}: mean and sd over seeds"
    found_looks = _looks(comparison, data)
    axes = [
        Axes({"group": group, "quantity": quantity}, f"{quantity}{unit}, {group}", "layers", f"{quantity}{unit}",
             y_factor=factor, log_x=True, x_ticks=sorted({int(n) for n in data[data["group"] == group]["layers"]}))
        for quantity in data["quantity"].unique()
        for factor, _, unit in [scale(quantity)]
        for group in data["group"].unique()
    ]  # fmt: skip
    chart = Chart("curves", "layers", "mean", axes, found_looks, spread="sd", aside=ASIDE)
    caption = "Against depth: mean and sd over seeds; the marks of one depth are drawn side by side."
    return Picture("depth", caption, data, lambda of: _draw_depth(of, found_looks, title), chart)


def _family(panel: str) -> str:
    """Return the name of a panel without its depth, in which alone the settings of a study may differ."""
    return re.sub(r"_d\d+$", "", panel)


def _draw_depth(data: pd.DataFrame, of_lines: Mapping[str, Look], title: str) -> Figure:
    groups, quantities = data["group"].unique(), data["quantity"].unique()
    figure, grid = make_grid(len(quantities), len(groups), 3.8 if len(groups) > 1 else 5.0, 2.7, title, [*of_lines])
    aside = {line: ASIDE ** (number - (len(of_lines) - 1) / 2) for number, line in enumerate(of_lines)}
    for column, group in enumerate(groups):
        of_group = data[data["group"] == group]
        ticks = sorted(of_group["layers"].unique())
        for row, quantity in enumerate(quantities):
            axes, (factor, _, unit) = grid[row][column], scale(str(quantity))
            for line, points in of_group[of_group["quantity"] == quantity].groupby("line", sort=False):
                look = of_lines[str(line)]
                axes.errorbar(points["layers"] * aside[str(line)], factor * points["mean"], factor * points["sd"],
                              marker=look.marker, markersize=4, label=mathtext(line), color=look.colour,
                              linestyle=look.stroke, linewidth=1.2, elinewidth=0.8, capsize=2)  # fmt: skip
            axes.set_xscale("log")
            axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=7)
            axes.minorticks_off()
            axes.set_title(mathtext(f"{quantity}{unit}, {group}"), fontsize=9)
            axes.tick_params(labelsize=7)
    for axes in grid[-1]:
        axes.set_xlabel("layers", fontsize=8)
    legend_below(figure)
    return figure


def optimal(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names of the Pareto-optimal points, in order of cost.

    Args:
        points: name -> (cost, merit).

    Example:
        >>> optimal({"dear": (9, 0.9), "good": (5, 0.9), "as good": (5, 0.9), "cheap": (1, 0.7), "poor": (2, 0.6)})
        ['cheap', 'good', 'as good']
    """
    kept: list[str] = []
    for name in sorted(points, key=lambda n: (points[n][0], -points[n][1])):
        if not kept or points[name][1] > points[kept[-1]][1] or points[name] == points[kept[-1]]:
            kept.append(name)
    return kept


def pareto(comparison: Comparison, panel: Panel) -> Picture | None:
    """Plot the metric against energy, one mark per line, joining the Pareto-optimal; None if all energies are equal."""
    found: list[dict[str, Any]] = []
    for line in panel.lines:
        energies, merits = values(line.rows, "test/energy_pj"), values(line.rows, comparison.metric)
        if seeds := sorted(energies.keys() & merits.keys()):
            cost, merit = ([sample[seed] for seed in seeds] for sample in (energies, merits))
            found.append({"line": line.name, "energy_pj": fmean(cost), "energy_pj_sd": _sd(cost),
                          "mean": fmean(merit), "sd": _sd(merit), "n": len(seeds)})  # fmt: skip
    if len({point["energy_pj"] for point in found}) < 2:
        return None
    best = optimal({point["line"]: (point["energy_pj"], point["mean"]) for point in found})
    data = pd.DataFrame([{**point, "optimal": point["line"] in best} for point in found])
    title = f"{comparison.title}, {panel.name}: mean and sd over seeds"
    caption = "Against energy: mean and sd over seeds; joined: the Pareto-optimal lines."
    metric, profile = comparison.metric, comparison.profile.name
    named = _looks(comparison, data[data["optimal"]] if len(data) > MOST_NAMED else data)
    factor, _, unit = scale(metric)
    axes = Axes({}, panel.name, f"energy of one test sample, nJ ({profile})", f"{metric}{unit}", 1e-3, factor, True)
    chart = Chart("points", "energy_pj", "mean", [axes], named, "sd", "energy_pj_sd", joined="optimal")
    return Picture(f"pareto_{panel.name}", caption, data, lambda of: _draw_pareto(of, named, axes, title), chart)


def _draw_pareto(data: pd.DataFrame, named: Mapping[str, Look], said: Axes, title: str) -> Figure:
    factor = said.y_factor
    front = data[data["optimal"]].sort_values("energy_pj")
    height = max(4.0, ROW * (len(named) + 4))
    figure, ((axes,),) = make_grid(1, 1, 5.2, height, title, beside=legend_width([*named]) + 0.2)
    axes.plot(front["energy_pj"] / 1000, factor * front["mean"], color="grey", linewidth=0.8)
    rest = data[~data["line"].isin(named)]
    shown = [(rest, {"fmt": "o", "color": "lightgrey"})] if len(rest) else []
    shown += [(data[data["line"] == line], {"fmt": look.marker, "label": mathtext(line), "color": look.colour})
              for line, look in named.items()]  # fmt: skip
    for of, drawn in shown:
        axes.errorbar(of["energy_pj"] / 1000, factor * of["mean"], factor * of["sd"], of["energy_pj_sd"] / 1000,
                      markersize=5, elinewidth=0.8, capsize=2, **drawn)  # fmt: skip
    axes.set_xscale("log")
    _number_decades(axes.xaxis)
    axes.set_xlabel(mathtext(said.x_label), fontsize=8)
    axes.set_ylabel(mathtext(said.y_label), fontsize=8)
    axes.tick_params(which="both", labelsize=7)
    figure.legend(fontsize=LETTERS, loc="center right")
    return figure


def curves(comparison: Comparison, panel: Panel) -> Picture | None:
    """Plot loss, accuracy and firing rate over the epochs: the mean, and a band of one sd over seeds."""
    lines, which = _told_apart(comparison, panel)
    found = [
        {"line": line.name, "quantity": quantity, "epoch": epoch, "mean": fmean(of), "sd": _sd(of), "n": len(of)}
        for line in lines
        for quantity in CURVES
        for of_seeds in [[row.curves[quantity] for row in line.rows.values() if row.done and quantity in row.curves]]
        if of_seeds
        for epoch in range(min(map(len, of_seeds)))
        if (of := [curve[epoch] for curve in of_seeds if math.isfinite(curve[epoch])])
    ]
    if not found:
        return None
    title = f"{comparison.title}, {panel.name}"
    caption = f"Over the epochs: mean over seeds, and a band of one sd.{which}"
    data = pd.DataFrame(found)
    found_looks = _looks(comparison, data)
    shown = [Axes({"quantity": quantity}, label, "epoch") for quantity, label in CURVES.items()]
    chart = Chart("curves", "epoch", "mean", shown, found_looks, spread="sd", band=True)
    return Picture(f"curves_{panel.name}", caption, data, lambda of: _draw_curves(of, found_looks, title), chart)


def _draw_curves(data: pd.DataFrame, of_lines: Mapping[str, Look], title: str) -> Figure:
    figure, grid = make_grid(1, len(CURVES), 3.6, 3.0, title, [*of_lines])
    for axes, (quantity, label) in zip(grid.flat, CURVES.items(), strict=True):
        for line, of in data[data["quantity"] == quantity].groupby("line", sort=False):
            look = of_lines[str(line)]
            axes.plot(of["epoch"], of["mean"], label=mathtext(line), **_stroke(look, len(of)))
            axes.fill_between(of["epoch"], of["mean"] - of["sd"], of["mean"] + of["sd"], alpha=0.2, linewidth=0,
                              color=look.colour)  # fmt: skip
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=7)
    legend_below(figure)
    return figure


def heat(comparison: Comparison, panel: Panel) -> Picture | None:
    """Plot the firing rate of each layer at each epoch, for the first seed of each line, from the runs' folders."""
    lines, which = _told_apart(comparison, panel)
    found = []
    for line in lines:
        seeds = [seed for seed, row in line.rows.items() if row.done]
        epochs = _epochs_of(line.rows[min(seeds)].result.run_id) if seeds else []
        found += [
            {"line": f"{line.name}, seed {min(seeds)}", "layer": key.removeprefix(PER_LAYER), "epoch": number,
             "firing_rate": float(value)}
            for number, epoch in enumerate(epochs)
            for key, value in epoch.items()
            if key.startswith(PER_LAYER) and value
        ]  # fmt: skip
    if not found:
        return None
    title = f"{comparison.title}, {panel.name}"
    caption = f"Firing rate of each layer, numbered from the input, over the epochs, on validation data.{which}"
    data = pd.DataFrame(found)
    shown = [Axes({"line": line}, line, "epoch", "layer") for line in data["line"].unique()]
    chart = Chart("map", "epoch", "layer", shown, value="firing_rate")
    return Picture(f"heat_{panel.name}", caption, data, lambda of: _draw_heat(of, title), chart)


def _epochs_of(run_id: str) -> list[dict[str, str]]:
    """Return the rows of a stored run's metrics.csv; none if it is missing or damaged."""
    try:
        return RunFolder(output_root() / "runs" / run_id).epochs()
    except DamagedRun as damaged:
        damaged.say()
        return []


def _draw_heat(data: pd.DataFrame, title: str) -> Figure:
    from matplotlib.ticker import MaxNLocator

    lines = list(dict.fromkeys(data["line"]))
    across = min(len(lines), 4)
    down = -(-len(lines) // across)
    most_layers = data.groupby("line")["layer"].nunique().max()
    height = min(max(2.6, TALL * most_layers), 6.0)
    figure, grid = make_grid(down, across, 3.2 if across > 1 else 5.0, height, title, beside=0.95)
    most = data["firing_rate"].max()
    image = None
    for axes, line in zip(grid.flat, lines, strict=False):
        of = data[data["line"] == line]
        rates = of.pivot(index="layer", columns="epoch", values="firing_rate").loc[list(dict.fromkeys(of["layer"]))]
        image = axes.imshow(rates, aspect="auto", vmin=0, vmax=most or 1.0, cmap="viridis", interpolation="nearest")
        axes.set_title(mathtext(line), fontsize=8)
        axes.set_xlabel("epoch", fontsize=7)
        axes.set_ylabel("layer", fontsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_yticks(*_few(len(rates)))
        axes.tick_params(labelsize=6)
    for axes in grid.flat[len(lines) :]:
        axes.axis("off")
    if image is not None:
        wide = figure.get_figwidth()
        figure.colorbar(image, cax=figure.add_axes((1 - 0.85 / wide, 0.2, 0.15 / wide, 0.6)), label="firing rate")
    return figure


def _few(num_layers: int) -> tuple[list[int], list[str]]:
    """Return positions and numbers of at most twelve evenly spaced ticks, the first and the last layer among them."""
    step = max(1, math.ceil((num_layers - 1) / 10))
    places = [place for place in range(0, num_layers - 1, step) if num_layers - 1 - place > step / 2]
    return [*places, num_layers - 1], [str(place + 1) for place in (*places, num_layers - 1)]


def layers(comparison: Comparison, panel: Panel) -> Picture | None:
    """Plot firing, variance, gradients and dead channels by layer, one curve per line, before and after training."""
    lines, which = _told_apart(comparison, panel)
    rows = {line.name: [row.result.layers for row in line.rows.values() if row.result.layers] for line in lines}
    found = {name: {when: _mean_curves([of.get(when, {}) for of in all_of]) for when in WHEN}
             for name, all_of in rows.items() if all_of}  # fmt: skip
    if not any(of for when in found.values() for of in when.values()):
        return None
    title = f"{comparison.title}, {panel.name}: means over seeds"
    picture = of_layers(found, f"layers_{panel.name}", title, looks.of_comparison(comparison))
    return dataclasses.replace(picture, caption=picture.caption + which)


def of_layers(
    found: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    name: str,
    title: str,
    of_lines: Mapping[str, Look] | None = None,
) -> Picture:
    """Plot the same for any curves: line -> when -> quantity -> one value per layer."""
    marks = []
    for line, of_line in found.items():
        for when, of in of_line.items():
            for quantity in QUANTITIES:
                curve = of.get(quantity, ())
                if quantity == "variance":
                    theory = of.get("variance_theory", ())
                    curve = [v / t if t else 0.0 for v, t in zip(curve, theory, strict=True)]
                last = max(len(curve) - 1, 1)
                marks += [{"line": line, "when": when, "quantity": quantity, "depth": i / last, "value": value}
                          for i, value in enumerate(curve)]  # fmt: skip
    caption = "By layer, input to output; dotted: the variance law of PSP normalization."
    data, lines = pd.DataFrame(marks), list(found)
    shown_looks = {line: look for line, look in (of_lines or looks.looks(lines)).items() if line in found}
    shown = [
        Axes({"when": when, "quantity": quantity}, f"{label}, {WHEN[when]}", "depth, input to output", log_y=log,
             rule=1.0 if quantity == "variance" else None)
        for when in _of(WHEN, data["when"])
        for quantity in _of(QUANTITIES, data["quantity"])
        for label, log in [QUANTITIES[quantity]]
    ]  # fmt: skip
    chart = Chart("curves", "depth", "value", shown, shown_looks)
    return Picture(name, caption, data, lambda of: _draw_layers(of, shown_looks, title), chart)


def _of(known: Iterable[str], there: pd.Series[Any]) -> list[str]:
    """Return those of known names that a column has."""
    return [name for name in known if (there == name).any()]


def _draw_layers(data: pd.DataFrame, of_lines: Mapping[str, Look], title: str) -> Figure:
    times, quantities = _of(WHEN, data["when"]), _of(QUANTITIES, data["quantity"])
    title = f"{title}; dotted: the variance law of PSP normalization" if "variance" in quantities else title
    figure, grid = make_grid(len(times), len(quantities), 3.4, 2.6, title, [*of_lines])
    for row, when in zip(grid, times, strict=True):
        for axes, quantity in zip(row, quantities, strict=True):
            label, logarithmic = QUANTITIES[quantity]
            there = data[(data["when"] == when) & (data["quantity"] == quantity)]
            for line, of in there.groupby("line", sort=False):
                shown = of["value"].clip(lower=SMALLEST) if logarithmic else of["value"]
                look = of_lines[str(line)]
                axes.plot(of["depth"], shown, label=mathtext(line), **_stroke(look, len(of)))
            if quantity == "variance":
                axes.axhline(1.0, color="black", linestyle=":", linewidth=0.8)
            axes.set_title(f"{label}, {WHEN[when]}", fontsize=9)
            axes.tick_params(which="both", labelsize=7)
            if logarithmic:
                axes.set_yscale("log")
                _number_decades(axes.yaxis)
    for axes in grid[-1]:
        axes.set_xlabel("depth, input to output", fontsize=8)
    legend_below(figure)
    return figure


def _number_decades(axis: Axis) -> None:
    """Write the numbers of a logarithmic axis out, those between the decades too where it spans less than two."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:,.10g}" if super().__call__(x, pos) else ""  # what is left empty would be too dense

    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain(minor_thresholds=(2, 0.5)))
    low, high = axis.get_view_interval()
    if high > 100 * low:
        axis.set_tick_params(which="minor", length=0)


def _mean_curves(of_seeds: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Return the mean over seeds of each quantity's curve."""
    there = [of for of in of_seeds if of]
    shared = [q for q in (there[0] if there else ()) if len({len(of.get(q, ())) for of in there}) == 1]
    return {q: [fmean(v) for v in zip(*(of[q] for of in there), strict=True)] for q in shared}


def _looks(comparison: Comparison, data: pd.DataFrame) -> dict[str, Look]:
    """Return the look of each line of a figure's data: that of the report."""
    there = set(data["line"])
    return {name: look for name, look in looks.of_comparison(comparison).items() if name in there}


def _stroke(look: Look, num_points: int) -> dict[str, Any]:
    """Return how a curve is drawn, with some six marks on it, so that it is known without its colour."""
    every = max(1, num_points // 6)
    return {"color": look.colour, "linestyle": look.stroke, "linewidth": 1.2, "marker": look.marker, "markersize": 3.5,
            "markevery": (MARKERS_FROM[look.marker] % every, every)}  # fmt: skip


def _sd(sample: Sequence[float]) -> float:
    return stdev(sample) if len(sample) > 1 else 0.0
