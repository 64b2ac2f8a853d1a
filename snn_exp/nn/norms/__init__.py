"""Normalizations: each states its placements and which values share one statistic.

Placements are the positions of a norm in a layer; a norm names one or more and acts at each of them:

    psp       on the filtered spikes, before the weights
    current   around the weights, before the neuron
    membrane  inside the neuron, just before it fires, step by step
    spike     on the spikes, before the synapse

`statistics_over` names the axes of the sum, such as "T,B,H,W": the values that share one statistic.
"""

from snn_exp.nn.norms.norm import NORMS, Norm, Site
from snn_exp.nn.norms.psp import PSPNorm, PSPStreamNorm
from snn_exp.nn.norms.spiking import (
    BatchNormThroughTime,
    MembraneBatchNorm,
    NeuNorm,
    OnlineRenorm,
    TemporalAccumulatedBatchNorm,
    TemporalEffectiveBatchNorm,
    ThresholdDependentBatchNorm,
)
from snn_exp.nn.norms.standard import AnyDimBatchNorm, BatchNorm, GroupNorm, LayerNorm, NoNorm, RMSNorm

__all__ = [
    "NORMS",
    "AnyDimBatchNorm",
    "BatchNorm",
    "BatchNormThroughTime",
    "GroupNorm",
    "LayerNorm",
    "MembraneBatchNorm",
    "NeuNorm",
    "NoNorm",
    "Norm",
    "OnlineRenorm",
    "PSPNorm",
    "PSPStreamNorm",
    "RMSNorm",
    "Site",
    "TemporalAccumulatedBatchNorm",
    "TemporalEffectiveBatchNorm",
    "ThresholdDependentBatchNorm",
]
