"""What an interrupted run goes on from: the checkpoints it writes, and which of them is whole."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint

from snn_exp.results import RunFolder, whole_file


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, on the disk where it will lie.

    Lightning's own writes to the system's temporary folder and moves it here, which between two disks is a copy that a
    kill can tear.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes beside the place, then renames."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with whole_file(Path(path)) as scratch:
            scratch.write_bytes(content.getbuffer())


def make_checkpoints(folder: Path) -> ModelCheckpoint:
    """The best epoch by validation accuracy, and then the last, for resuming."""
    return ModelCheckpoint(
        folder,
        filename="best",
        monitor="val/score",
        mode="max",
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


def checkpoint_to_resume(folder: RunFolder, say: Callable[[str], None]) -> Path | None:
    """The checkpoint from which a run goes on; None if it starts anew.

    That is the last one. Where it is damaged, it is the one before it that still is there, which is the best: all that
    came behind is trained again, to the same weights. Without a whole best one there is nothing to choose at the end.

    Args:
        folder: of the run.
        say: told what is damaged.
    """
    last = folder.last_checkpoint
    if last is None:
        return None
    best = last.with_name("best.ckpt")
    if why := damage(best):
        say(f"the checkpoint {best} is damaged ({why}), and with it the best weights so far; the run starts anew")
        return None
    if why := damage(last):
        say(f"the checkpoint {last} is damaged ({why}); the run goes on from the one before it, {best.name}")
        return best
    return last


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a file that torch.save wrote; None if it is as it was written.

    Every tensor lies in the archive with its check sum.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            torn = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        return str(error)
    return None if torn is None else f"the check sum of {torn} does not match"
