"""The base of neurons: a threshold, a spike function, and traits.

Shapes: T steps, B batch, C channels, N any feature dimensions (C alone, or C, H, W).
Symbols, here and in every neuron: x input, v membrane, h membrane after charging, s spikes, tau in steps.

A neuron's traits state its promises and what a config may combine it with:

    emits              "spikes" {0, 1}, "signs" {-1, +1}, "ternary" {-1, 0, 1}, "levels" {0, unit, 2 unit, ...}, "real"
    in_slots           runs a level l as l spikes in binary slots
    single_step        has no dynamics: one time step is all it can use
    default_num_steps  the meaning of encoding.num_steps=null
    stepwise           has a pure `step` and a state that can be carried
    causal             the future does not change the past
    has_membrane       has a membrane at each step, so that a norm can act on it just before it fires
    default_surrogate  the meaning of surrogate=auto
    default_synapse    the meaning of synapse=auto
"""

from __future__ import annotations

import copy
from abc import ABC
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from snn_exp.errors import UserError
from snn_exp.nn.shapes import FeatureShape
from snn_exp.nn.stepwise import State, Stepwise
from snn_exp.nn.surrogates import SURROGATES, Surrogate
from snn_exp.registry import Positive, Registry

NEURONS: Registry[Neuron] = Registry(
    "neuron",
    traits=(
        "emits",
        "in_slots",
        "single_step",
        "default_num_steps",
        "stepwise",
        "causal",
        "has_membrane",
        "default_surrogate",
        "default_synapse",
    ),
)


UNDECLARED = ("v_threshold",)  # tried where a neuron does not declare what scales with its input


