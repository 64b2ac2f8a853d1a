"""The fused passes beside the plain path: norm and neuron alone, and a whole training step beside its convolutions.

One process, one thread, process CPU time. A round goes once through all rows, so that a slow minute of the machine hits
them alike; a ratio is taken round by round. Prints the page and writes it to kernels.md beside this file. gpu.py
measures them on a GPU.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from snn_exp.cli.allocator import keep_freed_memory

keep_freed_memory()

import torch
from rounds import in_rounds, machine, ratio
from steps import convolutions_of
from torch import Tensor
from torch.nn import functional

from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.data.datamodule import DataModule
from snn_exp.nn.kernels import Choice, Form, form_of
from snn_exp.nn.kernels.fused import fire
from snn_exp.nn.neurons import NEURONS
from snn_exp.nn.norms import NORMS, BatchNorm, Site
from snn_exp.nn.surrogates import SURROGATES
from snn_exp.training.build import build_data, build_task, kernels_of

MAPS = ((64, 16, 8, 8), (64, 32, 4, 4), (64, 64, 16, 16))  # B, C, H, W
LEGEND = """\
A step is forward, loss and backward on a batch of 32 digits; convolutions: those of the same network alone, on inputs
of the same shapes. ms: median over the rounds. Ratio: median of the rounds' ratios, in brackets the quartiles.
"""
CHOICE = """\
## Why C++ and not torch.compile

Both were written by hand from the same equations (forward that keeps its input, backward that computes the membranes
again) and measured once, before the choice, in the way of this page; torch 2.15, g++ 12. Batch norm and neuron, forward
and backward, as a share of the plain path's time:

| T, B, C, H, W | neuron | torch.compile | C++ | C++ neuron behind torch's batch norm |
| --- | --- | ---: | ---: | ---: |
| 4, 64, 16, 8, 8 | lif | 0.28 | 0.20 | 0.42 |
| 4, 64, 32, 4, 4 | lif | 0.32 | 0.19 | 0.41 |
| 4, 64, 64, 16, 16 | lif | 0.33 | 0.25 | 0.50 |
| 1, 64, 16, 8, 8 | s2nn | 0.55 | 0.38 | 0.64 |
| 1, 64, 32, 4, 4 | s2nn | 0.73 | 0.41 | 0.70 |
| 1, 64, 64, 16, 16 | s2nn | 0.40 | 0.42 | 0.52 |

torch.compile needs a C++ compiler on a CPU as well. For three shapes of lif it took 22 s of its process (the
compiler's not counted), and 5 s in each process once its cache was filled; the C++ takes 2 s once, and then nothing.
"""


class Row(NamedTuple):
    """What is measured together: name -> what is run in each round."""

    head: tuple[str, ...]
    ways: dict[str, Callable[[], object]]


def norm_and_neuron(config: ExperimentConfig, shape: tuple[int, ...]) -> Row:
    """Batch norm and neuron, on values as they come out of a normalized network, on torch's default device."""
    x = torch.randn(config.num_steps, *shape, requires_grad=True)
    weight = torch.randn_like(x)
    norm = NORMS.make({"name": "bn"}, Site(shape[1:]))
    neuron = NEURONS.make(config.neuron, shape[1:], SURROGATES.make(config.surrogate), config.num_steps)
    form = form_of(neuron)
    assert isinstance(norm, BatchNorm) and isinstance(form, Form)

    def measured(function: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function(x), (x, *norm.parameters()), weight)

    return Row(
        (str(config.neuron["name"]), ", ".join(map(str, x.shape))),
        {"plain": measured(lambda x: neuron(norm(x))), "fused": measured(lambda x: fire(neuron, form, norm, x))},
    )


def training_step(config: ExperimentConfig, data: DataModule, kernels: Choice) -> Row:
    """A step of the network on each path, and its convolutions alone."""
    x, y_B = next(iter(data.train_dataloader()))
    tasks = {"plain": build_task(config, data), "fused": build_task(config, data, kernels)}

    def step(way: str) -> None:
        task = tasks[way]
        task.zero_grad()
        functional.cross_entropy(task(x), y_B).backward()

    convolve = convolutions_of(tasks["plain"].network, lambda: step("plain"))
    head = (str(config.neuron["name"]), str(config.num_steps), f"{config.depth.num_layers}")
    return Row(head, {"plain": lambda: step("plain"), "fused": lambda: step("fused"), "convolutions": convolve})


def table(headings: tuple[str, ...], rows: list[Row], found: list[dict[str, list[float]]]) -> Iterator[str]:
    """Medians and ratios as Markdown."""
    ways = list(found[0])
    ratios = [
        (a, b) for a, b in (("fused", "plain"), ("plain", "convolutions"), ("fused", "convolutions")) if b in ways
    ]
    yield f"| {' | '.join([*headings, *(f'{way}, ms' for way in ways), *(f'{a} / {b}' for a, b in ratios)])} |"
    yield f"| {' | '.join(['---'] * len(headings) + ['---:'] * (len(ways) + len(ratios)))} |"
    for row, spent in zip(rows, found, strict=True):
        cells = [f"{statistics.median(spent[way]):.2f}" for way in ways]
        yield f"| {' | '.join([*row.head, *cells, *(ratio(spent[a], spent[b]) for a, b in ratios)])} |"


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["lif_bn", "s2nn_bn"], help="options of configs/method")
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 56], help="options of depth")
    parser.add_argument("--rounds", type=int, default=9, help="measurements per row")
    parser.add_argument("--remark", default="", help="a sentence about the machine, such as what else it does")
    options = parser.parse_args()
    asked = ["trainer.kernels=fused", "trainer.accelerator=cpu"]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    maps, steps = [], []
    for method in options.methods:
        config = compose([f"method={method}", *asked])
        kernels = kernels_of(config)
        maps += [norm_and_neuron(config, shape) for shape in MAPS]
        data = build_data(config)
        for depth in options.depths:
            deep = compose([f"method={method}", f"depth=d{depth}", *asked])
            steps.append(training_step(deep, data, kernels))
    rows = [*maps, *steps]
    ways = {(n, way): run for n, row in enumerate(rows) for way, run in row.ways.items()}
    spent = in_rounds(ways, options.rounds)
    found = [{way: spent[n, way] for way in row.ways} for n, row in enumerate(rows)]
    lines = [
        "# Norm and neuron in one pass",
        f"```bash\n{shlex.join(['python', 'benchmarks/kernels.py', *sys.argv[1:]])}  # long\n```",
        f"{options.rounds} rounds; {machine()}; kernels {kernels.why.rpartition('; ')[2]}. {options.remark}".strip(),
        LEGEND.strip(),
        "## Batch norm and neuron, forward and backward",
        "\n".join(table(("neuron", "T, B, C, H, W"), maps, found[: len(maps)])),
        "## A training step",
        "\n".join(table(("neuron", "T", "layers"), steps, found[len(maps) :])),
        CHOICE.strip(),
    ]
    text = "\n\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
