"""Samples that a person gives to a trained network by path: pictures, folders of pictures, arrays in .npz files.

Shapes: N samples, T steps (of data with time only), C channels, H W space.
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snn_exp.config.own_files import READ
from snn_exp.data.arrays import MOST_LABELS, ArraysInFile
from snn_exp.data.on_disk import Array
from snn_exp.data.pictures import PictureReader
from snn_exp.errors import UserError
from snn_exp.files import Unreadable, printable, require_file

Given = tuple[str, Array, int | None]  # name, pixels [C, H, W] or frames [T, C, H, W], number of its class if known


@dataclasses.dataclass(frozen=True)
class GivenSamples:
    """Reads samples in the form that a network was trained on.

    Args:
        run: the run id, for messages.
        in_shape: (C, H, W) of one step.
        has_time: whether a sample has steps.
        class_names: of the data; a picture in a folder of such a name, and a word in y, are of that class.
        resize: scale pictures to the network's size, as dataset=images does.
    """

    run: str
    in_shape: tuple[int, ...]
    has_time: bool
    class_names: Sequence[str] = ()
    resize: bool = False

    def read(self, paths: Sequence[str]) -> Iterator[Given]:
        """Yield the samples of all paths, in their order; those of a folder sorted by name.

        Raises:
            UserError: a path is missing, holds no samples, or what cannot be read or does not fit.
        """
        for path in map(Path, paths):
            if path.is_dir():
                yield from self._folder(path)
            elif not path.exists():
                raise UserError(
                    f"{printable(str(path), 200)} is not there; give pictures, a folder of them, or an .npz file with x"
                )
            elif path.suffix == ".npz":
                yield from self._arrays(path)
            else:
                yield self._picture(path.resolve(), str(path))

    def _folder(self, folder: Path) -> Iterator[Given]:
        root = folder.resolve()
        found = [
            path
            for path in sorted(root.rglob("*"))
            if path.suffix.lower() in READ and not any(part.startswith(".") for part in path.relative_to(root).parts)
        ]
        if not found:
            raise UserError(
                f"{printable(str(folder), 200)} holds no picture ({', '.join(READ)}); give another folder, or the files"
            )
        for path in found:
            yield self._picture(path, str(folder / path.relative_to(root)), root)

    def _picture(self, path: Path, name: str, root: Path | None = None) -> Given:
        c, h, w = self.in_shape
        if self.has_time or c not in (1, 3):
            raise UserError(
                f"{printable(name, 200)} is a picture, and run {self.run} reads "
                f"{'frames over time' if self.has_time else f'{c} channels'}; give an .npz file with x of that shape"
            )
        if self.resize and h != w:
            raise UserError(
                f"--resize makes squares, and run {self.run} reads {h} x {w} pixels (height x width); resize the "
                f"pictures"
            )
        reader = PictureReader(root or path.parent, "rgb" if c == 3 else "gray", h if self.resize else None)
        pixels = reader.read(path)
        if pixels.shape != self.in_shape:
            mend = "add --resize" if h == w else "resize it"
            raise Unreadable(
                name,
                f"is {pixels.shape[1]} x {pixels.shape[2]} pixels (height x width), and run {self.run} reads {h} x "
                f"{w}; {mend}",
            )
        return name, pixels, self._number(path.parent.name)

    def _arrays(self, path: Path) -> Iterator[Given]:
        file, members = ArraysInFile(path), _members(path)
        shape = file.form("x")[0] if "x" in members else ()
        if len(shape) < 3 or 0 in shape:
            raise Unreadable(path, "has no array x of samples, or an empty one; store them as numpy.savez(FILE, x=...)")
        labels = file.whole("y", MOST_LABELS) if "y" in members else None
        if labels is not None and (labels.ndim != 1 or len(labels) != shape[0] or labels.dtype.kind not in "iuU"):
            raise Unreadable(
                path, f"has {shape[0]} samples in x, and y is not a whole number or a word for each; leave y out"
            )
        number = 0
        for block in file.blocks("x"):
            for pixels in self._channels_first(block):
                label = None if labels is None else self._number(labels[number])
                yield f"{path}[{number}]", pixels, label
                number += 1

    def _channels_first(self, block: Array) -> Array:
        c, h, w = self.in_shape
        if not self.has_time and c == 1 and block.shape[1:] == (h, w):
            return block[:, None]
        if not self.has_time and block.shape[1:] == (h, w, c):
            return np.ascontiguousarray(np.moveaxis(block, -1, 1))
        return block

    def _number(self, label: Any) -> int | None:
        """Return the number of a class; None where it is none of those that the network knows by name."""
        if not isinstance(label, str):
            return int(label)
        names = list(self.class_names)
        return names.index(label) if label in names else None


def _members(path: Path) -> set[str]:
    """Return the names of the arrays of an .npz file."""
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise Unreadable(
            path, f"is not an .npz file ({printable(str(error), 120)}); write one with numpy.savez"
        ) from None
