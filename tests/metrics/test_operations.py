"""What is counted, by hand and by brute force; what the inference form saves."""

from __future__ import annotations

import operator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_exp.config.compose import compose
from snn_exp.data.base import make_dataset
from snn_exp.data.datamodule import DataModule
from snn_exp.metrics.operations import SynapticOperations, dense_macs
from snn_exp.nn.blocks import RESIDUALS
from snn_exp.nn.graph import data_flow
from snn_exp.nn.layers import Conv2d, Linear
from snn_exp.nn.neurons import IF, S2NN, MultiThreshold, QuantizedReLU, ReLU, Sign, Ternary
from snn_exp.nn.norms import (
    NORMS,
    BatchNorm,
    GroupNorm,
    LayerNorm,
    MembraneBatchNorm,
    NoNorm,
    Norm,
    PSPNorm,
    RMSNorm,
    Site,
)
from snn_exp.nn.synapses import AlphaSynapse, ExponentialSynapse
from snn_exp.nn.weights import BNNWeights
from snn_exp.training.build import build_task
from snn_exp.training.classifier import Classifier

Counts = dict[str, dict[str, float]]


def counted(network: nn.Module, *batches: Tensor) -> Counts:
    metric = SynapticOperations(network.eval())
    with metric.listening(), torch.no_grad():
        for x_TBN in batches:
            network(x_TBN)
    return metric.by_layer()


def chain(**modules: nn.Module) -> nn.Sequential:
    network = nn.Sequential()
    for name, module in modules.items():
        network.add_module(name, module)
    return network


def test_a_two_layer_net_counted_by_hand() -> None:
    network = chain(conv=Conv2d(1, 2, stride=2), neuron=S2NN(), flat=nn.Flatten(2), classifier=nn.Linear(8, 3))
    with torch.no_grad():
        network.conv.weight.fill_(1.0)
        network.conv.weight[1, 0, 1, 1] = 0.0
    x = torch.zeros(1, 2, 1, 4, 4)
    x[0, 0, 0, 0, 0], x[0, 0, 0, 1, 1] = 2.0, 0.5  # the second sample stays dark
    counts = counted(network, x)
    # the output at (i, j) reads rows 2i - 1 to 2i + 1: the pixel (0, 0) is read in 1 place, (1, 1) in 4, each
    # by 2 channels, less the zero weight, which stands in the centre, where only (0, 0) is read: 2 + 8 - 1
    assert counts["conv"] == {"ac": 0, "mac": 9 / 2, "mac_trained": 9 / 2, "dense": 2 * 4 * 9}
    # only channel 0 at (0, 0) gets 2.5; channel 1 there misses the 2 and the others get 0.5: one spike, read 3 times
    assert counts["classifier"] == {"ac": 3 / 2, "mac": 0, "ac_trained": 3 / 2, "dense": 24}
    assert counts.keys() == {"conv", "classifier"}, "a neuron without dynamics has no state to update"


def in_all(network: nn.Module, *batches: Tensor) -> dict[str, float]:
    metric = SynapticOperations(network.eval())
    with metric.listening(), torch.no_grad():
        for x_TBN in batches:
            network(x_TBN)
    return {name: float(count) for name, count in metric.compute().items()}


