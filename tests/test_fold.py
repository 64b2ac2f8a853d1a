"""Folding: the same logits and the same spikes without norms, for all that folds; sentences for the rest."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from snn_exp import fold as folding
from snn_exp import train
from snn_exp.cli import main
from snn_exp.compose import compose
from snn_exp.config import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.fold import compare, fold, load_folded
from snn_exp.layers import make_part_factories
from snn_exp.networks import Network, build_network
from snn_exp.neurons import IF, LIF, Neuron
from snn_exp.norms import BatchNorm, Norm, PSPNorm
from snn_exp.results import RunFolder
from snn_exp.synapses import SYNAPSES
from snn_exp.weights import WEIGHT_NORMS, StandardizedWeights

NEURONS: dict[str, dict[str, Any]] = {
    "if": {"name": "if", "v_reset": -0.3},
    "lif hard": {"name": "lif", "v_reset": 0.1, "learn_threshold": True},
    "lif soft": {"name": "lif", "reset": "soft", "decay_input": False},
    "plif": {"name": "plif", "reset": "soft", "v_threshold": 0.7},
    "srm": {"name": "srm"},
    "srm slayer": {"name": "srm", "refractory": "slayer", "learn_threshold": True},
    "s2nn": {"name": "s2nn"},
}
NORMS = {"bn": ("bn", ("current",)), "mpbn": ("bn", ("current", "membrane")), "psp": ("psp", ("psp",))}
STRUCTURES: list[dict[str, Any]] = [
    *({"residual": {"name": block, "shortcut": shortcut}, "network": {"name": "resnet", "readout": readout}}
      for block in ("pre", "bireal") for shortcut in ("avgpool_dup", "conv") for readout in ("membrane", "spikes")),
    *({"residual": {"name": "post", "shortcut": shortcut}} for shortcut in ("avgpool_dup", "conv")),
    {"residual": {"name": "none"}},
    {"network": {"name": "vgg"}},
    {"network": {"name": "mlp"}},
]  # fmt: skip


def make_network(
    neuron: str | dict[str, Any] = "lif hard",
    norm: str | dict[str, Any] = "bn",
    *,
    placements: tuple[str, ...] = (),
    residual: dict[str, Any] | None = None,
    network: dict[str, Any] | None = None,
    weight_norm: str = "none",
    weight_quant: str = "none",
    synapse: str = "identity",
    num_steps: int = 4,
) -> Network:
    """A tiny random network in float64 whose norms have seen something."""
    torch.manual_seed(0)
    neuron = NEURONS[neuron] if isinstance(neuron, str) else neuron
    if isinstance(norm, str):
        name, placements = NORMS.get(norm, (norm, placements))
        norm = {"name": name}
    parts = make_part_factories(
        neuron=neuron, surrogate={"name": "atan"}, synapse={"name": synapse}, norm=norm,
        weight_norm={"name": weight_norm}, weight_quant={"name": weight_quant}, num_steps=num_steps,
    )  # fmt: skip
    if placements:
        parts = dataclasses.replace(parts, placements=placements)
    network = {"width": 3, "name": "resnet"} | (network or {})
    built = build_network(
        network, parts, in_shape=(2, 6, 6), num_classes=3, num_layers=4 if network["name"] == "mlp" else 8,
        residual=residual or {"name": "pre"},
    )  # fmt: skip
    return as_if_trained(built)


@torch.no_grad()
def as_if_trained(network: Network) -> Network:
    """In float64, with moved statistics, gains of both signs, shifts, thresholds of each channel."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.3, 2)
            module.weight.uniform_(0.6, 2).mul_(torch.where(torch.rand(module.weight.shape) < 0.3, -1, 1))
            module.bias.normal_(0.3, 0.3)
        elif isinstance(module, PSPNorm):
            module.moment.uniform_(0.05, 0.4)
        elif isinstance(module, StandardizedWeights):
            module.g.uniform_(0.5, 2)
        elif isinstance(module, Neuron) and isinstance(module.v_threshold, nn.Parameter):
            module.v_threshold.uniform_(0.6, 1.4)
    return network.double().eval()


def batch(num_steps: int = 4) -> tuple[Tensor, Tensor]:
    x_TBCHW = 2 * torch.randn(num_steps, 6, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x_TBCHW, torch.arange(6) % 3


def assert_the_same(network: Network, num_steps: int = 4) -> folding.Folded:
    folded = fold(network)
    found = compare(network, folded, [batch(num_steps)], torch.float64)
    assert found.num_flipped == 0
    assert found.logit_error <= 1e-10
    assert not any(isinstance(module, Norm) for module in folded.modules())
    assert not any(isinstance(module, StandardizedWeights) for module in folded.modules())
    x_TBCHW, _ = batch(num_steps)
    fired = torch.cat([f.flatten() for f in folding._fired(network, x_TBCHW)[1].values()])
    assert 0.02 < fired.double().mean() < 0.98, "a silent network proves nothing"
    return folded


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("neuron", NEURONS)
def test_in_float64_logits_are_equal_and_no_spike_differs(neuron: str, norm: str) -> None:
    others = itertools.cycle(itertools.product(WEIGHT_NORMS, SYNAPSES))
    num_steps = 1 if neuron == "s2nn" else 4
    for structure in STRUCTURES:
        weight_norm, synapse = next(others)
        network = make_network(neuron, norm, **structure, weight_norm=weight_norm, synapse=synapse, num_steps=num_steps)
        assert_the_same(network, num_steps)
