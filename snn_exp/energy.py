"""What a network spends: firing rates, and the dense count of multiplications.

Fractions stay fractions. A firing rate is the share of non-zero outputs a neuron and step: the share of
ones for spikes, of positive values for relu; for signs it is 1, since -1 is never silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torchmetrics
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from snn_exp.neurons import Neuron


class FiringRate(torchmetrics.Metric):
    """Share of non-zero outputs a neuron and step, by layer; unit: spikes a neuron and step.

    Definition:
        rate[l] = sum(s_l != 0) / number of values of s_l, over all batches

    Args:
        network: the network; its neurons, in order, are the layers.

    Example:
        >>> from snn_exp.neurons import S2NN
        >>> network = nn.Sequential(S2NN())
        >>> metric = FiringRate(network)
        >>> with metric.listening():
        ...     _ = network(torch.tensor([[[0.0, 2.0]]]))
        >>> metric.by_layer()
        {'0': 0.5}
    """

    full_state_update = False
    spikes: Tensor
    values: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # names only: the metric must neither own nor copy the network
        self._neurons = {name: module for name, module in network.named_modules() if isinstance(module, Neuron)}
        zeros = torch.zeros(len(self._neurons), dtype=torch.float64)
        self.add_state("spikes", zeros, dist_reduce_fx="sum")
        self.add_state("values", zeros.clone(), dist_reduce_fx="sum")

    def __setattr__(self, name: str, value: object) -> None:
        if name == "_neurons":
            object.__setattr__(self, name, value)  # not a submodule: it belongs to the network
        else:
            super().__setattr__(name, value)

    @property
    def layers(self) -> list[str]:
        """The names of the layers, in order."""
        return list(self._neurons)

    def update(self, layer: int, s: Tensor) -> None:
        """Counts one layer's outputs of one batch."""
        self.spikes[layer] += torch.count_nonzero(s).to(self.spikes)
        self.values[layer] += s.numel()

    def compute(self) -> Tensor:
        """The mean rate over all neurons."""
        return self.spikes.sum() / self.values.sum().clamp(min=1)

    def by_layer(self) -> dict[str, float]:
        """The rate of each layer."""
        rates = (self.spikes / self.values.clamp(min=1)).tolist()
        return dict(zip(self.layers, rates, strict=True))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Counts whatever the network fires inside the block."""

        def hook(layer: int) -> object:
            return lambda module, inputs, s: self.update(layer, s.detach())

        handles = [
            neuron.register_forward_hook(hook(layer))  # type: ignore[arg-type]
            for layer, neuron in enumerate(self._neurons.values())
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def dense_macs(network: nn.Module, x_TBCHW: Tensor) -> dict[str, int]:
    """Multiply-accumulates of one sample over all its steps, by module ("" is the whole), zeros included.

    Args:
        network: the network.
        x_TBCHW: a batch of one sample.

    Example:
        >>> from snn_exp.layers import Conv2d
        >>> dense_macs(Conv2d(1, 2), torch.zeros(1, 1, 1, 8, 8))[""]
        1152
    """
    was_training = network.training
    network.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(x_TBCHW)
    network.train(was_training)
    root = type(network).__name__
    counts = {name: sum(ops.values()) // 2 for name, ops in counter.get_flop_counts().items()}
    total = counter.get_total_flops() // 2
    by_module = {name.removeprefix(f"{root}."): count for name, count in counts.items() if name.startswith(f"{root}.")}
    return {"": total, **by_module}
