"""Pictures of a study: accuracy against depth and energy, and curves over the layers. Reads rows only; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from snn_exp.campaign import Progress
from snn_exp.claims import values
from snn_exp.ledger import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# quantity -> its axis, and whether it is drawn on a logarithmic one
QUANTITIES = {
    "firing_rate": ("firing rate", False),
    "variance": ("Var(u) / theory", True),
    "gradient_norm": ("|dL/dW|", True),
    "dead_channels": ("dead channels", False),
}
WHEN = {"init": "at initialisation", "trained": "after training"}
SMALLEST = 1e-12  # a logarithmic axis has no 0


def draw(progress: Progress, folder: Path) -> list[Path]:
    """Writes the pictures that the finished runs allow; their paths."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    settings = progress.study.settings
    drawn = [
        _draw_depth(progress, folder / "depth.png"),
        *(draw_pareto(progress, setting, folder / f"pareto_{setting}.png") for setting in settings),
        *(draw_layers(progress, setting, folder / f"layers_{setting}.png") for setting in settings),
    ]
    return [path for path in drawn if path]


def draw_layers(progress: Progress, setting: str, path: Path) -> Path | None:
    """Firing, variance, gradients and dead channels by layer, one curve a method, before and after training."""
    rows = {
        method: [row for row in progress.rows_of((setting, method)).values() if row.result.layers]
        for method in progress.study.methods
    }
    layers = {
        method: {when: _mean_curves([row.result.layers.get(when, {}) for row in of]) for when in WHEN}
        for method, of in rows.items()
        if of
    }
    return draw_curves(layers, f"{progress.study.name}, {setting}: means over seeds", path) if layers else None


def draw_curves(layers: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], title: str, path: Path) -> Path:
    """The picture itself: method -> when -> quantity -> a value a layer."""
    from matplotlib import pyplot

    times = [when for when in WHEN if any(of.get(when) for of in layers.values())]
    figure, grid = pyplot.subplots(
        len(times),
        len(QUANTITIES),
        figsize=(3.4 * len(QUANTITIES), 2.7 * len(times)),
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    for row, when in zip(grid, times, strict=True):
        for axes, (quantity, (label, logarithmic)) in zip(row, QUANTITIES.items(), strict=True):
            for method, of in layers.items():
                curve = of.get(when, {}).get(quantity, ())
                if quantity == "variance":
                    theory = of.get(when, {}).get("variance_theory", ())
                    curve = [v / t if t else 0.0 for v, t in zip(curve, theory, strict=True)]
                _curve(axes, curve, logarithmic, label=method)
            if quantity == "variance":
                axes.axhline(1.0, color="black", linestyle=":", linewidth=0.8)
            axes.set_title(f"{label}, {WHEN[when]}", fontsize=9)
            axes.tick_params(labelsize=7)
            if logarithmic:
                axes.set_yscale("log")
    for axes in grid[-1]:
        axes.set_xlabel("depth, input to output", fontsize=8)
    figure.suptitle(f"{title}; dotted: the variance law of PSP normalization", fontsize=10)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(layers), fontsize=8)
    return _saved(figure, path)


def _curve(axes: Axes, curve: Sequence[float], logarithmic: bool, **style: Any) -> None:
    if not curve:
        return
    last = max(len(curve) - 1, 1)
    shown = [max(value, SMALLEST) if logarithmic else value for value in curve]
    axes.plot([i / last for i in range(len(curve))], shown, **style)


