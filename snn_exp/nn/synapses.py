"""Synapses: the filter between a spike and the next weight, s -> psp.

Shapes: T steps, B batch, N any feature dimensions. tau in steps.

    psp[t] = (eps * s)[t]

`delay` is the number of steps by which the first response lags behind the spike: 0, or 1 when the
kernel is sampled as SLAYER samples it, where eps(0) = 0.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt, Unit
from torch import Tensor, nn

from snn_exp.nn.stepwise import State, Stepwise
from snn_exp.registry import Fraction, Registry


class Synapse(nn.Module):
    """Base class of synapses."""

    num_multiplications: ClassVar[int] = 0  # per neuron and step
    version: ClassVar[int] = 1


SYNAPSES: Registry[Synapse] = Registry("synapse")


@SYNAPSES.register("identity")
class IdentitySynapse(Synapse):
    """No filter: the postsynaptic potential is the spike.

    Equation:
        psp[t] = s[t]

    Shapes:
        s, psp: [T, B, N]

    Source: the usual choice of surrogate-gradient SNNs.

    Example:
        >>> IdentitySynapse()(torch.tensor([[1.0], [0.0]])).flatten()
        tensor([1., 0.])
    """

    def forward(self, s_TBN: Tensor) -> Tensor:
        """Return the input."""
        return s_TBN


@SYNAPSES.register("exponential")
class ExponentialSynapse(Synapse, Stepwise):
    """A decaying trace of the spikes; one multiplication per neuron and step.

    Equation:
        psp[t] = decay psp[t-1] + s[t]

    Shapes:
        s, psp: [T, B, N]

    Args:
        decay: factor per step.

    Raises:
        UserError: decay outside [0, 1].

    Source: our default for srm at short T.

    Example:
        >>> ExponentialSynapse()(torch.tensor([[1.0], [0.0], [1.0]])).flatten()
        tensor([1.0000, 0.5000, 1.2500])
    """

    num_multiplications = 1

    def __init__(self, *, decay: Fraction = 0.5) -> None:
        super().__init__()
        self.decay = decay

    def initial_state(self, x_BN: Tensor) -> State:
        return (torch.zeros_like(x_BN),)

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        psp = torch.add(x_BN, state[0], alpha=self.decay)
        return psp, (psp,)


@SYNAPSES.register("alpha")
class AlphaSynapse(Synapse, Stepwise):
    """The alpha kernel of SLAYER, exactly, by two traces; two multiplications per neuron and step.

    Equation:
        eps(t) = (t / tau_s) e^(1 - t / tau_s)
        psp[t] = sum_{k >= 0} eps(k + 1) s[t-k]   (sampling=immediate, no delay)
        psp[t] = sum_{k >= 1} eps(k) s[t-k]       (sampling=slayer, one step of delay per layer)

    Shapes:
        s, psp: [T, B, N]

    Args:
        tau_s: time constant.
        sampling: immediate or slayer; a slayer network needs more steps than it has filtered layers.

    Raises:
        UserError: tau_s is not positive, or sampling is neither immediate nor slayer.

    Source: Shrestha and Orchard 2018 (SLAYER), there with tau_s = 10 at 300 steps; the default is our
        choice for short T.

    Example:
        >>> AlphaSynapse(tau_s=1.0)(torch.tensor([[1.0], [0.0]])).flatten()
        tensor([1.0000, 0.7358])
    """

    num_multiplications = 2

    def __init__(
        self,
        *,
        tau_s: Annotated[float, Gt(0), Unit("steps")] = 2.0,
        sampling: Literal["immediate", "slayer"] = "immediate",
    ) -> None:
        super().__init__()
        self.tau_s = tau_s
        self.sampling = sampling

    def initial_state(self, x_BN: Tensor) -> State:
        return torch.zeros_like(x_BN), torch.zeros_like(x_BN)

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        # p = sum_k d^k s[t-k], q = sum_k (k + 1) d^k s[t-k] over k >= 0; eps(k + 1) = (e d / tau_s) (k + 1) d^k
        p, q = state
        d = math.exp(-1 / self.tau_s)
        scale = math.e * d / self.tau_s
        delayed = scale * q
        p = d * p + x_BN
        q = d * q + p
        return (delayed if self.sampling == "slayer" else scale * q), (p, q)
