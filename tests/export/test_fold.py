"""Folding: the same logits and the same spikes without norms, for all that folds; sentences for the rest."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_exp.errors import UserError
from snn_exp.export.fold import Folded, fold, why_not_rescaled
from snn_exp.export.folded_run import compare
from snn_exp.nn.layers import make_part_factories
from snn_exp.nn.networks import Network, build_network
from snn_exp.nn.neurons import KLIF, Neuron, ParallelNeuron, StepwiseNeuron
from snn_exp.nn.neurons import NEURONS as REGISTERED
from snn_exp.nn.norms import Norm, OnlineRenorm, PSPNorm
from snn_exp.nn.synapses import SYNAPSES
from snn_exp.nn.weights import WEIGHT_NORMS, StandardizedWeights

NEURONS: dict[str, dict[str, Any]] = {
    "if": {"name": "if", "v_reset": -0.3},
    "lif hard": {"name": "lif", "v_reset": 0.1, "learn_threshold": True},
    "lif soft": {"name": "lif", "reset": "soft", "decay_input": False},
    "plif": {"name": "plif", "reset": "soft", "v_threshold": 0.7},
    "cuba_lif": {"name": "cuba_lif", "v_reset": -0.2},
    "glif": {"name": "glif"},
    "srm": {"name": "srm"},
    "srm slayer": {"name": "srm", "refractory": "slayer", "learn_threshold": True},
    "psn": {"name": "psn"},
    "sliding_psn": {"name": "sliding_psn", "learn_threshold": True},
    "s2nn": {"name": "s2nn"},
}
NORMS = ("bn", "tdbn", "osr", "psp", "psp_stream", "mpbn")
STRUCTURES: list[dict[str, Any]] = [
    *({"residual": {"name": block, "shortcut": shortcut}, "network": {"name": "resnet", "readout": readout}}
      for block in ("pre", "bireal") for shortcut in ("avgpool_dup", "conv") for readout in ("membrane", "spikes")),
    *({"residual": {"name": block, "shortcut": shortcut}}
      for block in ("post", "ms") for shortcut in ("avgpool_dup", "conv")),
    *({"residual": {"name": "sew_add", "shortcut": shortcut}} for shortcut in ("maxpool_dup", "conv")),
    {"residual": {"name": "none"}},
    {"network": {"name": "vgg"}},
    {"network": {"name": "mlp"}},
]  # fmt: skip
# signs are neither read out as spikes nor counted
SIGN_STRUCTURES = [
    s
    for s in STRUCTURES
    if s.get("network", {}).get("readout") != "spikes" and s.get("residual", {}).get("name") not in ("ms", "sew_add")
]


def make_network(
    neuron: str | dict[str, Any] = "lif hard",
    norm: str | dict[str, Any] = "bn",
    *,
    residual: dict[str, Any] | None = None,
    network: dict[str, Any] | None = None,
    weight_norm: str = "none",
    weight_quant: str = "none",
    synapse: str = "identity",
    num_steps: int = 4,
    size: int = 6,
) -> Network:
    """A tiny random network in float64 whose norms have seen something."""
    torch.manual_seed(0)
    neuron = NEURONS[neuron] if isinstance(neuron, str) else neuron
    norm = {"name": norm} if isinstance(norm, str) else norm
    parts = make_part_factories(
        neuron=neuron, surrogate={"name": "atan"}, synapse={"name": synapse}, norm=norm,
        weight_norm={"name": weight_norm}, weight_quant={"name": weight_quant}, num_steps=num_steps,
    )  # fmt: skip
    network = {"width": 3, "name": "resnet", **(network or {})}
    built = build_network(
        network, parts, in_shape=(2, size, size), num_classes=3, num_layers=4 if network["name"] == "mlp" else 8,
        residual=residual or {"name": "pre"},
    )  # fmt: skip
    return as_if_trained(built)


@torch.no_grad()
def as_if_trained(network: Network) -> Network:
    """In float64, with moved statistics, gains of both signs, shifts, thresholds of each channel."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | OnlineRenorm):
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
        if isinstance(module, ParallelNeuron):
            module.b.normal_(0, 0.2)
    return network.double().eval()


