"""Folding: the same logits and the same spikes without norms, for all that folds; sentences for the rest."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_exp.cli.main import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.export import fold as folding
from snn_exp.export.fold import compare, fold, load_folded
from snn_exp.nn.layers import make_part_factories
from snn_exp.nn.networks import Network, build_network
from snn_exp.nn.neurons import KLIF, Neuron, ParallelNeuron, StepwiseNeuron
from snn_exp.nn.neurons import NEURONS as registered
from snn_exp.nn.norms import Norm, OnlineRenorm, PSPNorm
from snn_exp.nn.synapses import SYNAPSES
from snn_exp.nn.weights import WEIGHT_NORMS, StandardizedWeights
from snn_exp.runs.folder import RunFolder
from snn_exp.training import build, train

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
    network = {"width": 3, "name": "resnet"} | (network or {})
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


def assert_the_same(network: Network, num_steps: int = 4) -> folding.Folded:
    folded = fold(network)
    found = compare(network, folded, [batch(num_steps)])
    assert found.num_flipped == 0
    assert found.logit_error <= 1e-10
    assert 0.02 < found.num_spikes / found.num_outputs < 0.98, "a silent network proves nothing"
    assert not any(isinstance(module, Norm) for module in folded.modules())
    assert not any(isinstance(module, StandardizedWeights) for module in folded.modules())
    return folded


def has_membrane(neuron: str) -> bool:
    return registered[NEURONS[neuron]["name"]].has_membrane


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
    """What a person registers who knows nothing of folding: README's example, with a rest that matters if asked."""

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
    sentence = folding._why_not_rescaled(neuron)
    assert sentence.startswith(f"{type(neuron).__name__}, which does not declare its attributes in membrane units")
    assert 'scales_with_input = ("v_threshold", "v_reset"): dividing all of them by a must give for x' in sentence


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_fold_is_said_in_a_sentence(why: str) -> None:
    with pytest.raises(UserError) as error:
        fold(refused_network(why))
    assert str(error.value) == REFUSED[why]


