"""What all neurons share: a threshold, a spike function, and traits.

Shapes: T steps, B batch, C channels, N any feature dimensions (C alone, or C, H, W).
Symbols, here and in every neuron: x input, v membrane, h membrane after charging, s spikes, tau in steps.

A neuron's traits say what it promises and what a config may combine it with:

    emits              "spikes" {0, 1}, "signs" {-1, +1} or "real"
    single_step        has no dynamics: one time step is all it can use
    stepwise           has a pure `step` and a state that can be carried
    causal             the future does not change the past
    has_membrane       has a membrane at each step, so that a norm can stand on it just before it fires
    default_surrogate  what surrogate=auto means
    default_synapse    what synapse=auto means
"""

from __future__ import annotations

from abc import ABC
from typing import ClassVar

import torch
from torch import Tensor, nn

from snn_exp.dynamics import State, Stepwise
from snn_exp.errors import UserError
from snn_exp.registry import Positive, Registry
from snn_exp.surrogates import SURROGATES, Surrogate

FeatureShape = tuple[int, ...]

NEURONS: Registry[Neuron] = Registry(
    "neuron",
    traits=(
        "emits",
        "single_step",
        "stepwise",
        "causal",
        "has_membrane",
        "default_surrogate",
        "default_synapse",
    ),
)


class Neuron(nn.Module, ABC):
    """What all neurons share: a threshold, fixed or learned per channel, and a spike function.

    The framework supplies the first three arguments; neurons hand them on as `*supplied`.

    Args:
        feature_shape: (C, ...) of one sample at one step; needed where something is learned per channel.
        surrogate: the spike function; None takes the neuron's default.
        num_steps: T; needed where something is learned per step.
        v_threshold: firing threshold, membrane units.
        learn_threshold: one learned threshold a channel, starting from v_threshold.
    """

    emits: ClassVar[str] = "spikes"
    single_step: ClassVar[bool] = False
    stepwise: ClassVar[bool] = True
    causal: bool = True  # of an object, where it depends on a parameter
    has_membrane: ClassVar[bool] = True
    default_surrogate: ClassVar[str] = "atan"
    default_synapse: ClassVar[str] = "identity"
    version: ClassVar[int] = 1

    v_threshold: Tensor
    membrane_norm: nn.Module | None  # on the membrane just before it fires, if a network puts one there

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
        self.surrogate = surrogate or SURROGATES.make({"name": self.default_surrogate})
        if learn_threshold:
            self.v_threshold = self.per_channel(v_threshold)
        else:
            self.register_buffer("v_threshold", torch.tensor(v_threshold), persistent=False)

    def per_channel(self, start: float) -> nn.Parameter:
        """One learned value a channel, or a single one where no feature shape is given."""
        return nn.Parameter(torch.full(self.channel_shape, start))

    def fire(self, h: Tensor) -> Tensor:
        """s = H(norm(h) - v_threshold), where norm is the membrane's, if there is one."""
        if self.membrane_norm is not None:
            h = self.membrane_norm(h)
        return self.surrogate.spike(h - self.threshold_as(h))

    def threshold_as(self, x: Tensor) -> Tensor:
        """The threshold in the dtype of x: under mixed precision a learned one must not widen the spikes."""
        return self.v_threshold.to(x.dtype)

    def require_its_steps(self, x_TBN: Tensor) -> None:
        """For neurons that learn something per step.

        Raises:
            UserError: x has another number of steps than the neuron was made for.
        """
        if len(x_TBN) != self.num_steps:
            raise UserError(
                f"{type(self).__name__} learns something per step: it was made for {self.num_steps} steps and was "
                f"given {len(x_TBN)}; type encoding.num_steps={self.num_steps}, or train it anew with {len(x_TBN)}"
            )

    def extra_repr(self) -> str:
        return f"surrogate={self.surrogate}"


class StepwiseNeuron(Neuron, Stepwise):
    """A neuron with a membrane that moves from step to step."""

    def initial_state(self, x_BN: Tensor) -> State:
        return (torch.zeros_like(x_BN),)
