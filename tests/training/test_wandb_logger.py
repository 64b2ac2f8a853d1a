"""The copy of a run in W&B holds what the run's folder holds, whatever happened to the run or to the connection."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.runs import wandb_record
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Result
from snn_exp.sweeps import launch
from snn_exp.training import train, wandb_logger
from snn_exp.training.callbacks import Diverged, Pruned
from snn_exp.training.seeds import run_in_step
from snn_exp.training.task import Classification
from tests import wandb_files
from tests.wandb_files import WandbRun
from tests.wandb_server import Server

TINY = (
    "neuron=s2nn",
    "residual=bireal",
    "network.width=4",
    "optim.batch_size=128",
    "trainer.max_epochs=3",
    "logger=wandb",
)


@pytest.fixture(scope="module", autouse=True)
def nobody_is_logged_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("NETRC", str(root / "nobody"))
        patch.setenv("WANDB_SILENT", "true")
        yield root


def config_of(*overrides: str) -> ExperimentConfig:
    return launch.in_group([compose([*TINY, *overrides])], "a sweep")[0]


def files_of(folder: RunFolder) -> list[WandbRun]:
    return [wandb_files.read(path) for path in folder.path.glob("wandb/*run-*/*.wandb")]


def copy_of(folder: RunFolder) -> WandbRun:
    (found,) = files_of(folder)
    return found


def log_of(folder: RunFolder) -> str:
    return (folder.path / "train.log").read_text()


def assert_whole(copy: WandbRun, folder: RunFolder) -> None:
    """Epochs, layers and summary are those of the folder, and there is nothing else."""
    result = folder.result()
    assert result is not None
    assert copy.curves("epoch") == [{k: float(v) for k, v in row.items()} for row in folder.epochs()]
    layers = copy.curves(wandb_record.LAYER)
    for when, quantities in result.layers.items():
        for quantity, curve in quantities.items():
            key = f"layers/{when}/{quantity}"
            assert [row[key] for row in layers if key in row] == curve
    assert len(copy.curves("epoch")) + len(layers) == len(copy.history)
    assert copy.summary == wandb_record.summary_of(result)
    assert copy.run_id == result.run_id and copy.exit_code == 0


@dataclasses.dataclass
class Stages:
    """One run that is cut off in its second epoch, goes on, and is tested later."""

    config: ExperimentConfig
    folder: RunFolder
    cut: WandbRun
    untested: WandbRun
    tested: WandbRun


@pytest.fixture(scope="module")
def stages(nobody_is_logged_in: Path) -> Iterator[Stages]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_EXP_OUTPUT", str(nobody_is_logged_in / "out"))
        config = config_of("trainer.test=false")
        folder = RunFolder.of(config)

        def cut(task: Classification) -> None:
            assert task.current_epoch < 1, "cut off"

        with patch.context() as patched, pytest.raises(AssertionError, match="cut off"):
            patched.setattr(Classification, "on_validation_epoch_start", cut)
            train.run(config, echo=False)
        first = copy_of(folder)
        train.run(config, echo=False)
        untested = copy_of(folder)
        assert_whole(untested, folder)
        train.run(config_of(), echo=False)
        yield Stages(config, folder, first, untested, copy_of(folder))


def test_an_offline_copy_has_all_epochs_layers_and_the_result(stages: Stages) -> None:
    assert_whole(stages.tested, stages.folder)
    assert any(key.startswith("val/firing_rate/") for key in stages.tested.curves("epoch")[0])


def test_the_copy_of_a_pruned_run_is_finished_and_says_that_it_was_pruned(output: Path) -> None:
    config = config_of("seed=7")
    folder = RunFolder.of(config)
    with pytest.raises(Pruned):
        train.run(config, echo=False, on_epoch=lambda num_epochs, metrics: num_epochs == 2)
    copy = copy_of(folder)
    assert copy.exit_code == 0 and "pruned" in copy.tags and len(copy.curves("epoch")) == 2
    assert copy.summary["status"] == "pruned" and copy.summary["num_epochs"] == 2
    train.run(config, echo=False)
    assert_whole(copy_of(folder), folder)
    assert "pruned" not in copy_of(folder).tags, "it was trained to its end later"


def test_a_copy_says_what_was_chosen_how_it_was_made_and_what_it_belongs_to(stages: Stages) -> None:
    copy, manifest = stages.tested, stages.folder.manifest()
    assert copy.name == f"{stages.config.label} {stages.config.run_id}" and copy.group == "a sweep"
    assert {"neuron=s2nn", "norm=bn", "dataset=digits"} <= set(copy.tags)
    assert not any(tag.startswith("logger=") for tag in copy.tags)
    plain = {**config_of().to_plain(), "made_by": {k: manifest[k] for k in manifest.keys() - {"run_id", "config"}}}
    assert copy.config == plain


def test_the_energy_has_its_profile_in_its_name_and_comes_from_the_counts(stages: Stages) -> None:
    s = stages.tested.summary
    macs = s["test/synops_mac"] + s["test/synops_filter_mac"] + s["test/synops_norm_mac"]
    expected = 4.6 * (macs + s["test/synops_neuron_updates"]) + 0.9 * s["test/synops_ac"]
    assert s["test/energy_pj/h45_fp32"] == pytest.approx(expected)
    assert s["energy_profile"].startswith("h45_fp32: MAC 4.6 pJ") and "no memory traffic" in s["energy_profile"]
    assert not any("pj" in key for key in stages.untested.summary), "nothing was counted on the test set"


def test_a_run_that_was_cut_off_stands_as_failed_and_its_next_copy_takes_its_place(stages: Stages) -> None:
    assert stages.cut.exit_code == 1 and len(stages.cut.history) == 1
    assert len(stages.untested.curves("epoch")) == 3
    assert log_of(stages.folder).count("epoch 1/3") == 1, "it went on from its checkpoint"


def test_a_copy_begins_without_a_question_and_says_once_how_it_is_sent(stages: Stages) -> None:
    (line, *others) = [line for line in log_of(stages.folder).splitlines() if "W&B" in line]
    assert line == (
        f"W&B is offline (not logged in): `wandb sync {stages.folder.path}/wandb/offline-run-*` sends the run later; "
        f"logger=none leaves it out"
    )
    assert others == [line] * 2, "once each time it was taken up"


def test_of_a_run_that_diverged_no_figure_stands_in_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))

    def diverge(task: Classification) -> None:
        if task.current_epoch == 1:
            raise Diverged("on purpose")

    monkeypatch.setattr(Classification, "on_validation_epoch_start", diverge)
    result = train.run(config_of(), echo=False)
    folder = RunFolder.of(config_of())
    assert result.status == "diverged"
    assert_whole(copy_of(folder), folder)
    assert not any("/acc" in key or "firing_rate" in key for key in copy_of(folder).summary)


def test_a_run_goes_on_without_a_copy_where_w_and_b_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    def broken(**settings: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(wandb, "init", broken)
    said: list[str] = []
    folder = RunFolder(tmp_path)
    copy = wandb_logger.WandbMirror(config_of(), folder, said.append)
    copy.finish(Result("a", "done", {}, {}, 1.0, 1.0, "", None, ""))
    copy.close()
    assert said[1:] == ["warning: W&B failed (no space left); the run continues without a copy"]


def test_a_sweep_has_one_name_however_often_it_is_taken_up_and_a_name_of_ones_own_stays() -> None:
    a, b = compose([*TINY, "seed=1"]), compose([*TINY, "seed=2"])
    assert launch.sweep_name([a, b]) == launch.sweep_name([b, a]) != launch.sweep_name([a])
    named = compose([*TINY, "logger.group=mine"])
    quick = dataclasses.replace(a, experiment="quick")
    assert [c.logger.group for c in launch.in_group([a, named, quick], "s")] == ["s", "mine", None]
    assert launch.in_group([a], "s")[0].run_id == a.run_id


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server that stands in for W&B, to which one is logged in."""
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "out"))
    monkeypatch.setattr(wandb_logger, "PATIENCE_S", 5.0)
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield server
    import wandb

    wandb.teardown()  # the next test has another server


