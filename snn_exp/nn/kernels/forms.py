"""The fused forms of neurons, surrogates, norms and synapses.

A part has one if its exact class is listed here: a subclass may do something else. relu has none: behind
torch's own batch norm it is one pass already.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TypeGuard

from torch import nn

from snn_exp.nn.neurons import (
    IF,
    LIF,
    NEURONS,
    PLIF,
    S2NN,
    SRM,
    IntegerLIF,
    IntegratingNeuron,
    LevelNeuron,
    MultiThreshold,
    Neuron,
    QuantizedReLU,
    RSign,
    Sign,
    Ternary,
)
from snn_exp.nn.norms import BatchNorm, PSPNorm, PSPStreamNorm, ThresholdDependentBatchNorm
from snn_exp.nn.surrogates import SURROGATES
from snn_exp.nn.synapses import AlphaSynapse, ExponentialSynapse, IdentitySynapse
from snn_exp.registry import Registry

NEURONS_WITH_A_FORM = (IF, LIF, PLIF, SRM, S2NN, Sign, RSign, Ternary, MultiThreshold, IntegerLIF, QuantizedReLU)
LEVELS: dict[type[Neuron], str] = {MultiThreshold: "Passed", IntegerLIF: "Rounded", QuantizedReLU: "Quantized"}
STRAIGHT_THROUGH = (IntegerLIF, QuantizedReLU)  # they use no surrogate
NORMS_WITH_A_FORM = (BatchNorm, ThresholdDependentBatchNorm)

MEMBRANE_NORM = "a norm on the membrane has no fused form"

# k(y), by the surrogate's name: one text, C++ in fused.cpp, Python in passes.py, and the same in both. So its numbers
# are whole and not divided by one another, and a choice is made by where(condition, yes, no).
KERNELS = {
    "sigmoid": "4 * sigmoid(y) * (1 - sigmoid(y))",
    "atan": "1 / (1 + y * y)",
    "triangle": "positive(1 - absolute(y))",
    "rect": "where(2 * absolute(y) < 1, 1, 0)",
    "slayer_exp": "exponential(-absolute(y))",
    "fast_sigmoid": "1 / ((absolute(y) + 1) * (absolute(y) + 1))",
    "erf": "exponential(-y * y)",
    "s2nn": "where(y < 0, alpha * sigmoid(alpha * y) * (1 - sigmoid(alpha * y)), beta / (positive(y) + 1))",
    "ste": "where(absolute(y) <= 1, 1, 0)",
    "approx_sign": "positive(1 - absolute(y))",
    # tanh(y / 2) = 2 sigmoid(y) - 1
    "swish_sign": "(2 - y * (2 * sigmoid(y) - 1)) * 2 * sigmoid(y) * (1 - sigmoid(y))",
}


@dataclasses.dataclass(frozen=True)
class Form:
    """One case of fused.cpp and passes.py, named as there.

    Args:
        dynamics: how v and x become h.
        reset: how h and s become v.
        emits: how h and the threshold become s.
        levels: the highest level.
        surrogate: k(y).
        detached: no gradient through the reset.
        learns_threshold: the threshold's gradient is asked for.
        learns_leak: the leak's gradient is asked for.
        folded: a norm is folded into it, and there is no backward; only on a CPU.
    """

    dynamics: str
    reset: str
    emits: str
    levels: int
    surrogate: str
    detached: bool
    learns_threshold: bool
    learns_leak: bool
    folded: bool = False

    @functools.cached_property
    def defines(self) -> tuple[str, ...]:
        """Return the macros of this case.

        Example:
            >>> form = form_of(LIF())
            >>> isinstance(form, Form) and form.defines[:3]
            ('DYNAMICS=Leak', 'RESET=Hard', 'EMITS=Spikes')
        """
        switches = {name: str(value).lower() for name, value in vars(self).items() if isinstance(value, bool)}
        values = {**vars(self), "surrogate": f"({self.surrogate})", **switches}
        return tuple(f"{name.upper()}={value}" for name, value in values.items())


def form_of(neuron: Neuron) -> Form | str:
    """Return the fused form of a neuron with its surrogate, or why it has none.

    Example:
        >>> form_of(SRM(refractory="slayer"))
        'neuron=srm with neuron.refractory=slayer has no fused form'
    """
    name, surrogate = _name(NEURONS, neuron), _name(SURROGATES, neuron.surrogate)
    if type(neuron) not in NEURONS_WITH_A_FORM:
        return f"neuron={name} has no fused form"
    if surrogate not in KERNELS and not isinstance(neuron, STRAIGHT_THROUGH):
        return f"surrogate={surrogate} has no fused form"
    if neuron.membrane_norm is not None:
        return MEMBRANE_NORM
    if is_folded(neuron):
        return "a norm folded into a threshold has no fused backward"
    return _form(neuron, name, KERNELS.get(surrogate, "1"))


def is_folded(neuron: Neuron) -> bool:
    """Return whether a norm is folded into the threshold, or the thresholds, of a neuron."""
    return neuron.folded_threshold is not None or (isinstance(neuron, LevelNeuron) and neuron.folded_levels is not None)


def inference_form_of(neuron: Neuron) -> Form | None:
    """Return the form, forward only, of a neuron, whatever its surrogate; None if there is none.

    Example:
        >>> import torch
        >>> neuron = LIF().firing_on(torch.tensor([2.0]), 0.0)
        >>> form = inference_form_of(neuron)
        >>> form is not None and form.folded
        True
    """
    if neuron.membrane_norm is not None or type(neuron) not in NEURONS_WITH_A_FORM:
        return None
    form = _form(neuron, _name(NEURONS, neuron), "1")
    if isinstance(form, str):
        return None
    return dataclasses.replace(
        form, folded=is_folded(neuron), learns_threshold=False, learns_leak=False, detached=True, surrogate="1"
    )


def folded_form_of(neuron: Neuron) -> Form | None:
    """Return the form, forward only, of a neuron into which a norm is folded; None if there is none.

    Example:
        >>> folded_form_of(LIF()) is None
        True
    """
    return inference_form_of(neuron) if is_folded(neuron) else None


def _form(neuron: Neuron, name: str, surrogate: str) -> Form | str:
    if isinstance(neuron, SRM) and neuron.refractory != "exponential":
        return f"neuron={name} with neuron.refractory={neuron.refractory} has no fused form"
    dynamics, reset = _course(neuron)
    return Form(
        dynamics=dynamics,
        reset=reset,
        emits=LEVELS.get(type(neuron), neuron.emits.capitalize()),
        levels=neuron.num_levels,
        surrogate="1" if isinstance(neuron, STRAIGHT_THROUGH) else surrogate,
        detached=neuron.single_step or (isinstance(neuron, IntegratingNeuron | IntegerLIF) and neuron.detach_reset),
        learns_threshold=isinstance(neuron, QuantizedReLU) or isinstance(neuron.v_threshold, nn.Parameter),
        learns_leak=isinstance(neuron, PLIF),
    )


def _course(neuron: Neuron) -> tuple[str, str]:
    """Return dynamics and reset; a neuron without dynamics has no reset either, and any reset does."""
    if isinstance(neuron, SRM):
        return "Integrate", "Refractory"
    if isinstance(neuron, IntegerLIF):
        return "Decay", "Soft"
    if not isinstance(neuron, IntegratingNeuron):
        return "Memoryless", "Hard"
    reset = neuron.reset.capitalize()
    if not isinstance(neuron, LIF):
        return "Integrate", reset
    return "Leak" if neuron.decay_input else "LeakOfMembrane", reset


def _name(registry: Registry, part: object) -> str:  # type: ignore[type-arg]
    """Return a part's name in a config; its class's name where it is in no registry."""
    return next((name for name in registry if registry[name] is type(part)), type(part).__name__)


@dataclasses.dataclass(frozen=True)
class Trace:
    """One case of filter.cpp: the filter of a synapse.

    Args:
        name: as in filter.cpp.
        decay: factor per step on the trace of earlier spikes.
        gain: factor on the trace.
    """

    name: str
    decay: float = 0.0
    gain: float = 1.0

    @property
    def defines(self) -> tuple[str, ...]:
        """Return the macro of this case."""
        return (f"TRACE={self.name}",)


def trace_of(synapse: nn.Module) -> Trace | None:
    """Return the fused form of a synapse, if it has one.

    Example:
        >>> trace_of(ExponentialSynapse())
        Trace(name='Exponential', decay=0.5, gain=1.0)
    """
    if type(synapse) is IdentitySynapse:
        return Trace("Identity")
    if type(synapse) is ExponentialSynapse:
        return Trace("Exponential", synapse.decay)
    if type(synapse) is AlphaSynapse:
        decay = math.exp(-1 / synapse.tau_s)
        name = "DelayedAlpha" if synapse.sampling == "slayer" else "Alpha"
        return Trace(name, decay, math.e * decay / synapse.tau_s)
    return None


def has_a_moment_per_channel(norm: object) -> TypeGuard[PSPNorm]:
    """Return whether this is a PSP norm that filter.cpp supports.

    Example:
        >>> from snn_exp.nn.norms import Site
        >>> has_a_moment_per_channel(PSPNorm(Site((2,)))), has_a_moment_per_channel(PSPNorm(Site((2,)), over="sample"))
        (True, False)
    """
    return type(norm) in (PSPNorm, PSPStreamNorm) and isinstance(norm, PSPNorm) and norm.over == "channel"
