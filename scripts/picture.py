"""Draw the README's picture, accuracy against energy, from the committed rows of studies/s2nn_vs_all.

Writes docs/pictures/accuracy_energy.png and, beside it, every number that is drawn as .csv. No run is trained.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd
from scipy import stats

from snn_exp.reporting.comparison import values
from snn_exp.studies import readme, runner, spec

HERE = Path(__file__).parents[1] / "docs" / "pictures"
PANELS = {"digits_d20": "1,078 training images", "digits_200_d20": "200 training images"}
# method -> its name here, its colour (Okabe and Ito's, which colour-blind readers can distinguish) and its marker
METHODS = {
    "relu": ("ReLU, float32", "#000000", "o"),
    "s2nn": ("single-step spikes (s2nn)", "#D55E00", "s"),
    "single_atan": ("single-step spikes, atan surrogate", "#E69F00", "^"),
    "lif_t4": ("LIF, 4 steps", "#0072B2", "D"),
    "sign": ("binary activations", "#009E73", "v"),
    "bnn_ste": ("binary activations and weights (STE)", "#56B4E9", "P"),
    "reactnet": ("ReActNet", "#CC79A7", "X"),
}


def points() -> pd.DataFrame:
    """Return mean accuracy with its 95 % interval and mean energy, one row per panel and method."""
    comparison = readme.comparison_of(runner.survey(spec.load("s2nn_vs_all")))
    found = []
    for panel in comparison.panels:
        lines = {line.name: line for line in panel.lines}
        for method in METHODS if panel.name in PANELS else ():
            accuracy = pd.Series(values(lines[method].rows, "test/acc"))
            energy = pd.Series(values(lines[method].rows, "test/energy_pj"))
            half = stats.t.ppf(0.975, len(accuracy) - 1) * accuracy.sem()
            found.append({"setting": panel.name, "method": method, "n": len(accuracy),
                          "test/acc": accuracy.mean(), "sd": accuracy.std(), "low": accuracy.mean() - half,
                          "high": accuracy.mean() + half, "energy_nj": energy.mean() / 1000})  # fmt: skip
    return pd.DataFrame(found)


def draw(data: pd.DataFrame, path: Path) -> None:
    """Draw one panel per setting; marks at equal energies are drawn side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 3.5), layout="constrained")
    for axes, (setting, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        for of in data[data["setting"] == setting].itertuples():
            name, colour, marker = METHODS[str(of.method)]
            aside = {"sign": 0.94, "bnn_ste": 1.06, "s2nn": 1.05, "single_atan": 0.95}.get(str(of.method), 1.0)
            mean, low, high = (100 * x for x in (of[4], of.low, of.high))
            axes.errorbar(of.energy_nj * aside, mean, [[mean - low], [high - mean]], color=colour, marker=marker,
                          markersize=5, linestyle="none", capsize=2, label=name)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlim(40, 8000)
        axes.set_xticks([50, 200, 1000, 5000], ["50", "200", "1,000", "5,000"])
        axes.minorticks_off()
        axes.grid(color="#dddddd", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("energy per test image, nJ (compute, 45 nm)", fontsize=9)
        axes.set_ylabel("test accuracy, %", fontsize=9)
        axes.tick_params(labelsize=8)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    matplotlib.use("agg")
    HERE.mkdir(parents=True, exist_ok=True)
    drawn = points()
    drawn.round(6).to_csv(HERE / "accuracy_energy.csv", index=False)
    draw(drawn, HERE / "accuracy_energy.png")
    print(f"{HERE / 'accuracy_energy.png'}: {len(drawn)} means with their 95 % intervals")
