"""Neurons that charge, fire and reset, step by step.

Shapes: T steps, B batch, C channels, N any feature dimensions (C alone, or C, H, W).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Unit
from torch import Tensor, nn

from snn_exp.nn.neurons.neuron import NEURONS, StepwiseNeuron
from snn_exp.nn.stepwise import State
from snn_exp.registry import Below, Fraction, OpenFraction, Positive, TimeConstant

MembraneVoltage = Annotated[float, Unit("membrane units")]


class IntegratingNeuron(StepwiseNeuron):
    """Base class of IF and the LIF family: charge, fire, reset.

    Args:
        v_reset: membrane at rest and after a hard reset.
        reset: hard sets the membrane to v_reset, soft subtracts v_threshold.
        detach_reset: no gradient through the reset.
    """

    scales_with_input: ClassVar[tuple[str, ...] | None] = ("v_threshold", "v_reset")
    constraints = (
        Below(
            "v_reset",
            "v_threshold",
            "{v_reset} is not below {v_threshold}, so a neuron at rest would fire at every step; type a smaller "
            "neuron.v_reset, such as neuron.v_reset=0",
        ),
    )

    def __init__(
        self,
        *supplied: Any,
        v_reset: MembraneVoltage = 0.0,
        reset: Literal["hard", "soft"] = "hard",
        detach_reset: bool = False,
        **threshold: Any,
    ) -> None:
        super().__init__(*supplied, **threshold)
        self.v_reset: float | Tensor = v_reset  # a tensor once a norm is folded into the neuron
        self.reset = reset
        self.detach_reset = detach_reset

    def initial_state(self, x_BN: Tensor) -> State:
        return (torch.zeros_like(x_BN) + self.reset_as(x_BN),)

    @abstractmethod
    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        """Compute h, the membrane after the input and before the spike."""

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        (v,) = state
        h = self.charge(v, x_BN)
        s = self.fire(h)
        return s, (self.after_spike(h, s),)

    def after_spike(self, h: Tensor, s: Tensor) -> Tensor:
        """Compute v, the membrane after the reset."""
        s = self.as_reset(s)
        if self.reset == "hard":
            # one pass; equal, since spikes are 0 or 1. In the shape of h, or torch.compile refuses channels-last maps
            return torch.lerp(h, self.reset_as(h).expand_as(h), s.to(h.dtype))
        return h - s * self.threshold_as(h)

    def reset_as(self, x: Tensor) -> Tensor:
        """Return v_reset in the dtype of x."""
        return self.v_reset.to(x.dtype) if isinstance(self.v_reset, Tensor) else x.new_full((), self.v_reset)

    def as_reset(self, s: Tensor) -> Tensor:
        """Return the spike as the reset sees it: without a gradient if detach_reset."""
        return s.detach() if self.detach_reset else s


@NEURONS.register("if")
class IF(IntegratingNeuron):
    """Integrate-and-fire.

    Equation:
        h = v + x
        s = H(h - v_threshold)
        v = s v_reset + (1 - s) h   (hard)   or   v = h - s v_threshold   (soft)

    Shapes:
        x, s: [T, B, N]

    Args: those of every integrating neuron.

    Raises:
        UserError: v_threshold is not positive, or reset is neither hard nor soft.

    Source: the textbook model, in SpikingJelly's discretization.

    Example:
        >>> IF()(torch.full((4, 1), 0.6)).flatten()
        tensor([0., 1., 0., 1.])
    """

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        return v + x


@NEURONS.register("lif")
class LIF(IntegratingNeuron):
    """Leaky integrate-and-fire.

    Equation:
        h = v + (x - (v - v_reset)) / tau      with decay_input
        h = v - (v - v_reset) / tau + x        without
        s = H(h - v_threshold)
        v = s v_reset + (1 - s) h   (hard)   or   v = h - s v_threshold   (soft)

    Shapes:
        x, s: [T, B, N]

    Args:
        tau: membrane time constant.
        decay_input: the input is divided by tau as well.

    Raises:
        UserError: tau <= 1, v_threshold is not positive, or reset is neither hard nor soft.

    Source: the textbook model, in SpikingJelly's discretization.

    Example:
        >>> LIF(tau=2.0)(torch.full((3, 1), 1.5)).flatten()
        tensor([0., 1., 0.])
    """

    def __init__(
        self,
        *supplied: Any,
        tau: TimeConstant = 2.0,
        decay_input: bool = True,
        **integrating: Any,
    ) -> None:
        super().__init__(*supplied, **integrating)
        self.tau = tau
        self.decay_input = decay_input

    def leak(self) -> Tensor | float:
        """Return 1 / tau."""
        return 1 / self.tau

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        if self.decay_input:
            return v + (x - (v - self.v_reset)) * self.leak()
        return v - (v - self.v_reset) * self.leak() + x


@NEURONS.register("plif")
class PLIF(LIF):
    """Parametric LIF: one learned time constant per layer.

    Equation:
        1 / tau = sig(w),  w starts at -ln(tau - 1);  the rest as in LIF

    Shapes:
        x, s: [T, B, N]

    Args:
        tau: membrane time constant at the start of training.

    Raises:
        UserError: tau <= 1, v_threshold is not positive, or reset is neither hard nor soft.

    Source: Fang et al. 2021, "Incorporating Learnable Membrane Time Constant".

    Example:
        >>> PLIF(tau=2.0).w
        Parameter containing:
        tensor(-0., requires_grad=True)
    """

    def __init__(self, *supplied: Any, **lif: Any) -> None:
        super().__init__(*supplied, **lif)
        self.w = nn.Parameter(torch.tensor(-math.log(self.tau - 1)))

    def leak(self) -> Tensor:
        return torch.sigmoid(self.w)


@NEURONS.register("klif")
class KLIF(LIF):
    """LIF whose charged membrane is scaled by one learned factor per layer and rectified.

    Equation:
        h = relu(k h_LIF),  k learned, h_LIF the membrane of LIF after charging;  the rest as in LIF

    Shapes:
        x, s: [T, B, N]

    Args:
        k: the factor at the start of training; it steepens the surrogate for the input by k as well.

    Raises:
        UserError: k is not positive, or as LIF.

    Source: Jiang and Zhang 2023, arXiv 2302.09238.

    Example:
        >>> KLIF(k=2.0)(torch.full((3, 1), 0.8)).flatten().detach()
        tensor([0., 1., 0.])
    """

    scales_with_input = ()  # a rectified membrane is not linear in the input

    def __init__(self, *supplied: Any, k: Positive = 1.0, **lif: Any) -> None:
        super().__init__(*supplied, **lif)
        self.k = nn.Parameter(torch.tensor(k))

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        return torch.relu(self.k * super().charge(v, x))


@NEURONS.register("clif")
class CLIF(LIF):
    """Complementary LIF: a second potential remembers recent spikes and deepens the reset.

    Equation:
        h = v - (v - v_reset) / tau + x
        s = H(h - v_threshold)
        m = m sig(h / tau) + s
        v = (the reset of LIF) - s sig(m)

    Shapes:
        x, s: [T, B, N]

    Args:
        decay_input: the input is divided by tau as well.
        reset: hard sets the membrane to v_reset, soft subtracts v_threshold; sig(m) is subtracted besides.

    Raises:
        UserError: as LIF.

    Source: Huang et al. 2024, arXiv 2402.04663, with its soft reset, undecayed input and rectangular surrogate.

    Example:
        >>> CLIF()(torch.full((3, 1), 1.2)).flatten()
        tensor([1., 0., 1.])
    """

    default_surrogate = "rect"
    scales_with_input = ()  # the sigmoids are not linear

    def __init__(
        self,
        *supplied: Any,
        decay_input: bool = False,
        reset: Literal["hard", "soft"] = "soft",
        **lif: Any,
    ) -> None:
        super().__init__(*supplied, decay_input=decay_input, reset=reset, **lif)

    def initial_state(self, x_BN: Tensor) -> State:
        return (*super().initial_state(x_BN), torch.zeros_like(x_BN))

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        v, m = state
        h = self.charge(v, x_BN)
        s = self.fire(h)
        m = m * torch.sigmoid(h * self.leak()) + s
        return s, (self.after_spike(h, s) - self.as_reset(s) * torch.sigmoid(m), m)


@NEURONS.register("cuba_lif")
class CubaLIF(IntegratingNeuron):
    """Current-based LIF: the input charges a decaying current, and the current the membrane.

    Equation:
        i = current_decay i + x
        h = v_reset + voltage_decay (v - v_reset) + i
        s = H(h - v_threshold)
        v = s v_reset + (1 - s) h   (hard)   or   v = h - s v_threshold   (soft)

    Shapes:
        x, s: [T, B, N]

    Args:
        current_decay: factor per step of the current.
        voltage_decay: factor per step of the membrane.

    Raises:
        UserError: current_decay or voltage_decay outside [0, 1], or as every integrating neuron.

    Source: the textbook model, in the discretization of Intel's lava-dl and SpikingJelly's CUBALIFNode.

    Example:
        >>> CubaLIF()(torch.tensor([[0.8], [0.0], [0.0]])).flatten()
        tensor([0., 1., 0.])
    """

    def __init__(
        self,
        *supplied: Any,
        current_decay: Fraction = 0.5,
        voltage_decay: Fraction = 0.75,
        **integrating: Any,
    ) -> None:
        super().__init__(*supplied, **integrating)
        self.current_decay = current_decay
        self.voltage_decay = voltage_decay

    def initial_state(self, x_BN: Tensor) -> State:
        return (*super().initial_state(x_BN), torch.zeros_like(x_BN))

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        return self.v_reset + self.voltage_decay * (v - self.v_reset) + x

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        v, i = state
        i = self.current_decay * i + x_BN
        s, (v,) = super().step(i, (v,))
        return s, (v, i)


@NEURONS.register("glif")
class GLIF(StepwiseNeuron):
    """Gated LIF: learned gates, one per channel, mix two leaks, two inputs and two resets.

    Equation:
        h[t] = v - (1 - a) leak + (1 - b (1 - g[t])) x[t]
        s[t] = H(h[t] - v_threshold)
        v = (1 - a (1 - decay)) (1 - c s[t]) h[t] - (1 - c) fall s[t]
        the gates a (exponential against linear leak), b (a gain per step against none) and c (hard against
        soft reset), decay and g[t] are sigmoids of learned values; leak, fall and v_threshold are learned
        as they are

    Shapes:
        x, s: [T, B, N]

    Args:
        decay: factor per step of the exponential leak, at the start of training.
        gain: g, one per step, at the start of training.
        v_threshold: firing threshold, membrane units; `fall` starts there, `leak` at v_threshold / 2T.
        learn_threshold: one learned threshold per channel, starting from v_threshold.

    Raises:
        UserError: decay or gain outside (0, 1), or v_threshold is not positive.
        UserError: another number of steps than the gains were made for.

    Source: Yao et al. 2022, arXiv 2210.13768, channel-wise, with the start values of the authors' code.
        There leak, fall and v_threshold are sigmoids too; as they are, they suit any v_threshold.

    Example:
        >>> GLIF((2,), None, 3).gain_logit.shape
        torch.Size([3, 2])
    """

    scales_with_input = ("v_threshold", "leak", "fall")

    def __init__(
        self,
        *supplied: Any,
        decay: OpenFraction = 0.25,
        gain: OpenFraction = 0.5,
        v_threshold: Positive = 0.5,
        learn_threshold: bool = True,
    ) -> None:
        super().__init__(*supplied, v_threshold=v_threshold, learn_threshold=learn_threshold)
        self.leak_logit, self.input_logit, self.reset_logit = (
            nn.Parameter(torch.empty(self.channel_shape).uniform_(-0.1, 0.1)) for _ in range(3)
        )
        self.decay_logit = self.per_channel(_logit(decay))
        self.gain_logit = nn.Parameter(torch.full((self.num_steps, *self.channel_shape), _logit(gain)))
        self.leak = self.per_channel(v_threshold / (2 * self.num_steps))
        self.fall = self.per_channel(v_threshold)

    def initial_state(self, x_BN: Tensor) -> State:
        """Return the membrane, and which step comes next."""
        return torch.zeros_like(x_BN), torch.zeros(1, dtype=torch.long, device=x_BN.device)

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        v, t = state
        # in the dtype of x: under mixed precision a learned value must not widen the spikes
        a, b, c, decay, g, leak, fall = (
            value.to(x_BN.dtype)
            for value in (
                torch.sigmoid(self.leak_logit),
                torch.sigmoid(self.input_logit),
                torch.sigmoid(self.reset_logit),
                torch.sigmoid(self.decay_logit),
                torch.sigmoid(self.gain_logit.index_select(0, t)[0]),
                self.leak,
                self.fall,
            )
        )
        h = v - (1 - a) * leak + (1 - b * (1 - g)) * x_BN
        s = self.fire(h)
        return s, ((1 - a * (1 - decay)) * (1 - c * s) * h - (1 - c) * fall * s, t + 1)

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Compute all steps, from rest."""
        self.require_its_steps(x_TBN)
        return super().forward(x_TBN)


def _logit(fraction: float) -> float:
    return math.log(fraction / (1 - fraction))
