"""Neurons: weighted input in, spikes out.

Shapes: T steps, B batch, C channels, N any feature dimensions (C alone, or C, H, W).
Symbols: x input, v membrane, h membrane after charging, s spikes, tau in steps.

A neuron's traits say what it promises and what a config may combine it with:

    emits              "spikes" {0, 1}, "signs" {-1, +1} or "real"
    single_step        has no dynamics: one time step is all it can use
    stepwise           has a pure `step` and a state that can be carried
    causal             the future does not change the past
    default_surrogate  what surrogate=auto means
    default_synapse    what synapse=auto means
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from annotated_types import Unit
from torch import Tensor, nn

from snn_exp.dynamics import State, Stepwise
from snn_exp.errors import UserError
from snn_exp.registry import Fraction, Positive, Registry, TimeConstant
from snn_exp.surrogates import SURROGATES, Surrogate

FeatureShape = tuple[int, ...]
MembraneVoltage = Annotated[float, Unit("membrane units")]

NEURONS: Registry[Neuron] = Registry(
    "neuron",
    traits=("emits", "single_step", "stepwise", "causal", "default_surrogate", "default_synapse"),
)


class ChannelThreshold(nn.Module):
    """Where a neuron fires once a norm is folded into it; a negative scale turns "from above" into "from below".

    Equation:
        y = sign (h - threshold), sign in {-1, +1}, both per channel; it fires where y >= 0

    Example:
        >>> ChannelThreshold(torch.tensor([2.0]), torch.tensor([1.0])).behind(torch.tensor([-4.0]), 0.0).threshold
        tensor([-0.5000])
    """

    threshold: Tensor
    sign: Tensor

    def __init__(self, threshold: Tensor, sign: Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold)
        self.register_buffer("sign", sign)

    def forward(self, h: Tensor) -> Tensor:
        """y."""
        return self.sign * (h - self.threshold)

    def behind(self, scale: Tensor, shift: Tensor | float) -> ChannelThreshold:
        """What decides on h as this one does on scale h + shift."""
        return ChannelThreshold((self.threshold - shift) / scale, self.sign * scale.sign())


class Neuron(nn.Module, ABC):
    """What all neurons share: a threshold, fixed or learned per channel, and a spike function.

    Args:
        feature_shape: (C, ...) of one sample at one step; needed where something is learned per channel.
        surrogate: the spike function; None takes the neuron's default.
        v_threshold: firing threshold, membrane units.
        learn_threshold: one learned threshold a channel, starting from v_threshold.
    """

    emits: ClassVar[str] = "spikes"
    single_step: ClassVar[bool] = False
    stepwise: ClassVar[bool] = True
    causal: ClassVar[bool] = True
    default_surrogate: ClassVar[str] = "atan"
    default_synapse: ClassVar[str] = "identity"
    version: ClassVar[int] = 1

    # What is in membrane units, where the membrane is linear in them and the input: dividing all of them by a
    # gives for x the spikes that there were for a x. Empty where that does not hold.
    scales_with_input: ClassVar[tuple[str, ...]] = ()

    v_threshold: Tensor
    membrane_norm: nn.Module | None  # on the membrane just before it fires, if a network puts one there
    folded_threshold: ChannelThreshold | None  # where it fires, if a norm was folded into it

    def __init__(
        self,
        feature_shape: FeatureShape = (),
        surrogate: Surrogate | None = None,
        *,
        v_threshold: Positive = 1.0,
        learn_threshold: bool = False,
    ) -> None:
        super().__init__()
        self.membrane_norm = None
        self.folded_threshold = None
        self.surrogate = surrogate or SURROGATES.make({"name": self.default_surrogate})
        if learn_threshold:
            shape = (feature_shape[0], *(1 for _ in feature_shape[1:])) if feature_shape else ()
            self.v_threshold = nn.Parameter(torch.full(shape, v_threshold))
        else:
            self.register_buffer("v_threshold", torch.tensor(v_threshold), persistent=False)

    def fire(self, h: Tensor) -> Tensor:
        """s = H(norm(h) - v_threshold), where norm is the membrane's, if there is one."""
        return self.surrogate.spike(self.excess(h))

    def excess(self, h: Tensor) -> Tensor:
        """By how much the membrane exceeds what it takes to fire."""
        if self.membrane_norm is not None:
            h = self.membrane_norm(h)
        if self.folded_threshold is not None:
            y: Tensor = self.folded_threshold(h)
            return y
        return h - self.threshold_as(h)

    @torch.no_grad()
    def firing_on(self, scale: Tensor, shift: Tensor | float) -> Self:
        """The neuron that fires at a membrane h where this one does at scale h + shift; its resets stay.

        Args:
            scale: not 0; per channel, [C, 1, ...] with as many axes as a sample has.
            shift: likewise.
        """
        neuron = copy.deepcopy(self)
        threshold = self.folded_threshold or ChannelThreshold(self.v_threshold, torch.ones_like(scale))
        neuron.folded_threshold = threshold.behind(scale, shift)
        return neuron

    @torch.no_grad()
    def rescaled(self, scale: Tensor) -> Self | None:
        """The neuron that makes of x what this one makes of scale x; None if nothing but the scale itself can.

        Args:
            scale: not 0; per channel, [C, 1, ...] with as many axes as a sample has.
        """
        if not self.scales_with_input:
            return None
        neuron = self.firing_on(scale, 0.0)
        for name in self.scales_with_input:
            value = getattr(neuron, name) / scale
            delattr(neuron, name)  # a number, a buffer or a parameter
            neuron.register_buffer(name, value)
        return neuron

    def threshold_as(self, x: Tensor) -> Tensor:
        """The threshold in the dtype of x: under mixed precision a learned one must not widen the spikes."""
        return self.v_threshold.to(x.dtype)

    def extra_repr(self) -> str:
        return f"surrogate={self.surrogate}"


