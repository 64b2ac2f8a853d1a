"""Neurons that emit more than 0 and 1: an integer level of several, or a spike of either sign.

Shapes: T steps, B batch, C channels, N any feature dimensions (C alone, or C, H, W).

Every one of them compares its membrane with thresholds at whole multiples, or odd halves, of one step theta:

    ilif, mtn   level = floor(h / theta + r), from 0 to D      r = 1/2 rounds, r = 0 counts the thresholds passed
    qrelu       the same of the input
    ternary     +1 from theta on, -1 from -theta down

and emits `unit` times its level. The unit goes into the weights that read it, W (unit level) = (unit W) level, so that
they read whole numbers. A level of l in binary slots is l spikes, each of which adds a weight once (`in_slots`).
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from annotated_types import Interval
from torch import Tensor, nn

from snn_exp.nn.neurons.integrating import LIF
from snn_exp.nn.neurons.neuron import NEURONS, Neuron, StepwiseNeuron
from snn_exp.nn.neurons.single_step import SingleStepNeuron
from snn_exp.nn.stepwise import State
from snn_exp.registry import Below, Count, Limit, Positive, TimeConstant

Levels = Annotated[Count, Limit(256, "bfloat16 cannot tell the levels apart")]


class FoldedLevels(nn.Module):
    """The membrane of a neuron of several thresholds with a norm folded in.

    Comparing scale h + shift with k theta is comparing h with (k theta - shift) / scale, from above or, where the scale
    is negative, from below: each threshold is one number per channel.

    Equation:
        z = scale h + shift, per channel, to be compared with the multiples of theta

    Example:
        >>> FoldedLevels(torch.tensor([2.0]), 1.0, torch.tensor(1.0))(torch.tensor([3.0]))
        tensor([7.])
    """

    scale: Tensor
    shift: Tensor
    theta: Tensor

    def __init__(self, scale: Tensor, shift: Tensor | float, theta: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.clone())
        self.register_buffer("shift", torch.zeros_like(scale) + shift)
        self.register_buffer("theta", theta.detach().clone())

    def forward(self, h: Tensor) -> Tensor:
        """Compute z."""
        return self.scale * h + self.shift


class LevelNeuron(Neuron):
    """Base class of neurons with several thresholds: what it means to put a norm into them."""

    emits = "levels"
    default_surrogate = "none"

    folded_levels: FoldedLevels | None

    def __init__(self, *supplied: Any, **threshold: Any) -> None:
        super().__init__(*supplied, **threshold)
        self.folded_levels = None

    def theta(self) -> Tensor:
        """Return the distance of two thresholds, membrane units."""
        return self.v_threshold

    def seen(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the membrane as the thresholds see it, and theta."""
        if self.membrane_norm is not None:
            h = self.membrane_norm(h)
        if self.folded_levels is not None:
            return self.folded_levels(h), self.folded_levels.theta
        return h, self.theta().to(h.dtype)

    @torch.no_grad()
    def firing_on(self, scale: Tensor, shift: Tensor | float) -> Self:
        neuron = copy.deepcopy(self)
        before = self.folded_levels or FoldedLevels(torch.ones_like(scale), 0.0, self.theta())
        neuron.folded_levels = FoldedLevels(before.scale * scale, before.scale * shift + before.shift, before.theta)
        return neuron


def _rounded(y: Tensor, most: int) -> Tensor:
    """Compute floor(clip(y, 0, most) + 1/2); backward 1 on [0, most], 0 elsewhere. A tie goes up."""
    clipped = y.clamp(0, most)
    # bfloat16 holds 255 and not 255.5
    levels = (clipped.detach().to(torch.promote_types(y.dtype, torch.float32)) + 0.5).floor().to(y.dtype)
    return levels + (clipped - clipped.detach())  # the difference is exactly 0, so the levels stay whole


