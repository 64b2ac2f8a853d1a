"""Arrays in an .npz file.

Shapes: N samples, C channels, H W space.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from snn_exp.config import own_files
from snn_exp.data.base import DATASETS
from snn_exp.data.on_disk import Array
from snn_exp.data.own import OwnData, Read
from snn_exp.data.split import Indices
from snn_exp.errors import UserError
from snn_exp.files import MIB, Unreadable, printable

BLOCK = 8 * MIB
MOST_LABELS = 512 * MIB  # bytes


# what zipfile, zlib and numpy meet in a file that was cut or made up
_DAMAGES = (
    *(OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, OverflowError, RuntimeError, MemoryError),
    *(NotImplementedError, zipfile.BadZipFile, zlib.error),
)


class ArraysInFile:
    """The arrays of an .npz file, read without running anything that it holds.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
        """Open one array; yield the file behind its header, its shape and its type.

        Raises:
            UserError: it is damaged, of Python objects, or in another order.
        """
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                if version not in ((1, 0), (2, 0)):
                    raise ValueError(f"its form {version} is unknown")
                header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, is_fortran, dtype = header(file)
                if dtype.hasobject:
                    raise Unreadable(
                        self.path, f"holds Python objects in {name}, which are never unpacked; store numbers, or words"
                    )
                if is_fortran and len(shape) > 1:
                    raise Unreadable(self.path, f"has {name} in Fortran's order; store numpy.ascontiguousarray({name})")
                declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
                if declared != archive.getinfo(f"{name}.npy").file_size - file.tell():
                    raise ValueError(f"{name} has another size than it says")
                yield file, shape, dtype
        except UserError:
            raise
        except _DAMAGES as error:
            raise Unreadable(self.path, f"is damaged: {name} cannot be read ({_in_words(error)})") from None

    def form(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and type of an array."""
        with self.opened(name) as (_, shape, dtype):
            return shape, dtype

    def whole(self, name: str, most: int) -> Array:
        """Read an array of at most so many bytes.

        Raises:
            UserError: as `opened`; it is larger.
        """
        with self.opened(name) as (file, shape, dtype):
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if size > most:
                raise Unreadable(
                    self.path, f"has {name} of {size / MIB:,.0f} MiB, and {most / MIB:,.0f} MiB are the limit"
                )
            return np.frombuffer(_exactly(file, size), dtype).reshape(shape)

    def blocks(self, name: str) -> Iterator[Array]:
        """Yield an array, cut along its first axis."""
        with self.opened(name) as (file, shape, dtype):
            row = int(np.prod(shape[1:], dtype=object)) * dtype.itemsize
            rows = max(1, BLOCK // max(1, row))
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                yield np.frombuffer(_exactly(file, count * row), dtype).reshape(count, *shape[1:])
            if file.read(1):  # and the sum is compared at the end
                raise ValueError("it is longer than it says")


def _exactly(file: IO[bytes], size: int) -> bytes:
    read = file.read(size)
    if len(read) != size:
        raise EOFError("it is cut short")
    return read


def _in_words(error: BaseException) -> str:
    if "malformed node" in str(error):  # of the parser of Python that numpy reads headers with
        return "its header is none of numpy's"
    return printable(" ".join(str(error).split()), 120) or "it is damaged"


@DATASETS.register("arrays")
class Arrays(OwnData):
    """Images and labels as arrays in an .npz file.

    Definition:
        x is [N, H, W], [N, H, W, C] or [N, C, H, W] with C of 1 or 3, uint8 or floats in [0, 1]; y is [N], whole
        numbers from 0 on, or words; x_val and y_val, x_test and y_test likewise, if there are any. What is not
        given is drawn: a test part fixed by split_seed, validation redrawn by the run's seed

    Args:
        path: the .npz file; no part of the identity.

    Raises:
        UserError: the file is damaged, lacks an array, holds Python objects, counts that differ, labels that are no
            classes, or pixels out of range.

    Source: our choice, for arrays that exist already; numpy.savez writes them.

    Example:
        >>> Arrays.own
        True
    """

    def _found_content(self) -> str:
        self._archive = own_files.archive(self.path)
        self._file = ArraysInFile(self._archive.path)
        return self._archive.content

    def _look(self) -> Read:
        names = dict(zip(own_files.PARTS, ("x", "x_val", "x_test"), strict=True))
        names = {part: name for part, name in names.items() if name in self._archive.members}
        forms = {name: self._file.form(name) for name in names.values()}
        chw, is_byte = self._sample_form(forms)
        counts = {part: forms[name][0][0] for part, name in names.items()}
        labels, classes = self._labels({part: f"y{name[1:]}" for part, name in names.items()}, counts)
        ends = np.cumsum(list(counts.values())).tolist()
        parts = {part: (end - counts[part], end) for part, end in zip(counts, ends, strict=True)}
        return Read((ends[-1], *chw), "uint8" if is_byte else "float32", labels, parts, classes)

    def _sample_form(
        self, forms: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
    ) -> tuple[tuple[int, int, int], bool]:
        """Return (C, H, W), and whether pixels are bytes; they must be those of all parts."""
        found: dict[str, tuple[tuple[int, int, int], bool]] = {}
        for name, (shape, dtype) in forms.items():
            if dtype != np.uint8 and dtype.kind != "f":
                raise Unreadable(
                    self._file.path, f"has {name} of {dtype.name}; pixels are bytes, numpy.uint8, or floats from 0 to 1"
                )
            if 0 in shape:
                raise Unreadable(self._file.path, f"has no sample in {name}, whose shape is {shape}")
            found[name] = _chw(self._file.path, name, shape), dtype == np.uint8
            if found[name] != found["x"]:
                raise Unreadable(
                    self._file.path,
                    f"has {name} of shape {shape} and type {dtype.name}, and x of {forms['x'][0]} and "
                    f"{forms['x'][1].name}; the samples of all parts need one shape and type",
                )
        return found["x"]

    def _labels(self, names: dict[str, str], counts: dict[str, int]) -> tuple[Indices, tuple[str, ...]]:
        """Return the labels of all parts, and the names of the classes."""
        read = {part: self._file.whole(name, MOST_LABELS) for part, name in names.items()}
        for part, y in read.items():
            name = names[part]
            if y.ndim != 1 or y.dtype.kind not in "iuU":
                raise Unreadable(
                    self._file.path,
                    f"has {name} of shape {y.shape} and type {y.dtype.name}; labels are [N], whole numbers or words",
                )
            if len(y) != counts[part]:
                raise Unreadable(
                    self._file.path, f"has {counts[part]} samples in x{name[1:]} and {len(y)} labels in {name}"
                )
            if y.dtype.kind != read["train"].dtype.kind and "U" in (y.dtype.kind, read["train"].dtype.kind):
                raise Unreadable(self._file.path, f"has words in one of y and {name}, and numbers in the other")
        classes = np.unique(read["train"])
        if len(classes) < 2:
            raise Unreadable(self._file.path, "has one class in y, and there must be at least two")
        for part, y in read.items():
            if len(strange := np.setdiff1d(y, classes)):
                raise Unreadable(
                    self._file.path, f"has the class {printable(str(strange[0]))} in {names[part]}, and not in y"
                )
        if classes.dtype.kind != "U" and (int(classes[0]), int(classes[-1])) != (0, len(classes) - 1):
            missing = next(k for k, found in enumerate([*map(int, classes), -1]) if k != found)
            raise Unreadable(
                self._file.path,
                f"has labels from {classes[0]} to {classes[-1]} in y and no sample of class {missing}; classes count "
                f"from 0 on without a gap: store numpy.unique(y, return_inverse=True)[1]",
            )
        labels = np.concatenate([np.searchsorted(classes, y) for y in read.values()]).astype(np.int64)
        return labels, tuple(map(str, classes)) if classes.dtype.kind == "U" else tuple(map(str, range(len(classes))))

    def _key(self) -> dict[str, Any]:
        return {}

    def _samples(self, read: Read) -> Iterator[Array]:
        for name in ("x", "x_val", "x_test"):
            if name not in self._archive.members:
                continue
            first = 0
            for block in self._file.blocks(name):
                yield self._in_range(name, first, _channels_first(block, read.shape[1:]).astype(read.dtype, copy=False))
                first += len(block)

    def _in_range(self, name: str, first: int, block: Array) -> Array:
        if block.dtype != np.uint8:
            wrong = ~((block >= 0) & (block <= 1)).reshape(len(block), -1).all(1)
            if wrong.any():
                index = int(wrong.argmax())
                low, high = block[index].min(), block[index].max()
                raise Unreadable(
                    self._file.path,
                    f"has pixels from {low:g} to {high:g} in sample {first + index} of {name}; floats must lie between "
                    f"0 and 1: divide them, or store bytes",
                )
        return block


def _chw(path: Path, name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (C, H, W) of samples.

    Raises:
        UserError: the shape is not one of images, or of more than one kind.
    """
    if len(shape) == 3:
        return 1, shape[1], shape[2]
    if len(shape) != 4 or not {1, 3} & {shape[1], shape[3]}:
        raise Unreadable(
            path, f"has {name} of shape {shape}; it must be [N, H, W], [N, H, W, C] or [N, C, H, W] with C of 1 or 3"
        )
    if {shape[1], shape[3]} <= {1, 3}:
        raise Unreadable(
            path, f"has {name} of shape {shape}, in which the channels may be first or last; store [N, H, W]"
        )
    return (shape[3], shape[1], shape[2]) if shape[3] in (1, 3) else (shape[1], shape[2], shape[3])


def _channels_first(block: Array, chw: tuple[int, ...]) -> Array:
    if block.ndim == 3:
        return block[:, None]
    return block if block.shape[1:] == chw else block.transpose(0, 3, 1, 2)
