"""What one batch shows of every layer, against what is known of a network."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from snn_exp.config.compose import compose
from snn_exp.data.base import make_dataset
from snn_exp.data.datamodule import DataModule
from snn_exp.training.build import build_task
from snn_exp.training.layer_statistics import Layers, hidden_weight_layers, probe


def probed(*overrides: str, trained: bool = False) -> Layers:
    torch.manual_seed(0)
    config = compose(["neuron=srm", "depth=d14", *overrides])
    data = DataModule(make_dataset(config.dataset, Path(), 0, config.num_steps), 32, 0)
    task = build_task(config, data)
    before = copy.deepcopy(task.state_dict())
    layers = probe(task, *data.some_validation_samples(32), trained=trained)
    assert all(torch.equal(value, before[key]) for key, value in task.state_dict().items()), "it left a trace"
    assert all(p.grad is None for p in task.parameters())
    assert len(hidden_weight_layers(task.network)) == len(layers["variance"]) == len(layers["gradient_norm"]) == 12
    return layers


def test_with_psp_normalization_the_variance_of_every_layer_is_near_its_theory_and_without_it_is_not() -> None:
    for weights in ("none", "standardized"):
        normed = probed("norm=psp", f"weight_norm={weights}")
        ratios = [v / theory for v, theory in zip(normed["variance"], normed["variance_theory"], strict=True)]
        assert all(0.3 < ratio < 1.3 for ratio in ratios), ratios  # zeros move in at the borders of 8 x 8, 4 x 4, 2 x 2
    plain = probed("norm=none", "weight_norm=standardized")
    assert max(plain["variance"][-2:]) < 0.01 * min(normed["variance"][-2:])


def test_the_theory_is_the_sum_of_squares_of_a_units_weights() -> None:
    theory = probed("norm=psp", "weight_norm=standardized")["variance_theory"]
    assert theory[0] == pytest.approx(1.0, rel=1e-3)
    assert theory[1] == pytest.approx(1 / 6, rel=1e-3), "the last weights of each of six branches start smaller"


def test_a_threshold_out_of_reach_kills_every_channel() -> None:
    silent = probed("norm=none", "neuron.v_threshold=1000")
    assert set(silent["dead_channels"]) == {1.0} and set(silent["firing_rate"]) == {0.0}
    alive = probed("norm=bn")
    assert max(alive["dead_channels"]) < 0.2 and min(alive["firing_rate"]) > 0


def test_an_untrained_network_is_probed_with_the_statistics_of_the_batch() -> None:
    assert probed("norm=bn") != probed("norm=bn", trained=True)
    assert probed("norm=none") == probed("norm=none", trained=True)
