"""Callbacks of a run: the epoch table, progress lines, warnings, and the end of a diverging run."""

from __future__ import annotations

import csv
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor

from snn_exp.files import whole_file
from snn_exp.runs.lock import Ownership
from snn_exp.runs.run_files import read_epochs
from snn_exp.training.log import Say
from snn_exp.training.saved_weights import write_whole
from snn_exp.training.task import Classification

SATURATED = 0.95  # above this firing rate a neuron carries hardly any information


def say_nothing(line: str) -> None:
    """Discard a line, as every rank but the first does."""


class Diverged(Exception):
    """The loss or a weight is no longer finite; the run ends, and that is its result."""


class Pruned(Exception):
    """A search has stopped the run before its end; pruned.json says after which epoch."""


class StopWhenLost(pl.Callback):
    """Ends a run that another process has taken over, before this one writes anything more.

    It must be the first of the callbacks.
    """

    def __init__(self, ownership: Ownership) -> None:
        self.ownership = ownership

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ownership.check()

    on_validation_epoch_end = on_fit_end = on_train_epoch_end


class KeepSigterm(pl.Callback):
    """Keeps the previous SIGTERM handler in place.

    Slurm sends SIGTERM to a job that it is about to requeue, and submitit ignores it. Lightning would end the run at
    its next batch with exit code 0, which Slurm takes for a completed job.
    """

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reinstall the handler that Lightning replaced; Lightning restores it later by itself."""
        if callable(self._before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    on_test_start = on_predict_start = on_train_start


class Clock(pl.Callback):
    """Wall and process CPU seconds of the fit, summed over the parts of an interrupted run.

    Where several processes train, they wait for each other at every layer, so each counts as much as this one.

    Args:
        cpu_s: the CPU time that counts, seconds from some start.
    """

    def __init__(self, cpu_s: Callable[[], float] = time.process_time) -> None:
        self._cpu_s = cpu_s
        self._num_processes = 1
        self._before = (0.0, 0.0)
        self._start = (0.0, 0.0)
        self._running = False

    @property
    def wall_s(self) -> float:
        """Return the wall time so far, in seconds."""
        return round(self._before[0] + self._elapsed()[0], 3)

    @property
    def cpu_s(self) -> float:
        """Return the CPU time of all processes so far, in seconds."""
        return round(self._before[1] + self._elapsed()[1], 3)

    def _elapsed(self) -> tuple[float, float]:
        if not self._running:
            return 0.0, 0.0
        wall_s, cpu_s = time.monotonic() - self._start[0], self._cpu_s() - self._start[1]
        return wall_s, cpu_s * self._num_processes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._num_processes = trainer.world_size
        self._start, self._running = (time.monotonic(), self._cpu_s()), True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop the clock, however the fit ended."""
        self._before, self._running = (self.wall_s, self.cpu_s), False

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint keeps."""
        return {"wall_s": self.wall_s, "cpu_s": self.cpu_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the state in a checkpoint."""
        self._before = (state_dict["wall_s"], state_dict["cpu_s"])


