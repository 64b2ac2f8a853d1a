"""Measure what convolutions of levels and signs, and linear layers of spikes, would save by events.

One process, one thread, process CPU time; a round goes once through all ways. Networks are trained on a few batches of
Fashion-MNIST, and their layers computed again on what they read then. Writes levels.md beside this file.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from snn_exp.cli.allocator import keep_freed_memory

keep_freed_memory()

import torch
from rounds import in_rounds, machine, ratio
from steps import composed
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.nn.kernels.events import pack, spike_conv2d, spike_linear
from snn_exp.nn.neurons import Neuron
from snn_exp.training.build import build_data, build_task, kernels_of
from snn_exp.training.task import Classification

NEURONS, LINEAR, WIDTHS, BATCH = ("ternary", "ilif", "mtn", "qrelu"), "lif", (16,), 32
LEGEND = """\
Forward and gradient of the weights, of all layers behind such a neuron. Planes: a level is a sum of planes of spikes,
one for each sign or each bit of it; rate: additions per value, the planes' rates added up. Events: the sums over all
planes alone. That planes are made and packed, and their outputs added up, is not counted, so that it cannot take less.
Dense: torch's, channels-last. Linear layers: packing included. Ratio: median of the rounds, in brackets the quartiles.
"""


class Layer(NamedTuple):
    """A layer, and what it read of a batch in units of its neuron, by samples."""

    weight: Tensor
    stride: int
    read: Tensor


def layers_of(neuron: str, network: str, width: int, num_batches: int) -> list[Layer]:
    """The layers of a trained network that read nothing but levels or spikes."""
    config = composed(
        f"neuron={neuron}", "norm=bn", f"residual={'none' if network == 'mlp' else 'pre'}", f"network={network}",
        "dataset=fashion_mnist", f"network.width={width}", f"optim.batch_size={BATCH}",
        *(["depth=d20"] if network == "resnet" else []), "trainer.kernels=fused", "trainer.channels_last=true",
    )  # fmt: skip
    data = build_data(config)
    task = build_task(config, data, kernels_of(config)).train()
    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    for (x, y_B), _ in zip(data.train_dataloader(), range(num_batches), strict=False):
        optimizer.zero_grad()
        functional.cross_entropy(task(x), y_B).backward()
        optimizer.step()
    return read_by(task, x)


@torch.no_grad()
def read_by(task: Classification, x: Tensor) -> list[Layer]:
    found: list[Layer] = []
    units = {float(getattr(neuron, "unit", 1.0)) for neuron in task.network.modules() if isinstance(neuron, Neuron)}

    def keep(layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor], output: Tensor) -> None:
        read = inputs[0].flatten(0, 1) if inputs[0].dim() in (3, 5) else inputs[0]
        for unit in units:
            levels = read / unit
            if torch.allclose(levels, levels.round(), atol=1e-4) and levels.abs().max() <= 15:
                stride = layer.stride[0] if isinstance(layer, nn.Conv2d) else 1
                found.append(Layer(layer.weight.detach(), int(stride), levels.round()))
                return

    handles = [m.register_forward_hook(keep) for m in task.network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    task.network(task.encoding(x))
    for handle in handles:
        handle.remove()
    return found


def planes_of(levels: Tensor) -> list[Tensor]:
    """The masks of which levels are a sum: those of each sign, and of each bit."""
    planes = []
    for of_a_sign in (levels.clamp(min=0), (-levels).clamp(min=0)):
        whole = of_a_sign.long()
        planes += [(whole >> bit & 1).to(levels.dtype) for bit in range(4)]
    return [plane for plane in planes if plane.any()]


def ways_of_layers(layers: list[Layer]) -> dict[str, Callable[[], object]]:
    """Dense, and by events."""
    dense, sums = [], []
    for weight, stride, read in layers:
        learned = weight.clone().requires_grad_()
        if weight.dim() == 2:
            above = torch.randn(len(read), len(weight))
            dense.append((learned, above, lambda s=read, w=learned: functional.linear(s, w)))
            sums.append((learned, above, lambda s=read, w=learned: spike_linear(s, w)))
            continue
        kept = read.contiguous(memory_format=torch.channels_last)
        learned = weight.contiguous(memory_format=torch.channels_last).requires_grad_()
        y = functional.conv2d(kept, learned, stride=stride, padding=weight.shape[-1] // 2)
        above, pad = torch.randn_like(y), weight.shape[-1] // 2
        dense.append(
            (learned, above, lambda s=kept, w=learned, k=stride, p=pad: functional.conv2d(s, w, stride=k, padding=p))
        )
        for plane in planes_of(kept):
            bits = pack(plane).bits
            sums.append((learned, above, lambda s=kept, w=learned, k=stride, b=bits: spike_conv2d(s, w, k, bits=b)))

    def all_of(calls: list[tuple[Tensor, Tensor, Callable[[], Tensor]]]) -> Callable[[], None]:
        def run() -> None:
            for weight, above, convolve in calls:
                torch.autograd.grad(convolve(), weight, above)

        return run

    return {"dense": all_of(dense), "events": all_of(sums)}


def rate_of(layers: list[Layer]) -> float:
    """Additions per value."""
    fired = sum(float(sum(plane.sum() for plane in planes_of(layer.read))) for layer in layers)
    return fired / sum(layer.read.numel() for layer in layers)


def conclusion(ratios: list[float]) -> str:
    """Say what follows from the medians."""
    if min(ratios) < 1:
        return "Where the ratio is below 1, events would save time."
    return (
        f"By events these layers take {min(ratios):.2f} to {max(ratios):.2f} times as long as densely, so that "
        "`trainer.kernels=events` leaves them dense."
    )


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measurements per way")
    parser.add_argument("--batches", type=int, default=20, help="on which a network is trained first")
    parser.add_argument("--remark", default="", help="a sentence about the machine, such as what else it does")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    on = machine()
    rows = ["| neuron | layers | width | read by | rate | dense, ms | events, ms | events / dense |"]
    rows.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    ratios: list[float] = []
    cases = [(neuron, "resnet", width) for neuron in NEURONS for width in WIDTHS] + [(LINEAR, "mlp", 256)]
    for neuron, network, width in cases:
        layers = layers_of(neuron, network, width, options.batches)
        kinds = "linear" if network == "mlp" else "convolutions"
        spent = in_rounds(ways_of_layers(layers), options.rounds)
        dense, events = spent["dense"], spent["events"]
        ratios.append(statistics.median(a / b for a, b in zip(events, dense, strict=True)))
        ms = " | ".join(f"{statistics.median(each):.1f}" for each in (dense, events))
        rows.append(
            f"| {neuron} | {kinds} | {width} | {len(layers)} | {rate_of(layers):.2f} | {ms} | {ratio(events, dense)} |"
        )
        print(rows[-1], file=sys.stderr)
    text = "\n".join([
        "# Levels, signs and linear layers by events\n",
        f"```bash\n{shlex.join(['python', 'benchmarks/levels.py', *sys.argv[1:]])}  # long\n```\n",
        f"{options.rounds} rounds; {on}. Networks of 20 layers at 28x28 with batch norm in pre-activation blocks and "
        f"one of linear layers, trained on {options.batches} batches of {BATCH} images. {options.remark}".strip()
        + "\n",
        LEGEND, *rows, "", conclusion(ratios),
    ])  # fmt: skip
    print(text)
    Path(__file__).with_suffix(".md").write_text(text.rstrip() + "\n")


if __name__ == "__main__":
    main()