def test_what_data_movement_needs_is_counted_by_hand() -> None:
    """Two layers over two steps: the first input is there at one step, the second at both, the third at none."""
    network = chain(first=Linear(3, 2), neuron=IF(v_threshold=1.0), last=Linear(2, 4))
    with torch.no_grad():
        network.first.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.25, 1.0]]))
    x = torch.tensor([[[1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]])
    counts = in_all(network, x)
    # the first neuron fires at both steps, the second at none; a weight of 0 is no operation
    assert (counts["ac"], counts["ac_ends"], counts["mac_ends"]) == (1 + 2 + 2 + 2 * 4, 7 + 8 - 2, 0)
    assert (counts["dense"], counts["dense_once"], counts["dense_once_ends"]) == (2 * (6 + 8), 6 + 8, 6 + 8)
    assert counts["effective_once"] == counts["effective_once_ends"] == (1 + 2) + 4
    assert (counts["comparisons"], counts["activations"], counts["neuron_updates"], counts["sums"]) == (4, 2, 4, 0)


def test_the_ends_are_the_first_and_the_last_layer_alone() -> None:
    task, x_TBCHW = task_of("neuron=s2nn", "residual=bireal")
    counts, layers = in_all(task.network, x_TBCHW), counted(task.network, x_TBCHW)
    ends = [layers["stem.conv"], layers["classifier"]]
    assert counts["mac_ends"] == sum(layer["mac"] for layer in ends) == counts["mac"]
    assert counts["ac_ends"] == 0 and counts["dense_once_ends"] == sum(layer["dense"] for layer in ends)
    assert counts["dense_once"] == counts["dense"], "with a single step all is counted once"
    assert counts["effective_once"] == counts["ac"] + counts["mac"]


def test_over_several_steps_an_input_counts_once() -> None:
    task, x_TBCHW = task_of("neuron=lif", "neuron.v_threshold=0.1")
    counts = in_all(task.network, x_TBCHW)
    assert counts["dense_once"] == (counts["dense"] - 16 * 10) / 4 + 16 * 10, "the classifier is once"
    assert (counts["ac"] + counts["mac"]) / 4 < counts["effective_once"] < counts["dense_once"]


@pytest.mark.parametrize("residual", list(RESIDUALS))
def test_the_sums_of_a_block_are_the_additions_of_its_forward(residual: str) -> None:
    task, x_TBCHW = task_of("neuron=lif", f"residual={residual}")
    adds = [n for n in data_flow(task.network).nodes if n.op == "call_function" and n.target is operator.add]
    by_hand = 0
    for node in adds:
        (block,) = {name for name, _ in node.meta["nn_module_stack"].values() if name.count(".") == 2}
        channels, height, width = task.network.get_submodule(block).out_shape
        by_hand += 4 * channels * height * width
    assert in_all(task.network, x_TBCHW)["sums"] == by_hand
    assert bool(adds) is (residual not in ("none", "sew_and", "sew_iand"))


@pytest.mark.parametrize(
    ("neuron", "comparisons"),
    [(S2NN(), 1), (ReLU(), 1), (Sign(), 1), (Ternary(), 2), (MultiThreshold(levels=4), 3), (QuantizedReLU(bits=8), 8),
     (QuantizedReLU(bits=1), 1)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_neuron_of_several_levels_compares_by_halving(neuron: Any, comparisons: int) -> None:
    assert in_all(chain(neuron=neuron), torch.zeros(1, 3, 5))["comparisons"] == comparisons * 5


@pytest.mark.parametrize(
    ("kernel_size", "stride", "shape"), [(3, 1, (5, 4)), (3, 2, (5, 8)), (1, 2, (5, 6)), (5, 3, (7, 6))]
)
def test_the_fan_out_of_a_convolution_is_what_a_loop_over_all_products_finds(
    kernel_size: int, stride: int, shape: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    conv = Conv2d(2, 3, kernel_size=kernel_size, stride=stride)
    with torch.no_grad():
        conv.weight *= torch.rand_like(conv.weight) < 0.6
    x = torch.randint(-1, 2, (3, 2, 2, *shape)).float()
    out_shape = conv(x).shape
    effective = 0
    for t, b, o, i, j in product(*map(range, out_shape)):
        for c, k, m in product(range(2), range(kernel_size), range(kernel_size)):
            row, column = stride * i + k - kernel_size // 2, stride * j + m - kernel_size // 2
            if 0 <= row < shape[0] and 0 <= column < shape[1]:
                effective += bool(x[t, b, c, row, column] != 0 and conv.weight[o, c, k, m] != 0)
    counts = counted(chain(conv=conv), x)["conv"]
    assert counts["ac"] == effective / 2, "3 steps add up, 2 samples are averaged"
    assert counts["dense"] == 3 * out_shape[2:].numel() * 2 * kernel_size**2


def test_relu_is_credited_for_its_zeros_and_the_dense_count_stands_beside_it() -> None:
    counts = counted(chain(neuron=ReLU(), linear=Linear(4, 3)), torch.tensor([[[-1.0, 2.0, -3.0, 1.0]]]))
    assert counts["linear"] == {"ac": 0, "mac": 2 * 3, "mac_trained": 2 * 3, "dense": 4 * 3}


def test_a_value_that_is_no_spike_makes_its_whole_batch_multiplications() -> None:
    spikes, one_real = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 0.5]]])
    counts = counted(chain(linear=Linear(2, 3)), spikes, one_real)["linear"]
    assert (counts["ac"], counts["mac"]) == (3 / 2, 6 / 2)


@pytest.mark.parametrize(
    ("x", "binary_weights", "xnor"),
    [((-1.0, 1.0), True, 6), ((-1.0, 1.0), False, 0), ((-1.0, 0.0), True, 0), ((-1.0, 2.0), True, 0)],
)
def test_an_xnor_needs_signs_without_a_zero_and_binary_weights(
    x: tuple[float, ...], binary_weights: bool, xnor: int
) -> None:
    torch.manual_seed(0)
    linear = Linear(2, 3, make_weight_quant=BNNWeights) if binary_weights else Linear(2, 3)
    assert counted(chain(linear=linear), torch.tensor([[x]]))["linear"].get("xnor", 0) == xnor


