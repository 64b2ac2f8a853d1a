"""Samples in a file that are read as they are needed: one array [N, C, H, W] that is mapped into memory.

The file is a .npy that is written whole or not at all. Pages that were read stay in the memory of the process until
the kernel wants them back, which can be as much as the file; so they are given back after every `KEPT` bytes, and come
from the kernel's own cache the next time.

Shapes: N samples, C channels, H W space.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snn_exp.data.base import Indices, Split
from snn_exp.errors import UserError
from snn_exp.files import MIB, Unreadable, require_file, whole_file

KEPT = 16 * MIB  # read before pages are given back
BLOCK = 8 * MIB

Array = npt.NDArray[Any]


class MappedArray:
    """An array [N, C, H, W] in a .npy file.

    Args:
        path: the file.

    Raises:
        Unreadable: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        require_file(path)
        try:
            with path.open("rb") as file:
                version = np.lib.format.read_magic(file)
                if version != (1, 0):
                    raise ValueError(f"version {version}")
                self.shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
                start = file.tell()
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if is_fortran or dtype.hasobject:
                raise ValueError("another form")
            self._array: Array = np.frombuffer(self._map, dtype, count=int(np.prod(self.shape)), offset=start).reshape(
                self.shape
            )
            if len(self._map) != start + self._array.nbytes:
                raise ValueError("another length")
        except ValueError as error:
            raise Unreadable(path, f"is damaged ({error}); remove it, and it is made again") from None
        self._advise("MADV_RANDOM")
        self._since = 0

    def __len__(self) -> int:
        return int(self.shape[0])

    @property
    def nbytes(self) -> int:
        """Return the bytes of all samples."""
        return self._array.nbytes

    def take(self, rows: Indices) -> Array:
        """Copy some of the samples."""
        taken: Array = self._array[rows]
        self._since += max(taken.nbytes, len(rows) * mmap.PAGESIZE)
        if self._since > KEPT:
            self._advise("MADV_DONTNEED")
            self._since = 0
        return taken

    def _advise(self, name: str) -> None:
        if (advice := getattr(mmap, name, None)) is not None:  # not on every system
            self._map.madvise(advice)


class MappedSplit(Split):
    """Samples that stay in their file until they are needed.

    Args:
        array: all samples of the file.
        rows: which of them.
        labels: theirs, [N], int64.
    """

    def __init__(self, array: MappedArray, rows: Indices, labels: Tensor) -> None:
        self._array = array
        self._rows = rows
        self.labels = labels

    @property
    def samples(self) -> Tensor:
        """Return all samples, in memory."""
        return torch.cat(list(self.blocks()))

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Return (C, H, W)."""
        return tuple(self._array.shape[1:])

    def take(self, indices: Tensor) -> Tensor:
        """Return the samples of a batch."""
        return torch.from_numpy(self._array.take(self._rows[indices.numpy()]))

    def blocks(self) -> Iterator[Tensor]:
        """Yield all samples in order."""
        rows = max(1, BLOCK // max(1, self._array.nbytes // max(1, len(self._array))))
        for start in range(0, len(self), rows):
            yield torch.from_numpy(self._array.take(self._rows[start : start + rows]))

    def at(self, indices: Indices) -> Split:
        """Return some of the samples, in the same file."""
        return MappedSplit(self._array, self._rows[indices], self.labels[torch.from_numpy(indices)])


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
