"""Data sets whose files a library fetches, and what is said where they are missing or damaged."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from snn_exp.data.base import DATASETS, Dataset
from snn_exp.errors import UserError

LIBRARIES = ("torchvision.datasets.utils", "tonic.download_utils")  # that draw a bar while they fetch
MNIST_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)  # of the official training set


class Fetched(Dataset):
    """A data set whose files a library's class of the same name fetches and reads.

    `files` describes the files to place under root by hand.
    """

    files: ClassVar[str]

    @classmethod
    @abstractmethod
    def _open(cls, root: Path, *, train: bool, download: bool) -> Any:
        """Open the library's object; raise whatever the library does where files are missing."""

    @classmethod
    def _files(cls, root: Path, *, train: bool) -> tuple[Path, ...]:
        """List the files of the training or the test set, where their names are known."""
        return ()

    @classmethod
    def _fault(cls, root: Path, file: Path) -> str | None:
        """Describe what is wrong with an existing file; None if nothing is known to be."""
        return None

    def _source(self, *, train: bool) -> str:
        files = self._files(self.root, train=train)
        folder = files[0].parent if files else self.root
        names = f" ({', '.join(file.name for file in files)})" if files else ""
        return f"{super()._source(train=train)} in {folder.resolve()}{names}"

    @classmethod
    def is_present(cls, root: Path) -> bool:
        try:
            for train in (True, False):
                cls._open(root, train=train, download=False)
        except Exception:  # missing, or a damaged file, which each reader reports in its own way
            return False
        return True

    @classmethod
    def prepare(cls, root: Path) -> None:
        if cls.is_present(root):
            return
        before = {root, *root.rglob("*")} if root.exists() else set()
        try:
            root.mkdir(parents=True, exist_ok=True)
            with _passing_bars():
                for train in (True, False):
                    cls._open(root, train=train, download=True)
        except Exception as error:  # the network, an archive cut short, a damaged file
            _remove_what_is_empty(root, before)
            raise cls._not_there(root, error) from None

    @classmethod
    def _not_there(cls, root: Path, error: Exception) -> UserError:
        typed = f"dataset={DATASETS.name_of(cls)}: the data set {cls.__name__}"
        files = [file for train in (True, False) for file in cls._files(root, train=train)]
        for file in files:
            if os.path.lexists(file) and (fault := cls._fault(root, file)):
                again = "place that file there again"
                if cls.package and file.is_relative_to(cls.system_folder):
                    again = f"type apt-get install --reinstall {cls.package}"
                return UserError(
                    f"{typed} is damaged: {os.path.realpath(file)} {fault}; {again}, or set SNN_EXP_DATA to a folder "
                    f"with {cls.files}"
                )
        also = f", nor in {cls.system_folder}," if cls.system_folder else ","
        install = f"type apt-get install {cls.package}, or " if cls.package else ""
        return UserError(
            f"{typed} is not in {root.resolve()}{also} or is damaged there, and could not be fetched "
            f"({in_words(error)}); {install}place {cls.files} there by hand, or set SNN_EXP_DATA to the folder with it"
        )


@contextlib.contextmanager
def _passing_bars() -> Iterator[None]:
    """Wipe the bars of downloads when they end; draw none where there is no terminal, whose log they would fill."""
    modules = [sys.modules[name] for name in LIBRARIES if name in sys.modules]
    kept = {module: vars(module)["tqdm"] for module in modules if "tqdm" in vars(module)}
    for module, bar in kept.items():
        vars(module)["tqdm"] = functools.partial(bar, leave=False, disable=not sys.stderr.isatty())
    try:
        yield
    finally:
        for module, bar in kept.items():
            vars(module)["tqdm"] = bar


def in_words(error: Exception) -> str:
    """Return a library's error message in one line, without Python's own words."""
    said = re.sub(r"<urlopen error (.*?)>", r"\1", " ".join(str(error).split()))
    return re.sub(r"\[Errno -?\d+\] ", "", said)[:200] or "it cannot be read"


def _remove_what_is_empty(root: Path, before: set[Path]) -> None:
    """Remove the empty folders that a failed download leaves behind, and nothing that was there before."""
    for path in sorted({root, *root.rglob("*")} - before, reverse=True):
        with contextlib.suppress(OSError):  # a folder that is not empty
            if path.is_dir():
                path.rmdir()
            elif path.stat().st_size == 0:
                path.unlink()