def test_large_counts_are_exact() -> None:
    x = torch.ones(1, 2**24 // 3 + 2, 1)  # three operations a sample, more than a 32-bit float can count
    assert counted(chain(linear=Linear(1, 3)), x)["linear"]["ac"] == 3


def test_signs_are_additions_and_never_skipped() -> None:
    counts = counted(chain(neuron=Sign(), linear=Linear(2, 3)), torch.tensor([[[-0.3, 0.7]]]))["linear"]
    assert (counts["ac"], counts["mac"], counts["dense"]) == (6, 0, 6)


# Two neurons over two steps, of which the first fires once, at the first step: psp is (1, .5) and (0, 0).
ONE_SPIKE = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])


@pytest.mark.parametrize(("synapse", "num_multiplications"), [(ExponentialSynapse(), 1), (AlphaSynapse(), 2)])
def test_behind_the_weights_a_filter_is_paid_by_their_outputs_and_they_read_spikes(
    synapse: nn.Module, num_multiplications: int
) -> None:
    network = chain(neuron=IF(), synapse=synapse, norm=PSPNorm(Site((2,))), linear=Linear(2, 3))
    assert counted(network, ONE_SPIKE) == {
        "neuron": {"neuron_updates": 2 * 2},
        "synapse": {"filter_mac_trained": num_multiplications * 2 * 2},
        "norm": {"norm_mac_trained": 2 * 2},
        "linear": {"ac": 3, "mac": 0, "mac_trained": 2 * 3, "dense": 2 * 6, "filter_mac": num_multiplications * 2 * 3},
    }


def test_a_norm_that_does_not_fold_is_paid_and_keeps_the_filter_before_the_weights() -> None:
    network = chain(
        neuron=IF(), synapse=ExponentialSynapse(), norm=PSPNorm(Site((2,)), over="sample"), linear=Linear(2, 3)
    )
    assert counted(network, ONE_SPIKE) == {
        "neuron": {"neuron_updates": 2 * 2},
        "synapse": {"filter_mac": 2 * 2, "filter_mac_trained": 2 * 2},
        "norm": {"norm_mac": 2 * 2 * 2, "norm_mac_trained": 2 * 2 * 2},  # squaring and scaling
        "linear": {"ac": 0, "mac": 2 * 3, "mac_trained": 2 * 3, "dense": 2 * 6},
    }


