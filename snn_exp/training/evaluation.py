"""Metrics and operations of a network on validation or test data."""

from __future__ import annotations

from typing import Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from snn_exp.data.datamodule import DataModule
from snn_exp.metrics.operations import SynapticOperations, dense_macs
from snn_exp.runs.folder import Operations, RunFolder
from snn_exp.training import log
from snn_exp.training.build import how_to_train_again
from snn_exp.training.saved_weights import load_weights
from snn_exp.training.task import Classification

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


def count_on_validation(trainer: pl.Trainer, task: Classification, data: DataModule) -> Evaluation:
    """Count operations on the validation set, with the best weights, which are loaded already."""
    operations = SynapticOperations(task.network)
    with operations.listening():
        trainer.predict(task, data.val_dataloader(), return_predictions=False)
    return _counts("val", operations)


def test_stored(trainer: pl.Trainer, task: Classification, data: DataModule, folder: RunFolder) -> Evaluation:
    """Evaluate the stored best weights on the test set."""
    load_weights(task.network, folder.weights, how_to_train_again(folder))
    evaluation = _evaluated(trainer, task, data, "test")
    folder.keep_test_fingerprint(data.dataset.test_fingerprint)
    return evaluation


def _evaluated(trainer: pl.Trainer, task: Classification, data: DataModule, split: Split) -> Evaluation:
    operations = SynapticOperations(task.network)
    with operations.listening():
        (metrics,) = {"val": trainer.validate, "test": trainer.test}[split](task, data, verbose=False)
    totals, by_layer = _counts(split, operations)
    return {key: float(value) for key, value in metrics.items()} | totals, by_layer


def _counts(split: str, operations: SynapticOperations) -> Evaluation:
    totals = {f"{split}/synops_{count}": float(total) for count, total in operations.compute().items()}
    return totals, {split: operations.by_layer()}


def size_of(task: Classification, data: DataModule) -> dict[str, float]:
    """Return the number of parameters and the dense multiply-accumulates per sample."""
    like = next(task.network.parameters())
    x = torch.zeros(1, *data.dataset.sample_shape, device=like.device, dtype=like.dtype)
    macs = dense_macs(task.network, task.encoding(x))[""]
    return {"params": sum(p.numel() for p in task.network.parameters()), "macs_dense": macs}
