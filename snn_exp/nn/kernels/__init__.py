"""Norm, neuron and surrogate in one pass, synapse and PSP norm in another, convolutions that add where a spike is.

Plain torch is the reference.

Modules:

    fused.cpp     norm, neuron and surrogate on a CPU, in C++
    filter.cpp    synapse and PSP norm
    stretches.h   the code that the two share
    build.py      compiles them at first use, for one case, and caches the result
    on_cpu.py     calls them
    passes.py     norm, neuron and surrogate on a GPU, in Triton
    on_gpu.py     launches them
    layout.py     the memory layout of the large tensors
    forms.py      which parts have a fused form
    fused.py      the autograd of norm, neuron and surrogate
    filtered.py   that of synapse and PSP norm
    choice.py     whether a run uses them, and why
    measured.py   whether they pay on a GPU: what was measured on the card, kept in gpus.json

    events.cpp        convolutions that add where a spike is
    events.py         calls them, as operators of torch
    input_gradient.cpp, input_gradient.py   the gradient of the input of such a convolution
    spike_words.py    bits that a neuron has written for them besides its spikes
    filtered_spikes.py   convolutions of filtered, normalized spikes that add where a spike is
    event_layers.py   which layers of a network compute so, and when

    tables.cpp        convolutions of spikes that look up sums of four channels, for inference
    tables.py         a layer that calls them
    bits.py           neurons that write their spikes as bits

In the forward a fused neuron is bitwise equal to the plain one. A norm that it takes in (in training only) and the
gradients differ by rounding: sums are formed in another order. In bfloat16 only stored values are rounded to it.

Triton's passes are tested in its interpreter and compiled for a GPU; they never ran on one, so only
trainer.kernels=fused takes them (`make gpu` runs and measures them). Why C++ and not torch.compile on a CPU:
benchmarks/kernels.md.
"""

from snn_exp.nn.kernels.bits import FiringBits
from snn_exp.nn.kernels.build import Unavailable, toolchain
from snn_exp.nn.kernels.choice import Choice, choose, fuse, is_on_a_gpu
from snn_exp.nn.kernels.event_layers import Ways, add_where_spikes_are, is_spikes, ways_of
from snn_exp.nn.kernels.forms import MEMBRANE_NORM, Form, form_of, inference_form_of
from snn_exp.nn.kernels.tables import ConvolutionByTables, can_be_looked_up

__all__ = [
    "MEMBRANE_NORM",
    "Choice",
    "ConvolutionByTables",
    "FiringBits",
    "Form",
    "Unavailable",
    "Ways",
    "add_where_spikes_are",
    "can_be_looked_up",
    "choose",
    "form_of",
    "fuse",
    "inference_form_of",
    "is_on_a_gpu",
    "is_spikes",
    "toolchain",
    "ways_of",
]
