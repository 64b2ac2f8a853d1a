"""A training step of a config, as what a round of a page runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.nn.layers import Conv2d
from snn_exp.training.build import DataSpec, assemble, kernels_of


def composed(*overrides: str) -> ExperimentConfig:
    """A run on a CPU, with the kernels that `trainer.kernels=auto` takes unless told."""
    return compose(["trainer.accelerator=cpu", "logger=none", *overrides])


def training_step(
    config: ExperimentConfig,
    in_shape: Sequence[int] = (1, 8, 8),
    batch_size: int = 32,
    through: Callable[[nn.Module], Callable[[Tensor], Tensor]] = lambda network: network,
) -> Callable[[], None]:
    """Forward, loss and backward on random images, on torch's default device; time does not depend on what is seen.

    Args:
        config: of the network; its precision is honoured, and its number of threads is the caller's to set.
        in_shape: (C, H, W).
        batch_size: B.
        through: what the training batches go through, such as torch.compile.
    """
    torch.manual_seed(0)
    seen = DataSpec(in_shape=tuple(in_shape), num_classes=10, pixel_mean=0.0, pixel_std=1.0)
    task = assemble(config, seen, kernels_of(config)).train()
    x, y_B = torch.rand(batch_size, *in_shape), torch.arange(batch_size) % 10
    network = through(task.network)
    autocast = config.trainer.precision == "bf16-mixed"

    def step() -> None:
        task.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
            logits_BK = network(task.encoding(x))
        functional.cross_entropy(logits_BK.float(), y_B).backward()

    return step


def convolutions_of(network: nn.Module, step: Callable[[], object]) -> Callable[[], None]:
    """A network's convolutions alone, forward and backward, on inputs of the shapes that they have in a step."""
    calls: list[tuple[Conv2d, Tensor, Tensor]] = []

    def keep(conv: Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        calls.append((conv, torch.randn_like(inputs[0], requires_grad=True), torch.randn_like(output)))

    handles = [module.register_forward_hook(keep) for module in network.modules() if isinstance(module, Conv2d)]
    step()
    for handle in handles:
        handle.remove()

    def convolve() -> None:
        for conv, given, weight in calls:
            torch.autograd.grad(conv(given), (given, conv.weight), weight)

    return convolve