class PeakMemory(pl.Callback):
    """The peak memory of the fit, over the parts of an interrupted run.

    On a GPU, the memory that torch allocated. Elsewhere the resident memory of the process, read where it is highest:
    before the backward pass, when all activations are stored, and after it, when all gradients are. The peak that the
    operating system reports would cover all runs of the process.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak_bytes = 0

    @property
    def peak_mib(self) -> float | None:
        """Return the peak memory so far; None before the first step."""
        return round(self._peak_bytes / 2**20, 1) if self._peak_bytes else None

    def _read(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        now = torch.cuda.max_memory_allocated(device) if on_gpu else self._process.memory_info().rss
        self._peak_bytes = max(self._peak_bytes, now)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the peak."""
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Read the memory in use."""
        self._read(pl_module.device)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the memory in use."""
        self._read(pl_module.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint keeps."""
        return {"peak_bytes": self._peak_bytes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the state in a checkpoint."""
        self._peak_bytes = max(self._peak_bytes, state_dict["peak_bytes"])


class EpochTable(pl.Callback):
    """metrics.csv: one row per epoch, written by rank 0; a resumed run continues from its checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the rows of epochs that will be trained again."""
        if trainer.is_global_zero and self.path.exists():
            rows = [row for row in read_epochs(self.path) if int(row["epoch"]) < trainer.current_epoch]
            with whole_file(self.path) as scratch:
                _append(scratch, rows)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append the epoch's row."""
        metrics = {key: float(value) for key, value in sorted(trainer.callback_metrics.items())}
        if trainer.is_global_zero:
            _append(self.path, [{"epoch": trainer.current_epoch, **metrics}])


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(rows)


class StopWithoutProgress(EarlyStopping):
    """Ends a run after `patience` epochs in a row without a better validation score, that of `BestCheckpoint`.

    A checkpoint keeps how many epochs it has waited, so a run that is interrupted, even after the last one and before
    its result is stored, ends at the same epoch.

    Args:
        patience: epochs.
        say: called with a line when it stops.
    """

    def __init__(self, patience: int, say: Say) -> None:
        super().__init__("val/score", patience=patience, mode="max", check_finite=False, check_on_train_epoch_end=True)
        self._say = say

    @property
    def last_epoch(self) -> int | None:
        """Return the epoch after which it stopped, counted from 0; None if it did not."""
        return self.stopped_epoch or None  # it never stops after the first, which is the best so far

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once if the checkpoint that the run resumes from is that of its end."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that it stopped."""
        if self.last_epoch is not None:
            self._say(
                f"stopped after epoch {self.last_epoch + 1} of {trainer.max_epochs}: {self.patience} "
                f"{'epochs' if self.patience > 1 else 'epoch'} without a better validation score"
            )


OnEpoch = Callable[[int, Mapping[str, float]], bool]  # number of epochs done, their last metrics -> whether to stop


@dataclasses.dataclass(frozen=True)
class Stopped:
    """Where a run was stopped from outside.

    Args:
        num_epochs: how many it had done.
        metrics: of the last of them.
    """

    num_epochs: int
    metrics: Mapping[str, float]


class StopFromOutside(pl.Callback):
    """Asks after every epoch whether to stop; a run that has ended by then, at its last epoch or by patience, is whole.

    The checkpoint of that epoch is written, so that the run can be trained to its end later.

    Args:
        on_epoch: the question.
    """

    def __init__(self, on_epoch: OnEpoch) -> None:
        self._on_epoch = on_epoch
        self.stopped: Stopped | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask."""
        num_epochs = trainer.current_epoch + 1
        metrics = {key: float(value) for key, value in sorted(trainer.callback_metrics.items())}
        is_whole = trainer.should_stop or num_epochs == trainer.max_epochs
        if self._on_epoch(num_epochs, metrics) and not is_whole:
            self.stopped = Stopped(num_epochs, metrics)
            trainer.should_stop = True


class FiringWarnings(pl.Callback):
    """Warn once per layer when it is silent or saturated on the validation set."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self._warned: set[str] = set()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the firing rate of every layer."""
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, Classification)
        emits_signs = {
            name for name, module in pl_module.network.named_modules() if getattr(module, "emits", "") == "signs"
        }
        for sentence in firing_sentences(pl_module.firing_rate.by_layer(), emits_signs):
            if sentence not in self._warned:
                self._warned.add(sentence)
                self.say(f"warning, epoch {trainer.current_epoch + 1}: {sentence}")


def firing_sentences(rates: Mapping[str, float], never_silent: set[str] | frozenset[str] = frozenset()) -> list[str]:
    """Describe what is wrong with a network's firing rates.

    Example:
        >>> firing_sentences({"stem": 0.0, "1": 0.2})
        ['layer stem is silent: no neuron fires, so nothing behind it can learn from it']
    """
    sentences = []
    for layer, rate in rates.items():
        if layer in never_silent:
            continue
        if rate == 0:
            sentences.append(f"layer {layer} is silent: no neuron fires, so nothing behind it can learn from it")
        elif rate > SATURATED:
            sentences.append(f"layer {layer} is saturated: over {SATURATED:.0%} of its neurons fire at every step")
    return sentences


class StopOnDivergence(pl.Callback):
    """Ends a run whose loss or weights are no longer finite, and saves the batch that caused it.

    A NaN membrane potential emits no spike and can leave the loss finite, so the weights are checked as well,
    once per epoch.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss, averaged over all processes, so that they end together."""
        loss: Tensor = trainer.strategy.reduce(outputs["loss"].clone(), reduce_op="mean")
        if not math.isfinite(loss.item()):
            x_BCHW, y_B = batch
            if trainer.is_global_zero:
                write_whole({"images": x_BCHW.cpu(), "labels": y_B.cpu()}, self.folder / "diverged_batch.pt")
            raise Diverged(
                f"the loss is {loss.item()} at step {trainer.global_step}; the batch is kept in diverged_batch.pt"
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the weights."""
        for name, parameter in pl_module.named_parameters():
            if not torch.isfinite(parameter).all():
                raise Diverged(f"the weight {name} is no longer finite after epoch {trainer.current_epoch + 1}")
