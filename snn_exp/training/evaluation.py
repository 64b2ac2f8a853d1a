"""Metrics and operations of a run's network on validation and test data, in its precision and on its device.

`scoring.py` does the same on the CPU, without Lightning, of runs that nobody trains.
"""

from __future__ import annotations

import dataclasses
from contextlib import closing, nullcontext

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.data.datamodule import DataModule
from snn_exp.metrics.operations import SynapticOperations, dense_macs
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Operations, Result
from snn_exp.runs.same_data import DataAtHand, Fingerprints, keep, require_split
from snn_exp.training import log
from snn_exp.training.build import how_to_train_again, kernels_of
from snn_exp.training.callbacks import KeepSigterm
from snn_exp.training.predictions import Confusion, Predictions
from snn_exp.training.prepare import prepare
from snn_exp.training.saved_weights import load_weights
from snn_exp.training.task import Classification
from snn_exp.training.trackers import make_mirror
from snn_exp.waiting import working


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        metrics: flat, such as test/acc.
        operations: split -> operations by part.
        confusion: split -> [K][K], samples of a class (row) that were taken for a class (column).
    """

    metrics: dict[str, float]
    operations: dict[str, Operations]
    confusion: dict[str, Confusion]

    def __or__(self, other: Evaluation) -> Evaluation:
        """Return both; where both have a value, the other's."""
        return Evaluation(
            self.metrics | other.metrics, self.operations | other.operations, self.confusion | other.confusion
        )


def evaluate_trained(
    config: ExperimentConfig, task: Classification, data: DataModule, folder: RunFolder, live: bool
) -> Evaluation:
    """Count operations and predictions on the validation set, then test once if the config asks for it.

    Args:
        config: of the run.
        task: with the best weights, which are stored as well.
        data: of the run.
        folder: of the run.
        live: show a live line.
    """
    trainer = _make_trainer(config, folder)
    with working("counting operations on the validation set") if live else nullcontext():
        found = _counted_on_validation(trainer, task, data)
    return found | _tested(config, trainer, task, data, folder, live) if config.trainer.test else found


def add_test_metrics(
    trained: Result, config: ExperimentConfig, folder: RunFolder, say: log.RunLog, live: bool
) -> Result:
    """Test a trained run, add the test metrics to its stored result, and return it.

    Where it was tested before, and its predictions are asked for now, the stored metrics stay.

    Args:
        trained: its result so far.
        config: of the run.
        folder: of the run.
        say: its log.
        live: show a live line.

    Raises:
        UserError: the data differ from those it was trained on; its weights are missing, damaged, or of another
            network.
    """
    with closing(make_mirror(config, folder, say)) as mirror:
        kernels = kernels_of(config)
        key = DataAtHand().key(config)  # before the data are read
        data, task = prepare(config, kernels)
        require_split(folder, data.dataset.fingerprint)
        tested = _tested(config, _make_trainer(config, folder), task, data, folder, live)
        result = dataclasses.replace(
            trained,
            metrics={**tested.metrics, **trained.metrics},
            operations={**tested.operations, **trained.operations},
            confusion={**tested.confusion, **trained.confusion},
        )
        keep(config, key, Fingerprints(data.dataset.fingerprint, data.dataset.test_fingerprint))
        mirror.finish(result)
        folder.finish(result)
    return result


def _make_trainer(config: ExperimentConfig, folder: RunFolder) -> pl.Trainer:
    """Make the trainer that evaluates a run: one process, however many trained it."""
    return pl.Trainer(
        precision=config.trainer.precision, accelerator=config.trainer.accelerator, devices=1,
        callbacks=[KeepSigterm()], logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, use_distributed_sampler=False, plugins=LightningEnvironment(),
        default_root_dir=folder.path,
    )  # fmt: skip


def _counted_on_validation(trainer: pl.Trainer, task: Classification, data: DataModule) -> Evaluation:
    """Count operations and predictions on the validation set, with the weights that are loaded."""
    operations = SynapticOperations(task.network)
    with operations.listening(), task.keeping_predictions() as kept:
        trainer.predict(task, data.val_dataloader(), return_predictions=False)
    return _counts("val", operations, kept)


def _tested(
    config: ExperimentConfig,
    trainer: pl.Trainer,
    task: Classification,
    data: DataModule,
    folder: RunFolder,
    live: bool,
) -> Evaluation:
    """Evaluate the stored best weights on the test set, and keep its fingerprint, and the predictions if asked for."""
    load_weights(task.network, folder.weights, how_to_train_again(folder))
    operations = SynapticOperations(task.network)
    line = working("testing") if live else nullcontext()
    with line, operations.listening(), task.keeping_predictions() as predictions:
        (metrics,) = trainer.test(task, data.test_dataloader(), verbose=False)
    if config.trainer.keep_predictions:
        predictions.write(folder.predictions, None if data.dataset.has_time else data.dataset.test)
    folder.keep_test_fingerprint(data.dataset.test_fingerprint)
    measured = Evaluation({k: float(v) for k, v in metrics.items()}, {}, {})
    return measured | _counts("test", operations, predictions)


def _counts(split: str, operations: SynapticOperations, kept: Predictions) -> Evaluation:
    """Return the operations counted, in all and by part, and the confusion matrix."""
    totals = {f"{split}/synops_{count}": float(total) for count, total in operations.compute().items()}
    confusion = kept.confusion()
    return Evaluation(totals, {split: operations.by_layer()}, {} if confusion is None else {split: confusion})


def size_of(task: Classification, data: DataModule) -> dict[str, float]:
    """Return the number of parameters and the dense multiply-accumulates per sample."""
    like = next(task.network.parameters())
    x = torch.zeros(1, *data.dataset.sample_shape, device=like.device, dtype=like.dtype)
    macs = dense_macs(task.network, task.encoding(x))[""]
    return {"params": sum(p.numel() for p in task.network.parameters()), "macs_dense": macs}
