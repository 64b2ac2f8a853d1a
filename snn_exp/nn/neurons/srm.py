"""The spike response model: no reset, but a response to the neuron's own spikes.

Shapes: T steps, B batch, N any feature dimensions.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from annotated_types import Unit
from torch import Tensor

from snn_exp.nn.neurons.neuron import NEURONS, StepwiseNeuron
from snn_exp.nn.stepwise import State
from snn_exp.registry import Fraction, Positive


@NEURONS.register("srm")
class SRM(StepwiseNeuron):
    """Spike response model: the filtered, weighted spikes plus the neuron's own refractory response.

    The filter eps is the synapse (exponential by default), which precedes the weights.

    Equation:
        u[t] = x[t] + r[t],  x[t] = sum_j W_j (eps * s_j)[t]
        s[t] = H(u[t] - v_threshold)
        exponential: r[t+1] = refractory_decay r[t] - v_threshold s[t]
        slayer:      r[t] = sum_{k >= 1} nu(k) s[t-k],  nu(k) = -2 v_threshold (k / tau_r) e^(1 - k / tau_r)

    Shapes:
        x, s: [T, B, N]

    Args:
        refractory: the form of the response, exponential or slayer; both begin one step after the spike.
        refractory_decay: factor per step of the exponential form.
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
        *supplied: Any,
        refractory: Literal["exponential", "slayer"] = "exponential",
        refractory_decay: Fraction = 0.5,
        tau_r: Annotated[Positive, Unit("steps")] = 1.0,
        **threshold: Any,
    ) -> None:
        super().__init__(*supplied, **threshold)
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
