"""Metrics and operations of a network on validation or test data."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.data.datamodule import DataModule
from snn_exp.metrics.operations import SynapticOperations, dense_macs
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Operations, Result
from snn_exp.runs.same_data import DataAtHand, Fingerprints, keep, require_split
from snn_exp.training import log
from snn_exp.training.build import how_to_train_again, kernels_of, prepare
from snn_exp.training.callbacks import KeepSigterm
from snn_exp.training.saved_weights import load_weights
from snn_exp.training.task import Classification
from snn_exp.training.wandb_logger import make_mirror

Split = Literal["val", "test"]
Evaluation = tuple[dict[str, float], dict[str, Operations]]  # metrics; split -> operations by part


def evaluate(task: Classification, data: DataModule, split: Split = "test") -> dict[str, float]:
    """Return accuracy, loss, firing rates and operations of a task with its present weights."""
    log.quiet_libraries()
    trainer = pl.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        plugins=LightningEnvironment(),
    )  # fmt: skip
    return _evaluated(trainer, task, data, split)[0]


def evaluate_trained(
    config: ExperimentConfig, task: Classification, data: DataModule, folder: RunFolder, live: bool
) -> Evaluation:
    """Count the operations on the validation set, then test once if the config asks for it.

    Args:
        config: of the run.
        task: with the best weights, which are stored as well.
        data: of the run.
        folder: of the run.
        live: show a live bar.
    """
    trainer = _make_trainer(config, folder, live)
    metrics, operations = _counted_on_validation(trainer, task, data)
    if config.trainer.test:
        tested, counts = _tested(trainer, task, data, folder)
        metrics, operations = metrics | tested, operations | counts
    return metrics, operations


def add_test_metrics(
    trained: Result, config: ExperimentConfig, folder: RunFolder, say: log.RunLog, live: bool
) -> Result:
    """Test a trained run, add the test metrics to its stored result, and return it.

    Args:
        trained: its result so far.
        config: of the run.
        folder: of the run.
        say: its log.
        live: show a live bar.

    Raises:
        UserError: the data differ from those it was trained on; its weights are missing, damaged, or of another
            network.
    """
    with closing(make_mirror(config, folder, say)) as mirror:
        kernels = kernels_of(config)
        key = DataAtHand().key(config)  # before the data are read
        data, task = prepare(config, kernels)
        require_split(folder, data.dataset.fingerprint)
        metrics, operations = _tested(_make_trainer(config, folder, live), task, data, folder)
        result = dataclasses.replace(
            trained, metrics={**trained.metrics, **metrics}, operations={**trained.operations, **operations}
        )
        keep(config, key, Fingerprints(data.dataset.fingerprint, data.dataset.test_fingerprint))
        mirror.finish(result)
        folder.finish(result)
    return result


def _make_trainer(config: ExperimentConfig, folder: RunFolder, live: bool) -> pl.Trainer:
    """Make the trainer that evaluates a run: one process, however many trained it."""
    bar: list[Callback] = [TQDMProgressBar(leave=False)] if live else []
    return pl.Trainer(
        precision=config.trainer.precision, accelerator=config.trainer.accelerator, devices=1,
        callbacks=[KeepSigterm(), *bar], logger=False, enable_progress_bar=live, enable_model_summary=False,
        enable_checkpointing=False, use_distributed_sampler=False, plugins=LightningEnvironment(),
        default_root_dir=folder.path,
    )  # fmt: skip


def _counted_on_validation(trainer: pl.Trainer, task: Classification, data: DataModule) -> Evaluation:
    """Count the operations on the validation set, with the weights that are loaded."""
    operations = SynapticOperations(task.network)
    with operations.listening():
        trainer.predict(task, data.val_dataloader(), return_predictions=False)
    return _counts("val", operations)


def _tested(trainer: pl.Trainer, task: Classification, data: DataModule, folder: RunFolder) -> Evaluation:
    """Evaluate the stored best weights on the test set, and keep its fingerprint."""
    load_weights(task.network, folder.weights, how_to_train_again(folder))
    evaluation = _evaluated(trainer, task, data, "test")
    folder.keep_test_fingerprint(data.dataset.test_fingerprint)
    return evaluation


def _evaluated(trainer: pl.Trainer, task: Classification, data: DataModule, split: Split) -> Evaluation:
    """Evaluate a task with its present weights."""
    operations = SynapticOperations(task.network)
    with operations.listening():
        (metrics,) = {"val": trainer.validate, "test": trainer.test}[split](task, data, verbose=False)
    totals, by_layer = _counts(split, operations)
    return {key: float(value) for key, value in metrics.items()} | totals, by_layer


def _counts(split: str, operations: SynapticOperations) -> Evaluation:
    """Return the operations counted, in all and by part."""
    totals = {f"{split}/synops_{count}": float(total) for count, total in operations.compute().items()}
    return totals, {split: operations.by_layer()}


def size_of(task: Classification, data: DataModule) -> dict[str, float]:
    """Return the number of parameters and the dense multiply-accumulates per sample."""
    like = next(task.network.parameters())
    x = torch.zeros(1, *data.dataset.sample_shape, device=like.device, dtype=like.dtype)
    macs = dense_macs(task.network, task.encoding(x))[""]
    return {"params": sum(p.numel() for p in task.network.parameters()), "macs_dense": macs}
