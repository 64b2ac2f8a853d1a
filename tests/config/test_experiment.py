"""What a config resolves to, and the identity of a run."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from snn_exp.config import experiment
from snn_exp.config.compose import compose
from snn_exp.config.experiment import identity, resolve
from snn_exp.errors import UserError

# Pinned: a change here makes every stored result a stranger. See CONTRIBUTING before touching one.
GOLDEN = {
    "": "5b0003bcd2",
    "neuron=s2nn residual=bireal depth=d20 seed=3": "c15c69730d",
    "neuron=srm norm=psp weight_norm=standardized": "edcf6ad11e",
    "neuron=sign residual=bireal": "a443b5a5db",
    "neuron=relu network=mlp optim=sgd optim.lr=0.1 dataset=cifar10": "be13722453",
    "dataset=digits_200": "d6b765b944",
    "dataset=digits_clutter": "31a826e401",
    "dataset=fashion_mnist": "a525124f39",
}


@cache
def default_run_id() -> str:
    return compose([]).run_id


@pytest.mark.parametrize("command", GOLDEN)
def test_run_ids_stay_what_they_were(command: str) -> None:
    assert compose(command.split()).run_id == GOLDEN[command]


@pytest.mark.parametrize(
    "override",
    ["seed=1", "neuron.tau=3", "norm=none", "optim.lr=0.1", "trainer.max_epochs=3", "trainer.precision=64-true",
     "dataset.split_seed=1", "dataset.num_train=200", "encoding.num_steps=2", "network.width=8", "optim.batch_size=8", "residual=post",
     "augment=none", "augment=shift_flip", "augment=shift augment.max_shift=2", "augment=crop_flip", "augment=cutout",
     "augment=cutout augment.side=0.25", "augment=randaugment", "augment=randaugment augment.magnitude=5", "synapse=alpha", "weight_norm=centred", "weight_quant=xnor", "surrogate=rect", "surrogate.width=2 surrogate=rect"],
)  # fmt: skip
def test_what_decides_the_result_decides_the_run_id(override: str) -> None:
    assert compose(override.split()).run_id != default_run_id()


@pytest.mark.parametrize(
    "override",
    ["trainer.num_threads=2", "trainer.test=false", "trainer.progress=false", "trainer.accelerator=cpu",
     "trainer.devices=2", "trainer.devices=2 trainer.strategy=ddp", "trainer.checkpoint_activations=true",
     "trainer.kernels=reference", "trainer.compile=true", "trainer.channels_last=true",
     "trainer.channels_last=auto", "trainer.num_threads=auto", "logger=none",
     "logger.project=other", "energy=h45_int8", "energy.mac_pj=3", "neuron=lif norm=bn", "encoding=direct", "encoding=auto", "augment=auto",
     "augment=shift", "augment=shift augment.max_shift=1",
     "surrogate=atan", "weight_quant=none", "dataset.num_train=null"],
)  # fmt: skip
def test_how_it_is_done_or_what_was_meant_anyway_does_not(override: str) -> None:
    assert compose(override.split()).run_id == default_run_id()


def test_a_later_field_is_left_out_of_the_identity_while_neutral(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(experiment.NEUTRAL, "neuron.lif.detach_reset", False)
    assert "detach_reset" not in identity(compose([]))["neuron"]
    assert identity(compose(["neuron.detach_reset=true"]))["neuron"]["detach_reset"] is True


def test_the_version_of_a_part_is_in_the_identity() -> None:
    assert identity(compose([]))["neuron"]["version"] == 1


@pytest.mark.parametrize(
    ("command", "group", "name"),
    [
        ("neuron=lif", "surrogate", "atan"),
        ("neuron=srm", "surrogate", "slayer_exp"),
        ("neuron=s2nn", "surrogate", "s2nn"),
        ("neuron=relu surrogate=sigmoid", "surrogate", "none"),
        ("neuron=srm", "synapse", "exponential"),
        ("neuron=lif", "synapse", "identity"),
        ("neuron=s2nn synapse=exponential", "synapse", "identity"),
        ("neuron=sign", "weight_quant", "bnn"),
        ("neuron=sign weight_quant=none", "weight_quant", "none"),
        ("neuron=lif", "weight_quant", "none"),
        ("network=vgg residual=pre", "residual", "none"),
        ("dataset=digits", "encoding", "direct"),
        ("dataset=digits_dvs", "encoding", "frames"),
        ("dataset=digits_dvs encoding.num_steps=6", "encoding", "frames"),
        ("encoding=rate", "encoding", "rate"),
    ],
)
def test_what_is_left_open_resolves_itself(command: str, group: str, name: str) -> None:
    assert getattr(compose(command.split()), group)["name"] == name


@pytest.mark.parametrize(
    ("command", "steps"),
    [("neuron=relu", 1), ("neuron=s2nn", 1), ("neuron=lif", 4), ("", 4),
     ("dataset=digits_dvs", 4), ("dataset=digits_dvs neuron=s2nn", 1), ("encoding.num_steps=6", 6),
     ("dataset=digits_dvs encoding.num_steps=6", 6)],
)  # fmt: skip
def test_the_number_of_steps_follows_from_the_neuron(command: str, steps: int) -> None:
    assert compose(command.split()).num_steps == steps


def test_where_spikes_flow_between_blocks_they_are_read() -> None:
    assert compose(["residual=post"]).network["readout"] == "spikes"
    assert compose(["residual=sew_add", "network.readout=membrane"]).network["readout"] == "spikes"


def test_a_real_stream_is_read_as_its_block_prefers_or_as_is_asked() -> None:
    assert compose(["residual=pre"]).network["readout"] == "membrane"
    assert compose(["residual=ms"]).network["readout"] == "spikes"
    assert compose(["residual=ms", "network.readout=membrane"]).network["readout"] == "membrane"


@pytest.mark.parametrize("command", GOLDEN)
def test_a_stored_config_resolves_to_itself(command: str) -> None:
    config = compose(command.split())
    assert resolve(config.to_plain()) == config


def test_a_config_stored_before_energy_was_a_group_resolves_with_its_default() -> None:
    plain = compose(["energy=h45_int8"]).to_plain()
    del plain["energy"]
    assert resolve(plain) == compose([])


def test_a_config_cannot_be_changed() -> None:
    config: Any = compose([])
    with pytest.raises(AttributeError):
        config.seed = 3


def test_slayer_sampling_must_not_outlast_the_steps() -> None:
    with pytest.raises(UserError, match=r"delays the longest path by 7 steps.*encoding.num_steps=8"):
        compose(["neuron=srm", "synapse=alpha", "synapse.sampling=slayer"])
    assert compose(["neuron=srm", "synapse=alpha", "synapse.sampling=slayer", "encoding.num_steps=8"]).num_steps == 8


def test_the_experiment_a_run_belongs_to_is_not_in_its_identity() -> None:
    plain = compose([]).to_plain()
    assert resolve({**plain, "experiment": "mine"}).run_id == resolve({**plain, "experiment": None}).run_id


@pytest.mark.parametrize(
    "commands",
    ["neuron=if neuron=srm", "norm=rms norm=layer", "residual=bireal residual=post", "synapse=alpha synapse=exponential",
     "weight_norm=centred weight_norm=standardized", "weight_quant=bnn weight_quant=xnor", "network=vgg network=mlp"],
)  # fmt: skip
def test_two_options_of_a_group_are_two_runs(commands: str) -> None:
    assert len({default_run_id(), *(compose([command]).run_id for command in commands.split())}) == 3