@NEURONS.register("qrelu")
class QuantizedReLU(LevelNeuron, SingleStepNeuron):
    """A clipped ReLU of b bits: the quantized network that a spiking one stands beside at equal bits.

    With one bit it emits {0, lambda}: a single-step spike with a straight-through gradient. As a spiking neuron it is
    T = L steps of an IF neuron with soft reset that starts at half its threshold lambda: equal rates for an input that
    is the same at each step. With more than one bit its operations are counted as multiplications, as integer hardware
    does them.

    Equation:
        y = lambda clip(floor(x L / lambda + 1/2) / L, 0, 1),  L = 2^bits - 1 levels above 0
        backward: straight through the floor, so dy/dx = 1 for 0 <= x <= lambda; lambda learned

    Shapes:
        x, y: [T, B, N], T = 1 in a network

    Args:
        bits: of the activation; QCFS counts levels instead, L = 2^bits - 1.
        clip: lambda at the start, the largest output.
        per: what has a lambda of its own: the layer, or each channel.

    Raises:
        UserError: bits outside 1 to 8, or clip is not positive.

    Source: QCFS (ICLR 2022), there for L of 4 to 32 and lambda from 8; the start is our choice.

    Example:
        >>> QuantizedReLU(bits=2, clip=3.0)(torch.tensor([[-1.0, 0.4, 0.5, 2.6, 9.0]])).detach()
        tensor([[0., 0., 1., 3., 3.]])
    """

    scales_with_input = ()  # what it emits is in units of its input

    def __init__(
        self,
        *supplied: Any,
        bits: Annotated[int, Interval(ge=1, le=8)] = 4,
        clip: Positive = 2.0,
        per: Literal["layer", "channel"] = "layer",
    ) -> None:
        super().__init__(*supplied, v_threshold=0.0)
        self.bits = bits
        self.num_levels = 2**bits - 1
        self.in_slots = bits == 1
        self.clip = self.per_channel(clip) if per == "channel" else nn.Parameter(torch.tensor(clip))

    def theta(self) -> Tensor:
        return self.unit

    @property
    def unit(self) -> Tensor:
        return self.clip.abs().clamp_min(1e-6) / self.num_levels

    def fire(self, h: Tensor) -> Tensor:
        z, theta = self.seen(h)
        # the gradient of lambda is that of lambda clip(x / lambda, 0, 1), plus the rounding
        return self.unit.to(h.dtype) * _rounded(z / theta, self.num_levels)

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


@NEURONS.register("mtn")
class MultiThreshold(LevelNeuron, SingleStepNeuron):
    """A multi-threshold neuron: one step that counts how many of N thresholds its input passes.

    One step is N steps of an IF neuron with soft reset and threshold v_threshold whose input is the same at each step,
    spike count by spike count; what it emits is the sum of those spikes' charges, so that its weights need no change.

    Equation:
        o = theta clip(floor(x / theta), 0, N),  theta = v_threshold / N
        backward: do/dx = theta sum_k surrogate(x - k theta), k = 1 to N

    Shapes:
        x, o: [T, B, N], T = 1 in a network

    Args:
        levels: N.

    Raises:
        UserError: levels < 1, or v_threshold is not positive.

    Source: arXiv 2510.23383 and 2303.11127 for the neuron and the theorem; their gradient is not known to us, and the
        sum of a surrogate over the thresholds is our choice: of one of unit area it has the output's range as integral.

    Example:
        >>> MultiThreshold(levels=4)(torch.tensor([[-1.0, 0.2, 0.25, 0.8, 9.0]]))
        tensor([[0.0000, 0.0000, 0.2500, 0.7500, 1.0000]])
    """

    default_surrogate = "rect"
    in_slots = True
    scales_with_input = ()  # what it emits is in units of its input

    def __init__(self, *supplied: Any, levels: Levels = 4, **threshold: Any) -> None:
        super().__init__(*supplied, **threshold)
        self.num_levels = levels

    def theta(self) -> Tensor:
        return self.v_threshold / self.num_levels

    @property
    def unit(self) -> Tensor:
        return self.theta()

    def fire(self, h: Tensor) -> Tensor:
        z, theta = self.seen(h)
        level = self.surrogate.spike(z - theta)
        for k in range(2, self.num_levels + 1):
            level = level + self.surrogate.spike(z - k * theta)
        return self.theta().to(h.dtype) * level