def batch(num_steps: int = 4) -> tuple[Tensor, Tensor]:
    x_TBCHW = 2 * torch.randn(num_steps, 6, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x_TBCHW, torch.arange(6) % 3


def assert_the_same(network: Network, num_steps: int = 4) -> Folded:
    folded = fold(network)
    found = compare(network, folded, [batch(num_steps)])
    assert found.num_flipped == 0
    assert found.logit_error <= 1e-10
    assert 0.02 < found.num_spikes / found.num_outputs < 0.98, "a silent network proves nothing"
    assert not any(isinstance(module, Norm) for module in folded.modules())
    assert not any(isinstance(module, StandardizedWeights) for module in folded.modules())
    return folded


def has_membrane(neuron: str) -> bool:
    return REGISTERED[NEURONS[neuron]["name"]].has_membrane


@pytest.mark.parametrize(("neuron", "norm"), [(n, m) for n in NEURONS for m in NORMS if has_membrane(n) or m != "mpbn"])
def test_in_float64_logits_are_equal_and_no_spike_differs(neuron: str, norm: str) -> None:
    """Every two of a neuron, a norm and a structure meet."""
    dressed = list(zip(STRUCTURES, itertools.cycle(itertools.product(WEIGHT_NORMS, SYNAPSES)), strict=False))
    num_steps = 1 if neuron == "s2nn" else 4
    for structure, (weight_norm, synapse) in dressed[(list(NEURONS).index(neuron) + NORMS.index(norm)) % 4 :: 4]:
        network = make_network(neuron, norm, **structure, weight_norm=weight_norm, synapse=synapse, num_steps=num_steps)
        assert_the_same(network, num_steps)


@pytest.mark.parametrize("structure", SIGN_STRUCTURES)
@pytest.mark.parametrize("weight_quant", ["bnn", "xnor"])
def test_a_binary_network_folds_into_plain_weights_thresholds_and_signs(
    structure: dict[str, Any], weight_quant: str
) -> None:
    folded = assert_the_same(
        make_network({"name": "sign"}, "bn", weight_quant=weight_quant, **structure, num_steps=1), 1
    )
    assert any(f.how == "plain" for f in folded.folds)


def test_relu_folds_where_every_norm_stands_after_weights() -> None:
    for residual in ("post", "none"):
        network = make_network({"name": "relu"}, "bn", residual={"name": residual}, num_steps=1)
        assert {f.how for f in assert_the_same(network, 1).folds} == {"weights"}


def test_weights_alone_are_made_plain_without_a_norm() -> None:
    network = make_network("lif hard", "none", weight_norm="standardized")
    folded = assert_the_same(network)
    assert {f.how for f in folded.folds} == {"plain"}
    assert len(folded.folds) == sum(isinstance(module, StandardizedWeights) for module in network.modules())


def test_weights_of_a_few_bits_are_made_plain_in_every_layer_that_has_them() -> None:
    folded = assert_the_same(make_network("lif hard", "bn", weight_quant="int"))
    assert sum(f.how == "plain" for f in folded.folds) == 6


def test_psp_of_each_neuron_folds_into_a_dense_layer_and_of_each_step_into_the_only_step() -> None:
    assert_the_same(make_network("lif hard", {"name": "psp", "over": "neuron"}, network={"name": "mlp"}))
    assert_the_same(make_network("s2nn", {"name": "psp", "over": "channel_step"}, num_steps=1), 1)


def test_a_psp_norm_goes_into_every_weight_that_reads_it() -> None:
    folds = {
        f.part: f for f in fold(make_network("lif hard", "psp", residual={"name": "post", "shortcut": "conv"})).folds
    }
    block = "stages.1.0"
    assert set(folds[f"{block}.filter1.psp_norm"].into) == {f"{block}.conv1", f"{block}.shortcut"}
    assert folds["readout.psp_norm"].into == ("classifier",)


def test_a_norm_goes_where_it_costs_least() -> None:
    """Into the weights in front of it, else into a threshold; the one before the readout into the classifier."""
    folds = {f.part: (f.into, f.how) for f in fold(make_network("lif hard", "bn")).folds}
    first, second = ("stages.0.0.activation1", "stages.0.0.activation2")
    assert folds[f"{first}.norm"] == ((f"{first}.neuron",), "threshold")
    assert folds[f"{second}.norm"] == (("stages.0.0.conv1",), "weights")
    assert folds["readout.norm"] == (("classifier",), "weights")


def test_folding_leaves_the_network_as_it_is() -> None:
    network = make_network("lif soft", "mpbn", weight_norm="standardized")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fold(network)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


REFUSED = {
    "layer": "stages.0.0.activation1.norm cannot be folded: LayerNorm, with statistics over C,H,W, is not one fixed "
    "scale and shift per channel, which is all that weights and thresholds can take over",
    "psp": "stages.0.0.activation1.filter.psp_norm cannot be folded: PSPNorm, with statistics over T,B, is not one fixed "
    "scale and shift per channel, which is all that weights and thresholds can take over",
    "relu": "stages.0.0.activation1.norm cannot be folded: stages.0.0.activation1.neuron after it is a ReLU, which "
    "passes the size of its input on and has no threshold to take over the scale",
    "gain": "stages.0.0.activation1.norm cannot be folded: its scale is 0 in channel 1, where its output no longer "
    "depends on its input, which no threshold can reproduce",
    "bent": "stages.0.0.activation1.norm cannot be folded: stages.0.0.activation1.neuron after it is a KLIF, whose "
    "membrane is not linear in its input, so no threshold makes up for the scale",
    "shared": "stages.0.0.activation1.norm cannot be folded: its readers are neither weights alone nor a single neuron, so "
    "nothing can take over its scale and shift",
    "nothing": "the network has no norm and its weights are plain, so there is nothing to fold",
}


def refused_network(why: str) -> Network:
    if why in ("layer", "relu", "nothing"):
        neuron = {"name": "relu"} if why == "relu" else "lif hard"
        return make_network(neuron, {"layer": "layer", "relu": "bn", "nothing": "none"}[why], num_steps=4)
    if why == "psp":
        return make_network("lif hard", {"name": "psp", "over": "neuron"})
    network = make_network("lif hard", "bn")
    activation = network.get_submodule("stages.0.0.activation1")
    if why == "gain":
        network.get_parameter("stages.0.0.activation1.norm.bn.weight").data[1] = 0
    elif why == "bent":
        activation.neuron = KLIF().double()
    else:
        activation.neuron = nn.Hardtanh()
    return network


class UndeclaredNeuron(StepwiseNeuron):
    """What a person registers who knows nothing of folding: the example of docs/adding.md, with a rest that matters if asked."""

    def __init__(self, *supplied: Any, gain: float = 1.0, rest: float = 0.0, **threshold: Any) -> None:
        super().__init__(*supplied, **threshold)
        self.gain, self.rest = gain, rest

    def step(self, x_BN: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = state[0] + self.gain * x_BN + self.rest
        s = self.fire(h)
        return s, ((1 - s) * h,)


class DeclaredNeuron(UndeclaredNeuron):
    """The same, which says what is in membrane units."""

    scales_with_input = ("v_threshold", "rest")


class CurvedNeuron(UndeclaredNeuron):
    """Its membrane is not linear in its input."""

    def step(self, x_BN: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        return super().step(x_BN * x_BN, state)


@pytest.mark.parametrize("neuron", [UndeclaredNeuron(gain=2.0), UndeclaredNeuron((1,), learn_threshold=True),
                                    DeclaredNeuron(rest=0.3)], ids=repr)  # fmt: skip
def test_a_neuron_of_ones_own_is_rescaled_without_knowing_of_it(neuron: Neuron) -> None:
    x = torch.randn(4, 50, 1, generator=torch.Generator().manual_seed(1))
    for scale in (3.0, 0.7, -1.3):
        rescaled = neuron.double().rescaled(torch.tensor([scale], dtype=torch.float64))
        assert rescaled is not None
        assert torch.equal(rescaled(x.double()), neuron(scale * x.double())) and neuron(x.double()).any()


@pytest.mark.parametrize("neuron", [UndeclaredNeuron(rest=0.3), CurvedNeuron()], ids=["rest", "curved"])
def test_what_does_not_scale_by_its_threshold_alone_is_refused_with_the_attribute_to_set(neuron: Neuron) -> None:
    assert neuron.rescaled(torch.tensor([2.0])) is None
    sentence = why_not_rescaled(neuron)
    assert sentence.startswith(f"{type(neuron).__name__}, which does not declare its attributes in membrane units")
    assert 'scales_with_input = ("v_threshold", "v_reset"): dividing all of them by a must give for x' in sentence


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_fold_is_said_in_a_sentence(why: str) -> None:
    with pytest.raises(UserError) as error:
        fold(refused_network(why))
    assert str(error.value) == REFUSED[why]