@pytest.mark.wandb
def test_an_online_copy_is_as_whole_as_an_offline_one(online: Server) -> None:
    config = config_of()
    train.run(config, echo=False)
    folder = RunFolder.of(config)
    assert_whole(online.runs[config.run_id], folder)
    assert online.runs[config.run_id].group == "a sweep"
    assert "W&B" not in log_of(folder)


@pytest.mark.wandb
def test_a_lost_connection_costs_a_line_and_what_was_kept_is_whole_after_a_sync(
    online: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "undisturbed"))
    undisturbed = train.run(config_of("logger=none"), echo=False)
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "out"))
    config = config_of()
    folder = RunFolder.of(config)

    start = Classification.on_validation_epoch_start

    def unplug(task: Classification) -> None:
        start(task)
        if task.current_epoch == 2:
            online.wait_for_history(config.run_id)
            online.stop()

    with monkeypatch.context() as patched:
        patched.setattr(Classification, "on_validation_epoch_start", unplug)
        capfd.readouterr()
        result = train.run(config, echo=True)
    assert result.metrics == undisturbed.metrics and result.status == "done"
    said = capfd.readouterr()
    (line,) = [line for line in (said.out + said.err).splitlines() if "W&B" in line or "wandb" in line]
    assert line.startswith("warning: W&B failed (") and f"`wandb sync {folder.path}/wandb/offline-run-*`" in line
    assert len(online.runs[config.run_id].history) < len(copy_of(folder).history)
    assert_whole(copy_of(folder), folder)

    online.start()
    (kept,) = folder.path.glob("wandb/offline-run-*")
    sync = [sys.executable, "-m", "wandb", "sync", str(kept)]
    subprocess.run(sync, cwd=tmp_path, check=True, timeout=120, env={**os.environ, "WANDB_BASE_URL": online.address})
    assert_whole(online.runs[config.run_id], folder)


@pytest.mark.wandb
def test_a_server_that_is_not_there_from_the_first_costs_a_line(online: Server) -> None:
    online.stop()
    config = config_of("trainer.max_epochs=1")
    train.run(config, echo=False)
    folder = RunFolder.of(config)
    assert_whole(copy_of(folder), folder)
    assert log_of(folder).count("W&B") == 1


def seeds_in_step(*overrides: str) -> list[ExperimentConfig]:
    return [config_of("trainer.vectorized_seeds=true", f"seed={seed}", *overrides) for seed in range(2)]


def test_seeds_in_step_have_a_copy_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    configs = seeds_in_step()
    run_in_step(configs)
    for folder in map(RunFolder.of, configs):
        assert_whole(copy_of(folder), folder)


@pytest.mark.wandb
def test_seeds_in_step_without_their_server_are_all_kept(online: Server) -> None:
    online.stop()
    configs = seeds_in_step()
    run_in_step(configs)
    for folder in map(RunFolder.of, configs):
        assert_whole(copy_of(folder), folder)
        assert log_of(folder).count("W&B failed") == 1
