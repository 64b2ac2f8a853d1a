"""`snn-exp fold`: the folded network is compared with the trained one, stored, and loads back; sentences for the rest."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from snn_exp.cli.main import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.data.datamodule import DataModule
from snn_exp.errors import UserError
from snn_exp.export import folded_run
from snn_exp.export.fold import Folded, fold
from snn_exp.export.folded_run import compare, load_folded
from snn_exp.nn.networks import Network
from snn_exp.runs.folder import RunFolder
from snn_exp.training import build, prepare, train
from tests.export.test_fold import batch, make_network
from tests.finished import Finished


def tiny(*overrides: str) -> ExperimentConfig:
    return compose(["network.width=4", "logger=none", "trainer.progress=false", "optim.batch_size=128",
                    "trainer.max_epochs=1", "neuron=s2nn", "residual=bireal", *overrides])  # fmt: skip


def test_a_folded_network_refuses_to_be_trained_further(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = fold(make_network())
    folded.eval()
    with pytest.raises(UserError, match="a folded network cannot be trained further"):
        folded.train()
    config = tiny()
    task = build.build_task(config, build.build_data(config))
    task.network = folded
    monkeypatch.setattr(prepare, "build_task", lambda *_: task)
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


def test_the_command_writes_the_folded_network_which_loads_back(capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny("encoding=rate", "trainer.checkpoint_activations=true")
    trained = train.run(config, echo=False)
    assert main(["fold", config.run_id[:5]]) == 0
    said = capsys.readouterr().out
    assert "norms folded into weights: 1, into thresholds: 6; weight transforms applied: 0" in said
    assert "float64, val set: logits equal to" in said and "float32, test set: " in said
    assert (
        "AC-only: yes, all 6 hidden weight layers only add\n"
        "  multiplications elsewhere: stages.1.0.shortcut (shortcut), stages.2.0.shortcut (shortcut), classifier (readout)\n"
    ) in said, "a rate code has the first layer add as well"
    assert f"written: {RunFolder.of(config).folded}" in said.splitlines()[-1]
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
    encoded = folded_run.encoded(task, data.test_dataloader())
    with torch.no_grad():
        hits = [(folded(x).argmax(1) == y).float() for x, y in encoded]
    assert torch.cat(hits).mean().item() == pytest.approx(stored["float32"]["acc_folded"])


def test_a_run_that_has_not_read_the_test_set_does_not_read_it_to_be_folded(
    finished: Finished, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = finished("trainer.test=false")
    monkeypatch.setattr(DataModule, "test_dataloader", lambda self: pytest.fail("it was read"))
    assert main(["fold", str(RunFolder.of(config).path)]) == 0
    assert "float32, val set: " in capsys.readouterr().out


@pytest.mark.parametrize("broken", [0.1, torch.nan])
def test_another_network_in_float64_is_a_fault_and_nothing_is_stored(
    broken: float, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold_wrongly(network: Network) -> Folded:
        folded = fold(network)
        folded.get_parameter("network.classifier.bias").data[0] += broken
        return folded

    config, _ = finished()
    monkeypatch.setattr(folded_run, "fold", fold_wrongly)
    with pytest.raises(RuntimeError, match="is another one"):
        main(["fold", config.run_id])
    assert not list(RunFolder.of(config).path.glob("*folded*"))


def test_runs_that_cannot_be_folded_are_refused_in_a_sentence(
    finished: Finished, capsys: pytest.CaptureFixture[str], output: Path, tmp_path: Path
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

    result = dataclasses.replace(finished()[1], status="diverged")
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
