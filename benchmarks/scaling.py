"""A training step against depth, steps in time, width and batch: process CPU time on one core, as curves.

One process, one thread; a round goes once through all points. Exponent: slope of log time over log of what grows,
fitted in each round. Then S2NN beside ReLU of the same shape, one thread beside two by wall time, and the memory that T
steps take, each in a fresh process. Writes scaling.md and scaling.png beside this file and results/scaling.csv.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from snn_exp.cli.allocator import keep_freed_memory

keep_freed_memory()

import numpy as np
import torch
from rounds import in_rounds, machine, ratio, resident_mib
from steps import composed, training_step

from snn_exp.reporting.axes import legend_below, make_grid

LEGEND = """\
A step is forward, loss and backward, `trainer.kernels=auto`. ms: process CPU time, median over the rounds. What does
not grow is 20 layers, 8x8 pixels, 16 channels in the first stage, T = 4 (lif) and a batch of 32. Exponent: median over
the rounds and their range; 1 is linear growth. Ratio: median of the rounds' ratios, in brackets the quartiles.
"""
METHODS = ("relu_bn", "s2nn_bn", "lif_bn")


class Point(NamedTuple):
    """A network and what it is trained on.

    Args:
        method: option of configs/method.
        num_layers: weight layers on the longest path.
        num_steps: T.
        width: channels of the first stage.
        batch_size: B.
        size: pixels at a side.
    """

    method: str
    num_layers: int = 20
    num_steps: int = 1
    width: int = 16
    batch_size: int = 32
    size: int = 8

    def step(self, *overrides: str) -> Callable[[], None]:
        multi_step = self.method == "lif_bn"
        config = composed(
            f"method={self.method}", f"depth=d{self.num_layers}", f"network.width={self.width}",
            *([f"encoding.num_steps={self.num_steps}"] if multi_step else []), *overrides,
        )  # fmt: skip
        return training_step(config, (3 if self.size == 32 else 1, self.size, self.size), self.batch_size)


def of(method: str, **others: int) -> Point:
    return Point(method, **{"num_steps": 4 if method == "lif_bn" else 1, **others})


AXES: dict[str, dict[str, list[int]]] = {
    "layers": {"num_layers": [8, 20, 56, 110]},
    "T": {"num_steps": [1, 2, 4, 8, 16]},
    "width": {"width": [8, 16, 32, 64]},
    "batch": {"batch_size": [1, 16, 64, 256]},
}


def curve(axis: str, method: str) -> list[Point]:
    """The points along an axis; without a time dimension there is none of T."""
    ((field, values),) = AXES[axis].items()
    return [] if axis == "T" and method != "lif_bn" else [of(method, **{field: value}) for value in values]


def exponent(points: list[Point], spent: dict[Point, list[float]], axis: str) -> str:
    """Median and range of the slopes of the rounds, and the median slope between the last two points."""
    ((_, values),) = AXES[axis].items()
    rounds = np.log(np.array([spent[point] for point in points]))
    slopes = np.polyfit(np.log(values), rounds, 1)[0]
    last = np.median((rounds[-1] - rounds[-2]) / np.log(values[-1] / values[-2]))
    return f"{np.median(slopes):.2f} [{slopes.min():.2f}, {slopes.max():.2f}] | {last:.2f}"


def curves(spent: dict[Point, list[float]]) -> Iterator[str]:
    for axis, of_field in AXES.items():
        ((_, values),) = of_field.items()
        yield f"| method | {' | '.join(f'{axis} {value}' for value in values)} | exponent | between the last two |"
        yield f"| --- |{' ---: |' * (len(values) + 2)}"
        for method in METHODS:
            if points := curve(axis, method):
                cells = " | ".join(f"{statistics.median(spent[point]):.1f}" for point in points)
                yield f"| {method} | {cells} | {exponent(points, spent, axis)} |"
        yield ""


SHAPES = {
    "20 layers, 8x8, width 16, batch 32": {},
    "20 layers, 8x8, width 64, batch 32": {"width": 64},
    "110 layers, 8x8, width 16, batch 32": {"num_layers": 110},
    "20 layers, 8x8, width 16, batch 1": {"batch_size": 1},
    "20 layers, 8x8, width 16, batch 256": {"batch_size": 256},
    "20 layers, 32x32, width 16, batch 128": {"size": 32, "batch_size": 128},
}


def beside_relu(spent: dict[Point, list[float]]) -> Iterator[str]:
    yield "| shape | relu, ms | s2nn, ms | lif, T = 4, ms | s2nn / relu | lif / relu |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name, shape in SHAPES.items():
        relu, s2nn, lif = (spent[of(method, **shape)] for method in METHODS)
        medians = " | ".join(f"{statistics.median(ms):.1f}" for ms in (relu, s2nn, lif))
        yield f"| {name} | {medians} | {ratio(s2nn, relu)} | {ratio(lif, relu)} |"


TWO_THREADS = ("20 layers, 8x8, width 64, batch 32", "20 layers, 32x32, width 16, batch 128")


def on_two_threads(num_rounds: int) -> Iterator[str]:
    """Wall time; the fused passes keep to one thread, the convolutions take two."""
    points = {(name, method): of(method, **SHAPES[name]) for name in TWO_THREADS for method in METHODS}
    ways: dict[Any, Callable[[], object]] = {}
    for key, point in points.items():
        ways[*key, 1] = _with_threads(1, point.step())
        ways[*key, 2] = _with_threads(2, point.step("trainer.num_threads=2"))
    spent = in_rounds(ways, num_rounds, time.perf_counter)
    torch.set_num_threads(1)
    yield "| shape | method | one thread, ms | two threads, ms | two / one |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for name, method in points:
        one, two = spent[name, method, 1], spent[name, method, 2]
        medians = f"{statistics.median(one):.1f} | {statistics.median(two):.1f}"
        yield f"| {name} | {method} | {medians} | {ratio(two, one)} |"


def _with_threads(number: int, step: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        torch.set_num_threads(number)
        step()

    return run


def memory() -> Iterator[str]:
    """Highest resident memory above that of the process before the step, in a fresh process each."""
    ways = {
        "fused": [],
        "plain": ["trainer.kernels=reference"],
        "fused, checkpointed": ["trainer.checkpoint_activations=true"],
    }
    values = AXES["T"]["num_steps"]
    yield f"| way | {' | '.join(f'T {value}, MiB' for value in values)} | MiB per step in time |"
    yield f"| --- |{' ---: |' * (len(values) + 1)}"
    for name, overrides in ways.items():
        peaks = [peak_mib(of("lif_bn", num_steps=value, batch_size=64, size=32), overrides) for value in values]
        slope = np.polyfit(values, peaks, 1)[0]
        yield f"| {name} | {' | '.join(f'{peak:.0f}' for peak in peaks)} | {slope:.0f} |"


def peak_mib(point: Point, overrides: list[str]) -> float:
    command = [sys.executable, __file__, "--peak", *map(str, point), *overrides]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(method: str, *numbers_and_overrides: str) -> None:
    numbers = [int(text) for text in numbers_and_overrides[: len(Point._fields) - 1]]
    torch.set_num_threads(1)
    step = Point(method, *numbers).step(*numbers_and_overrides[len(numbers) :])
    before = resident_mib()
    for _ in range(2):
        step()
    print(resident_mib(highest=True) - before)


def drawn(spent: dict[Point, list[float]]) -> None:
    """The curves, log over log."""
    figure, axes = make_grid(1, len(AXES), 2.6, 2.3, "a training step, ms of CPU time", names=METHODS)
    for ax, (axis, of_field) in zip(axes[0], AXES.items(), strict=True):
        ((_, values),) = of_field.items()
        for number, method in enumerate(METHODS):
            if points := curve(axis, method):
                low, middle, high = (np.quantile([spent[p] for p in points], q, axis=1) for q in (0.25, 0.5, 0.75))
                ax.plot(values, middle, "o-", color=f"C{number}", markersize=3, label=method)
                ax.fill_between(values, low, high, color=f"C{number}", alpha=0.2)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(values, [str(value) for value in values])
        ax.minorticks_off()
        ax.set_xlabel(axis, fontsize=8)
        ax.tick_params(labelsize=7)
    legend_below(figure)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


def main() -> None:
    """Measures, prints, writes."""
    if sys.argv[1:2] == ["--peak"]:
        print_peak(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measurements per point")
    parser.add_argument("--remark", default="", help="a sentence about the machine, such as what else it does")
    options = parser.parse_args()
    torch.set_num_threads(1)
    points = {point for axis in AXES for method in METHODS for point in curve(axis, method)}
    points |= {of(method, **shape) for shape in SHAPES.values() for method in METHODS}
    spent = in_rounds({point: point.step() for point in sorted(points)}, options.rounds)
    results = Path(__file__).parent / "results" / "scaling.csv"
    with results.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*Point._fields, "round", "cpu_ms", "machine"])
        writer.writerows(
            [*point, number, f"{ms:.3f}", machine()]
            for point, of_point in spent.items()
            for number, ms in enumerate(of_point)
        )
    drawn(spent)
    text = "\n".join([
        "# How a training step grows\n",
        f"```bash\n{shlex.join(['python', 'benchmarks/scaling.py', *sys.argv[1:]])}  # long\n```\n",
        f"{options.rounds} rounds; {machine()}. {options.remark}".strip() + "\n",
        LEGEND,
        "![curves](scaling.png)\n",
        *curves(spent),
        "## S2NN beside ReLU, of the same shape\n",
        *beside_relu(spent),
        "\n## Two threads, wall time\n",
        "The fused passes and the convolutions of spikes share their work among both, as torch's convolutions do.\n",
        *on_two_threads(options.rounds),
        "\n## Memory against T\n",
        "What two steps add to the resident memory of a fresh process: lif, 20 layers, 32x32 pixels, a batch of 64.\n",
        *memory(),
    ])  # fmt: skip
    print(text)
    Path(__file__).with_suffix(".md").write_text(text.rstrip() + "\n")


if __name__ == "__main__":
    main()
