"""Runs that stop without progress on validation: after which epoch, and to the same end where they are interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.metrics.operations import firing_metrics
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Result
from snn_exp.runs.store import state_of
from snn_exp.training import checkpoints, seeds, train
from snn_exp.training.callbacks import Pruned
from snn_exp.training.task import Classification
from tests.disturbing import came_out
from tests.training.test_checkpoints import NUM_BATCHES, TWELVE, Steps, stop_rising

TINY = ("logger=none", "residual=bireal", "optim.batch_size=128", "network.width=4", "neuron=s2nn")
PATIENT = (*TWELVE, "trainer.patience=2")  # validation is best in the second epoch, so it stops after the fourth


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_EXP_OUTPUT", str(tmp_path_factory.mktemp("outputs")))
        stop_rising(patch)
        train.run(compose(PATIENT), echo=False)
        return came_out(compose(PATIENT))


def ended(config: ExperimentConfig) -> Result:
    folder = RunFolder.of(config)
    result = folder.result()
    assert result is not None
    return result


def test_a_run_stops_after_its_patience_and_keeps_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_rising(monkeypatch)
    config = compose(PATIENT)
    train.run(config, echo=False)
    assert (ended(config).best_epoch, ended(config).stopped_epoch) == (1, 3)
    assert [row["epoch"] for row in RunFolder.of(config).epochs()] == ["0", "1", "2", "3"]
    log = (RunFolder.of(config).path / "train.log").read_text()
    assert "stopped after epoch 4 of 12: 2 epochs without a better validation score\n" in log


@pytest.mark.parametrize("cut", [(1, 2), (3, 1), (3, NUM_BATCHES)], ids=["waiting", "in the last", "at its end"])
def test_an_interrupted_run_stops_at_the_same_epoch_bitwise(
    cut: tuple[int, int], expected: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch, cut, plateau=True)
    config = compose([*PATIENT, "trainer.checkpoint_every_minutes=1e-9"])
    with pytest.raises(AssertionError, match="cut off"):
        train.run(config, echo=False)
    train.run(config, echo=False)
    assert steps.cut is None and steps.taken[-1] == (3, NUM_BATCHES - 1)
    assert came_out(config) == expected and ended(config).stopped_epoch == 3


def test_a_run_killed_between_its_last_checkpoint_and_its_result_trains_no_further(
    expected: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch, (99, 0), plateau=True)
    keep = checkpoints.keep_best

    def killed(*given: object) -> None:
        monkeypatch.setattr(checkpoints, "keep_best", keep)
        raise AssertionError("killed")

    monkeypatch.setattr(checkpoints, "keep_best", killed)
    config = compose(PATIENT)
    with pytest.raises(AssertionError, match="killed"):
        train.run(config, echo=False)
    num_taken = len(steps.taken)
    train.run(config, echo=False)
    assert len(steps.taken) == num_taken == 4 * NUM_BATCHES
    assert came_out(config) == expected and ended(config).stopped_epoch == 3


def test_seeds_in_step_stop_each_at_its_own_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    def scored(task: Classification) -> None:
        task.log_dict(firing_metrics(task.firing_rate, "val"))
        task.log("val/score", float(min(task.current_epoch, task.seed)))

    monkeypatch.setattr(Classification, "on_validation_epoch_end", scored)
    configs = [compose([*PATIENT, "trainer.max_epochs=6", f"seed={seed}"]) for seed in (0, 1, 9)]
    seeds.run_in_step(configs)
    assert [ended(config).stopped_epoch for config in configs] == [2, 3, None]
    assert [len(RunFolder.of(config).epochs()) for config in configs] == [3, 4, 6]


def test_a_patience_is_part_of_a_run_where_it_can_end_it() -> None:
    ids = {compose([*TWELVE, *more]).run_id for more in ((), ("trainer.patience=null",), ("trainer.patience=11",))}
    assert ids == {compose(TWELVE).run_id}
    assert compose(PATIENT).run_id not in ids
    assert compose([*TWELVE, "trainer.patience=10"]).trainer.patience == 10


def test_a_run_that_is_stopped_from_outside_has_no_result_and_its_command_trains_it_to_the_same_end(
    tmp_path: Path, output: Path
) -> None:
    config = compose([*TINY, "trainer.max_epochs=3"])
    asked: list[int] = []

    def after_two(num_epochs: int, metrics: Mapping[str, float]) -> bool:
        asked.append(num_epochs)
        assert "val/acc" in metrics
        return num_epochs == 2

    with pytest.raises(Pruned):
        train.run(config, echo=False, on_epoch=after_two)
    folder = RunFolder.of(config)
    pruned = folder.pruned()
    assert asked == [1, 2] and pruned is not None and pruned.num_epochs == 2
    assert folder.result() is None and not folder.weights.exists() and state_of(folder) == "pruned"
    assert pruned.metrics["val/acc"] == float(folder.epochs()[-1]["val/acc"])
    with pytest.raises(UserError, match="was stopped by a search after epoch 2; type its snn-exp train command"):
        folder.trained()

    resumed = train.run(config, echo=False)
    assert state_of(folder) == "done" and folder.pruned() is None
    whole = train.run(config, echo=False, folder=RunFolder(tmp_path / "whole"))
    assert resumed.metrics == whole.metrics and "test/acc" in resumed.metrics


def test_a_run_that_is_to_stop_after_its_last_epoch_is_whole(output: Path) -> None:
    config = compose([*TINY, "trainer.max_epochs=1", "trainer.test=false"])
    result = train.run(config, echo=False, on_epoch=lambda num_epochs, metrics: True)
    assert result.status == "done" and RunFolder.of(config).pruned() is None