class StepwiseNeuron(Neuron, Stepwise):
    """A neuron with a membrane that moves from step to step."""

    def initial_state(self, x_BN: Tensor) -> State:
        return (torch.zeros_like(x_BN),)


class IntegratingNeuron(StepwiseNeuron):
    """Charge, fire, reset: the common course of IF, LIF and PLIF.

    Args:
        v_reset: membrane at rest and after a hard reset.
        reset: hard sets the membrane to v_reset, soft subtracts v_threshold.
        detach_reset: no gradient through the reset.
    """

    scales_with_input = ("v_threshold", "v_reset")

    def __init__(
        self,
        feature_shape: FeatureShape = (),
        surrogate: Surrogate | None = None,
        *,
        v_reset: MembraneVoltage = 0.0,
        reset: Literal["hard", "soft"] = "hard",
        detach_reset: bool = False,
        **threshold: Any,
    ) -> None:
        super().__init__(feature_shape, surrogate, **threshold)
        if v_reset >= self.v_threshold.max():
            raise UserError(
                f"v_reset={v_reset:g} is not below v_threshold={self.v_threshold.max():g}, so a neuron at rest would "
                f"fire at every step; type a smaller v_reset"
            )
        self.v_reset: float | Tensor = v_reset
        self.reset = reset
        self.detach_reset = detach_reset

    def initial_state(self, x_BN: Tensor) -> State:
        return (torch.zeros_like(x_BN) + self.v_reset,)

    @abstractmethod
    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        """h, the membrane after the input and before the spike."""

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        (v,) = state
        h = self.charge(v, x_BN)
        s = self.fire(h)
        released = s.detach() if self.detach_reset else s
        if self.reset == "hard":
            v = released * self.v_reset + (1 - released) * h
        else:
            v = h - released * self.threshold_as(h)
        return s, (v,)


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
        feature_shape: FeatureShape = (),
        surrogate: Surrogate | None = None,
        *,
        tau: TimeConstant = 2.0,
        decay_input: bool = True,
        **integrating: Any,
    ) -> None:
        super().__init__(feature_shape, surrogate, **integrating)
        self.tau = tau
        self.decay_input = decay_input

    def leak(self) -> Tensor | float:
        """1 / tau."""
        return 1 / self.tau

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        if self.decay_input:
            return v + (x - (v - self.v_reset)) * self.leak()
        return v - (v - self.v_reset) * self.leak() + x


