"""Networks whose convolutions add where a spike is, against the plain path, which is the judge."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import TrainerConfig
from snn_exp.errors import UserError
from snn_exp.nn.activation_checkpointing import checkpoint_activations
from snn_exp.nn.blocks import RESIDUALS
from snn_exp.nn.kernels import add_where_spikes_are, build, event_layers, fuse, ways_of
from snn_exp.nn.kernels.event_layers import layers_that_read_spikes
from snn_exp.nn.kernels.events import pack, pack_words
from snn_exp.nn.kernels.filtered_spikes import MOST_STEPS
from snn_exp.nn.kernels.fused import fire
from snn_exp.nn.kernels.spike_words import words_of
from snn_exp.nn.layers import Conv2d, lay_channels_last
from snn_exp.nn.networks import Network
from snn_exp.nn.neurons import LIF, Neuron, Sign
from snn_exp.runs.folder import RunFolder
from snn_exp.training import train
from snn_exp.training.build import DataSpec, assemble, choose_kernels
from tests import judge
from tests.judge import learned, network
from tests.nn.test_activation_checkpointing import trains_the_same

try:
    build.library("events.cpp", (), "double", "double")
except build.Unavailable as reason:
    pytest.skip(f"the kernels cannot be built: {reason}", allow_module_level=True)


def by_events(plain: Network, *, fused: bool = True, in_eval: bool = False) -> Network:
    twin = copy.deepcopy(plain)
    lay_channels_last(twin)
    if fused:
        fuse(twin, write_words=True)
    add_where_spikes_are(twin, in_eval=in_eval)
    return twin


def built(*overrides: str) -> Network:
    return assemble(compose([*overrides, "trainer.kernels=reference"]), DataSpec((1, 9, 9), 10, 0.3, 0.3)).network


@pytest.mark.parametrize(
    "overrides",
    [
        *((f"residual={name}", "method=lif_bn") for name in RESIDUALS),
        *((f"neuron={name}",) for name in ("s2nn", "sign", "ternary", "ilif", "relu")),
        ("network=vgg", "depth=d8", "residual=none"),
        ("method=srm_psp",),
        ("method=lif_bn", "residual.shortcut=conv"),
        ("method=lif_bn", "encoding=rate"),
    ],
    ids=" ".join,
)
def test_the_layers_that_read_spikes_are_those_that_read_nothing_but_0_and_1(overrides: Sequence[str]) -> None:
    plain = built(*overrides)
    read: dict[Conv2d, set[float]] = {}

    def keep(layer: Conv2d, inputs: tuple[Tensor, ...]) -> None:
        read[layer] = set(inputs[0].detach().unique().tolist())

    for module in plain.modules():
        if isinstance(module, Conv2d):
            module.register_forward_pre_hook(keep)
    with torch.no_grad():
        plain.train()(torch.rand(compose(list(overrides)).num_steps, 8, 1, 9, 9) * 2)
    found = set(layers_that_read_spikes(plain))
    assert found == {layer for layer, values in read.items() if values <= {0.0, 1.0}}
    assert found or overrides[-1] not in ("neuron=s2nn", "method=lif_bn")


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("neuron", "norm", "residual"),
    [("lif", "bn", "pre"), ("s2nn", "bn", "bireal"), ("plif", "tdbn", "post"), ("lif", "bn", "sew_iand")],
)
def test_a_network_learns_the_same_in_twenty_steps(neuron: str, norm: str, residual: str, fused: bool) -> None:
    plain = network(neuron, norm, residual, synapse="identity")
    num_steps = 1 if neuron == "s2nn" else 2
    twin = by_events(plain, fused=fused)
    for ours, theirs in zip(learned(twin, num_steps), learned(plain, num_steps), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    ways = ways_of(twin)
    assert {way.num_batches for way in ways.values()} == {20} and sum(way.by_events for way in ways.values()) > 20


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("neuron", "norm", "residual", "synapse"),
    [
        ("srm", "psp", "pre", "exponential"),
        ("lif", "psp_stream", "ms", "exponential"),
        ("srm", "none", "post", "exponential"),
        ("srm", "psp", "post", "identity"),
    ],
)
def test_a_network_of_filtered_spikes_learns_the_same_in_twenty_steps(
    neuron: str, norm: str, residual: str, synapse: str, fused: bool
) -> None:
    plain = network(neuron, norm, residual, synapse)
    twin = by_events(plain, fused=fused)
    for ours, theirs in zip(learned(twin, 2), learned(plain, 2), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    ways = ways_of(twin)
    assert len(ways) == 6 and all(way.num_batches == 20 for way in ways.values())
    assert all(way.by_events for way in ways.values())


def test_behind_an_alpha_synapse_layers_stay_dense() -> None:
    assert not ways_of(by_events(network(synapse="alpha"))) and ways_of(by_events(network()))


@pytest.mark.parametrize("shortcut", ["conv", "avgpool_dup"])
def test_layers_of_one_filter_go_one_way_and_eval_is_bitwise_the_plain_network(shortcut: str) -> None:
    plain = built("method=srm_psp", "network.width=16", f"residual.shortcut={shortcut}").double()
    lay_channels_last(plain)
    twin = by_events(plain)
    x = torch.rand(4, 3, 1, 9, 9, dtype=torch.float64) * 2
    for net in (twin, plain):
        net.train()(x).sin().sum().backward()
    for ours, theirs in zip(twin.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-8)
    twin.load_state_dict(plain.state_dict())  # running moments differ by rounding
    assert torch.equal(twin.eval()(x), plain.eval()(x))
    ways = ways_of(twin)
    assert len(ways) == 6 + 2 * (shortcut == "conv") and {way.num_batches for way in ways.values()} == {1}
    if shortcut == "conv":
        assert ways["stages.1.0.shortcut"] is ways["stages.1.0.conv1"]


def test_filtered_spikes_that_are_frequent_are_filtered_and_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_layers, "MOST_RATE", -1)
    plain = network("srm", "psp")
    lay_channels_last(plain)
    twin, x = by_events(plain), torch.rand(2, 6, 1, 4, 4, dtype=torch.float64) * 2
    torch.testing.assert_close(twin(x), plain(x), rtol=1e-10, atol=1e-10)
    assert {(way.by_events, way.dense) for way in ways_of(twin).values()} == {(0, 1)}
    many = torch.rand(MOST_STEPS + 1, 2, 1, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(twin(many), plain(many), rtol=1e-10, atol=1e-10)
    assert {way.num_batches for way in ways_of(twin).values()} == {1}, "so many steps are not counted in pairs"


def test_in_eval_it_is_bitwise_the_plain_network_unless_told_and_is_stored_as_that_is() -> None:
    plain = network(synapse="identity").float()
    x = torch.rand(2, 3, 1, 4, 4) * 2
    plain(x)
    twin, inferring = by_events(plain), by_events(plain, in_eval=True)
    lay_channels_last(plain)
    assert torch.equal(twin.eval()(x), plain.eval()(x))
    assert list(twin.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(inferring.eval()(x), plain(x))
    with torch.inference_mode():
        torch.testing.assert_close(inferring(x), plain(x))
    copied = copy.deepcopy(inferring)
    with torch.no_grad():
        for parameter in inferring.parameters():
            parameter.add_(1)
    torch.testing.assert_close(copied(x), plain(x))
    assert not any(way.num_batches for way in ways_of(copied).values()), "batches of an evaluation are not counted"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["none", "bn"])
@pytest.mark.parametrize("shape", [(3, 5, 16, 7, 5), (1, 1, 48, 3, 1), (5, 2, 32, 9, 9)], ids=str)
def test_a_neuron_writes_the_bits_that_would_be_read_off_its_spikes(
    shape: tuple[int, ...], norm: str, dtype: torch.dtype
) -> None:
    x = judge.by_position(judge.drawn(shape, 0, dtype))
    neuron, form = judge.made({"name": "lif"}, "atan", shape, dtype)
    s = fire(neuron, form, judge.norm_like(norm, x), x, writes_words=True)
    words = words_of(s)
    assert words is not None
    found, expected = pack_words(words, *shape[3:]), pack(s.flatten(0, 1))
    assert torch.equal(found.bits, expected.bits) and 0 < found.rate == expected.rate < 1 and found.whole
    s.data.zero_()
    assert words_of(s) is not None, "who writes past autograd is not seen"
    with torch.no_grad():
        s.zero_()
    assert words_of(s) is None


def test_words_are_written_where_they_can_be_read_alone() -> None:
    neuron, form = judge.made({"name": "lif"}, "atan", (2, 3, 16, 4, 4), torch.float32)
    ternary, of_ternary = judge.made({"name": "ternary"}, "atan", (2, 3, 16, 4, 4), torch.float32)
    x = judge.by_position(judge.drawn((2, 3, 16, 4, 4), 0, torch.float32))
    assert words_of(fire(neuron, form, None, x, writes_words=True)) is not None
    others = [
        fire(neuron, form, None, x), fire(neuron, form, None, x.contiguous(), writes_words=True),
        fire(neuron, form, None, x[:, :, :8], writes_words=True), fire(ternary, of_ternary, None, x, writes_words=True),
        fire(neuron, form, None, x.bfloat16(), writes_words=True),
    ]  # fmt: skip
    assert all(words_of(other) is None for other in others)


def test_a_network_computes_the_same_from_the_words_of_its_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    given, found = torch.rand(4, 6, 1, 9, 9) * 2, []
    read: list[bool] = []
    monkeypatch.setattr(event_layers, "pack_words", lambda *of: (read.append(True), pack_words(*of))[1])
    for write_words in (True, False):
        torch.manual_seed(0)
        network = built("method=lif_bn", "network.width=16")
        lay_channels_last(network)
        fuse(network, write_words=write_words)
        add_where_spikes_are(network)
        logits = network.train()(given)
        logits.sin().sum().backward()
        found.append([logits, *(parameter.grad for parameter in network.parameters())])
        assert len(read) == len(ways_of(network)) > 3
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


class Often(LIF):
    """A neuron that fires at all places."""

    def forward(self, x_TBN: Tensor) -> Tensor:
        return super().forward(x_TBN) * 0 + 1


class Half(LIF):
    """A guest that breaks the promise to emit 0 and 1."""

    def forward(self, x_TBN: Tensor) -> Tensor:
        return super().forward(x_TBN) / 2


@pytest.mark.parametrize("kind", [Often, Half])
def test_what_fires_often_or_is_neither_0_nor_1_is_computed_densely(kind: type[LIF]) -> None:
    plain = network(synapse="identity")
    for module in plain.modules():
        if isinstance(module, LIF):
            module.__class__ = kind
    twin = by_events(plain, fused=False)
    x = torch.rand(2, 6, 1, 4, 4, dtype=torch.float64) * 2
    lay_channels_last(plain)
    assert torch.equal(twin(x), plain(x))
    assert {(way.by_events, way.dense) for way in ways_of(twin).values()} == {(0, 1)}
    if kind is Often:
        assert {way.rate for way in ways_of(twin).values()} == {1.0}


@pytest.mark.parametrize("synapse", ["identity", "exponential"])
def test_activations_computed_again_give_the_same(synapse: str) -> None:
    twin = by_events(network(synapse=synapse))
    again = copy.deepcopy(twin)
    checkpoint_activations(again.segments())
    trains_the_same(twin, again)


def test_an_autocast_is_left_to_torch() -> None:
    plain = network(synapse="identity").float()
    twin = by_events(plain)
    lay_channels_last(plain)
    fuse(plain)
    x = torch.rand(2, 6, 1, 4, 4) * 2
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(twin(x), plain(x))


@pytest.mark.parametrize(
    ("trainer", "neuron", "reason"),
    [
        ({"precision": "bf16-mixed"}, LIF, "convolutions by events are for trainer.precision=32-true, 64-true, not bf16-mixed"),
        ({"devices": 2}, LIF, "the fused kernels see one share of a batch, and trainer.devices is 2"),
        ({}, Sign, "convolutions by events read spikes, 0 and 1, and this neuron emits signs"),
        ({"accelerator": "gpu"}, LIF, "convolutions by events are for a CPU"),
    ],
)  # fmt: skip
def test_where_there_are_no_events_it_is_said_in_a_sentence(
    trainer: dict[str, Any], neuron: type[Neuron], reason: str
) -> None:
    with pytest.raises(UserError) as error:
        choose_kernels(TrainerConfig(**trainer, kernels="events"), neuron())
    assert str(error.value) == (
        f"cannot use trainer.kernels=events: {reason}; leave it out, or type trainer.kernels=reference"
    )


def test_events_are_refused_beside_torch_compile() -> None:
    with pytest.raises(UserError, match=r"trainer\.kernels=events cannot be combined with trainer\.compile=true"):
        compose(["trainer.kernels=events", "trainer.compile=true"])


def test_a_run_by_events_has_the_same_id_and_records_how_each_layer_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    asked = ["method=s2nn_bn", "network.width=4", "logger=none", "trainer.max_epochs=2", "dataset=digits_200"]
    config = compose([*asked, "trainer.kernels=events"])
    assert config.run_id == compose(asked).run_id
    assert train.run(config, echo=False).status == "done"
    manifest = RunFolder.of(config).manifest()
    assert manifest["kernels"]["used"] == manifest["execution"]["trainer"]["kernels"] == "events"
    ways = manifest["ways"]
    assert set(ways) == {f"stages.{stage}.0.conv{number}" for stage in range(3) for number in (1, 2)}
    (num_batches,) = {way["by_events"] + way["dense"] for way in ways.values()}
    assert num_batches >= 2, "all layers saw all of them"
    assert all(0 < way["rate"] < 1 for way in ways.values())
    assert main.main(["verify", config.run_id]) == 0
