"""What each augmentation costs per batch, beside a training step on the same batch: process CPU time, one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from snn_exp.config.compose import compose
from snn_exp.data.augment import AUGMENTS
from snn_exp.training.build import DataSpec, assemble, kernels_of

BATCH, ROUNDS = 64, 30
METHODS = ("s2nn_bn", "lif_bn")


def milliseconds(step: Callable[[int], object], rounds: int) -> float:
    """Return the median CPU time of a step, the first two left out."""
    times = []
    for number in range(rounds + 2):
        start = time.process_time()
        step(number)
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times[2:])


def training_step(method: str, x: torch.Tensor) -> Callable[[int], None]:
    """Return a training step of a method on a batch of images."""
    config = compose([f"method={method}"])
    task = assemble(config, DataSpec(tuple(x.shape[1:]), 10, 0.3, 0.3), kernels_of(config))
    optimizer, _ = task.optim.build(task.network, 100)
    y = torch.arange(len(x)) % 10

    def step(number: int) -> None:
        optimizer.zero_grad()
        functional.cross_entropy(task(x), y).backward()
        optimizer.step()

    return step


def main() -> None:
    """Print one line per augmentation and method."""
    torch.set_num_threads(1)
    for shape in ((1, 28, 28), (3, 32, 32)):
        x = torch.rand(BATCH, *shape)
        print(f"a batch of {BATCH} images of {shape}, ms")
        for name in AUGMENTS:
            augment = AUGMENTS.make({"name": name}, 2, True)
            drawn = augment.draw(BATCH * (ROUNDS + 2), torch.Generator().manual_seed(0)).split(BATCH)
            print(f"  augment={name}: {milliseconds(lambda k, a=augment, d=drawn, x=x: a(x, d[k]), ROUNDS):.1f}")
        for method in METHODS:
            print(f"  a training step of method={method}: {milliseconds(training_step(method, x), 5):.0f}")


if __name__ == "__main__":
    main()
