"""The callbacks of a run's training."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pytorch_lightning.callbacks import Callback

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.data.datamodule import DataModule
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import Ownership
from snn_exp.training import callbacks, checkpoints
from snn_exp.training.loading import LoadingWarning
from snn_exp.training.log import Say
from snn_exp.training.peeking import Peek
from snn_exp.training.progress import EpochLine, LiveBar
from snn_exp.training.vectorized import Seat


@dataclass(frozen=True)
class Kept:
    """The callbacks whose state a checkpoint keeps, and those that write it."""

    clock: callbacks.Clock
    memory: callbacks.PeakMemory
    best: checkpoints.BestCheckpoint
    last: checkpoints.LastCheckpoint
    patience: callbacks.StopWithoutProgress | None
    peek: Peek | None

    @classmethod
    def of(
        cls,
        config: ExperimentConfig,
        data: DataModule,
        folder: RunFolder,
        ownership: Ownership,
        seat: Seat | None,
        say: Say,
    ) -> Kept:
        """Make those of a run."""
        every_s = 60 * config.trainer.checkpoint_every_minutes
        return cls(
            callbacks.Clock(seat.cpu_s if seat else time.process_time),
            callbacks.PeakMemory(),
            checkpoints.BestCheckpoint(folder.checkpoints),
            checkpoints.LastCheckpoint(folder.checkpoints, ownership, every_s, seat),
            callbacks.StopWithoutProgress(patience, say) if (patience := config.trainer.patience) else None,
            Peek(data) if config.trainer.peek else None,
        )


def watchers_of(
    folder: RunFolder, ownership: Ownership, data: DataModule, say: Say, live: bool, kept: Kept
) -> list[Callback]:
    """Return the callbacks of a run's training, in the order in which Lightning calls them."""
    return [
        callbacks.StopWhenLost(ownership),
        callbacks.KeepSigterm(),
        kept.clock,
        kept.memory,
        kept.best,
        kept.last,
        *([kept.patience] if kept.patience else []),
        *([kept.peek] if kept.peek else []),
        callbacks.StopOnDivergence(folder.path),
        callbacks.EpochTable(folder.metrics_csv),
        callbacks.FiringWarnings(say),
        LoadingWarning(say, data),
        LiveBar(data.num_train) if live else EpochLine(say, data.num_train),
    ]
