"""Whether a stored run belongs to the data at hand: the fingerprint of its split, compared with today's. No torch.

To know today's fingerprint a data set must be read and split, which takes torch and some seconds. So it is kept in
`fingerprints/` of the output root, under a key of all that decides it: the data set's config, the seed, the steps of
data with time, the versions of what reads and splits, and size and times of every file under the data root. What is
kept there can be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path

from snn_exp import menu
from snn_exp.config import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.results import RunFolder, code_hash, data_root, output_root, package_versions, write_text


class DataAtHand:
    """The data sets as they are now; the files are looked at once, so make one per command.

    Example:
        >>> from snn_exp.compose import compose
        >>> len(DataAtHand().fingerprint(compose(["dataset=digits_200"])) or "")
        16
    """

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def require(self, folder: RunFolder, config: ExperimentConfig) -> None:
        """Compare a stored run with the data; where there are none, nothing contradicts it.

        Raises:
            UserError: the run was trained on other data, or another split of them.
        """
        if folder.split_fingerprints() and (found := self.fingerprint(config)) is not None:
            require_split(folder, found)

    def fingerprint(self, config: ExperimentConfig) -> str | None:
        """Return the fingerprint of a config's split; None where its data are not there."""
        key = self.key(config)
        if key not in self._known:
            self._known[key] = _kept(key) or self._read(config, key)
        return self._known[key]

    def _read(self, config: ExperimentConfig, key: str) -> str | None:
        dataset = menu.registry_of("dataset")[str(config.dataset["name"])]
        if not dataset.is_present(data_root()):  # so that nothing is fetched to look at a stored result
            return None
        from snn_exp.events import make_dataset

        found = make_dataset(config.dataset, data_root(), config.seed, config.num_steps).fingerprint
        keep(config, key, found)
        return found

    def key(self, config: ExperimentConfig) -> str:
        """Return what a fingerprint is kept under."""
        traits = menu.load()["dataset"][str(config.dataset["name"])].traits
        decides = {
            "dataset": dict(config.dataset),
            "seed": config.seed,
            "num_steps": config.num_steps if traits["has_time"] else None,
            "versions": self._versions,
            "code": code_hash(),
            "files": None if traits["embedded"] and not traits["has_time"] else self._files,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def _versions(self) -> dict[str, str]:
        return package_versions()

    @cached_property
    def _files(self) -> str:
        """A hash of where every file of the data root is, how large, and since when."""
        digest = hashlib.sha256(str(data_root().resolve()).encode())
        for line in sorted(_lines(data_root(), set())):
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()


def require_split(folder: RunFolder, found: str) -> None:
    """Compare a stored run with the fingerprint of a split that has been read.

    Raises:
        UserError: it is another.
    """
    if other := next((stored for stored in folder.split_fingerprints() if stored != found), None):
        raise UserError(
            f"run {folder.path.name} was trained on split {other[:8]} and the data at hand give split {found[:8]}: "
            f"the data, or what splits them, have changed since; put the old data back, or train the run again with "
            f"--rerun"
        )


def keep(config: ExperimentConfig, key: str, fingerprint: str) -> None:
    """Keep a fingerprint, if the files are still those of the key; where it cannot be kept it costs time."""
    if DataAtHand().key(config) == key and not entry_points(group="snn_exp.plugins"):  # a guest's code has no hash
        with suppress(OSError):
            path = _path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, fingerprint + "\n")


def _kept(key: str) -> str | None:
    with suppress(OSError, ValueError):
        text = _path(key).read_text().strip()
        if len(text) == 16 and set(text) <= set("0123456789abcdef"):
            return text
    return None


def _path(key: str) -> Path:
    return output_root() / "fingerprints" / key


def _lines(folder: Path, seen: set[tuple[int, int]]) -> Iterator[str]:
    """A line per file below a folder; a link leads on, but to no folder twice."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                found = entry.stat()
                if not entry.is_dir():
                    yield f"{entry.path} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\n"
                elif (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    yield from _lines(Path(entry.path), seen)
