"""int8 weights: sums of spikes without any rounding, the networks made of them, and what is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_exp.cli.main import main
from snn_exp.config.compose import compose
from snn_exp.errors import UserError
from snn_exp.export.fold import Folded, fold
from snn_exp.export.int8 import Fire, IntegerRectified, IntegerSpikes, IntegerWeights, Rectify, floating, integer
from snn_exp.runs.folder import RunFolder
from snn_exp.training import train
from tests.export.test_fold import STRUCTURES, make_network

SEW = {"name": "sew_add", "shortcut": "maxpool_dup"}
LAYERS: dict[str, Any] = {
    "3x3": lambda: nn.Conv2d(5, 7, 3, padding=1),
    "3x3 strided": lambda: nn.Conv2d(16, 8, 3, stride=2, padding=1, bias=False),
    "1x1 strided": lambda: nn.Conv2d(8, 16, 1, stride=2),
    "linear": lambda: nn.Linear(33, 9),
}


def layer_and_spikes(kind: str) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    shape = (6, layer.in_features) if kind == "linear" else (6, layer.in_channels, 5, 5)
    s = (torch.rand(1, *shape) < 0.4).to(torch.uint8)
    return layer, s if kind == "linear" else s[0].contiguous(memory_format=torch.channels_last)[None]


def dequantized(layer: Any) -> Any:
    """The layer in float64 with the weights that the int8 ones stand for."""
    weights = IntegerWeights(layer)
    layer = copy.deepcopy(layer).double()
    value = weights.q.double() * weights.w_scale.double().view(-1, 1, 1, 1)
    layer.weight.data.copy_(value.view_as(layer.weight))
    return layer


def networks_and_input(neuron: str, structure: dict[str, Any], **options: Any) -> tuple[Folded, nn.Module, Tensor]:
    """A folded network, the same in float64 with dequantized hidden weights, and inputs."""
    folded = fold(make_network({"name": neuron}, num_steps=1, **structure, **options)).float()
    exact = copy.deepcopy(folded).double()
    layers = [(name, m) for name, m in exact.network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for name, layer in layers[1:]:
        if name != "classifier":
            exact.network.set_submodule(name, dequantized(copy.deepcopy(layer).float()))
    x = torch.randn(1, 6, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    return folded, exact, x


@pytest.mark.parametrize("kind", LAYERS)
def test_spikes_times_int8_weights_are_the_float64_products_of_the_dequantized_weights(kind: str) -> None:
    layer, s = layer_and_spikes(kind)
    weights = IntegerWeights(layer)
    wanted = dequantized(layer)(s[0].double())[None]
    bias, scale = (v.double().view(-1, 1, 1) for v in (weights.bias, weights.w_scale))
    torch.testing.assert_close(
        weights.sums(s) * scale + bias, wanted.detach().view_as(weights.sums(s)), atol=1e-12, rtol=0
    )
    assert weights.sums(s).eq(weights.sums(s).round()).all()
    # the kernel: a sum of whole numbers in int32, multiplied once in float32
    got = weights(s)
    torch.testing.assert_close(got.double(), wanted.detach(), atol=1e-6, rtol=1e-6)
    plain = copy.deepcopy(weights)
    plain._prepare(torch.ones_like(weights.w_scale), torch.zeros_like(weights.bias))
    assert torch.equal(plain(s).double(), weights.sums(s).view_as(got))


@pytest.mark.parametrize("kind", LAYERS)
def test_each_weight_is_rounded_to_the_nearest_step_of_its_channel(kind: str) -> None:
    layer, _ = layer_and_spikes(kind)
    weights = IntegerWeights(layer)
    error = (dequantized(layer).weight - layer.weight.double()).abs().flatten(1)
    assert (error <= (0.5 + 1e-5) * weights.w_scale.double().view(-1, 1)).all()
    assert (weights.q.flatten(1).int().abs().amax(1) == 127).all()


@pytest.mark.parametrize("kind", LAYERS)
def test_weights_and_neuron_in_one_fire_where_the_float64_current_reaches_the_threshold(kind: str) -> None:
    """Also exactly on the threshold, from below, and where it is never or always reached."""
    layer, s = layer_and_spikes(kind)
    weights = IntegerWeights(layer)
    sums = weights.sums(s)
    num_channels = sums.shape[2]
    sign = torch.where(torch.arange(num_channels) % 3 == 1, -1.0, 1.0)
    middle = sums.transpose(0, 2).flatten(1).median(1).values
    for offset in (0.0, 0.5, -0.5, 1e9, -1e9):
        # exactly representable, so that no rounding of the threshold itself decides
        layer.bias = nn.Parameter(torch.zeros(num_channels))
        threshold = (weights.w_scale.double() * (middle + offset)).view(-1, 1, 1)
        fused = IntegerSpikes(layer, threshold, sign.view_as(threshold))
        current = sums - (middle + offset).view_as(threshold)
        wanted = sign.double().view_as(threshold) * current >= 0
        assert torch.equal(fused(s), wanted.to(torch.uint8).view_as(fused(s)))
        assert bool(wanted.any()) and (abs(offset) == 1e9 or not wanted.all())


def test_a_neuron_fires_on_its_threshold_from_above_and_from_below() -> None:
    x = torch.tensor([[[0.9, 1.0, 1.1, torch.nan]]]).view(1, 1, 4, 1, 1)
    sign = torch.tensor([1.0, 1.0, -1.0, 1.0]).view(4, 1, 1)
    assert Fire(torch.ones(4, 1, 1), torch.ones(4, 1, 1))(x).flatten().tolist() == [0, 1, 1, 0]
    assert Fire(torch.ones(4, 1, 1), sign)(x).flatten().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("norm", ["bn", "psp"])
@pytest.mark.parametrize(
    "structure", [s for s in STRUCTURES if s.get("residual", {}).get("name") != "sew_add"], ids=str
)
def test_an_int8_network_is_the_float64_network_of_the_dequantized_weights(
    structure: dict[str, Any], norm: str
) -> None:
    folded, exact, x = networks_and_input("s2nn", structure, norm=norm)
    deployed = integer(folded)
    assert deployed.num_integer == deployed.num_hidden
    torch.testing.assert_close(deployed(x).double(), exact(x.double()), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(deployed(x[:, :1]), deployed(x)[:1])
    torch.testing.assert_close(copy.deepcopy(deployed)(x), deployed(x))


def test_what_reads_sums_of_spikes_stays_in_float32_and_is_counted() -> None:
    folded, _, x = networks_and_input("s2nn", {"residual": SEW})
    deployed = integer(folded)
    assert (deployed.num_integer, deployed.num_hidden) == (4, 6)
    assert not torch.equal(deployed(x), floating(folded)(x))


@pytest.mark.parametrize("neuron", ["s2nn", "relu"])
@pytest.mark.parametrize("block", ["post", "ms", "none", "sew_add"])
def test_the_same_graph_in_float32_is_the_folded_network(block: str, neuron: str) -> None:
    folded, _, x = networks_and_input(neuron, {"residual": {"name": block}})
    before = {name: value.clone() for name, value in folded.state_dict().items()}
    given = x.clone()
    torch.testing.assert_close(floating(folded)(x), folded(x), atol=1e-5, rtol=1e-5)
    integer(folded, [x])(x)
    assert torch.equal(x, given)
    assert all(torch.equal(value, before[name]) for name, value in folded.state_dict().items())


@pytest.mark.parametrize("block", ["post", "ms", "none"])
def test_a_relu_network_in_int8_is_near_the_float_one_and_needs_calibration(block: str) -> None:
    folded, _, x = networks_and_input("relu", {"residual": {"name": block}})
    deployed = integer(folded, [x])
    assert deployed.num_integer == deployed.num_hidden == 6
    error = (deployed(x) - folded(x)).abs().max() / folded(x).abs().max()
    assert 0 < error < 0.05
    # calibrated on ten times smaller images its outputs are cut off
    small = integer(folded, [x / 10])
    assert (small(x) - folded(x)).abs().max() / folded(x).abs().max() > 2 * error
    with pytest.raises(UserError, match="needs calibration data for int8, and none were given"):
        integer(folded)


def test_what_relus_hand_on_is_rounded_and_cut_off_at_255_of_its_scale() -> None:
    layer = nn.Conv2d(1, 1, 1, bias=False)
    layer.weight.data.fill_(0.5)
    s = torch.tensor([0, 1, 4, 200], dtype=torch.uint8).view(1, 4, 1, 1, 1)
    assert IntegerRectified(layer, scale=0.5, unit=0.25)(s).flatten().tolist() == [0, 1, 4, 200]
    assert IntegerRectified(layer, scale=0.5, unit=0.125)(s).flatten().tolist() == [0, 2, 8, 255]
    assert Rectify(0.25)(s.float() - 1).flatten().tolist() == [0, 0, 12, 255]


def test_networks_that_have_no_int8_form_are_refused_in_a_sentence() -> None:
    with pytest.raises(
        UserError, match=r"is a LIF, which has a state over several steps, .* neuron=s2nn or neuron=relu"
    ):
        integer(fold(make_network("lif hard")).float())
    signs = fold(make_network({"name": "sign"}, residual={"name": "post"}, weight_quant="bnn", num_steps=1)).float()
    with pytest.raises(UserError, match="is a Sign, which emits signs"):
        integer(signs)
    filtered = make_network("s2nn", residual={"name": "none"}, synapse="exponential", num_steps=1)
    with pytest.raises(UserError, match="no hidden weight layer that reads a neuron and nothing else"):
        integer(fold(filtered).float())


def test_the_command_compares_a_trained_run_with_its_int8_form(capsys: pytest.CaptureFixture[str]) -> None:
    parts = ["neuron=s2nn", "norm=bn", "residual=bireal", "depth=d8", "network.width=8", "optim.lr=0.01"]
    config = compose([*parts, "trainer.max_epochs=4", "trainer.progress=false", "logger=none"])
    train.run(config, echo=False)
    assert main(["fold", config.run_id, "--int8"]) == 0
    out = capsys.readouterr().out
    assert "int8 weights: 6 of 6 hidden weight layers" in out
    stored = json.loads(RunFolder.of(config).folded.with_name("folded_int8.json").read_text())
    assert stored["split"] == "test" and stored["acc_folded"] > 0.5
    assert abs(stored["acc_int8"] - stored["acc_folded"]) <= 0.03
    assert abs(stored["acc_int8"] - stored["acc_folded"]) * stored["num_samples"] <= stored["num_flipped"]
    assert 3 < stored["num_bytes_folded"] / stored["num_bytes_int8"] < 4
    assert f"accuracy {100 * stored['acc_int8']:.2f} %, folded float {100 * stored['acc_folded']:.2f} %" in out


def test_the_command_refuses_a_run_of_several_steps(capsys: pytest.CaptureFixture[str]) -> None:
    config = compose(
        [
            "neuron=lif",
            "norm=bn",
            "network=mlp",
            "depth=d8",
            "trainer.max_epochs=1",
            "trainer.progress=false",
            "logger=none",
        ]
    )
    train.run(config, echo=False)
    assert main(["fold", config.run_id, "--int8"]) == 2
    assert "is a LIF, which has a state over several steps" in capsys.readouterr().err
    assert not list(RunFolder.of(config).path.glob("*int8*"))