def test_a_filter_commutes_with_the_weights() -> None:
    torch.manual_seed(0)
    conv, synapse = Conv2d(2, 3, stride=2).double(), AlphaSynapse()
    s = torch.randint(0, 2, (5, 2, 2, 6, 6)).double()
    torch.testing.assert_close(conv(synapse(s)), synapse(conv(s)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("norm", "folds"),
    [
        (NoNorm(Site((8, 2, 2))), True),
        (BatchNorm(Site((8, 2, 2))), True),
        (LayerNorm(Site((8, 2, 2))), False),
        (GroupNorm(Site((8, 2, 2))), False),
        (RMSNorm(Site((8, 2, 2))), False),
        *(
            (NORMS[name](Site((8, 2, 2), 4)), name in ("tdbn", "mpbn", "osr"))
            for name in ("tdbn", "bntt", "tebn", "tab", "mpbn", "neunorm", "osr")
        ),
        (MembraneBatchNorm(Site((8, 2, 2), 4, "membrane")), True),
        (PSPNorm(Site((8, 2, 2), 4)), True),
        (PSPNorm(Site((8, 2, 2), 4), over="neuron"), False),
        (PSPNorm(Site((8,), 4), over="neuron"), True),
        (PSPNorm(Site((8, 2, 2), 4), over="channel_step"), False),
        (PSPNorm(Site((8, 2, 2), 1), over="channel_step"), True),
        (PSPNorm(Site((8, 2, 2), 4), over="sample"), False),
    ],
)
def test_what_folds_has_one_running_statistic_per_channel(norm: Norm, folds: bool) -> None:
    assert norm.folds is folds


@cache
def digits() -> DataModule:
    return DataModule(make_dataset({"name": "digits"}, Path(), 0, 4), 8, 0)


def task_of(*overrides: str) -> tuple[Classifier, Tensor]:
    """An untrained network in which something fires, and its input."""
    torch.manual_seed(0)
    task = build_task(compose(["network.width=4", *overrides]), digits())
    x_TBCHW = task.encoding(next(iter(digits().val_dataloader()))[0])
    task.network(x_TBCHW)  # in training: gives the running statistics a start
    return task, x_TBCHW


@pytest.mark.parametrize(
    "command",
    ["neuron=relu residual=bireal", "neuron=s2nn residual=bireal", "neuron=lif network=vgg", "neuron=srm network=mlp",
     "neuron=srm norm=psp residual.shortcut=conv", "neuron=sign residual=bireal"],
)  # fmt: skip
def test_the_dense_counts_of_the_layers_add_up_to_the_networks(command: str) -> None:
    task, x_TBCHW = task_of(*command.split())
    counts = counted(task.network, x_TBCHW)
    assert sum(row.get("dense", 0) for row in counts.values()) == dense_macs(task.network, x_TBCHW[:, :1])[""]
    assert all(row["ac"] + row["mac"] <= row["dense"] for row in counts.values() if "dense" in row)


def test_a_stream_activation_costs_one_multiplication_per_value_as_trained_and_in_inference() -> None:
    task, x_TBCHW = task_of("neuron=rsign", "residual=bireal", "residual.activation=rprelu")
    counts = counted(task.network, x_TBCHW)
    first, last = counts["stages.0.0.stream_activation1"], counts["stages.2.0.stream_activation2"]
    block: Any = task.network.get_submodule("stages.0.0")
    width = block.out_shape[0]
    assert first == {"norm_mac": width * 8 * 8, "norm_mac_trained": width * 8 * 8}
    assert last["norm_mac"] == 4 * width * 2 * 2


@pytest.mark.parametrize(
    ("command", "counted_as"),
    [("neuron=sign weight_quant=xnor", "xnor"), ("neuron=sign weight_quant=none", "ac"),
     ("neuron=relu weight_quant=xnor", "mac"), ("neuron=rsign surrogate=ste weight_quant=bnn", "xnor"),
     ("neuron=sign surrogate=swish_sign weight_quant=bnn", "xnor")],
)  # fmt: skip
def test_binary_activations_binary_weights_and_both_can_be_told_apart(command: str, counted_as: str) -> None:
    task, x_TBCHW = task_of("residual=bireal", *command.split())
    hidden = counted(task.network, x_TBCHW)["stages.0.0.conv1"]
    found = "xnor" if hidden.get("xnor") else "ac" if hidden["ac"] else "mac"
    assert found == counted_as


@pytest.mark.parametrize(
    "command",
    ["neuron=s2nn residual=bireal", "neuron=lif neuron.v_threshold=0.1 network=vgg",
     "neuron=srm neuron.v_threshold=0.1 synapse=alpha residual=post", "neuron=srm norm=psp residual.shortcut=conv",
     "neuron=srm norm=psp network=mlp", "neuron=s2nn norm=psp"],
)  # fmt: skip
def test_in_the_inference_form_only_the_first_and_the_last_layer_multiply(command: str) -> None:
    task, x_TBCHW = task_of(*command.split())
    counts = counted(task.network, x_TBCHW)
    weights = [name for name in counts if "dense" in counts[name]]
    multiplying = [name for name in weights if counts[name]["mac"]]
    assert multiplying == [weights[0], "classifier"]
    assert sum(counts[name]["ac"] for name in weights) > 0


def filters(command: str) -> dict[str, float]:
    task, x_TBCHW = task_of("neuron=srm", *command.split())
    return {name: row["filter_mac"] for name, row in counted(task.network, x_TBCHW).items() if "filter_mac" in row}


@pytest.mark.parametrize("residual", ["pre", "bireal", "post"])
def test_a_convolution_in_the_shortcut_shares_the_filter_of_what_it_is_added_to(residual: str) -> None:
    paid = filters(f"norm=bn residual={residual} residual.shortcut=conv")
    assert len([name for name in paid if name.startswith("stages")]) == 6
    assert paid["stages.1.0.conv1"] == paid["stages.1.0.conv2"] == 4 * 8 * 4 * 4  # T C H W
    assert not any("shortcut" in name for name in paid)


def test_a_norm_between_the_two_that_does_not_fold_needs_its_own_filter() -> None:
    paid = filters("norm=layer residual=post residual.shortcut=conv")
    assert paid["stages.1.0.shortcut"] == 4 * 8 * 4 * 4


def test_a_filter_that_no_weights_read_stays_where_it_is() -> None:
    paid = filters("network=mlp network.width=6")
    assert {name: count for name, count in paid.items() if not name.endswith("linear")} == {"readout.synapse": 4 * 6}


def test_counting_changes_nothing_and_leaves_nothing_behind() -> None:
    task, x_TBCHW = task_of("neuron=srm", "norm=psp")
    network = task.network.eval()
    before = network(x_TBCHW)
    metric = SynapticOperations(network)
    with metric.listening():
        assert torch.equal(network(x_TBCHW), before)
    assert not any(module._forward_hooks for module in network.modules())
    first = metric.by_layer()
    with metric.listening():
        network(x_TBCHW)
    assert metric.by_layer() == first, "twice the samples, the same operations a sample"
    metric.reset()
    assert metric.by_layer()["classifier"] == {"ac": 0, "mac": 0, "dense": 0}
