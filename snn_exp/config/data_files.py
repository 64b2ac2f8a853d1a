"""The files of the data sets: where they are looked for, and whether they are whole. No torch.

A data set states its files in the attribute `checks`: a path below the data root, and how its content is checked:

    sha256:HEX   of the content; a file of that name and .gz is read as well, unpacked
    md5:HEX      of the file
    idx          the header of MNIST's format agrees with the size
    files:N:EXT  a folder with N files of that extension, at any depth

Besides the data root they are looked for in its `system_folder`, where a package of the system puts them. One that is
no absolute path lies in the wheel of a Python package, which is looked for where `make series` installs it, and where
Python finds it; it is never imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import importlib.util
import io
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from snn_exp.errors import UserError
from snn_exp.files import MIB, require_file

MOST = 1024 * MIB  # of an unpacked file
CHUNK = MIB


class Changed(Exception):
    """The content of a file is not that of the data set; the text says in what."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found of a data set.

    Args:
        state: embedded, own (the user says where it is), present, missing or damaged.
        files: name, as `checks` has it -> file or folder; empty where some are missing.
        faults: file -> what is wrong with it.
    """

    state: str
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    faults: Mapping[Path, str] = dataclasses.field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Return the folder that holds all the files."""
        return Path(os.path.commonpath([path if path.is_dir() else path.parent for path in self.files.values()]))

    @property
    def size(self) -> int:
        """Return the bytes on disk."""
        files = (file for path in self.files.values() for file in (_below(path) if path.is_dir() else [path]))
        return sum(file.stat().st_size for file in files)


def places(system_folder: str, root: Path) -> list[Path]:
    """List the folders in which a data set is looked for, in order."""
    if not system_folder:
        return [root]
    folder = Path(system_folder)
    return [root, *([folder] if folder.is_absolute() else (wheels / folder for wheels in _wheel_folders(folder)))]


def is_of_a_wheel(system_folder: str) -> bool:
    """Return whether a Python package brings the files."""
    return bool(system_folder) and not Path(system_folder).is_absolute()


def wheel_command(package: str) -> str:
    """Return the command that brings a Python package's files: `make series` in a checkout, else pip."""
    return "make series" if _is_checkout() else f"pip install --no-deps {package}"


CHECKOUT = Path(__file__).parents[2]


def _is_checkout() -> bool:
    return (CHECKOUT / "pyproject.toml").is_file()


def _wheel_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders in which the wheel of a package may be installed."""
    if _is_checkout():
        yield CHECKOUT / ".series"
    with contextlib.suppress(ValueError, ImportError):
        if (spec := importlib.util.find_spec(folder.parts[0])) is not None:
            yield from (Path(place).parent for place in spec.submodule_search_locations or ())


def find(checks: Mapping[str, str], root: Path, system_folder: str = "") -> dict[str, Path]:
    """Return the files of a data set in the first place that has all of them; {} if there is none.

    Args:
        checks: of the data set.
        root: the data root.
        system_folder: where a package of the system, or a wheel, puts them, without further folders.
    """
    for place in places(system_folder, root):
        found = {}
        for name, check in checks.items():
            path = place / (name if place == root else Path(name).name)
            packed = path.with_name(f"{path.name}.gz")
            if os.path.lexists(path):
                found[name] = path
            elif check.startswith("sha256:") and os.path.lexists(packed):
                found[name] = packed
        if checks and len(found) == len(checks):
            return found
    return {}


def look(traits: Mapping[str, Any], root: Path) -> Found:
    """Look for a data set and check its files.

    Args:
        traits: of its option in the menu.
        root: the data root.
    """
    if traits["embedded"]:
        return Found("embedded")
    if traits["own"]:
        return Found("own")
    files = find(traits["checks"], root, traits["system_folder"])
    if not files:
        return Found("missing")
    faults = {path: why for name, path in files.items() if (why := fault(path, traits["checks"][name]))}
    return Found("damaged" if faults else "present", files, faults)


def fault(path: Path, check: str) -> str | None:
    """Describe what is wrong with a file or folder; None if nothing is.

    Args:
        path: the file or folder.
        check: as in the head of this file.
    """
    try:
        known = path.stat()
    except OSError as error:  # such as a loop of links
        return f"cannot be read ({error.strerror})"
    if check.startswith("files:"):
        return _checked_folder(path, check)
    return _checked(path, check, (known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns))


@functools.cache
def _checked(path: Path, check: str, known: tuple[int, ...]) -> str | None:
    """Check a file once for as long as it stays the same."""
    try:
        require_file(path)
        kind, _, wanted = check.partition(":")
        if kind == "sha256":
            content(path, check)
        elif kind == "md5" and _digest(path, "md5") != wanted:
            raise Changed
        elif kind == "idx":
            _check_idx(path)
    except UserError as error:
        return str(error).removeprefix(f"{path} ")
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except Changed:
        return "is truncated or has been changed"
    return None


def content(path: Path, check: str) -> bytes:
    """Read a file, unpacked, and check its content.

    Raises:
        UserError: it is not a regular file.
        Changed: the content is another, or cut short.
    """
    require_file(path)
    try:
        with _unpacked(path) as file:
            read = file.read(MOST)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise Changed from None
    if hashlib.sha256(read).hexdigest() != check.removeprefix("sha256:"):
        raise Changed
    return read


def _unpacked(path: Path) -> BinaryIO | io.BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check_idx(path: Path) -> None:
    """Compare the header with the size: two zeros, 8 for bytes, the rank, big-endian sizes, the values."""
    with path.open("rb") as file:
        head = file.read(4)
        rank = head[3] if head[:3] == b"\x00\x00\x08" and len(head) == 4 else 0
        sizes = [int.from_bytes(file.read(4)) for _ in range(rank)]
    if not rank or path.stat().st_size != 4 + 4 * rank + math.prod(sizes):
        raise Changed


def _checked_folder(path: Path, check: str) -> str | None:
    _, wanted, extension = check.split(":")
    found = sum(file.suffix == extension for file in _below(path))
    return None if found == int(wanted) else f"holds {found:,} of {int(wanted):,} files {extension}"


def _below(folder: Path) -> Iterator[Path]:
    for at, _, names in os.walk(folder):
        yield from (Path(at) / name for name in names)