@NEURONS.register("plif")
class PLIF(LIF):
    """Parametric LIF: one learned time constant a layer.

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

    def __init__(self, feature_shape: FeatureShape = (), surrogate: Surrogate | None = None, **lif: Any) -> None:
        super().__init__(feature_shape, surrogate, **lif)
        self.w = nn.Parameter(torch.tensor(-math.log(self.tau - 1)))

    def leak(self) -> Tensor:
        return torch.sigmoid(self.w)


@NEURONS.register("srm")
class SRM(StepwiseNeuron):
    """Spike response model: the filtered, weighted spikes plus the neuron's own refractory response.

    The filter eps is the synapse (exponential by default), which stands before the weights.

    Equation:
        u[t] = x[t] + r[t],  x[t] = sum_j W_j (eps * s_j)[t]
        s[t] = H(u[t] - v_threshold)
        exponential: r[t+1] = refractory_decay r[t] - v_threshold s[t]
        slayer:      r[t] = sum_{k >= 1} nu(k) s[t-k],  nu(k) = -2 v_threshold (k / tau_r) e^(1 - k / tau_r)

    Shapes:
        x, s: [T, B, N]

    Args:
        refractory: the form of the response, exponential or slayer; both begin one step after the spike.
        refractory_decay: factor a step of the exponential form.
        tau_r: time constant of the slayer form.

    Raises:
        UserError: refractory_decay outside [0, 1], tau_r or v_threshold not positive, or an unknown refractory.

    Source: Shrestha and Orchard 2018 (SLAYER) for the second form; the exponential one is our default,
        for short T.

    Example:
        >>> SRM()(torch.full((3, 1), 1.2)).flatten()
        tensor([1., 0., 0.])
    """

    default_surrogate = "slayer_exp"
    default_synapse = "exponential"
    scales_with_input = ("v_threshold",)

    def __init__(
        self,
        feature_shape: FeatureShape = (),
        surrogate: Surrogate | None = None,
        *,
        refractory: Literal["exponential", "slayer"] = "exponential",
        refractory_decay: Fraction = 0.5,
        tau_r: Annotated[Positive, Unit("steps")] = 1.0,
        **threshold: Any,
    ) -> None:
        super().__init__(feature_shape, surrogate, **threshold)
        self.refractory = refractory
        self.refractory_decay = refractory_decay
        self.tau_r = tau_r

    def initial_state(self, x_BN: Tensor) -> State:
        num_traces = 1 if self.refractory == "exponential" else 2
        return tuple(torch.zeros_like(x_BN) for _ in range(num_traces))

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        if self.refractory == "exponential":
            (r,) = state
            s = self.fire(x_BN + r)
            return s, (self.refractory_decay * r - self.threshold_as(s) * s,)
        # p = sum d^k s[t-k] and q = sum k d^k s[t-k] over k >= 1 give the alpha-shaped nu exactly
        p, q = state
        d = math.exp(-1 / self.tau_r)
        r = -2 * self.threshold_as(q) * (math.e / self.tau_r) * q
        s = self.fire(x_BN + r)
        return s, (d * (p + s), d * (q + p + s))


class SingleStepNeuron(Neuron):
    """An activation without dynamics: every step is treated alike, and one step is all it can use."""

    single_step = True
    stepwise = False

    def forward(self, x_TBN: Tensor) -> Tensor:
        """s, element by element."""
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

    def __init__(self, feature_shape: FeatureShape = (), surrogate: Surrogate | None = None) -> None:
        super().__init__(feature_shape, surrogate, v_threshold=0.0)

    def fire(self, h: Tensor) -> Tensor:
        return self.surrogate.sign(self.excess(h))


@NEURONS.register("relu")
class ReLU(SingleStepNeuron):
    """The full-precision yardstick.

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

    def __init__(self, feature_shape: FeatureShape = (), surrogate: Surrogate | None = None) -> None:
        super().__init__(feature_shape, surrogate, v_threshold=0.0)

    def fire(self, h: Tensor) -> Tensor:
        return torch.relu(h)
