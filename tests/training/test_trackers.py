"""The copy of a run in TensorBoard, MLflow and Trackio holds what the run's folder holds: read back with the libraries."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import Logger

from snn_exp.config import loggers
from snn_exp.config.compose import compose
from snn_exp.errors import UserError
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.wandb_record import layer_rows
from snn_exp.training import preflight, trackers, train
from snn_exp.training.callbacks import Pruned
from snn_exp.training.mirror import Mirrors
from tests.finished import TINY

LOGGED = [word for word in TINY if not word.startswith("logger")]
Curves = dict[str, list[tuple[int, float]]]  # metric -> step and value


def no_say(line: str) -> None:
    raise AssertionError(line)


class Recorder(Logger):
    """A tracker that keeps what it is given."""

    name, version = "recorder", "0"

    def __init__(self) -> None:
        super().__init__()
        self.params: dict[str, Any] = {}
        self.curves: Curves = {}
        self.ends: list[str] = []

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.params = dict(params)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        for key, value in metrics.items():
            self.curves.setdefault(key, []).append((step, value))

    def finalize(self, status: str) -> None:
        self.ends.append(status)


def assert_whole(curves: Curves, folder: RunFolder) -> None:
    """Epochs, layers and result are those of the folder."""
    result = folder.result()
    expected: Curves = {}
    for row in folder.epochs():
        for key, value in row.items():
            if key != "epoch":
                expected.setdefault(key, []).append((int(row["epoch"]), float(value)))
    for layer in layer_rows(result.layers):
        index = int(layer.pop("layers/index"))
        for key, number in layer.items():
            expected.setdefault(key, []).append((index, number))
    assert expected and expected.keys() <= curves.keys()
    for key, points in expected.items():
        assert [step for step, _ in curves[key]] == [step for step, _ in points], key
        for (_, found), (_, wanted) in zip(curves[key], points, strict=True):
            assert found == pytest.approx(wanted, rel=1e-6, abs=1e-12) or (math.isnan(found) and math.isnan(wanted)), (
                key
            )
    for key in ("test/acc", "test/firing_rate", "val/acc"):
        ((_, best),) = curves[f"result/{key}"]
        assert best == pytest.approx(result.metrics[key], rel=1e-6)


def test_the_default_copies_nowhere_and_needs_nothing(output: Path) -> None:
    config = compose([*LOGGED])
    assert config.logger.name == "csv" and loggers.trackers_of(config.logger.name) == ()
    mirror = trackers.make_mirror(config, RunFolder.of(config), no_say)
    assert isinstance(mirror, Mirrors) and mirror.mirrors == []


def test_several_loggers_are_one_choice_and_the_run_is_the_same() -> None:
    several = compose([*LOGGED, "logger=[csv,tensorboard,wandb]"])
    assert several.logger.name == "csv+tensorboard+wandb"
    assert several.run_id == compose([*LOGGED, "logger=none"]).run_id
    with pytest.raises(UserError, match=r"There is no logger 'tensorbord'.*Type logger=tensorboard"):
        compose(["logger=[csv,tensorbord]"])
    with pytest.raises(UserError, match="There is no logger 'x'"):
        compose(["logger.name=x"])
    with pytest.raises(UserError, match=r"logger=\[\] names no logger; type logger=csv"):
        compose(["logger=[]"])


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "trackio", "wandb"])
def test_a_missing_extra_is_a_sentence_before_anything_is_trained(
    tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(loggers, "find_spec", lambda name: None if name == tracker else there(name))
    config = compose([*LOGGED, f"logger={tracker}"])
    with pytest.raises(
        UserError, match=rf"which is not installed; type pip install 'snn-exp\[{tracker}\]', or logger=csv"
    ):
        preflight.require(config)
    preflight.require(compose([*LOGGED, "logger=csv"]))


def test_a_copy_holds_epochs_layers_and_result(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Recorder] = []

    def make(config: object, folder: object) -> Recorder:
        made.append(Recorder())
        return made[-1]

    monkeypatch.setitem(trackers.OPEN, "tensorboard", make)
    config = compose([*LOGGED, "logger=tensorboard", "trainer.test=false"])
    train.run(config, echo=False)
    (first,) = made
    assert first.ends == ["success"] and first.params["run_id"] == config.run_id and first.params["neuron"] == "s2nn"
    assert "result/test/acc" not in first.curves
    train.run(compose([*LOGGED, "logger=tensorboard"]), echo=False)  # tested later: copied anew, whole
    assert len(made) == 2
    assert_whole(made[1].curves, RunFolder.of(config))


def test_the_copy_of_a_pruned_run_is_finished_and_says_that_it_was_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Recorder()
    monkeypatch.setitem(trackers.OPEN, "tensorboard", lambda config, folder: kept)
    config = compose([*LOGGED, "logger=tensorboard", "trainer.max_epochs=2"])
    with pytest.raises(Pruned):
        train.run(config, echo=False, on_epoch=lambda num_epochs, metrics: True)
    assert kept.ends == ["success"] and kept.params == {"status": "pruned"}


def test_a_tracker_that_fails_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Recorder):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            raise ConnectionError("the server is gone")

    fine = Recorder()
    monkeypatch.setitem(trackers.OPEN, "mlflow", lambda config, folder: Failing())
    monkeypatch.setitem(trackers.OPEN, "tensorboard", lambda config, folder: fine)
    config = compose([*LOGGED, "logger=[mlflow,tensorboard]"])
    assert train.run(config, echo=False).status == "done"
    folder = RunFolder.of(config)
    said = (folder.path / "train.log").read_text()
    assert said.count("warning: mlflow failed (the server is gone); the run continues without a copy there") == 1
    assert_whole(fine.curves, folder)


def read_tensorboard(folder: RunFolder, run_id: str) -> Curves:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {key: [(e.step, e.value) for e in events.Scalars(key)] for key in events.Tags()["scalars"]}


def read_mlflow(folder: RunFolder, run_id: str) -> Curves:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.path.parents[1] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("snn_exp")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["neuron"] == "s2nn" and run.data.params["run_id"] == run_id
    assert run.info.status == "FINISHED"
    return {
        key: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }


def read_trackio(folder: RunFolder, run_id: str) -> Curves:
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = SQLiteStorage.get_runs("snn_exp")
    assert name.endswith(run_id)
    config = SQLiteStorage.get_run_config("snn_exp", name)
    assert config["neuron"] == "s2nn" and config["run_id"] == run_id
    curves: Curves = {}
    for row in SQLiteStorage.get_logs("snn_exp", name):
        for key, value in row.items():
            if "/" in key:
                curves.setdefault(key, []).append((row["step"], value))
    return {key: sorted(points) for key, points in curves.items()}


READ: dict[str, Callable[[RunFolder, str], Curves]] = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "trackio": read_trackio,
}


@pytest.mark.trackers
@pytest.mark.filterwarnings("ignore")
def test_what_each_tracker_has_is_what_the_folder_has(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("TRACKIO_DIR", str(output / "trackio"))  # which the library reads once per process
    words = [*LOGGED, "trainer.max_epochs=2", "logger=[csv,tensorboard,mlflow,trackio]"]
    config = compose([*words, "trainer.test=false"])
    folder = RunFolder.of(config)
    train.run(config, echo=False)
    train.run(compose(words), echo=False)  # tested later: the new copies take the place of the old ones
    assert "warning" not in (folder.path / "train.log").read_text()
    assert capsys.readouterr().out == ""
    for read in READ.values():
        assert_whole(read(folder, config.run_id), folder)
