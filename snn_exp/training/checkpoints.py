"""Checkpoints of an interrupted run: writing them, and choosing the one to resume from."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from torch import Tensor

from snn_exp.errors import UserError
from snn_exp.files import printable
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import Ownership
from snn_exp.training.log import Say
from snn_exp.training.saved_weights import first_difference, write_weights, write_whole
from snn_exp.training.task import Classification
from snn_exp.training.vectorized import Seat

BEST, LAST = "best.ckpt", "last.ckpt"
NEEDED = ("state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", "global_step")
EPOCH_SO_FAR = "epoch_so_far"  # in a checkpoint within an epoch: the sums of its training metrics


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, on the disk where it will lie.

    Lightning's own writes to the system's temporary folder and moves it here, which between two disks is a copy that a
    kill can tear.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write to a temporary file beside the path, then rename it."""
        write_whole(checkpoint, Path(path))


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best epoch by validation score; paths in its state are resolved against the run's present folder.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            filename=BEST.removesuffix(".ckpt"),
            monitor="val/score",
            mode="max",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    @property
    def state_key(self) -> str:
        """Return the key of the base class, under which older checkpoints store its state."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; with another folder Lightning would discard the best score and accept a worse one."""

        def moved(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = {key: moved(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        models = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": models, "dirpath": self.dirpath})


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt at the end of every epoch, whatever its score, and at intervals within a long epoch.

    It must come after `BestCheckpoint`, so that the checkpoint contains the best epoch. Lightning calls both after all
    other callbacks, so that the epoch's row is in metrics.csv first, and nothing that diverged is written.

    Vectorized seeds all write after the same batch (`Seat.checkpoint_is_due`), since only runs at the same batch of
    their epochs can resume together. After the last batch of an epoch nothing is written until the epoch has ended:
    Lightning would resume from there without validation.

    Args:
        folder: of the checkpoints.
        ownership: of the run; a process that has lost it writes nothing.
        every_s: seconds between two checkpoints within an epoch.
        seat: its seat among vectorized runs, if it is one of them.
    """

    def __init__(self, folder: Path, ownership: Ownership, every_s: float, seat: Seat | None = None) -> None:
        self.path = folder / LAST
        self.has_started = False
        self._ownership = ownership
        self._every_s = every_s
        self._seat = seat
        self._written_at = 0.0
        self._is_within_an_epoch = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; a run that starts over removes the checkpoints it could not use."""
        self.has_started, self._written_at = True, time.monotonic()
        for path in (self.path, self.path.with_name(BEST)) if trainer.is_global_zero else ():
            if path.exists() and not path.is_file():  # a folder cannot be written over
                _put_aside(path)
            elif trainer.ckpt_path is None:
                path.unlink(missing_ok=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write if a checkpoint is due for any of the processes."""
        if trainer.is_last_batch:
            return
        late = time.monotonic() - self._written_at >= self._every_s
        is_due = (
            self._seat.checkpoint_is_due if self._seat else trainer.strategy.reduce_boolean_decision(late, all=False)
        )
        if is_due:
            self._is_within_an_epoch = True
            try:
                self._write(trainer)
            finally:
                self._is_within_an_epoch = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint."""
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        self._ownership.check()
        trainer.save_checkpoint(self.path)
        self._written_at = time.monotonic()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the running sums of the epoch's training metrics, which Lightning does not store."""
        if self._is_within_an_epoch:
            assert isinstance(pl_module, Classification)
            checkpoint[EPOCH_SO_FAR] = pl_module.epoch_so_far()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore those sums."""
        if EPOCH_SO_FAR in checkpoint:
            assert isinstance(pl_module, Classification)
            pl_module.go_on_within_epoch(checkpoint[EPOCH_SO_FAR], trainer.global_rank, trainer.world_size)


@dataclasses.dataclass(frozen=True)
class Resumption:
    """The point from which a run resumes.

    Args:
        path: the checkpoint.
        epoch: how many epochs are finished.
        batch: how many batches of the epoch that follows are trained; 0 at its start.
    """

    path: Path
    epoch: int
    batch: int

    def sentence(self, num_epochs: int, num_batches: int) -> str:
        """Return the line that the run prints.

        Example:
            >>> Resumption(Path("last.ckpt"), 7, 0).sentence(12, 34)
            'resumes after epoch 7 of 12'
            >>> Resumption(Path("last.ckpt"), 7, 20).sentence(12, 34)
            'resumes within epoch 8 of 12, step 20 of 34'
        """
        if self.batch == 0:
            return f"resumes after epoch {self.epoch} of {num_epochs}"
        return f"resumes within epoch {self.epoch + 1} of {num_epochs}, step {self.batch} of {num_batches}"


class Unusable(Exception):
    """A checkpoint from which no run can resume; its text says why."""


def where_to_resume(folder: RunFolder, task: Classification, say: Say) -> Resumption | None:
    """Return the point from which a run resumes, or None if it starts over.

    That is the newer of its two checkpoints, which is the last one unless the run was killed between writing the two.
    If the last is damaged, it is the best: all later steps are trained again, to the same weights. Without the best
    one there would be nothing to choose at the end, unless no epoch has ended yet.

    Args:
        folder: of the run.
        task: what is trained.
        say: called with a line on each checkpoint that cannot be used.
    """
    if folder.last_checkpoint is None:
        return None
    paths = {name: folder.checkpoints / name for name in (LAST, BEST)}
    found, faults = {}, {}
    for name, path in paths.items():
        try:
            found[name] = _read(path, task)
        except Unusable as reason:
            faults[name] = str(reason)
    if LAST in found and BEST in found and _is_another_best(found[LAST], found[BEST]):
        faults[BEST] = f"it is not the best epoch that {LAST} knows of"
        del found[BEST]
    if BEST not in found and LAST in found and _best_score(found[LAST]) is None:
        return _resumption(paths[LAST], found[LAST])
    if LAST not in found and paths[LAST].exists():
        then = f"the run resumes from the previous one, {BEST}" if BEST in found else "the run starts over"
        say(f"the checkpoint {paths[LAST]} is damaged ({faults[LAST]}); {then}")
    if BEST not in found and not (LAST in faults and paths[LAST].exists() and not paths[BEST].exists()):
        say(f"the checkpoint {paths[BEST]} is damaged ({faults[BEST]}), and with it the best weights so far; the run "
            f"starts over")  # fmt: skip
    if BEST not in found:
        return None
    name = max(found, key=lambda name: found[name]["global_step"])  # of equals the last, which is read first
    return _resumption(paths[name], found[name])


def _resumption(path: Path, checkpoint: Mapping[str, Any]) -> Resumption:
    return Resumption(path, *_progress(checkpoint))


def _progress(checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """Return the number of finished epochs, and of trained batches of the next epoch."""
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["current"]
    return int(epochs["processed"]), int(batches["processed"]) if epochs["ready"] > epochs["processed"] else 0


def epochs_and_batches(path: Path) -> tuple[int, int]:
    """Return the finished epochs of a checkpoint and the trained batches of the next, without validating it."""
    return _progress(torch.load(path, weights_only=True, map_location="cpu", mmap=True))


def _best_state(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state of `BestCheckpoint`."""
    states: Mapping[str, Mapping[str, Any]] = checkpoint["callbacks"]
    return next(state for key, state in states.items() if key.startswith(ModelCheckpoint.__qualname__))


def _best_score(checkpoint: Mapping[str, Any]) -> float | None:
    score: Tensor | None = _best_state(checkpoint)["best_model_score"]
    return None if score is None else float(score)


def _is_another_best(last: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    """Return whether the best checkpoint is not newer than the last one, and not the one whose score that stores."""
    return bool(best["global_step"] <= last["global_step"]) and _best_score(best) != _best_score(last)


def _read(path: Path, task: Classification) -> dict[str, Any]:
    """Read a checkpoint of the task.

    Raises:
        Unusable: it is missing, truncated, not a checkpoint, or that of another network.
    """
    if why := damage(path):
        raise Unusable(why)
    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # the type depends on the content of the file
        raise Unusable(f"torch cannot load it: {_first_line(error)}") from error
    if not isinstance(checkpoint, dict) or not all(key in checkpoint for key in NEEDED):
        raise Unusable("it is not the checkpoint of a run")
    try:
        difference = first_difference(task.state_dict(), checkpoint["state_dict"])
        epoch, batch = _progress(checkpoint)
        _best_score(checkpoint)
        is_possible = min(epoch, batch, int(checkpoint["global_step"])) >= 0
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, RuntimeError) as error:
        raise Unusable(f"it is not the checkpoint of a run: {_first_line(error)}") from error
    if difference is not None or not is_possible:
        raise Unusable(f"it is of another network: {difference}" if difference else "its progress is negative")
    return checkpoint


@contextlib.contextmanager
def setting_aside(resumption: Resumption | None, last: LastCheckpoint) -> Iterator[None]:
    """Restore and train inside the block; set a checkpoint aside that looks intact but cannot be restored.

    Raises:
        UserError: a checkpoint was set aside; the next attempt does without it.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if resumption is None or last.has_started:
            raise
        kept = _put_aside(resumption.path)
        raise UserError(
            f"the checkpoint {resumption.path} cannot be restored ({_first_line(error)}) and is kept as {kept.name}; "
            f"type the same command again, and the run resumes without it"
        ) from error


def _put_aside(path: Path) -> Path:
    kept = path.with_name(f"{path.name}.unusable")
    with contextlib.suppress(OSError):  # another process of the run has done it already
        path.rename(kept)
    return kept


def read_best(path: str | Path) -> dict[str, Any]:
    """Read the checkpoint of the best epoch at the end of a run.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        if why := damage(Path(path)):
            raise Unusable(why)
        best: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise UserError(
            f"the best weights in {path} are lost ({_first_line(error)}); type the same command again, and the run "
            f"starts over"
        ) from error
    return best


def keep_best(task: Classification, path: str | Path, folder: RunFolder) -> tuple[int, dict[str, float]]:
    """Load the best epoch's weights into the task and store them; return its number and its metrics.

    Args:
        task: what was trained.
        path: of the checkpoint of the best epoch.
        folder: of the run.

    Raises:
        UserError: as `read_best`.
    """
    best = read_best(path)
    task.load_state_dict(best["state_dict"])
    write_weights(task.network, folder.weights)
    row = folder.epochs()[int(best["epoch"])]
    return int(best["epoch"]), {key: float(value) for key, value in row.items() if key != "epoch"}


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a file that torch.save wrote; None if it is intact.

    The archive stores a checksum of every tensor.
    """
    if checkpoint.exists() and not checkpoint.is_file():
        return "it is no regular file"
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                return "it is compressed, and torch.save does not compress"  # and which may unpack to any size
            torn = archive.testzip()
    except Exception as error:  # zipfile raises several kinds on bytes that only look like an archive
        return printable(str(error), 200) or type(error).__name__
    return None if torn is None else f"the checksum of {torn} does not match"


def _first_line(error: BaseException) -> str:
    text = printable(str(error).partition("\n")[0], 200).rstrip(".")
    return text if isinstance(error, Unusable) else f"{type(error).__name__}: {text}"
