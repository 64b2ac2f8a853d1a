"""Exported networks read back: the same logits in every format; sentences for what a format cannot represent.

Those marked export need ONNX, onnxruntime and NIR, which `make export` brings.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import snn_exp.export.exporting as exporting
from snn_exp.cli.main import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.data.base import Dataset
from snn_exp.data.datamodule import DataModule
from snn_exp.errors import UserError
from snn_exp.export import load_exported
from snn_exp.export.fold import fold
from snn_exp.export.nir_graph import DT, write_nir
from snn_exp.export.nir_steps import read_nir
from snn_exp.export.onnx_graph import FromSamples, read_onnx, write_onnx
from snn_exp.export.reading import Reader, check
from snn_exp.export.weights import write_weights
from snn_exp.nn.encodings import ENCODINGS, Direct, Rate
from snn_exp.nn.networks import Network, outputs_of
from snn_exp.nn.neurons import NEURONS as REGISTERED
from snn_exp.nn.neurons import Neuron
from snn_exp.runs.folder import RunFolder
from snn_exp.training import build, train
from tests.export.test_fold import NEURONS, as_if_trained, make_network
from tests.finished import Finished

TINY = ("network.width=4", "logger=none", "trainer.progress=false", "optim.batch_size=128", "trainer.max_epochs=1")


def tiny(*overrides: str) -> ExperimentConfig:
    return compose([*TINY, *overrides])


def steps(num_steps: int = 4, size: int = 8, num_samples: int = 6) -> Tensor:
    """Encoded input in float64."""
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(num_steps, num_samples, 2, size, size, generator=generator, dtype=torch.float64)


def some_fire(network: nn.Module, x: Tensor) -> bool:
    """Whether the spikes say anything: a silent network proves nothing."""
    neurons = [module for module in network.modules() if isinstance(module, Neuron)]
    with outputs_of(neurons) as outputs, torch.no_grad():
        network(x)
    rate = torch.cat([(s > 0).flatten().double() for s in outputs.values()]).mean()
    return bool(0.02 < rate < 0.98)


# --- safetensors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("folded", [False, True])
def test_the_file_alone_makes_the_network_again(
    folded: bool,
    finished: Finished,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, trained = finished("neuron=lif", "residual=pre", "encoding=rate", "trainer.checkpoint_activations=true")
    arguments = ["export", config.run_id[:5], "--format", "safetensors", *(["--folded"] if folded else [])]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert ("norms folded into weights" in said) == folded, "a run that is not folded yet is folded first"
    name = f"{'folded' if folded else 'network'}.safetensors"
    path = RunFolder.of(config).exports / name
    assert f"{path} (" in said and "reads encoded steps [4, B, 1, 8, 8], gives logits [B, 10]" in said
    assert "predictions differ (0.0e+00), logits bitwise equal" in said
    assert {file.name for file in path.parent.iterdir()} == {name, f"{name}.json"}, "no scratch file is left"
    stored = json.loads((path.parent / f"{name}.json").read_text())
    assert stored["found"]["logit_error"] == 0 and stored["split"] == "test"
    assert stored["found"]["acc"] == pytest.approx(trained.metrics["test/acc"])

    data = build.build_data(config)
    x, _ = data.some_validation_samples(16)
    task = build.load_task(RunFolder.of(config), config, data).eval()
    elsewhere = path.rename(tmp_path / "elsewhere.safetensors")
    monkeypatch.setattr(Dataset, "__init__", lambda *_, **__: pytest.fail("the data were read"))
    with pytest.raises(pytest.fail.Exception, match="the data were read"):
        build.build_data(config)  # whatever reads them would come by here
    again = load_exported(elsewhere)
    torch.manual_seed(3)
    expected = (fold(task.network.double()).float() if folded else task.network)(task.encoding(x))
    torch.manual_seed(3)
    with torch.no_grad():
        assert torch.equal(again(x), expected)


@pytest.mark.parametrize(
    "overrides", ["residual=ms", "residual=post", "network=vgg", "network=mlp norm=mpbn", "norm=psp"]
)
def test_every_structure_comes_back_folded(overrides: str, tmp_path: Path) -> None:
    config = tiny("neuron=lif", *overrides.split())
    seen = build.DataSpec((1, 8, 8), 10, 0.3, 0.4)
    folded = fold(as_if_trained(build.assemble(config, seen).network)).float()
    said = {"run_id": config.run_id, "folded": "true", "config": json.dumps(config.to_plain())}
    write_weights(folded, tmp_path / "file", {**said, "seen": json.dumps(dataclasses.asdict(seen))})
    x = torch.randn(4, 5, 1, 8, 8)
    assert torch.equal(load_exported(tmp_path / "file").network(x), folded(x))


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    type_this = "type snn-exp export RUN --format safetensors"
    path = tmp_path / "file.safetensors"
    with pytest.raises(UserError, match=f"there is no file {path}; {type_this}"):
        load_exported(path)
    path.write_text("something else")
    with pytest.raises(UserError, match=f"{path} was not written by snn-exp export; {type_this}"):
        load_exported(path)
    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="was not written by snn-exp export"):
        load_exported(path)
    config = tiny()
    seen = {"in_shape": [1, 8, 8], "num_classes": 10, "pixel_mean": 0.3, "pixel_std": 0.4}
    plain = config.to_plain()
    said = {"run_id": config.run_id, "folded": "false", "config": json.dumps(plain), "seen": json.dumps(seen)}
    save_file({"w": torch.zeros(1)}, path, {**said, "run_id": "0123456789"})
    with pytest.raises(UserError, match=f"is of run 0123456789, .* the same config is run {config.run_id} now"):
        load_exported(path)
    for key, value, sentence in [
        ("run_id", "../x", "run_id: should be 10 hex digits"),
        ("folded", "2", "folded: should be a valid boolean"),
        ("folded", "", "folded: no JSON: EOF"),
        ("config", "[" * 10_000, "config: no JSON: recursion limit"),
        ("config", "null", "config: should be a mapping"),
        ("config", json.dumps({**plain, "neuron": {}}), "config.neuron.name: is missing"),
        ("seen", "{}", "seen.in_shape: is missing"),
        ("seen", json.dumps({**seen, "in_shape": [1, 8]}), "seen.in_shape: should be channels, height and width"),
        ("seen", json.dumps({**seen, "in_shape": [9999] * 3}), "together at most 4,194,304 values"),
        ("seen", json.dumps({**seen, "pixel_std": float("nan")}), "seen.pixel_std: should be a finite number"),
        ("seen", json.dumps({**seen, "num_classes": True}), "seen.num_classes: should be a valid integer"),
        ("seen", json.dumps({**seen, "more": 1}), "seen.more: is not one of its keys"),
    ]:
        save_file({"w": torch.zeros(1)}, path, {**said, key: value})
        with pytest.raises(UserError, match=re.escape(sentence)) as refusal:
            load_exported(path)
        assert str(refusal.value).startswith(f"{path} is not a network that snn-exp export has written (")
        assert str(refusal.value).endswith(type_this)
    save_file({"w": torch.zeros(1)}, path, said)
    with pytest.raises(UserError, match=r"does not hold the network that its config describes: .* is missing"):
        load_exported(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="was not written by snn-exp export"):
        load_exported(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=f"is a named pipe, not a file; {type_this}"):
        load_exported(path)


# --- the command -----------------------------------------------------------------------------------


def test_runs_and_formats_that_cannot_be_are_refused_in_a_sentence(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        assert main(["export", *arguments]) == 2
        return capsys.readouterr().err.removeprefix("snn-exp: ").rstrip("\n")

    config = tiny("neuron=s2nn", "residual=bireal")
    assert said(config.run_id, "--format", "safetensor") == (
        "There is no format 'safetensor'; allowed: nir, onnx, safetensors; did you mean safetensors? Type --format "
        "safetensors"
    )
    assert "There is no run" in said(config.run_id, "--format", "safetensors")
    folder = RunFolder.of(config)
    folder.begin(config, {})
    assert said(config.run_id, "--format", "safetensors") == (
        f"run {config.run_id} is not finished; type its snn-exp train command again to finish it first"
    )
    folder.finish(dataclasses.replace(finished()[1], status="diverged"))
    assert said(config.run_id, "--format", "safetensors") == (
        f"run {config.run_id} diverged, so it has no trained weights; choose another run"
    )


@pytest.mark.parametrize(("export_format", "package"), [("onnx", "onnx"), ("nir", "nir")])
def test_without_its_package_a_format_says_what_to_type(
    export_format: str, package: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("snn_exp.export.reading.find_spec", lambda name: None if name == package else find_spec(name))
    assert main(["export", "0123", "--format", export_format]) == 2
    assert capsys.readouterr().err == (
        f"snn-exp: --format {export_format} needs the package {package}, which is not installed; type pip install "
        f"'snn-exp[export]'\n"
    )


@pytest.mark.parametrize("broken", [1e-6, torch.nan])
def test_another_network_is_a_fault_and_nothing_is_stored(
    broken: float, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_wrongly(network: Network, *rest: Any) -> None:
        network = copy.deepcopy(network)
        network.get_parameter("classifier.bias").data[0] += broken
        write_weights(network, *rest)

    config, _ = finished()
    monkeypatch.setattr(exporting, "write_weights", write_wrongly)
    with pytest.raises(RuntimeError, match=f"the safetensors file of run {config.run_id} is another network"):
        main(["export", config.run_id, "--format", "safetensors"])
    assert not list(RunFolder.of(config).exports.iterdir())


def test_a_run_that_has_not_read_the_test_set_does_not_read_it_to_be_exported(
    finished: Finished, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = finished("trainer.test=false")
    monkeypatch.setattr(DataModule, "test_dataloader", lambda self: pytest.fail("it was read"))
    assert main(["export", config.run_id, "--format", "safetensors"]) == 0
    assert "float32, val set: " in capsys.readouterr().out


def test_a_comparison_counts_flipped_predictions_and_keeps_a_nan() -> None:
    class Same(nn.Module):
        def forward(self, x_TBK: Tensor) -> Tensor:
            return x_TBK[0]

    x = torch.tensor([[[4.0, 0.0], [0.0, 2.0]]])
    samples = [(x, x, torch.tensor([0, 0]))]
    found = check(Same(), Reader("", "steps", lambda x: x[0].flip(1)), samples, torch.float32)
    assert dataclasses.astuple(found) == (2, 2, 1.0, 0.5, 0.5)
    found = check(Same(), Reader("", "steps", lambda x: x[0] * torch.nan), samples, torch.float32)
    assert found.logit_error != found.logit_error


# --- NIR -------------------------------------------------------------------------------------------

SAID_BY_NIR = ("if", "lif hard", "plif", "cuba_lif", "s2nn")
STRUCTURES: list[dict[str, Any]] = [
    {"residual": {"name": "pre"}},
    {"residual": {"name": "pre", "shortcut": "conv", "stream_decay": 0.8}, "synapse": "exponential"},
    {"residual": {"name": "bireal"}, "weight_norm": "standardized"},
    {"residual": {"name": "ms", "shortcut": "conv"}, "synapse": "alpha"},
    {"residual": {"name": "post"}},
    {"residual": {"name": "sew_add"}},
    {"residual": {"name": "none"}, "weight_quant": "xnor"},
    {"residual": {"name": "pre"}, "weight_quant": "int"},
    {"network": {"name": "vgg"}},
    {"network": {"name": "mlp"}, "synapse": "exponential"},
]


def as_nir_says_it(neuron: str) -> dict[str, Any]:
    """With a hard reset, which is all there is."""
    return {key: value for key, value in NEURONS[neuron].items() if key != "reset"}


def nir_logits(network: nn.Module, path: Path, num_steps: int = 4, size: int = 8) -> Tensor:
    write_nir(network, (2, size, size), num_steps, path, {})  # type: ignore[arg-type]
    return read_nir(path, torch.float64).logits(steps(num_steps, size))


@pytest.mark.export
@pytest.mark.parametrize("neuron", SAID_BY_NIR)
@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
def test_a_nir_file_gives_the_same_logits_in_float64(neuron: str, structure: dict[str, Any], tmp_path: Path) -> None:
    """Norms of both signs are folded in, on the membrane where there is one."""
    num_steps = 1 if neuron == "s2nn" else 4
    for norm in ("bn", *(["mpbn"] if REGISTERED[NEURONS[neuron]["name"]].has_membrane else [])):
        network = fold(make_network(as_nir_says_it(neuron), norm, **structure, num_steps=num_steps, size=8))
        x = steps(num_steps)
        assert some_fire(network, x)
        torch.testing.assert_close(nir_logits(network, tmp_path / "file.nir", num_steps), network(x), rtol=0, atol=1e-9)


@pytest.mark.export
def test_a_network_without_norms_needs_no_folding_and_an_input_at_the_threshold_fires(tmp_path: Path) -> None:
    """What reaches a threshold exactly fires here and not in NIR, so its threshold is the next number below."""
    import nir

    network = make_network({"name": "if"}, "none", network={"name": "mlp"}, size=2)
    network.get_parameter("layers.0.linear.weight").data.fill_(0.125)
    x = torch.ones(4, 1, 2, 2, 2, dtype=torch.float64)  # 8 inputs: the first membranes are exactly 1
    write_nir(network, (2, 2, 2), 4, tmp_path / "file.nir", {})
    torch.testing.assert_close(read_nir(tmp_path / "file.nir", torch.float64).logits(x), network(x), rtol=0, atol=1e-12)
    graph = nir.read(str(tmp_path / "file.nir"))
    assert {type(node).__name__ for node in graph.nodes.values()} == {
        "Input",
        "Flatten",
        "Linear",
        "IF",
        "Affine",
        "Output",
    }
    for node in graph.nodes.values():
        if isinstance(node, nir.IF):
            assert (node.v_threshold < 1).all() and (node.v_threshold > 1 - 2e-16).all()
            assert (node.r == 1 / DT).all() and (node.v_reset == 0).all()


@pytest.mark.export
def test_time_constants_are_seconds_of_dt_per_step(tmp_path: Path) -> None:
    import nir

    def only(neuron: dict[str, Any], kind: Any) -> Any:
        write_nir(
            make_network(neuron, "none", network={"name": "mlp"}), (2, 6, 6), 4, tmp_path / "file.nir", {"run_id": "x"}
        )
        graph = nir.read(str(tmp_path / "file.nir"))
        assert graph.metadata["dt"] == DT == 1e-4 and graph.metadata["num_steps"] == 4
        return next(node for node in graph.nodes.values() if isinstance(node, kind))

    def of(node: Any, *names: str) -> list[float]:
        return [float(getattr(node, name).flat[0]) for name in names]

    lif = only({"name": "lif", "tau": 4.0, "v_reset": -0.5}, nir.LIF)
    assert of(lif, "tau", "r", "v_leak", "v_reset", "v_threshold") == pytest.approx([4e-4, 1, 0, 0, 1.5])
    undecayed = only({"name": "lif", "tau": 4.0, "decay_input": False}, nir.LIF)
    assert of(undecayed, "tau", "r") == pytest.approx([4e-4, 4])
    assert of(only({"name": "plif", "tau": 3.0}, nir.LIF), "tau", "r") == pytest.approx([3e-4, 1])
    cuba = only({"name": "cuba_lif", "current_decay": 0.5, "voltage_decay": 0.75}, nir.CubaLIF)
    assert of(cuba, "tau_syn", "tau_mem", "r", "w_in") == pytest.approx([2e-4, 4e-4, 4, 2])


@pytest.mark.export
@pytest.mark.parametrize("residual", ["pre", "post"])
def test_another_reader_wires_the_same_graph(residual: str, tmp_path: Path) -> None:
    """nirtorch sums and orders by its own lights; the equations are written out here once more.

    However deep the network is, no node reads more than a block adds up.
    """
    import nir
    import nirtorch

    class Leaky(nn.Module):
        def __init__(self, node: Any) -> None:
            super().__init__()
            self.node = node

        def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
            tau, r, threshold = (torch.from_numpy(getattr(self.node, n)) for n in ("tau", "r", "v_threshold"))
            v = torch.zeros_like(x) if state is None else state
            v = v + DT / tau * (-v + r * x)
            s = (v > threshold).to(x.dtype)
            return s, (1 - s) * v

    class Scaled(nn.Module):
        def __init__(self, node: Any) -> None:
            super().__init__()
            self.scale = torch.from_numpy(node.scale)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    def affine(node: Any) -> nn.Module:
        linear = nn.Linear(*node.weight.T.shape)
        linear.weight.data, linear.bias.data = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        return linear

    network = fold(make_network("lif hard", "bn", residual={"name": residual}, size=8))
    x = steps()
    write_nir(network, (2, 8, 8), 4, tmp_path / "file.nir", {})
    parts = {nir.LIF: Leaky, nir.Scale: Scaled, nir.Affine: affine, nir.Flatten: lambda node: nn.Flatten()}
    read = nirtorch.nir_to_torch(tmp_path / "file.nir", parts, dtype=torch.float64)
    state, outputs = None, []
    for x_BCHW in x:
        y, state = read(x_BCHW, state)
        outputs.append(y)
    assert some_fire(network, x)
    torch.testing.assert_close(torch.stack(outputs).mean(0), network(x), rtol=0, atol=1e-9)
    assert max(Counter(reader for _, reader in nir.read(str(tmp_path / "file.nir")).edges).values()) == 2


CANNOT = {
    "norm": "stages.0.0.activation1.norm is a BatchNorm, and NIR has no norms; type --format nir --folded, which folds them "
    "into weights and thresholds",
    "membrane norm": "stages.0.0.activation1.neuron.membrane_norm is a MembraneBatchNorm, and NIR has no norms; type --format "
    "nir --folded, which folds them into weights and thresholds",
    "soft": "stages.0.0.activation1.neuron subtracts its threshold when it fires (neuron.reset=soft), and NIR's neurons are "
    "set to v_reset; type --format onnx, which can",
    "srm": "stages.0.0.activation1.neuron is a SRM, which NIR cannot represent: of our neurons it has if, lif, plif, cuba_lif and "
    "s2nn; type --format onnx, which can",
    "relu": "stages.0.0.activation1.neuron is a ReLU, which NIR cannot represent: of our neurons it has if, lif, plif, cuba_lif "
    "and s2nn; type --format onnx, which can",
    **{
        name: f"stages.0.0.activation1.neuron is a {kind}, which NIR cannot represent: of our neurons it has if, lif, plif, "
        "cuba_lif and s2nn; type --format onnx, which can"
        for name, kind in (("qrelu", "QuantizedReLU"), ("mtn", "MultiThreshold"), ("ilif", "IntegerLIF"), ("ternary", "Ternary"))
    },
    "infinite": "stages.0.0.activation1.neuron has neuron.voltage_decay=1, an infinite time constant, which NIR lacks; type "
    "--format onnx, which can",
    "product": "SpikeElementWiseAnd has an operation (mul) that NIR cannot represent: between parts it has sums and constant "
    "factors alone; type --format onnx, which can",
    "largest": "stages.1.0.shortcut takes the largest of several counts of spikes, which NIR cannot represent; type --format onnx, "
    "which can",
    "edge": "stages.2.0.shortcut pools 3 x 3 values by 2, with windows that reach over the edge, which NIR cannot represent; type "
    "--format onnx, which can",
    "rprelu": "stages.0.0.stream_activation is a RPReLU, which NIR cannot represent; type --format onnx, which can",
    "slayer": "stages.0.0.activation1.filter.synapse responds one step late (synapse.sampling=slayer), which the steps of NIR "
    "cannot represent; type --format onnx, which can",
}  # fmt: skip


def steps_where(why: str) -> int:
    return 1 if why in ("relu", "qrelu", "mtn") else 4


def network_that_nir_cannot_say(why: str) -> Network:
    neuron: Any = {
        "soft": {"name": "lif", "reset": "soft"}, "infinite": {"name": "cuba_lif", "voltage_decay": 1.0},
        **{name: {"name": name} for name in ("srm", "relu", "qrelu", "mtn", "ilif", "ternary")},
    }.get(why, {"name": "lif"})  # fmt: skip
    residual = {
        "product": {"name": "sew_and"}, "largest": {"name": "sew_add", "shortcut": "maxpool_dup"},
        "rprelu": {"name": "pre", "activation": "rprelu"},
    }.get(why, {"name": "pre"})  # fmt: skip
    norm = {"norm": "bn", "membrane norm": "mpbn"}.get(why, "none")
    network = make_network(neuron, norm, residual=residual, size=6 if why == "edge" else 8,
                           synapse="alpha" if why == "slayer" else "identity", num_steps=steps_where(why))  # fmt: skip
    if why == "membrane norm":  # that norm stands behind the weights as well
        for name, _ in list(network.named_modules()):
            if name.endswith("norm") and "membrane" not in name:
                network.set_submodule(name, nn.Identity())
    if why == "slayer":
        synapse: Any = network.get_submodule("stages.0.0.activation1.filter.synapse")
        synapse.sampling = "slayer"
    return network


@pytest.mark.export
@pytest.mark.parametrize("why", CANNOT)
def test_what_nir_cannot_say_is_said_in_a_sentence(why: str, tmp_path: Path) -> None:
    network = network_that_nir_cannot_say(why)
    with pytest.raises(UserError) as error:
        write_nir(network, (2, *([6, 6] if why == "edge" else [8, 8])), steps_where(why), tmp_path / "file", {})
    assert str(error.value) == CANNOT[why]
    assert not (tmp_path / "file").exists()


# --- ONNX ------------------------------------------------------------------------------------------
# torch's exporter rounds the numbers of Python to float32, so those that a real value meets here are exact there


def test_a_random_encoding_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match=r"encoding=rate draws its spikes at random, .*; type --format safetensors or"):
        FromSamples(Rate(), nn.Identity())


@pytest.mark.export
@pytest.mark.parametrize("neuron", [*NEURONS, "klif", "clif", "sign", "relu", "qrelu", "mtn", "ilif", "ternary"])
def test_an_onnx_graph_of_any_neuron_gives_the_same_logits_in_float64(neuron: str, tmp_path: Path) -> None:
    """In dense layers, which onnxruntime computes in float64; of any number of samples."""
    given = NEURONS.get(neuron, {"name": neuron})
    num_steps = 1 if REGISTERED[given["name"]].single_step else 4
    network = make_network(given, "bn", network={"name": "mlp"}, num_steps=num_steps)
    encoding = Direct(0.25, 0.5, num_steps=num_steps)
    write_onnx(network, encoding, (2, 6, 6), tmp_path / "file", {})
    for num_samples in (1, 7):
        x = 2 * torch.randn(num_samples, 2, 6, 6, dtype=torch.float64)
        torch.testing.assert_close(read_onnx(tmp_path / "file").logits(x), network(encoding(x)), rtol=0, atol=1e-9)
    assert some_fire(network, encoding(x))


@pytest.mark.export
@pytest.mark.parametrize(
    ("neuron", "norm", "structure"),
    [
        ("lif hard", "tebn", {"residual": {"name": "sew_iand"}}),
        ("s2nn", "bn", {"residual": {"name": "bireal", "activation": "rprelu"}, "weight_quant": "xnor"}),
        ("qrelu", "bn", {"residual": {"name": "pre"}, "weight_quant": "int"}),
        ("cuba_lif", "psp", {"network": {"name": "vgg"}, "synapse": "exponential", "weight_norm": "standardized"}),
    ],
)
def test_an_onnx_graph_of_convolutions_gives_the_same_logits(
    neuron: str, norm: str, structure: dict[str, Any], tmp_path: Path
) -> None:
    """In float64 by ONNX's own reference, since onnxruntime has convolutions in float32 alone; there as predictions."""
    from onnx import load
    from onnx.reference import ReferenceEvaluator

    num_steps = 1 if neuron in ("s2nn", "qrelu") else 2
    network = make_network(NEURONS.get(neuron, {"name": neuron}), norm, **structure, num_steps=num_steps)
    encoding = Direct(0.25, 0.5, num_steps=num_steps)
    x = 2 * torch.randn(5, 2, 6, 6, dtype=torch.float64)
    expected = network(encoding(x)).detach()
    assert some_fire(network, encoding(x))
    write_onnx(network, encoding, (2, 6, 6), tmp_path / "double", {})
    (read,) = ReferenceEvaluator(load(tmp_path / "double")).run(None, {"samples": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(read), expected, rtol=0, atol=1e-9)

    network.float()
    write_onnx(network, encoding, (2, 6, 6), tmp_path / "single", {})
    found = read_onnx(tmp_path / "single").logits(x.float())
    torch.testing.assert_close(found, network(encoding(x.float())).detach(), rtol=0, atol=1e-4)
    assert torch.equal(found.argmax(1), expected.argmax(1))


@pytest.mark.export
@pytest.mark.parametrize("name", sorted(set(ENCODINGS.options()) - {"rate"}))
def test_every_encoding_without_chance_is_part_of_the_graph(name: str, tmp_path: Path) -> None:
    encoding = ENCODINGS.make({"name": name, "num_steps": 3})
    network = make_network({"name": "if"}, "none", network={"name": "mlp"}, num_steps=3)
    shape = (3, 2, 6, 6) if encoding.has_time else (2, 6, 6)
    write_onnx(network, encoding, shape, tmp_path / "file", {"run_id": "x"})
    x = torch.rand(5, *shape, dtype=torch.float64)
    torch.testing.assert_close(read_onnx(tmp_path / "file").logits(x), network(encoding(x)), rtol=0, atol=1e-9)


# --- the command, with the packages ----------------------------------------------------------------


@pytest.mark.export
def test_the_command_exports_a_trained_network_in_both_formats(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    config, _ = finished()
    exports = RunFolder.of(config).exports
    assert main(["export", config.run_id, "--format", "onnx"]) == 0
    said = capsys.readouterr().out
    assert (
        f"{exports / 'network.onnx'} (" in said and "reads pixels in [0, 1] [B, 1, 8, 8], gives logits [B, 10]" in said
    )
    assert "read back by onnxruntime " in said and "float32, test set: 0 of 450 predictions differ" in said
    assert main(["export", config.run_id, "--format", "nir"]) == 2
    assert "and NIR has no norms; type --format nir --folded" in capsys.readouterr().err
    assert main(["export", config.run_id, "--format", "nir", "--folded"]) == 0
    said = capsys.readouterr().out
    assert "float64, val set: 0 of 269 predictions differ, logits equal to" in said
    assert json.loads((exports / "folded.nir.json").read_text())["exact"]["logit_error"] <= 1e-9
    assert {f.name for f in exports.iterdir()} == {
        f"{n}{end}" for n in ("network.onnx", "folded.nir") for end in ("", ".json")
    }


@pytest.mark.export
def test_a_nir_file_of_another_network_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("neuron=lif", "norm=none", "network=mlp", "depth.num_layers=3")
    train.run(config, echo=False)

    def read_wrongly(path: Path, dtype: torch.dtype) -> Reader:
        reader = read_nir(path, dtype)
        return dataclasses.replace(reader, logits=lambda x: reader.logits(x) + 1e-6)

    monkeypatch.setattr(exporting, "read_nir", read_wrongly)
    with pytest.raises(RuntimeError, match=r"the nir file of run .* is another network"):
        main(["export", config.run_id, "--format", "nir"])
    assert not list(RunFolder.of(config).exports.iterdir())
