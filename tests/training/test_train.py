"""The way of one run: training, caching, testing later, diverging, being killed and going on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

from snn_exp.cli.main import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.nn.neurons import Neuron
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.store import stored_runs
from snn_exp.training import build, callbacks, job, prepare, train
from snn_exp.training.task import Classification
from tests.finished import Finished

TINY = ("network.width=4", "logger=none", "trainer.progress=false", "optim.batch_size=128")
ONE = (*TINY, "trainer.max_epochs=1", "neuron=s2nn", "residual=bireal")  # what `finished` has in store


def tiny(*overrides: str) -> ExperimentConfig:
    return compose([*TINY, "trainer.max_epochs=2", "neuron=s2nn", "residual=bireal", *overrides])


def test_a_run_writes_all_that_it_promises(finished: Finished) -> None:
    config, result = finished("trainer.max_epochs=2")
    folder = RunFolder.of(config)
    stored = json.loads((folder.path / "result.json").read_text())
    assert stored["run_id"] == config.run_id == folder.path.name
    assert {"run_id", "config", "metrics", "duration_s", "finished_at", "status", "schema_version"} <= stored.keys()
    assert {"test/acc", "val/acc", "test/firing_rate", "params", "macs_dense"} <= stored["metrics"].keys()
    assert stored["metrics"] == result.metrics
    for split in ("val", "test"):
        for count in ("ac", "mac"):
            total = sum(row.get(count, 0) for row in stored["operations"][split].values())
            assert stored["metrics"][f"{split}/synops_{count}"] == pytest.approx(total)
        assert stored["metrics"][f"{split}/synops_dense"] == stored["metrics"]["macs_dense"]
    assert not any("pj" in key for key in stored["metrics"]), "counts are stored, prices are not"
    manifest = json.loads((folder.path / "manifest.json").read_text())
    assert {"config", "versions", "git", "hardware", "execution", "code"} <= manifest.keys()
    assert stored["split_fingerprint"]
    with folder.metrics_csv.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert any(key.startswith("val/firing_rate/") for key in rows[0])
    assert not folder.checkpoints.exists(), "only the best weights are kept"
    assert folder.weights.exists()


def test_the_stored_weights_give_the_stored_validation_accuracy(finished: Finished) -> None:
    config, result = finished("trainer.max_epochs=2")
    data = build.build_data(config)
    task = build.build_task(config, data).eval()
    task.network.load_state_dict(load_file(RunFolder.of(config).weights))
    with torch.no_grad():
        hits = [(task(x).argmax(1) == y).float() for x, y in data.val_dataloader()]
    assert torch.cat(hits).mean().item() == pytest.approx(result.metrics["val/acc"])


def test_a_finished_run_is_recognised_and_not_trained_again(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, first = finished("trainer.max_epochs=2")
    monkeypatch.setattr(pl, "Trainer", None)
    assert train.run(config, echo=False) == first


def test_a_result_stored_before_operations_were_counted_is_read(finished: Finished) -> None:
    config, _ = finished()
    path = RunFolder.of(config).path / "result.json"
    stored = json.loads(path.read_text())
    del stored["operations"]
    path.write_text(json.dumps(stored))
    assert train.run(config, echo=False).operations == {}


def test_the_same_seed_gives_bitwise_the_same_weights_and_another_seed_does_not(
    finished: Finished, tmp_path: Path
) -> None:
    config, _ = finished("trainer.max_epochs=2")
    again, another = RunFolder(tmp_path / config.run_id), tiny("seed=1")
    train.run(config, echo=False, folder=again)
    train.run(another, echo=False)
    weights = RunFolder.of(config).weights.read_bytes()
    assert again.weights.read_bytes() == weights
    assert RunFolder.of(another).weights.read_bytes() != weights


def test_the_test_set_is_not_read_until_it_is_asked_for() -> None:
    before = train.run(tiny("trainer.test=false"), echo=False)
    assert not any(key.startswith("test/") for key in before.metrics)
    weights = RunFolder.of(tiny()).weights.read_bytes()
    after = train.run(tiny(), echo=False)
    assert 0 < after.metrics["test/acc"] <= 1
    assert before.operations.keys() == {"val"} and after.operations.keys() == {"val", "test"}
    assert {key: after.metrics[key] for key in before.metrics} == before.metrics
    assert RunFolder.of(tiny()).weights.read_bytes() == weights, "asked later, the kept weights are evaluated"


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classification, "forward", lambda self, x: self.network(self.encoding(x)) * float("nan"))
    result = train.run(tiny(), echo=False)
    assert result.status == "diverged"
    kept = torch.load(RunFolder.of(tiny()).path / "diverged_batch.pt", weights_only=True)
    assert kept["images"].shape == (128, 1, 8, 8)
    monkeypatch.undo()


def test_a_diverged_run_is_a_result_and_is_not_tried_again(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = finished()
    path = RunFolder.of(config).path / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "diverged", "metrics": {}}))
    before = path.read_text()
    monkeypatch.setattr(pl, "Trainer", None)
    assert train.run(config, echo=False).status == "diverged"
    assert path.read_text() == before


def test_a_crash_in_a_sweep_is_stored_and_the_same_command_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny()
    with monkeypatch.context() as broken:
        broken.setattr(prepare, "build_task", lambda *_: (_ for _ in ()).throw(RuntimeError("no memory")))
        job.run_or_store_failure(config)
    assert RunFolder.of(config).failure() == "RuntimeError: no memory"
    assert RunFolder.of(config).result() is None
    (failed,) = stored_runs(["state=failed", f"neuron={config.neuron['name']}"])
    assert failed.config == config.to_plain(), "it is listed by what it is, although it crashed before it began"
    job.run_or_store_failure(config)
    assert RunFolder.of(config).failure() is None
    result = RunFolder.of(config).result()
    assert result is not None and result.status == "done"


def test_rerun_trains_again_and_keeps_the_old_folder_aside(finished: Finished, output: Path) -> None:
    config, _ = finished()
    (RunFolder.of(config).path / "of before").touch()
    assert main(["train", *ONE, "--rerun"]) == 0
    new, old = sorted((output / "runs").iterdir())
    assert new.name == config.run_id and old.name.startswith(f"{config.run_id}.kept-")
    assert (old / "of before").exists() and not (new / "of before").exists() and (new / "result.json").exists()


def test_a_cache_hit_says_when_the_code_has_changed(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = RunFolder.of(finished()[0]).path / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "code": "another"}))
    capsys.readouterr()
    assert main(["train", *ONE]) == 0
    said = capsys.readouterr().out
    assert "was trained with a different version of the code" in said
    assert "nothing to train" in said


def test_a_cache_hit_on_another_config_is_refused(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = RunFolder.of(finished()[0]).path / "manifest.json"
    stored = json.loads(manifest.read_text())
    stored["config"]["norm"]["momentum"] = 0.7
    manifest.write_text(json.dumps(stored))
    assert main(["train", *ONE]) == 2
    assert "is stored with a different norm" in capsys.readouterr().err


def table_in(said: str) -> list[str]:
    return [line for line in said.splitlines() if line and line[0] in "┏┃┡│└"]


def test_a_multirun_trains_every_cell_and_prints_the_table_that_a_report_prints(
    capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    command = ["train", "-m", *TINY, "trainer.max_epochs=1", "method=relu_bn,s2nn_bn", "seed=0,1"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "4 runs: 0 done before, 4 to train" in said
    assert len(list((output / "runs").glob("*/result.json"))) == 4
    drawn = table_in(said)
    assert [line.split()[1] for line in drawn if "│" in line] == ["relu", "s2nn"] and "±" in drawn[-2]
    assert main(command) == 0
    again = capsys.readouterr().out
    assert "4 runs: 4 done before, 0 to train" in again and table_in(again) == drawn
    assert main(["report", "dataset=digits", "--format", "csv"]) == 0
    assert table_in(capsys.readouterr().out) == drawn


def test_a_run_killed_in_mid_training_goes_on_to_bitwise_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overrides = [*TINY[:-1], "trainer.max_epochs=5", "neuron=lif", "encoding=rate", "optim.batch_size=64"]
    config = compose(overrides)
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "undisturbed"))
    train.run(config, echo=False)
    undisturbed = RunFolder.of(config)

    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "killed"))
    killed = RunFolder.of(config)
    process = subprocess.Popen(
        [sys.executable, "-m", "snn_exp", "train", *overrides], stdout=subprocess.DEVNULL, env=dict(os.environ)
    )
    deadline = time.monotonic() + 120
    while killed.last_checkpoint is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert killed.last_checkpoint is not None
    assert killed.result() is None, "it was killed before its end"
    result = train.run(config, echo=False)
    assert result.status == "done"
    assert killed.weights.read_bytes() == undisturbed.weights.read_bytes()
    rows = killed.epochs()
    assert rows == undisturbed.epochs()


def test_a_signal_to_end_goes_to_who_handled_it_before(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    monkeypatch.setattr(Classification, "on_train_epoch_start", lambda task: signal.raise_signal(signal.SIGTERM))
    try:
        assert train.run(tiny(), echo=False).status == "done"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM] * 2


def test_the_tasks_of_a_slurm_job_are_no_business_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NAME", "sweep")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert train.run(tiny("trainer.max_epochs=1"), echo=False).status == "done"


def test_silent_and_saturated_layers_are_named_in_words() -> None:
    said = callbacks.firing_sentences({"stem": 0.0, "a": 0.2, "b": 0.99, "c": 1.0}, never_silent={"c"})
    assert len(said) == 2
    assert "stem is silent" in said[0]
    assert "b is saturated" in said[1]


def test_a_silent_layer_is_said_once_during_training(output: Path) -> None:
    config = tiny("neuron.v_threshold=1000")
    train.run(config, echo=False)
    log = (RunFolder.of(config).path / "train.log").read_text()
    first = "stages.0.0.activation1.neuron is silent"
    assert log.count(first) == 1


def test_a_rate_penalty_lowers_the_firing_rate() -> None:
    free = train.run(tiny("neuron=lif", "residual=pre"), echo=False)
    penalized = train.run(tiny("neuron=lif", "residual=pre", "optim.rate_penalty=20"), echo=False)
    assert penalized.metrics["val/firing_rate"] < 0.8 * free.metrics["val/firing_rate"]


@pytest.mark.parametrize(("schedule", "widths"), [("linear", [1.0, 0.75, 0.5]), ("cosine", [1.0, 0.75, 0.5])])
def test_the_width_of_the_surrogate_follows_its_schedule_and_is_recorded(
    schedule: str, widths: list[float], finished: Finished
) -> None:
    config = tiny("trainer.max_epochs=3", f"optim.width_schedule={schedule}", "optim.width_end=0.5")
    train.run(config, echo=False)
    recorded = [float(row["train/surrogate_width"]) for row in RunFolder.of(config).epochs()]
    assert recorded == pytest.approx(widths)
    plain, _ = finished("trainer.max_epochs=2")
    assert "train/surrogate_width" not in RunFolder.of(plain).epochs()[0], "a constant width is in the config"


def test_a_resumed_run_repeats_the_undisturbed_one_in_the_width_of_its_surrogates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tiny("trainer.max_epochs=3", "optim.width_schedule=linear", "optim.width_end=0.25")
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "undisturbed"))
    undisturbed, folder = train.run(config, echo=False), RunFolder.of(config)

    def cut(task: Classification) -> None:
        assert task.current_epoch < 1, "cut off"

    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "cut"))
    with monkeypatch.context() as patched, pytest.raises(AssertionError, match="cut off"):
        patched.setattr(Classification, "on_validation_epoch_start", cut)
        train.run(config, echo=False)
    assert RunFolder.of(config).last_checkpoint is not None
    resumed = train.run(config, echo=False)
    assert RunFolder.of(config).epochs() == folder.epochs()
    assert RunFolder.of(config).weights.read_bytes() == folder.weights.read_bytes()
    assert resumed.layers == undisturbed.layers


def test_the_layers_are_seen_at_one_width_before_and_after_training(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []

    def look(task: Classification, data: object, *, trained: bool = False) -> dict[str, list[float]]:
        widths.append({m.surrogate.width for m in task.modules() if isinstance(m, Neuron)})
        return {}

    monkeypatch.setattr(train, "probe_validation", look)
    train.run(tiny("optim.width_schedule=linear", "optim.width_end=0.5"), echo=False)
    assert widths == [{1.0}, {1.0}]
