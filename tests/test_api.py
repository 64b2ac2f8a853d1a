"""The functions that Python code calls: light to import, the same as the commands, refused in the same words."""

from __future__ import annotations

import pydoc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import snn_exp
from snn_exp.training import build as parts
from snn_exp.training.preflight import require_data
from snn_exp.training.prepare import prepare
from tests.finished import TINY, Finished

FUNCTIONS = ("build", "list_runs", "load", "measure", "predict", "report", "train")
HEAVY = ("torch", "torchvision", "pytorch_lightning", "pandas", "numpy", "hydra", "matplotlib", "wandb")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, snn_exp; print([name for name in {HEAVY!r} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"


def test_help_opens_with_what_can_be_called() -> None:
    shown = pydoc.plain(pydoc.render_doc(snn_exp))
    opening = shown[: shown.index("PACKAGE CONTENTS")]
    assert [name for name in FUNCTIONS if f"    {name}(" not in opening] == []
    assert [name for name in FUNCTIONS if f"    {name}(" not in shown[shown.index("FUNCTIONS") :]] == []


def test_a_name_that_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = snn_exp.trian
    assert set(snn_exp.__all__) <= set(dir(snn_exp))
    assert all(hasattr(snn_exp, name) for name in snn_exp.__all__)


def test_build_has_the_weights_that_a_run_starts_from() -> None:
    config = snn_exp.api._composed([*TINY, "seed=3"])
    _, started = prepare(config, parts.kernels_of(config))
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    built = snn_exp.build([*TINY, "seed=3"])
    assert torch.equal(torch.random.get_rng_state(), before), "generators are left as they were"
    ours, theirs = built.network.state_dict(), started.network.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    other = snn_exp.build([*TINY, "seed=4"]).network.state_dict()
    assert any(not torch.equal(ours[key], other[key]) for key in ours)


def test_build_for_data_that_are_not_there_needs_their_shape_alone() -> None:
    spec = snn_exp.DataSpec(in_shape=(3, 16, 16), num_classes=7)
    network = snn_exp.build("dataset=cifar10 network.width=4", spec)
    network(torch.zeros(2, 3, 16, 16)).sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    with pytest.raises(snn_exp.UserError, match=r"init=lsuv sets the weights by a batch of the data.*init=kaiming"):
        snn_exp.build("init=lsuv", spec)
    assert isinstance(snn_exp.build([*TINY, "init=lsuv"]), torch.nn.Module), "it reads its own data"


@pytest.mark.parametrize("call", [snn_exp.build, snn_exp.train])
def test_what_the_command_line_refuses_is_refused_in_the_same_words(call: object) -> None:
    assert callable(call)
    with pytest.raises(snn_exp.UserError, match="did you mean lif"):
        call("neuron=liff")
    with pytest.raises(snn_exp.UserError, match="seed=0,1 is a sweep of several values; give one value"):
        call(["seed=0,1"])


def test_an_open_quote_and_data_that_cannot_be_are_refused() -> None:
    with pytest.raises(snn_exp.UserError, match="neuron='lif has a quote that is not closed; close it"):
        snn_exp.train("neuron='lif")
    for shape, num_classes, fault in (
        ((0, 8, 8), 10, "in_shape"), ((8, 8), 10, "in_shape: should be channels, height and width"),
        ((3, 10**6, 10**6), 10, "in_shape"), ((1, 8, 8), -1, "num_classes"),
    ):  # fmt: skip
        with pytest.raises(snn_exp.UserError, match=f"the data_spec cannot be: {fault}.*; type snn_exp.DataSpec"):
            snn_exp.build("neuron=lif", snn_exp.DataSpec(shape, num_classes))
    assert snn_exp.build("neuron=lif", snn_exp.DataSpec((1, 8, 8), 3, 0.5, 1)) is not None


def test_a_run_is_trained_once_and_found_afterwards(finished: Finished) -> None:
    _, stored = finished()
    assert snn_exp.train(TINY).finished_at == stored.finished_at
    assert snn_exp.train(" ".join(TINY)).run_id == stored.run_id


def test_training_refuses_what_this_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(snn_exp.UserError, match="accelerator=gpu"):
        snn_exp.train([*TINY, "trainer.accelerator=gpu"])


def test_predictions_are_those_of_the_loaded_network(finished: Finished, tmp_path: Path) -> None:
    _, result = finished()
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = [str(int(k)) for k in snn_exp.load(result.run_id)(x).argmax(1)]
    assert [each.predicted for each in snn_exp.predict(result.run_id, x)] == expected
    np.savez(tmp_path / "some.npz", x=x.numpy())
    by_path = snn_exp.predict(result.run_id, tmp_path / "some.npz")
    assert [each.predicted for each in by_path] == expected and by_path[0].sample.endswith("some.npz[0]")
    assert snn_exp.predict(result.run_id, [str(tmp_path / "some.npz")]) == by_path
    with pytest.raises(snn_exp.UserError, match=r"type x / 255"):
        snn_exp.predict(result.run_id, 255.0 * x)


def test_what_is_measured_on_the_test_set_is_what_the_run_has_stored(finished: Finished) -> None:
    config, result = finished()
    x_BCHW = parts.build_data(config).dataset.test.samples
    network = snn_exp.load(result.run_id).train()
    found = snn_exp.measure(network, x_BCHW)
    assert network.training, "its mode is left as it was"
    for name, count in found.operations.items():
        assert count == pytest.approx(result.metrics[f"test/synops_{name}"]), name
    assert found.firing_rate == pytest.approx(result.metrics["test/firing_rate"])
    assert found.rates == pytest.approx(
        {key.removeprefix("test/firing_rate/"): v for key, v in result.metrics.items() if "test/firing_rate/" in key}
    )
    assert found.energy_pj == sum(found.energy.values()) > 0
    dearer = snn_exp.measure(network, x_BCHW.numpy(), energy="h45_fp32_memory")
    assert dearer.energy_pj > found.energy_pj and dearer.operations == found.operations


def test_a_random_encoding_is_measured_the_same_each_time() -> None:
    network = snn_exp.build("encoding=rate network.width=4", snn_exp.DataSpec((1, 8, 8), 10))
    x = torch.rand(4, 1, 8, 8)
    assert snn_exp.measure(network, x) == snn_exp.measure(network, x)


def test_the_table_of_runs_has_choices_and_metrics(finished: Finished) -> None:
    assert snn_exp.list_runs().empty
    for seed in (0, 1):
        finished(f"seed={seed}")
    table = snn_exp.list_runs("neuron=s2nn")
    assert sorted(table["seed"]) == [0, 1] and set(table["state"]) == {"done"}
    assert table["test/acc"].between(0, 1).all() and table["optim.lr"].dtype.kind == "f"
    assert not [column for column in map(str, table) if column.count("/") > 1], "those of single layers are left out"
    assert len(snn_exp.list_runs(["seed=1"])) == 1
    with pytest.raises(snn_exp.UserError, match="did you mean neuron"):
        snn_exp.list_runs("neuronn=lif")


def test_a_report_has_the_numbers_and_the_files(finished: Finished, tmp_path: Path, output: Path) -> None:
    for seed in (0, 1):
        finished(f"seed={seed}")
    made = snn_exp.report(["neuron=s2nn"], by=["neuron"], formats=["csv", "md"], folder=tmp_path / "here")
    assert made.table["n"].tolist() == [2] and "s2nn" in made.headline
    assert [path.relative_to(tmp_path).as_posix() for path in made.files] == ["here/report.csv", "here/report.md"]
    assert "snn-exp report neuron=s2nn --by neuron" in (tmp_path / "here" / "report.md").read_text()
    (page,) = snn_exp.report("neuron=s2nn").files
    assert page.is_relative_to(output / "reports")
    with pytest.raises(snn_exp.UserError, match="format"):
        snn_exp.report("neuron=s2nn", formats=["docx"])


def test_a_study_is_reported_by_its_name(tmp_path: Path) -> None:
    made = snn_exp.report("precision", formats=["csv"], folder=tmp_path)
    assert made.table["n"].min() > 1 and "claims hold everywhere" in made.headline


def test_the_data_are_required_once_for_each_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(snn_exp.UserError, match="cifar10"):
        require_data([snn_exp.api._composed(["dataset=cifar10"])])
