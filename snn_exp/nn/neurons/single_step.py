"""Activations without dynamics: the single-step neuron, binary networks' sign, full precision's relu.

Shapes: T steps, B batch, N any feature dimensions.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from snn_exp.nn.neurons.neuron import NEURONS, Neuron


class SingleStepNeuron(Neuron):
    """An activation without dynamics: every step is treated alike, and one step is all it can use."""

    single_step = True
    default_num_steps = 1
    stepwise = False
    has_membrane = False

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Compute s, element by element."""
        return self.fire(x_TBN)


@NEURONS.register("s2nn")
class S2NN(SingleStepNeuron):
    """The single-step spiking neuron: a step forward, the S2NN surrogate backward, no time.

    Equation:
        s = H(x - v_threshold);  backward: see the surrogate s2nn

    Shapes:
        x, s: [T, B, N], T = 1 in a network

    Args: those of every neuron.

    Raises:
        UserError: v_threshold is not positive.

    Source: Suetake et al. 2022, arXiv 2201.10879. The threshold is our choice.

    Example:
        >>> S2NN()(torch.tensor([[0.9, 1.0, 7.0]]))
        tensor([[0., 1., 1.]])
    """

    default_surrogate = "s2nn"


@NEURONS.register("sign")
class Sign(SingleStepNeuron):
    """The activation of binary neural networks.

    Equation:
        s = +1 if x >= 0 else -1;  backward: the surrogate

    Shapes:
        x, s: [T, B, N], T = 1 in a network

    Source: Hubara et al. 2016; Liu et al. 2018 (Bi-Real Net) for the default surrogate.

    Example:
        >>> Sign()(torch.tensor([[-0.1, 0.0]]))
        tensor([[-1.,  1.]])
    """

    emits = "signs"
    default_surrogate = "approx_sign"

    learns_shift: ClassVar[bool] = False

    def __init__(self, *supplied: Any) -> None:
        super().__init__(*supplied, v_threshold=0.0, learn_threshold=self.learns_shift)

    def fire(self, h: Tensor) -> Tensor:
        return self.surrogate.sign(self.excess(h))


@NEURONS.register("rsign")
class RSign(Sign):
    """A sign around a learned value of each channel, as in ReActNet.

    Directly after a batch norm it can do no more than that norm's own shift; residual.activation=rprelu is its
    companion.

    Equation:
        s = +1 if x >= a_c else -1, a_c learned per channel from 0;  backward: the surrogate

    Shapes:
        x, s: [T, B, N], T = 1 in a network

    Source: Liu et al. 2020 (ReActNet).

    Example:
        >>> RSign((2,)).v_threshold
        Parameter containing:
        tensor([0., 0.], requires_grad=True)
    """

    learns_shift = True


@NEURONS.register("relu")
class ReLU(SingleStepNeuron):
    """The full-precision baseline.

    Equation:
        y = max(0, x)

    Shapes:
        x, y: [T, B, N], T = 1 in a network

    Source: torch.nn.functional.relu.

    Example:
        >>> ReLU()(torch.tensor([[-1.0, 2.0]]))
        tensor([[0., 2.]])
    """

    emits = "real"
    default_surrogate = "none"

    def __init__(self, *supplied: Any) -> None:
        super().__init__(*supplied, v_threshold=0.0)

    def fire(self, h: Tensor) -> Tensor:
        return torch.relu(h)
