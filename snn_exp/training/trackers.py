"""Copies of a run in TensorBoard, MLflow and Trackio, each through a logger of Lightning's kind; W&B has its own file.

Every copy is complete, as those in W&B are: a run that resumes, or is tested later, is copied again from its first
epoch, and the new copy replaces the old one. Nothing is asked, and a tracker that fails never ends a run.

    tensorboard  outputs/runs/<run_id>/tensorboard
    mlflow       the server of MLFLOW_TRACKING_URI; else the database outputs/mlflow.db
    trackio      the folder of TRACKIO_DIR; else outputs/trackio
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.config.loggers import trackers_of
from snn_exp.runs.filters import chosen
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root
from snn_exp.runs.run_files import Pruned, Result
from snn_exp.runs.wandb_record import LAYER, layer_rows, summary_of
from snn_exp.training.log import Say
from snn_exp.training.mirror import Mirror, Mirrors
from snn_exp.training.wandb_logger import WandbMirror

RESULT = "result/"  # what the best weights reach, apart from the curves over the epochs
OF_RUN = "snn_exp.run_id"  # the tag of a run in MLflow
PATIENCE_S = "20"


def make_mirror(config: ExperimentConfig, folder: RunFolder, say: Say) -> Mirror:
    """Make the callback that copies a run; it must come after the callback that writes metrics.csv."""
    names = trackers_of(config.logger.name)
    mirrors: list[Mirror] = [TrackerMirror(name, config, folder, say) for name in names if name in OPEN]
    return Mirrors([*mirrors, *([WandbMirror(config, folder, say)] if "wandb" in names else [])])


class TrackerMirror(Mirror):
    """Copies a run to a tracker: each epoch as it ends, curves over the layers, and the result.

    Args:
        name: of the tracker.
        config: of the run.
        folder: of the run; everything is read from there.
        say: called with a line if the tracker fails.
    """

    def __init__(self, name: str, config: ExperimentConfig, folder: RunFolder, say: Say) -> None:
        self.name = name
        self.config = config
        self.folder = folder
        self.say = say
        self._logger: Logger | None = None
        self._num_epochs = 0
        self._failed = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the copy, before the clock of the fit starts."""
        self._copy(self._begun)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the finished epochs of an interrupted run."""
        self._copy(self._follow)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the epoch."""
        self._copy(self._follow)

    def finish(self, result: Result) -> None:
        def end() -> None:
            logger = self._follow()
            for row in layer_rows(result.layers):
                logger.log_metrics(row, step=int(row.pop(LAYER)))
            numbers = {k: float(v) for k, v in summary_of(result).items() if isinstance(v, int | float)}
            logger.log_metrics({f"{RESULT}{key}": value for key, value in numbers.items()}, step=self._num_epochs)
            logger.finalize("success")

        self._copy(end)
        self._logger = None

    def prune(self, pruned: Pruned) -> None:
        def end() -> None:
            logger = self._follow()
            logger.log_hyperparams({"status": "pruned"})
            logger.finalize("success")

        self._copy(end)
        self._logger = None

    def close(self) -> None:
        if self._logger is not None:
            logger, self._logger = self._logger, None
            self._copy(lambda: logger.finalize("failed"))

    def _copy(self, act: Callable[[], Any]) -> None:
        """Perform an action on the copy; if the tracker fails, the run continues without."""
        if self._failed:
            return
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # trackers greet
                act()
        except Exception as error:  # of many kinds, none of which may end a training
            self._failed, self._logger = True, None
            reason = str(error).partition("\n")[0] or type(error).__name__
            self.say(f"warning: {self.name} failed ({reason}); the run continues without a copy there")

    def _follow(self) -> Logger:
        """Return the copy, with all epochs that metrics.csv has by now."""
        logger = self._begun()
        for row in self.folder.epochs()[self._num_epochs :]:
            values = {key: float(value) for key, value in row.items() if key != "epoch"}
            logger.log_metrics(values, step=int(row["epoch"]))
            self._num_epochs += 1
        return logger

    def _begun(self) -> Logger:
        """Return the copy; start one if there is none."""
        if self._logger is None:
            self._logger = OPEN[self.name](self.config, self.folder)
            self._logger.log_hyperparams({"run_id": self.config.run_id, **chosen(self.config.to_plain())})
        return self._logger


def _tensorboard(config: ExperimentConfig, folder: RunFolder) -> Logger:
    shutil.rmtree(folder.path / "tensorboard", ignore_errors=True)
    return TensorBoardLogger(folder.path, name="", version="tensorboard", default_hp_metric=False)


def _mlflow(config: ExperimentConfig, folder: RunFolder) -> Logger:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", PATIENCE_S)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{output_root().resolve() / 'mlflow.db'}"
    logger = MLFlowLogger(
        experiment_name=config.logger.project, run_name=f"{config.label} {config.run_id}", tracking_uri=place,
        tags={OF_RUN: config.run_id, "group": config.logger.group or config.experiment or ""},
    )  # fmt: skip
    with _alone(output_root() / ".mlflow.lock"):  # several runs of a sweep may begin, each to make the database
        client = logger._mlflow_client
        if (experiment := client.get_experiment_by_name(config.logger.project)) is not None:
            for old in client.search_runs([experiment.experiment_id], f"tags.`{OF_RUN}` = '{config.run_id}'"):
                client.delete_run(old.info.run_id)
        _ = logger.run_id
    return logger


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock inside the block, for which other processes wait."""
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class TrackioLogger(Logger):
    """Logs to Trackio, of which Lightning has no logger.

    Args:
        project: the project.
        run: name of the run; one of the same name is replaced.
        group: the group that the run is listed under.
    """

    def __init__(self, project: str, run: str, group: str | None) -> None:
        super().__init__()
        import trackio
        from trackio import context_vars
        from trackio.sqlite_storage import SQLiteStorage

        SQLiteStorage.delete_run(project, run)
        self._project, self._name = project, run
        self._run = trackio.init(
            project=project, name=run, group=group, embed=False, auto_log_gpu=False, auto_log_cpu=False
        )
        context_vars.current_run.set(None)  # seeds in step have several runs at once, and each ends its own

    @property
    def name(self) -> str:
        """Return the project."""
        return self._project

    @property
    def version(self) -> str:
        """Return the name of the run."""
        return self._name

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Keep the choices of the run."""
        self._run.config.update(vars(params) if isinstance(params, Namespace) else params)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log values at a step."""
        self._run.log(dict(metrics), step=step)

    def finalize(self, status: str) -> None:
        """Write what is left, and end."""
        self._run.finish()


def _trackio(config: ExperimentConfig, folder: RunFolder) -> Logger:
    os.environ.setdefault("TRACKIO_DIR", str(output_root().resolve() / "trackio"))
    run = f"{config.label} {config.run_id}"
    return TrackioLogger(config.logger.project, run, config.logger.group or config.experiment)


OPEN: dict[str, Callable[[ExperimentConfig, RunFolder], Logger]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