def _mean_curves(layers: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """The mean over seeds of each quantity's curve."""
    there = [of for of in layers if of]
    return {q: [fmean(v) for v in zip(*(of[q] for of in there), strict=True)] for q in (there[0] if there else ())}


def _draw_depth(progress: Progress, path: Path) -> Path | None:
    """Accuracy and firing rate against depth: a picture for each group of settings that differ in depth alone."""
    families: dict[str, dict[int, str]] = {}
    for name in progress.study.settings:
        family, _, depth = name.rpartition("_d")
        if family and depth.isdigit():
            families.setdefault(family, {})[int(depth)] = name
    begun = {setting for setting, method in progress.study.pairs() if progress.rows_of((setting, method))}
    families = {f: settings for f, settings in families.items() if len(settings) > 1 and begun & {*settings.values()}}
    metrics = {progress.study.metric: 100.0, "test/firing_rate": 1.0}
    curves = {
        (family, metric, method): _against_depth(progress, settings, method, metric, factor)
        for family, settings in families.items()
        for metric, factor in metrics.items()
        for method in progress.study.methods
    }
    if not any(len(points) > 1 for points in curves.values()):
        return None
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        len(metrics),
        len(families),
        figsize=(3.8 * len(families), 2.7 * len(metrics)),
        squeeze=False,
        layout="constrained",
    )
    for column, family in enumerate(families):
        for row, metric in enumerate(metrics):
            axes = grid[row][column]
            for number, method in enumerate(progress.study.methods):
                if points := curves[family, metric, method]:
                    depths, means, spreads = zip(*points, strict=True)
                    axes.errorbar(depths, means, spreads, color=f"C{number}", marker="o", markersize=3, capsize=2,
                                  label=method)  # fmt: skip
            axes.set_xscale("log")
            axes.set_xticks(list(families[family]), [str(d) for d in families[family]], fontsize=7)
            axes.minorticks_off()
            axes.set_title(f"{metric}{' %' if metric.endswith('acc') else ''}, {family}", fontsize=9)
            axes.tick_params(labelsize=7)
    for axes in grid[-1]:
        axes.set_xlabel("layers", fontsize=8)
    grid[0][0].legend(fontsize=7)
    figure.suptitle(f"{progress.study.name}: mean and sd over seeds", fontsize=10)
    return _saved(figure, path)


def _against_depth(
    progress: Progress, settings: Mapping[int, str], method: str, metric: str, factor: float
) -> list[tuple[int, float, float]]:
    """(depth, mean, sd) of a method where it has finished runs."""
    found = []
    for depth, setting in sorted(settings.items()):
        of: Mapping[int, Row] = progress.rows_of((setting, method))
        if all_values := [factor * v for v in values(of, metric).values()]:
            found.append((depth, fmean(all_values), _sd(all_values)))
    return found


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Where nothing is both cheaper and better, in order of cost.

    Args:
        points: name -> (cost, merit).

    Example:
        >>> pareto({"dear": (9, 0.9), "good": (5, 0.9), "cheap": (1, 0.7), "poor": (2, 0.6)})
        ['cheap', 'good']
    """
    kept: list[str] = []
    for name in sorted(points, key=lambda n: (points[n][0], -points[n][1])):
        if not kept or points[name][1] > points[kept[-1]][1]:
            kept.append(name)
    return kept


def draw_pareto(progress: Progress, setting: str, path: Path) -> Path | None:
    """The metric against energy: a mark a method, the Pareto-optimal ones joined."""
    study = progress.study
    factor, unit = (100.0, " %") if study.metric.endswith("acc") else (1.0, "")
    found: dict[str, tuple[list[float], list[float]]] = {}
    for method in study.methods:
        rows = progress.rows_of((setting, method))
        energies, merits = values(rows, "test/energy_pj"), values(rows, study.metric)
        if seeds := energies.keys() & merits.keys():
            found[method] = [energies[s] / 1000 for s in seeds], [factor * merits[s] for s in seeds]
    means = {method: (fmean(energies), fmean(merits)) for method, (energies, merits) in found.items()}
    if len({energy for energy, _ in means.values()}) < 2:
        return None
    from matplotlib import pyplot
    from matplotlib.ticker import LogFormatter

    figure, axes = pyplot.subplots(figsize=(7.2, 4.0), layout="constrained")
    axes.plot(*zip(*(means[method] for method in pareto(means)), strict=True), color="grey", linewidth=0.8)
    for number, method in enumerate(study.methods):
        if method in found:
            across, along = map(_sd, found[method])
            axes.errorbar(*means[method], along, across, color=f"C{number % 10}", marker="os^D"[number // 10 % 4],
                          capsize=2, label=method)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(LogFormatter())
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.set_xlabel(f"energy of one test sample, nJ ({progress.profile.name})", fontsize=8)
    axes.set_ylabel(f"{study.metric}{unit}", fontsize=8)
    axes.tick_params(which="both", labelsize=7)
    figure.legend(fontsize=7, loc="outside right center")
    axes.set_title(f"{study.name}, {setting}: mean and sd over seeds", fontsize=10)
    return _saved(figure, path)


def _sd(sample: Sequence[float]) -> float:
    return stdev(sample) if len(sample) > 1 else 0.0


def _saved(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)
    return path