def test_a_folded_network_refuses_to_be_trained_further(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = fold(make_network())
    folded.eval()
    with pytest.raises(UserError, match="a folded network cannot be trained further"):
        folded.train()
    config = tiny()
    task = build.build_task(config, build.build_data(config))
    task.network = folded
    monkeypatch.setattr(build, "build_task", lambda *_: task)
    with pytest.raises(UserError, match="train the run that it was folded from"):
        train.run(tiny(), echo=False)


def test_a_comparison_counts_flipped_spikes_and_sees_another_network() -> None:
    network = make_network("if", "bn")
    folded = fold(network)
    folded.get_parameter("network.classifier.bias").data[0] += 100
    folded.get_buffer("network.stages.2.0.activation1.neuron.folded_threshold.threshold").sub_(1e3)
    found = compare(network, folded, [batch()])
    assert found.logit_error > 0.5
    assert 0 < found.num_flipped < found.num_outputs
    assert found.acc_folded == 1 / 3, "the first class is always named"


# --- the command -----------------------------------------------------------------------------------


def tiny(*overrides: str) -> ExperimentConfig:
    return compose(["network.width=4", "logger=none", "trainer.progress=false", "optim.batch_size=128",
                    "trainer.max_epochs=1", "neuron=s2nn", "residual=bireal", *overrides])  # fmt: skip


def test_the_command_writes_the_folded_network_which_loads_back(capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny("encoding=rate", "trainer.checkpoint_activations=true")
    trained = train.run(config, echo=False)
    assert main(["fold", config.run_id[:5]]) == 0
    said = capsys.readouterr().out
    assert "norms folded into weights: 1, into thresholds: 6; weights made plain: 0" in said
    assert "float64, val set: logits equal to" in said and "float32, test set: " in said
    assert said.endswith(
        "AC-only: yes, all 6 hidden weight layers only add\n"
        "  multiplications elsewhere: stages.1.0.shortcut (shortcut), stages.2.0.shortcut (shortcut), classifier (readout)\n"
    ), "a rate code has the first layer add as well"
    folder = RunFolder.of(config)
    stored = json.loads((folder.path / "folded.json").read_text())
    assert stored["float64"]["num_flipped"] == 0 and stored["float64"]["logit_error"] <= 1e-10
    assert stored["float32"]["acc"] == pytest.approx(trained.metrics["test/acc"])
    assert stored["multiplications"]["hidden"] == {}
    assert {f["part"] for f in stored["folds"]} >= {"stages.0.0.activation1.norm", "readout.norm"}
    assert {path.name for path in folder.path.glob(".*")} == set(), "no scratch file is left"

    data = build.build_data(config)
    task = build.build_task(config, data)
    folded = load_folded(folder)
    encoded = folding.encoded(task, data.test_dataloader())
    with torch.no_grad():
        hits = [(folded(x).argmax(1) == y).float() for x, y in encoded]
    assert torch.cat(hits).mean().item() == pytest.approx(stored["float32"]["acc_folded"])


def test_a_run_that_has_not_read_the_test_set_does_not_read_it_to_be_folded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("trainer.test=false")
    train.run(config, echo=False)
    monkeypatch.setattr(train.DataModule, "test_dataloader", lambda self: pytest.fail("it was read"))
    assert main(["fold", str(RunFolder.of(config).path)]) == 0
    assert "float32, val set: " in capsys.readouterr().out


@pytest.mark.parametrize("broken", [0.1, torch.nan])
def test_another_network_in_float64_is_a_fault_and_nothing_is_stored(
    broken: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold_wrongly(network: Network) -> folding.Folded:
        folded = fold(network)
        folded.get_parameter("network.classifier.bias").data[0] += broken
        return folded

    config = tiny()
    train.run(config, echo=False)
    monkeypatch.setattr(folding, "fold", fold_wrongly)
    with pytest.raises(RuntimeError, match="is another one"):
        main(["fold", config.run_id])
    assert not list(RunFolder.of(config).path.glob("*folded*"))


def test_runs_that_cannot_be_folded_are_refused_in_a_sentence(
    capsys: pytest.CaptureFixture[str], output: Path, tmp_path: Path
) -> None:
    def said(run: str) -> str:
        assert main(["fold", run]) == 2
        return capsys.readouterr().err.removeprefix("snn-exp: ").rstrip("\n")

    runs = output / "runs"
    assert said("0123") == f"There is no run '0123' among the 0 of {runs}"
    config = tiny()
    folder = RunFolder.of(config)
    again = "type its snn-exp train command again to finish it first"
    folder.begin(config, {})
    assert said(config.run_id) == f"run {config.run_id} is not finished; {again}"
    folder.fail("RuntimeError: no memory", "")
    assert said(config.run_id) == f"run {config.run_id} crashed (RuntimeError: no memory); {again}"

    result = dataclasses.replace(train.run(config, echo=False), status="diverged")
    with pytest.raises(UserError, match=f"run {config.run_id} is not folded yet; type snn-exp fold {config.run_id}"):
        load_folded(folder)
    folder.finish(result)
    assert said(config.run_id) == f"run {config.run_id} diverged, so it has no trained weights; choose another run"
    other = tiny("seed=1")
    folder.finish(dataclasses.replace(result, status="done", config=other.to_plain()))
    assert said(config.run_id) == (
        f"run {config.run_id} was trained with an older, incompatible version of a component: the same config is run "
        f"{other.run_id} now; train it again"
    )

    wrong = f"{config.run_id[1:]}x"
    assert said(wrong) == f"There is no run '{wrong}' among the 1 of {runs}; did you mean {config.run_id}?"
    (runs / f"{config.run_id[:4]}000000").mkdir()
    assert said(config.run_id[:4]) == (
        f"run '{config.run_id[:4]}' may be {', '.join(sorted(path.name for path in runs.iterdir()))}; type more of it"
    )
