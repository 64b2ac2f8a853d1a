"""Progress of a run while it trains: lines in a log or pipe, a live bar in a terminal, and how long it will take."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from snn_exp.training.log import Say

EVERY_S = 30.0  # between two lines within an epoch


class Pace:
    """Samples per second since training began or resumed, validation included, and the time left at that pace.

    Args:
        num_samples: training samples per epoch.

    Example:
        >>> pace = Pace(1000)
        >>> pace.start(1.5, now=0.0)  # it resumes within the second epoch
        >>> pace.samples_per_s(2.0, now=10.0), pace.seconds_left(2.0, 4, now=10.0)
        (50.0, 40.0)
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self._start, self._first = 0.0, 0.0

    def start(self, epochs: float, now: float | None = None) -> None:
        """Start the clock after so many epochs."""
        self._start, self._first = _now(now), epochs

    def samples_per_s(self, epochs: float, now: float | None = None) -> float:
        """Return the pace after so many epochs."""
        return self.num_samples / self._seconds_per_epoch(epochs, now)

    def seconds_left(self, epochs: float, num_epochs: int, now: float | None = None) -> float:
        """Return the time for the rest of all epochs."""
        return self._seconds_per_epoch(epochs, now) * max(0.0, num_epochs - epochs)

    def _seconds_per_epoch(self, epochs: float, now: float | None) -> float:
        return max(_now(now) - self._start, 1e-9) / max(epochs - self._first, 1e-9)


def _now(given: float | None) -> float:
    return time.monotonic() if given is None else given


def duration(seconds: float) -> str:
    """Format a time in the two largest units that matter.

    Example:
        >>> duration(41.2), duration(754), duration(12_000)
        ('41 s', '13 min', '3 h 20 min')
    """
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def epochs_done(trainer: pl.Trainer) -> float:
    """Return the trained part of all epochs, in epochs."""
    return trainer.global_step / trainer.num_training_batches


class EpochLine(pl.Callback):
    """One line per epoch, and one every 30 s within a long epoch.

    Args:
        say: called with each line.
        num_samples: training samples per epoch.
        every_s: seconds between two lines within an epoch.
    """

    def __init__(self, say: Say, num_samples: int, every_s: float = EVERY_S) -> None:
        self.say = say
        self.every_s = every_s
        self._pace = Pace(num_samples)
        self._said_at = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._pace.start(epochs_done(trainer))
        self._said_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line if the last one is long ago."""
        if trainer.is_last_batch or time.monotonic() - self._said_at < self.every_s:
            return
        self._said_at = time.monotonic()
        self.say(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  step {batch_idx + 1}/"
            f"{trainer.num_training_batches}  loss {float(outputs['loss']):.3f}  {self._pace_text(trainer)}"
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's line."""
        self._said_at = time.monotonic()
        metrics = trainer.callback_metrics
        self.say(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  loss {metrics['train/loss']:.3f}  "
            f"val acc {100 * metrics['val/acc']:.1f} %  firing rate {metrics['val/firing_rate']:.3f}  "
            f"{self._pace_text(trainer)}"
        )

    def _pace_text(self, trainer: pl.Trainer) -> str:
        return pace_text(self._pace, trainer)


def pace_text(pace: Pace, trainer: pl.Trainer) -> str:
    """Return samples per second and the time left over all epochs."""
    epochs = epochs_done(trainer)
    left = pace.seconds_left(epochs, trainer.max_epochs or 0)
    return f"{pace.samples_per_s(epochs):.0f} samples/s  {duration(left)} left"


class LiveBar(TQDMProgressBar):
    """One line in a terminal, drawn again as training goes on: all that a line of `EpochLine` says, and a bar.

    Accuracy and firing rate are those of the last validation. It fits into 80 columns; the bar takes what is left.

    Args:
        num_samples: training samples per epoch.
        every_s: seconds between two drawings, at least.
    """

    BAR_FORMAT = "{desc} {bar}"

    def __init__(self, num_samples: int, every_s: float = 0.1) -> None:
        super().__init__(leave=False)
        self.every_s = every_s
        self._pace = Pace(num_samples)
        self._drawn_at = 0.0

    def on_train_start(self, *args: Any) -> None:
        """Start the clock."""
        super().on_train_start(*args)
        self._pace.start(epochs_done(self.trainer))

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Begin the bar again."""
        self.train_progress_bar.reset(total=self.total_train_batches)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw the line again, unless that was a moment ago."""
        if time.monotonic() - self._drawn_at < self.every_s and not trainer.is_last_batch:
            return
        self._drawn_at = time.monotonic()
        self.train_progress_bar.n = batch_idx + 1
        self.train_progress_bar.set_description_str(self._line(trainer, float(outputs["loss"]), batch_idx + 1))

    def init_train_tqdm(self) -> Tqdm:
        """Return the bar, which is wiped when it ends; by itself it stays unless it is nested."""
        bar = super().init_train_tqdm()
        bar.leave = False
        return bar

    def init_validation_tqdm(self) -> Tqdm:
        """Return none: a second line would come and go at every epoch."""
        return Tqdm(disable=True)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return nothing: all stands in the line."""
        return {}

    def _line(self, trainer: pl.Trainer, loss: float, step: int) -> str:
        share = f"{100 * step / max(1, trainer.num_training_batches):3.0f} %"
        known = trainer.callback_metrics
        validated = (
            f"acc {100 * known['val/acc']:.1f} %  rate {known['val/firing_rate']:.3f}  " if "val/acc" in known else ""
        )
        return (
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs} {share}  loss {loss:.3f}  {validated}"
            f"{pace_text(self._pace, trainer)}"
        )
