"""What is left to multiply once a network is folded: where, and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from snn_exp.export.addition_only import Multiplications, multiplications
from snn_exp.export.fold import fold
from snn_exp.metrics.operations import SynapticOperations
from tests.export.test_fold import batch, make_network

BUSY = {"name": "lif", "v_threshold": 0.1}
ENDS = {"stem.conv": "first layer", "classifier": "readout"}


def left_in(
    neuron: str | dict[str, Any], norm: str = "bn", *, residual: dict[str, Any], **options: Any
) -> Multiplications:
    num_steps = 4 if neuron in ("lif hard", BUSY) else 1
    network = fold(make_network(neuron, norm, residual=residual, num_steps=num_steps, **options)).network
    operations = SynapticOperations(network)
    with operations.listening(), torch.no_grad():
        network(batch(num_steps)[0])
    return multiplications(network, operations.by_layer())


@pytest.mark.parametrize("norm", ["bn", "psp"])
@pytest.mark.parametrize("block", ["pre", "bireal"])
@pytest.mark.parametrize("neuron", ["s2nn", "lif hard"])
def test_where_a_real_stream_is_fired_before_every_weight_all_hidden_layers_add(
    neuron: str, block: str, norm: str
) -> None:
    """The average around a block is named: it scales the stream, though no weights do."""
    averaged = left_in(neuron, norm, residual={"name": block, "shortcut": "avgpool_dup"})
    assert (averaged.num_hidden, averaged.hidden) == (6, {})
    assert averaged.elsewhere == ENDS | {f"stages.{stage}.0.shortcut": "shortcut" for stage in (1, 2)}
    assert averaged.moves_states is (neuron == "lif hard")
    convolved = left_in(neuron, norm, residual={"name": block, "shortcut": "conv"})
    assert (convolved.num_hidden, convolved.hidden, convolved.elsewhere) == (8, {}, ENDS)


def test_a_stream_that_decays_is_named_block_by_block() -> None:
    found = left_in("s2nn", residual={"name": "pre", "shortcut": "conv", "stream_decay": 0.5})
    assert found.elsewhere == ENDS | {f"stages.{stage}.0": "shortcut" for stage in range(3)}


def test_what_bends_the_stream_is_named() -> None:
    found = left_in("s2nn", residual={"name": "bireal", "shortcut": "conv", "activation": "rprelu"})
    blocks = [f"stages.{stage}.0.stream_activation{i}" for stage in range(3) for i in (1, 2)]
    assert found.hidden == {} and found.elsewhere == ENDS | dict.fromkeys(blocks, "stream")


def test_signs_are_added() -> None:
    assert left_in({"name": "sign"}, residual={"name": "bireal"}, weight_quant="bnn").hidden == {}


def test_relu_multiplies_everywhere() -> None:
    found = left_in({"name": "relu"}, residual={"name": "post", "shortcut": "conv"})
    assert found.num_hidden == len(found.hidden) == 8
    assert set(found.hidden.values()) == {"read the output of ReLU"}


@pytest.mark.parametrize(("shortcut", "around"), [("maxpool_dup", []), ("conv", ["shortcut"])])
def test_sums_of_spikes_are_multiplied(shortcut: str, around: list[str]) -> None:
    """The first block reads the stem's spikes, and within a block a neuron stands before the second weights."""
    found = left_in(BUSY, residual={"name": "sew_add", "shortcut": shortcut})
    assert found.hidden == {
        f"stages.{stage}.0.{layer}": "read the output of SpikeElementWiseAdd"
        for stage in (1, 2)
        for layer in [*around, "conv1"]
    }


def test_a_filter_multiplies_behind_the_weights_and_a_shortcut_shares_it() -> None:
    found = left_in("lif hard", residual={"name": "post", "shortcut": "conv"}, synapse="exponential")
    assert found.num_hidden == 8
    assert found.hidden == {
        f"stages.{stage}.0.{conv}": "have ExponentialSynapse after them"
        for stage in range(3)
        for conv in ("conv1", "conv2")
    }
    assert found.elsewhere == ENDS | {"readout.synapse": "readout"}


def test_what_is_said_names_each_layer_once_under_its_reason() -> None:
    found = left_in(BUSY, residual={"name": "sew_add", "shortcut": "maxpool_dup"}, synapse="exponential")
    assert found.text() == (
        "AC-only: no, 6 of 6 hidden weight layers multiply\n"
        "  these have ExponentialSynapse after them: stages.0.0.conv1, stages.0.0.conv2, stages.1.0.conv2, stages.2.0.conv2\n"
        "  these read the output of SpikeElementWiseAdd and have ExponentialSynapse after them: stages.1.0.conv1, stages.2.0.conv1\n"
        "  multiplications elsewhere: stem.conv (first layer), readout.synapse (readout), classifier (readout), updates of "
        "neuron states, counted apart"
    )
