"""Samples in a file that are read as they are needed: one array [N, C, H, W], a batch at a time.

The file is a .npy that is written whole or not at all. A batch is read into memory of its own, and what the kernel
keeps of the file is not this process's. Mapped into memory instead, the file became resident bit by bit: where the page
cache has large pages, a sample of 12 KiB brings 2 MiB, and 1.2 GiB of pixels were resident soon.

Shapes: N samples, C channels, H W space.
"""

from __future__ import annotations

import itertools
import os
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snn_exp.data.split import Indices, Split
from snn_exp.errors import UserError
from snn_exp.files import MIB, Unreadable, require_file, whole_file

BLOCK = 8 * MIB

Array = npt.NDArray[Any]


class ArrayOnDisk:
    """An array [N, C, H, W] in a .npy file.

    Args:
        path: the file.

    Raises:
        Unreadable: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        require_file(path)
        self.path = path
        try:
            with path.open("rb") as file:
                if (version := np.lib.format.read_magic(file)) != (1, 0):
                    raise ValueError(f"version {version}")
                self.shape, is_fortran, self.dtype = np.lib.format.read_array_header_1_0(file)
                self._start = file.tell()
                if is_fortran or self.dtype.hasobject or not self.shape:
                    raise ValueError("another form")
                self.row_bytes = int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize
                if os.fstat(file.fileno()).st_size != self._start + self.nbytes:
                    raise ValueError("another length")
        except ValueError as error:
            raise Unreadable(path, f"is damaged ({error}); remove it, and it is made again") from None
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return int(self.shape[0])

    @property
    def nbytes(self) -> int:
        """Return the bytes of all samples."""
        return len(self) * self.row_bytes

    def take(self, rows: Indices) -> Array:
        """Read some of the samples, those that follow one another at once.

        Raises:
            Unreadable: the file was cut meanwhile.
        """
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        if not taken.size:
            return taken
        into = taken.data.cast("B")
        starts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for first, end in itertools.pairwise(starts):
            at, last = first * self.row_bytes, end * self.row_bytes
            offset = self._start + int(rows[first]) * self.row_bytes - at
            while at < last:  # a read may be of less than was asked for
                if not (count := os.preadv(self._file, [into[at:last]], offset + at)):
                    raise Unreadable(self.path, "was cut short while it was read; type the same command again")
                at += count
        return taken


class SplitOnDisk(Split):
    """Samples that stay in their file until they are needed.

    Args:
        array: all samples of the file.
        rows: which of them.
        labels: theirs, [N], int64.
    """

    def __init__(self, array: ArrayOnDisk, rows: Indices, labels: Tensor) -> None:
        self._array = array
        self._rows = rows
        self.labels = labels

    @property
    def samples(self) -> Tensor:
        """Return all samples, in memory."""
        return torch.from_numpy(self._array.take(self._rows))

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Return (C, H, W)."""
        return tuple(self._array.shape[1:])

    def take(self, indices: Tensor) -> Tensor:
        """Return the samples of a batch."""
        return torch.from_numpy(self._array.take(self._rows[indices.numpy()]))

    def blocks(self) -> Iterator[Tensor]:
        """Yield all samples in order."""
        rows = max(1, BLOCK // max(1, self._array.row_bytes))
        for start in range(0, len(self), rows):
            yield torch.from_numpy(self._array.take(self._rows[start : start + rows]))

    def at(self, indices: Indices) -> Split:
        """Return some of the samples, in the same file."""
        return SplitOnDisk(self._array, self._rows[indices], self.labels[torch.from_numpy(indices)])


def write(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, blocks: Iterator[Array]) -> None:
    """Write an array to a .npy file, block by block, whole or not at all.

    Args:
        path: the file.
        shape: of the array.
        dtype: of the array.
        blocks: the array, cut along its first axis.

    Raises:
        UserError: the disk has no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    needed, free = int(np.prod(shape)) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
    if needed > free:
        raise UserError(
            f"the samples take {needed / MIB:,.0f} MiB in {path.parent}, and its disk has {free / MIB:,.0f} MiB left; "
            f"make room there, or set SNN_EXP_DATA to a folder on another disk"
        )
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with whole_file(path) as scratch, scratch.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).tobytes())
        file.flush()
        os.fsync(file.fileno())