@NEURONS.register("ilif")
class IntegerLIF(LevelNeuron, StepwiseNeuron):
    """Integer leaky integrate-and-fire: up to D spikes in one step, as one whole number.

    In inference a step is D binary slots, of which as many hold a spike as the number says; the slots do not touch the
    membrane. It stands beside two yardsticks: a quantized network of D + 1 levels, and a binary neuron with as many
    slots in all, D T.

    Equation:
        h = (1 - 1 / tau) v + x
        s = round(clip(h / v_threshold, 0, D)), a tie goes up;  backward: ds/dh = 1 / v_threshold on [0, D v_threshold]
        v = h - s v_threshold

    Shapes:
        x, s: [T, B, N]; T is 1 unless encoding.num_steps says otherwise

    Args:
        levels: D, the most spikes of a step.
        tau: membrane time constant; the authors' decay of 0.25 is 4 / 3.
        detach_reset: no gradient through the reset.

    Raises:
        UserError: levels < 1, tau <= 1, or v_threshold is not positive.

    Source: Luo et al. 2024 (ECCV, arXiv 2407.20708), as in SpikingJelly's ILIFNode, which rounds ties to even.

    Example:
        >>> IntegerLIF(levels=4, tau=2.0)(torch.tensor([[2.3], [0.5], [9.0]])).flatten()
        tensor([2., 1., 4.])
    """

    default_num_steps = 1
    in_slots = True
    scales_with_input = ("v_threshold",)

    def __init__(
        self,
        *supplied: Any,
        levels: Levels = 4,
        tau: TimeConstant = 4 / 3,
        detach_reset: bool = False,
        **threshold: Any,
    ) -> None:
        super().__init__(*supplied, **threshold)
        self.num_levels = levels
        self.tau = tau
        self.detach_reset = detach_reset

    def fire(self, h: Tensor) -> Tensor:
        z, theta = self.seen(h)
        return _rounded(z / theta, self.num_levels)

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        h = state[0] - state[0] / self.tau + x_BN
        s = self.fire(h)
        taken = s.detach() if self.detach_reset else s
        return s, (h - taken * self.threshold_as(h),)


@NEURONS.register("ternary")
class Ternary(LevelNeuron, LIF):
    """A leaky neuron with a threshold on both sides: spikes of either sign, which add a weight or subtract it.

    Equation:
        h as in lif
        s = H(h - v_threshold) - H(-h - v_threshold);  backward: the surrogate at both thresholds
        v = |s| v_reset + (1 - |s|) h   (hard)   or   v = h - s v_threshold   (soft)

    Shapes:
        x, s: [T, B, N]; T is 1 unless encoding.num_steps says otherwise

    Args: those of lif, the input not decayed unless asked.

    Raises:
        UserError: tau <= 1, v_threshold is not positive, v_reset is not between the thresholds, or reset is neither
            hard nor soft.

    Source: Guo et al. 2024 (Ternary Spike, AAAI), without its learned amplitude; time constant, threshold and surrogate
        are our choice. The threshold trades accuracy for zeros: with batch norm a threshold of 1, 0.5 and 0.25 has
        97.9, 98.8 and 99.1 % on the validation set at a firing rate of .30, .67 and .82, for 591, 1,140 and 1,355 nJ
        (`snn-exp train -m neuron=ternary norm=bn residual=bireal depth=d20 optim.lr=0.01 trainer.max_epochs=16
        trainer.test=false neuron.v_threshold=0.25,0.5,1 seed=100,101,102`).

    Example:
        >>> Ternary()(torch.tensor([[-1.5], [0.4], [0.9]])).flatten()
        tensor([-1.,  0.,  1.])
    """

    emits = "ternary"
    default_num_steps = 1
    default_surrogate = "rect"
    num_levels = 1
    defaults: ClassVar[dict[str, Any]] = {"decay_input": False}
    constraints = (
        Below(
            "-1 v_threshold",
            "v_reset",
            "{v_reset} is not above minus {v_threshold}, so a neuron at rest would fire a negative spike at every "
            "step; type a larger neuron.v_reset, such as neuron.v_reset=0",
        ),
    )

    def fire(self, h: Tensor) -> Tensor:
        above, below = self._sides(h)
        return above - below

    def _sides(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return where it fires +1, and where -1."""
        z, theta = self.seen(h)
        return self.surrogate.spike(z - theta), self.surrogate.spike(-z - theta)

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        h = self.charge(state[0], x_BN)
        above, below = self._sides(h)
        s = above - below
        # |s| as a sum, which has a gradient where s is 0 too
        return s, (self.after_spike(h, above + below if self.reset == "hard" else s),)
