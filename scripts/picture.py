"""Draw the README's picture, accuracy against energy, from the committed rows of studies/s2nn_vs_all.

Writes docs/pictures/accuracy_energy.png and, beside it, every number that is drawn as .csv. No run is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import pandas as pd
from scipy import stats

from snn_exp.reporting import looks
from snn_exp.reporting.comparison import Comparison, values
from snn_exp.reporting.looks import Look
from snn_exp.studies import readme, runner, spec

HERE = Path(__file__).parents[1] / "docs" / "pictures"
PANELS = {"digits_d20": "1,078 training images", "digits_200_d20": "200 training images"}
# method -> its name here; colours and markers are those of the page of the study
METHODS = {
    "relu": "ReLU, float32",
    "s2nn": "single-step spikes (s2nn)",
    "single_atan": "single-step spikes, atan surrogate",
    "lif_t4": "LIF, 4 steps",
    "sign": "binary activations",
    "bnn_ste": "binary activations and weights (STE)",
    "reactnet": "ReActNet",
}


def points(comparison: Comparison) -> pd.DataFrame:
    """Return mean accuracy with its 95 % interval and mean energy, one row per panel and method."""
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


def draw(data: pd.DataFrame, of_methods: Mapping[str, Look], path: Path) -> None:
    """Draw one panel per setting; marks at equal energies are drawn side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 3.5), layout="constrained")
    for axes, (setting, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        for of in data[data["setting"] == setting].itertuples():
            look = of_methods[str(of.method)]
            aside = {"sign": 0.94, "bnn_ste": 1.06, "s2nn": 1.05, "single_atan": 0.95}.get(str(of.method), 1.0)
            mean, low, high = (100 * x for x in (of[4], of.low, of.high))
            axes.errorbar(of.energy_nj * aside, mean, [[mean - low], [high - mean]], color=look.colour,
                          marker=look.marker, markersize=5, linestyle="none", capsize=2,
                          label=METHODS[str(of.method)])  # fmt: skip
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
    study = readme.comparison_of(runner.survey(spec.load("s2nn_vs_all")))
    drawn = points(study)
    drawn.round(6).to_csv(HERE / "accuracy_energy.csv", index=False)
    draw(drawn, looks.of_comparison(study), HERE / "accuracy_energy.png")
    print(f"{HERE / 'accuracy_energy.png'}: {len(drawn)} means with their 95 % intervals")
