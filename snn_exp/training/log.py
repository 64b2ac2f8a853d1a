"""The log of a run: its log file and the terminal."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

Say = Callable[[str], None]  # logs one line


class RunLog:
    """A logger that writes each line to train.log, and to the terminal if asked.

    Args:
        path: of the log file.
        echo: print as well.
    """

    def __init__(self, path: Path, echo: bool) -> None:
        self.path = path
        self.echo = echo

    def __call__(self, line: str) -> None:
        """Log one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self.echo:
            print(line, flush=True)


def quiet_libraries() -> None:
    """Silence startup messages of Lightning and related libraries on which a user cannot act."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric|torch\.utils\.data")
    warnings.filterwarnings("ignore", message=r".*(lr_scheduler\.step|srun|isinstance\(treespec, LeafSpec\)).*")
