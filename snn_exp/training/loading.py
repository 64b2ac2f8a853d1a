"""Whether training waits for its data."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from snn_exp.data.datamodule import DataModule
from snn_exp.training.log import Say

MOST = 0.3  # of the time of an epoch's training steps
LEAST_S = 5.0  # waited, below which nobody cares


class LoadingWarning(pl.Callback):
    """Warn once if the training steps of an epoch spend more than `MOST` of their time waiting for batches.

    Args:
        say: called with the line.
        data: loads the batches, and counts the time that takes.
    """

    def __init__(self, say: Say, data: DataModule) -> None:
        self.say = say
        self.data = data
        self._began, self._loaded, self._ended, self._waited = 0.0, 0.0, 0.0, 0.0
        self._has_said = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._began = self._ended = time.monotonic()
        self._loaded, self._waited = self.data.loading_s, 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the time; validation, which may follow, does not count."""
        self._ended = time.monotonic()
        self._waited = self.data.loading_s - self._loaded

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn, if it is worth a line."""
        took = self._ended - self._began
        if self._has_said or self._waited < LEAST_S or self._waited <= MOST * took:
            return
        self._has_said = True
        self.say(
            f"warning, epoch {trainer.current_epoch + 1}: {self._waited / took:.0%} of the time of its training steps "
            f"went by waiting for data ({self._waited:.0f} of {took:.0f} s); {self.data.how_to_load_faster}"
        )
