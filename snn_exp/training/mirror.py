"""A copy of a run somewhere else, made from the run's folder, which is authoritative."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl

from snn_exp.runs.run_files import Pruned, Result


class Mirror(pl.Callback):
    """Copies nothing; the base of those that do."""

    def finish(self, result: Result) -> None:
        """Finish the copy with the result of the run."""

    def prune(self, pruned: Pruned) -> None:
        """Finish the copy of a run that a search has stopped, and mark it so."""

    def close(self) -> None:
        """Close the copy, whether the run has ended or crashed."""


class Mirrors(Mirror):
    """Several copies.

    Args:
        mirrors: each of them.
    """

    def __init__(self, mirrors: Sequence[Mirror]) -> None:
        self.mirrors = mirrors

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start each copy."""
        for mirror in self.mirrors:
            mirror.on_fit_start(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the finished epochs of an interrupted run."""
        for mirror in self.mirrors:
            mirror.on_train_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the epoch."""
        for mirror in self.mirrors:
            mirror.on_train_epoch_end(trainer, pl_module)

    def finish(self, result: Result) -> None:
        for mirror in self.mirrors:
            mirror.finish(result)

    def prune(self, pruned: Pruned) -> None:
        for mirror in self.mirrors:
            mirror.prune(pruned)

    def close(self) -> None:
        for mirror in self.mirrors:
            mirror.close()