class ChannelThreshold(nn.Module):
    """Threshold of a neuron with a norm folded in; a negative scale turns "from above" into "from below".

    Equation:
        y = sign (h - threshold), sign in {-1, +1}, per channel; it fires where y >= 0

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
        """Compute y."""
        return self.sign * (h - self.threshold)

    def behind(self, scale: Tensor, shift: Tensor | float) -> ChannelThreshold:
        """Return the threshold that decides on h as this one does on scale h + shift."""
        return ChannelThreshold((self.threshold - shift) / scale, self.sign * scale.sign())


class Neuron(nn.Module, ABC):
    """Base class of neurons: a threshold, fixed or learned per channel, and a spike function.

    The framework supplies the first three arguments; neurons pass them on as `*supplied`.

    Args:
        feature_shape: (C, ...) of one sample at one step; needed where something is learned per channel.
        surrogate: the spike function; None takes the neuron's default.
        num_steps: T; needed where something is learned per step.
        v_threshold: firing threshold, membrane units.
        learn_threshold: one learned threshold per channel, starting from v_threshold.
    """

    emits: ClassVar[str] = "spikes"
    single_step: ClassVar[bool] = False
    default_num_steps: ClassVar[int] = 4
    stepwise: ClassVar[bool] = True
    causal: bool = True  # of an object, where it depends on a parameter
    has_membrane: ClassVar[bool] = True
    default_surrogate: ClassVar[str] = "atan"
    default_synapse: ClassVar[str] = "identity"
    version: ClassVar[int] = 1

    # For counts of operations: whether inference runs a level l as l spikes in binary slots, each an addition, and the
    # highest level. A neuron that emits levels says both, and `unit`.
    in_slots: bool = False
    num_levels: int = 1

    # For `snn-exp fold`: the attributes in membrane units, where the membrane is linear in them and the input. It
    # promises that dividing all of them by a gives for x the spikes that there were for a x. None: not declared, so
    # ("v_threshold",) is tried and kept if it holds on random inputs; empty: there are no such attributes.
    scales_with_input: ClassVar[tuple[str, ...] | None] = None

    v_threshold: Tensor
    membrane_norm: nn.Module | None  # on the membrane just before it fires, if a network puts one there
    folded_threshold: ChannelThreshold | None  # where it fires, if a norm was folded into it

    def __init__(
        self,
        feature_shape: FeatureShape = (),
        surrogate: Surrogate | None = None,
        num_steps: int = 1,
        *,
        v_threshold: Positive = 1.0,
        learn_threshold: bool = False,
    ) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.channel_shape = (*feature_shape[:1], *(1 for _ in feature_shape[1:]))
        self.membrane_norm = None
        self.folded_threshold = None
        self.surrogate = surrogate or SURROGATES.make({"name": self.default_surrogate})
        if learn_threshold:
            self.v_threshold = self.per_channel(v_threshold)
        else:
            self.register_buffer("v_threshold", torch.tensor(v_threshold), persistent=False)

    def per_channel(self, start: float) -> nn.Parameter:
        """Make one learned value per channel, or a single one where no feature shape is given."""
        return nn.Parameter(torch.full(self.channel_shape, start))

    @property
    def num_comparisons(self) -> int:
        """Return the comparisons of a membrane with thresholds: as many as tell its values apart by halving."""
        num_values = {"ternary": 3, "levels": self.num_levels + 1}.get(self.emits, 2)
        return (num_values - 1).bit_length()

    @property
    def unit(self) -> Tensor:
        """Return what one level is worth in the output: a single value, or one per channel [C, 1, ...]."""
        return torch.ones(())

    def fire(self, h: Tensor) -> Tensor:
        """Compute s = H(norm(h) - v_threshold), where norm is the membrane's, if there is one."""
        return self.surrogate.spike(self.excess(h))

    def excess(self, h: Tensor) -> Tensor:
        """Compute by how much the membrane exceeds the firing threshold."""
        if self.membrane_norm is not None:
            h = self.membrane_norm(h)
        if self.folded_threshold is not None:
            y: Tensor = self.folded_threshold(h)
            return y
        return h - self.threshold_as(h)

    @torch.no_grad()
    def firing_on(self, scale: Tensor, shift: Tensor | float) -> Self:
        """Return the neuron that fires at a membrane h where this one does at scale h + shift; its resets stay.

        Args:
            scale: not 0; per channel, [C, 1, ...] with as many axes as a sample has.
            shift: as scale, and may be 0.
        """
        neuron = copy.deepcopy(self)
        threshold = self.folded_threshold or ChannelThreshold(self.v_threshold, torch.ones_like(scale))
        neuron.folded_threshold = threshold.behind(scale, shift)
        return neuron

    @torch.no_grad()
    def rescaled(self, scale: Tensor) -> Self | None:
        """Return the neuron whose output for x is this one's for scale x; None if only the scale itself can do it.

        Args:
            scale: not 0; per channel, [C, 1, ...] with as many axes as a sample has.
        """
        if self.scales_with_input is None:
            return self._rescaled(scale, UNDECLARED) if self._scales_with(UNDECLARED, scale) else None
        return self._rescaled(scale, self.scales_with_input) if self.scales_with_input else None

    def _rescaled(self, scale: Tensor, names: tuple[str, ...]) -> Self:
        neuron = self.firing_on(scale, 0.0)
        for name in names:
            value = getattr(neuron, name) / scale
            delattr(neuron, name)  # a number, a buffer or a parameter
            neuron.register_buffer(name, value)
        return neuron

    def _scales_with(self, names: tuple[str, ...], scale: Tensor) -> bool:
        """Check the promise of `scales_with_input` by factors that are powers of two, which leave no rounding."""
        generator = torch.Generator().manual_seed(0)
        x_TBN = 2 * torch.randn(self.num_steps, 64, *scale.shape, generator=generator).to(self.v_threshold)
        x_TBN = x_TBN * self.v_threshold.abs().max()
        factors = (2.0, 0.25, -1.0)
        return all(
            torch.equal(self(f * x_TBN), self._rescaled(torch.full_like(scale, f), names)(x_TBN)) for f in factors
        )

    def threshold_as(self, x: Tensor) -> Tensor:
        """Return the threshold in the dtype of x: under mixed precision a learned one must not widen the spikes."""
        return self.v_threshold.to(x.dtype)

    def require_its_steps(self, x_TBN: Tensor) -> None:
        """Refuse another number of steps, for neurons that learn something per step.

        Raises:
            UserError: x has another number of steps than the neuron was made for.
        """
        if len(x_TBN) != self.num_steps:
            raise UserError(
                f"{type(self).__name__} learns something per step: it was made for {self.num_steps} steps and was "
                f"given {len(x_TBN)}; type encoding.num_steps={self.num_steps}, or train it again with {len(x_TBN)}"
            )

    def extra_repr(self) -> str:
        return f"surrogate={self.surrogate}"


class StepwiseNeuron(Neuron, Stepwise):
    """A neuron with a membrane that moves from step to step."""

    def initial_state(self, x_BN: Tensor) -> State:
        return (torch.zeros_like(x_BN),)
