"""Neurons: weighted input in, spikes out.

The neurons by file:

    neuron.py       the base: the threshold, the spike function, the traits
    integrating.py  charge, fire, reset, step by step
    srm.py          the spike response model: no reset, a response to the neuron's own spikes
    parallel.py     no reset, and the membrane of all steps at once
    single_step.py  no dynamics
    levels.py       several thresholds: integers and spikes of either sign

A new neuron goes into the file whose scheme it follows, or into one of its own that is imported here.
"""

from snn_exp.nn.neurons.integrating import CLIF, GLIF, IF, KLIF, LIF, PLIF, CubaLIF, IntegratingNeuron
from snn_exp.nn.neurons.levels import IntegerLIF, LevelNeuron, MultiThreshold, QuantizedReLU, Ternary
from snn_exp.nn.neurons.neuron import NEURONS, Neuron, StepwiseNeuron
from snn_exp.nn.neurons.parallel import PSN, ParallelNeuron, SlidingPSN
from snn_exp.nn.neurons.single_step import S2NN, ReLU, RSign, Sign, SingleStepNeuron
from snn_exp.nn.neurons.srm import SRM

__all__ = [
    "CLIF",
    "GLIF",
    "IF",
    "KLIF",
    "LIF",
    "NEURONS",
    "PLIF",
    "PSN",
    "S2NN",
    "SRM",
    "CubaLIF",
    "IntegerLIF",
    "IntegratingNeuron",
    "LevelNeuron",
    "MultiThreshold",
    "Neuron",
    "ParallelNeuron",
    "QuantizedReLU",
    "RSign",
    "ReLU",
    "Sign",
    "SingleStepNeuron",
    "SlidingPSN",
    "StepwiseNeuron",
    "Ternary",
]
