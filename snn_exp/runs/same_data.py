"""Check that a stored run belongs to the present data: compare fingerprints of its split and test set with today's.

Today's fingerprints take a data set that is read and split, torch, and some seconds. So they are kept in the folder
fingerprints/ of the output root, under a key of all that decides them: the data set's config, the seed, the steps of
data with time, the versions of what reads and splits, and size and times of every file under the data root. With a
known key no torch is imported. What is kept there can be removed at any time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path

from snn_exp.config import data_files, own_files, schemas
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.files import read_bytes, write_text
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import data_root, output_root
from snn_exp.runs.provenance import code_hash, package_versions


@dataclasses.dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of a data set, split by a seed.

    Args:
        split: of training and validation samples, and of which samples are the test set.
        test: of the test samples; None where they were not read.
    """

    split: str
    test: str | None = None


class DataAtHand:
    """The data sets as they are now; the files are looked at once, so make one per command.

    Example:
        >>> from snn_exp.config.compose import compose
        >>> found = DataAtHand().fingerprints(compose(["dataset=digits_200"]), with_test=False)
        >>> len(found.split)
        16
    """

    def __init__(self) -> None:
        self._known: dict[str, Fingerprints | None] = {}

    def require(self, folder: RunFolder, config: ExperimentConfig) -> None:
        """Compare a stored run with the data; where there are none, nothing contradicts it.

        Raises:
            UserError: the run was trained or tested on other data, or another split of them.
        """
        was_tested = folder.test_fingerprint() is not None
        if folder.split_fingerprints() and (found := self.fingerprints(config, with_test=was_tested)) is not None:
            require_split(folder, found.split)
            require_test(folder, found.test)

    def fingerprints(self, config: ExperimentConfig, *, with_test: bool) -> Fingerprints | None:
        """Return the fingerprints of a config's data; None if the data are missing.

        Args:
            config: whose.
            with_test: whether to include that of the test samples.
        """
        key = self.key(config)
        found = self._known[key] if key in self._known else _kept(key)
        if (found is None and key not in self._known) or (with_test and found is not None and found.test is None):
            found = self._read(config, key)
        self._known[key] = found
        return found

    def _read(self, config: ExperimentConfig, key: str) -> Fingerprints | None:
        dataset = schemas.registry_of("dataset")[str(config.dataset["name"])]
        if not dataset.is_there(config.dataset, data_root()):  # so that nothing is fetched to look at a stored result
            return None
        from snn_exp.data.base import make_dataset

        data = make_dataset(config.dataset, data_root(), config.seed, config.num_steps)
        found = Fingerprints(data.fingerprint, data.test_fingerprint)
        keep(config, key, found)
        return found

    def key(self, config: ExperimentConfig) -> str:
        """Return the key that a fingerprint is stored under."""
        traits = schemas.load()["dataset"][str(config.dataset["name"])].traits
        decides = {
            "dataset": dict(config.dataset),
            "seed": config.seed,
            "num_steps": config.num_steps if traits["has_time"] else None,
            "versions": self._versions,
            "code": code_hash(),
            "files": None if traits["embedded"] and not traits["has_time"] else self._files,
        }
        if traits["own"]:
            name, path = str(config.dataset["name"]), str(config.dataset["path"])
            decides["files"] = own_files.signature_of(name, path)
        if system_folder := traits["system_folder"]:
            places = data_files.places(system_folder, data_root())[1:]
            decides["system"] = _listing(places[0]) if len(places) == 1 else "".join(map(_listing, places))
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def _versions(self) -> dict[str, str]:
        return package_versions()

    @cached_property
    def _files(self) -> str:
        return _listing(data_root())


def require_split(folder: RunFolder, found: str) -> None:
    """Compare a stored run with the fingerprint of a split that has been read.

    Raises:
        UserError: it is another.
    """
    if other := next((stored for stored in folder.split_fingerprints() if stored != found), None):
        raise _other_data(folder, "was trained on split", other, "split", found)


def require_test(folder: RunFolder, found: str | None) -> None:
    """Compare a run that was tested with the fingerprint of a test set that has been read.

    Raises:
        UserError: it is another.
    """
    if (stored := folder.test_fingerprint()) is not None and found is not None and stored != found:
        raise _other_data(folder, "was tested on test set", stored, "test set", found)


def _other_data(folder: RunFolder, was: str, stored: str, what: str, found: str) -> UserError:
    return UserError(
        f"run {folder.path.name} {was} {stored[:8]} and the data at hand give {what} {found[:8]}: the data, or what "
        f"splits them, have changed since; put the old data back, or train the run again with --rerun"
    )


def keep(config: ExperimentConfig, key: str, found: Fingerprints) -> None:
    """Keep fingerprints, if the files are still those of the key; where they cannot be kept it costs time."""
    if DataAtHand().key(config) == key and not entry_points(group="snn_exp.plugins"):  # a guest's code has no hash
        with suppress(OSError):
            path = _path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, " ".join(filter(None, (found.split, found.test))) + "\n")


def _kept(key: str) -> Fingerprints | None:
    with suppress(OSError, UserError):
        words = read_bytes(_path(key), limit=100).decode(errors="replace").split()
        if len(words) in (1, 2) and all(re.fullmatch("[0-9a-f]{16}", word) for word in words):
            return Fingerprints(*words)
    return None


def _path(key: str) -> Path:
    return output_root() / "fingerprints" / key


def _listing(folder: Path) -> str:
    """Return a hash of the paths, sizes and times of all files in a folder."""
    digest = hashlib.sha256(str(folder.resolve()).encode())
    for line in sorted(_lines(folder, set())):
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _lines(folder: Path, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Yield one line per file below a folder; links are followed, but no folder is visited twice."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                found = entry.stat()
                if not entry.is_dir():
                    yield f"{entry.path} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\n"
                elif (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    yield from _lines(Path(entry.path), seen)
