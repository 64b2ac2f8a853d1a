"""Neurons without a reset, whose membrane is a weighted sum of inputs: all steps at once.

Shapes: T steps, B batch, N any feature dimensions.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, Self

import torch
from torch import Tensor, nn

from snn_exp.nn.neurons.neuron import NEURONS, Neuron
from snn_exp.registry import Count, Limit


class ParallelNeuron(Neuron):
    """h = A x over the steps, s = H(h - b - v_threshold): one matrix product instead of a loop.

    It has no membrane for a norm to act on: a membrane's norm is applied step by step, and here all
    steps are there at once.
    """

    stepwise = False
    has_membrane = False

    b: nn.Parameter  # learned part of the threshold, one per step or a single one

    @abstractmethod
    def mixing(self, num_steps: int) -> Tensor:
        """Return A [T, T], whose row t weighs the inputs that make h[t]."""

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Compute all steps at once."""
        h = torch.tensordot(self.mixing(len(x_TBN)).to(x_TBN.dtype), x_TBN, dims=1)
        return self.fire(h - self.b.to(h.dtype).view(-1, *(1 for _ in h.shape[1:])))

    @torch.no_grad()
    def rescaled(self, scale: Tensor) -> Self:
        # nothing is reset, so b is one more threshold
        neuron = self.firing_on(scale, -self.b.view(-1, 1, *(1 for _ in scale.shape)))
        neuron.b.zero_()
        return neuron


@NEURONS.register("psn")
class PSN(ParallelNeuron):
    """Parallel spiking neuron: every step weighs every step, by one learned matrix per layer.

    Equation:
        h = A x,  A [T, T] learned, its upper triangle left out if masked
        s[t] = H(h[t] - b[t] - v_threshold),  b learned from 0

    Shapes:
        x, s: [T, B, N]

    Args:
        masked: a step weighs only itself and earlier steps, so the neuron is causal.

    Raises:
        UserError: v_threshold is not positive.
        UserError: another number of steps than A was made for.

    Source: Fang et al. 2023, arXiv 2304.12760; masked is its masked PSN of order T, without the gradual
        masking. A starts uniform within 1 / sqrt(T), as in the authors' code.

    Example:
        >>> PSN((), None, 4).weight.shape
        torch.Size([4, 4])
    """

    causal = False

    def __init__(self, *supplied: Any, masked: bool = False, **threshold: Any) -> None:
        super().__init__(*supplied, **threshold)
        self.causal = masked
        bound = 1 / math.sqrt(self.num_steps)
        self.weight = nn.Parameter(torch.empty(self.num_steps, self.num_steps).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(self.num_steps))

    def mixing(self, num_steps: int) -> Tensor:
        return self.weight.tril() if self.causal else self.weight

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Compute all steps at once."""
        self.require_its_steps(x_TBN)
        return super().forward(x_TBN)


@NEURONS.register("sliding_psn")
class SlidingPSN(ParallelNeuron):
    """Sliding parallel spiking neuron: every step weighs the last few in the same way, for any number of steps.

    Equation:
        h[t] = sum_{0 <= lag < order} w[lag] x[t - lag],  w learned from 2^-lag
        s[t] = H(h[t] - b - v_threshold),  b learned from 0

    Shapes:
        x, s: [T, B, N]

    Args:
        order: number of steps that are weighed, the present one included.

    Raises:
        UserError: order < 1, or v_threshold is not positive.

    Source: Fang et al. 2023, arXiv 2304.12760; the default order is our choice.

    Example:
        >>> SlidingPSN(order=2)(torch.tensor([[0.8], [0.8], [0.0]])).flatten().detach()
        tensor([0., 1., 0.])
    """

    def __init__(
        self, *supplied: Any, order: Annotated[Count, Limit(10_000, "no run has as many steps")] = 2, **threshold: Any
    ) -> None:
        super().__init__(*supplied, **threshold)
        self.w = nn.Parameter(0.5 ** torch.arange(order))
        self.b = nn.Parameter(torch.zeros(()))

    def mixing(self, num_steps: int) -> Tensor:
        steps = torch.arange(num_steps, device=self.w.device)
        lag = steps[:, None] - steps
        order = len(self.w)
        return torch.where((lag >= 0) & (lag < order), self.w[lag.clamp(0, order - 1)], 0)
