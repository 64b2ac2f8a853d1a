"""A box for each case: output root, home, working folder, config folder, studies, data, what lies outside, a canary."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

PARTS = ("out", "home", "cwd", "configs", "studies", "data", "outside", "canary", "tmp")
TINY = ("dataset=digits_200", "depth=d8", "network.width=4", "trainer.max_epochs=1", "logger=none")


def tiny(*overrides: str) -> tuple[str, ...]:
    """Overrides of a run of a second or two, unless they say something else."""
    chosen = {override.partition("=")[0] for override in overrides}
    return (*(word for word in TINY if word.partition("=")[0] not in chosen), *overrides)


@dataclasses.dataclass(frozen=True)
class Box:
    """Where one case happens.

    Args:
        root: holds PARTS, and beside them what the call printed.
    """

    root: Path

    @classmethod
    def made(cls, root: Path, base: Path | None = None, parts: Sequence[str] = ("out", "studies")) -> Box:
        """An empty box, or one with those parts of the base in it."""
        root.mkdir(parents=True)
        for part in PARTS:
            if base is not None and part in parts:
                shutil.copytree(base / part, root / part, symlinks=True)
            else:
                (root / part).mkdir()
        (root / "outside" / "kept.txt").write_text("it stays as it is\n")
        return cls(root)

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    @property
    def runs(self) -> Path:
        return self.root / "out" / "runs"

    def environment(self) -> dict[str, str]:
        """What the call sees; the rest of our own environment stays."""
        return {
            "HOME": str(self / "home"),
            "XDG_CACHE_HOME": str(self.root.parent / "cache"),  # compiled kernels, which all boxes share
            "TMPDIR": str(self / "tmp"),
            "SNN_EXP_OUTPUT": str(self / "out"),
            "SNN_EXP_STUDIES": str(self / "studies"),
            "SNN_EXP_DATA": str(self / "data"),
            "WANDB_MODE": "offline",
            # nothing is fetched: nobody listens there
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
        }

    def seen(self) -> dict[str, str]:
        """Path -> what is there, of everything but scratch; nothing is opened that could block."""
        found = {}
        for part in PARTS:
            if part == "tmp":
                continue
            for folder, folders, files in os.walk(self / part):
                if folder == str(self / "data"):
                    folders[:] = [
                        name for name in folders if name != "cached"
                    ]  # what was made of data, for the next time
                for name in (*folders, *files):
                    path = Path(folder) / name
                    found[str(path.relative_to(self.root))] = _seen(path)
        return found

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def _seen(path: Path) -> str:
    try:
        status = path.lstat()
    except OSError:
        return "gone"
    if stat.S_ISLNK(status.st_mode):
        return f"link to {path.readlink()}"
    if stat.S_ISREG(status.st_mode):
        return (
            f"file {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
            if status.st_size < 2**24
            else f"file of {status.st_size}"
        )
    return "folder" if stat.S_ISDIR(status.st_mode) else "special"
