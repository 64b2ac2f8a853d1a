"""Files of one's own: read once into a cache, split, and left there where they are more than memory should hold."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Unit
from torch import Tensor

from snn_exp.config import own_files, splits
from snn_exp.data.base import FRACTIONS_BELOW_1, Dataset, stratified
from snn_exp.data.on_disk import Array, ArrayOnDisk, SplitOnDisk, write
from snn_exp.data.split import Indices, Split, as_float
from snn_exp.errors import UserError
from snn_exp.files import MIB, printable
from snn_exp.registry import Count, Limit, OpenFraction, PartConfig, Seed

TRAIN, VAL, TEST = own_files.PARTS
BLOCK = 1024  # samples


@dataclasses.dataclass(frozen=True)
class Read:
    """What files hold, before their samples are read.

    Args:
        shape: of all samples, [N, C, H, W]; the parts one after the other.
        dtype: uint8 or float32.
        labels: of all samples.
        parts: part -> its first sample and the one behind its last.
        class_names: in the order of the labels.
    """

    shape: tuple[int, int, int, int]
    dtype: str
    labels: Indices
    parts: dict[str, tuple[int, int]]
    class_names: tuple[str, ...]


class OwnData(Dataset):
    """A data set of files of one's own.

    Args:
        path: where the files are; no part of the identity.
        content: 16 hex digits of what the files hold, part of the identity; null works them out.
        memory_mib: samples that take more stay on disk, in a cache, and are read batch by batch; no part of the
            identity.
        flip: mirror every other training sample.
        split_seed: fixes the test part, if it is drawn.
        val_fraction: of all samples, if validation samples are not given.
        test_fraction: of all samples, if test samples are not given.
    """

    own = True
    checks_itself = True
    constraints = (FRACTIONS_BELOW_1,)

    def __init__(
        self,
        root: Path,
        seed: int,
        num_steps: int = 1,
        *,
        path: str = "",
        content: str | None = None,
        memory_mib: Annotated[Count, Unit("MiB"), Limit(2**20, "no machine has as much")] = 1024,
        flip: bool = False,
        split_seed: Seed = 0,
        val_fraction: OpenFraction = 0.15,
        test_fraction: OpenFraction = 0.25,
        **parent: Any,
    ) -> None:
        super().__init__(root, seed, num_steps, **parent)
        self.path = path
        self.content = content
        self.memory_mib = memory_mib
        self.flip = flip
        self.split_seed = split_seed
        self._require_content()
        read = self._look()
        self.num_classes, numbers = len(read.class_names), tuple(map(str, range(len(read.class_names))))
        self.class_names = () if read.class_names == numbers else tuple(map(printable, read.class_names))
        self._require_shift(read.shape)
        whole = self._whole_split(read)
        self._split(whole, read, {"val_fraction": val_fraction, "test_fraction": test_fraction})

    # what a kind of file says ---------------------------------------------------------------------------------

    @abstractmethod
    def _found_content(self) -> str:
        """Return the content of the files."""

    @abstractmethod
    def _look(self) -> Read:
        """Return what the files hold, checked as far as that needs no sample."""

    @abstractmethod
    def _key(self) -> dict[str, Any]:
        """Return what decides the samples, besides the content of the files."""

    @abstractmethod
    def _samples(self, read: Read) -> Iterator[Array]:
        """Yield all samples [., C, H, W], block by block, each checked."""

    # ----------------------------------------------------------------------------------------------------------

    def _read(self, *, train: bool) -> Split:
        raise NotImplementedError("the parts are read together")

    def _require_content(self) -> None:
        found = self._found_content()
        if self.content is not None and self.content != found:
            own_files.forget()
            raise UserError(
                f"dataset.path={self.path} holds other data (content {found}) than those that were asked for "
                f"(dataset.content={self.content}); put the old files back, or leave dataset.content out, and it is "
                f"another run"
            )
        self.content = found

    def _require_shift(self, shape: tuple[int, ...]) -> None:
        if self.max_shift >= max(1, min(shape[2:])):
            raise UserError(
                f"dataset.max_shift={self.max_shift} shifts an image of {shape[2]} x {shape[3]} pixels out of view; "
                f"type dataset.max_shift={min(shape[2:]) // 4}, or at most {min(shape[2:]) - 1}"
            )

    def _whole_split(self, read: Read) -> Split:
        """Return all samples, from the cache if it is there."""
        key = json.dumps({**self._key(), "content": self.content, "version": self.version}, sort_keys=True)
        name = type(self).__name__.lower()
        path = self.root / "cached" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
        array = None
        with contextlib.suppress(FileNotFoundError, UserError):
            array = ArrayOnDisk(path)
        if array is None or array.shape != read.shape:
            path.unlink(missing_ok=True)
            write(path, read.shape, read.dtype, self._checked(read))
            array = ArrayOnDisk(path)
        labels = torch.from_numpy(read.labels)
        on_disk = SplitOnDisk(array, np.arange(len(array)), labels)
        if array.nbytes <= self.memory_mib * MIB:
            return Split(on_disk.samples, labels)
        self.how_to_load_faster = (
            f"the samples stay on disk: type dataset.memory_mib={-(-array.nbytes // MIB)} to hold them in memory"
        )
        return on_disk

    def _checked(self, read: Read) -> Iterator[Array]:
        """Yield the samples; at their end, refuse those that are all alike.

        Raises:
            UserError: they are.
        """
        least, most = np.inf, -np.inf
        for block in self._samples(read):
            least, most = min(least, block.min()), max(most, block.max())
            yield block
        if least == most:
            raise UserError(
                f"dataset.path={self.path}: each pixel of all samples is {least:g}, so there is nothing to learn"
            )

    def _split(self, whole: Split, read: Read, fractions: dict[str, float]) -> None:
        """Divide the samples: parts that are given stay as they are, the others are drawn."""
        labels = read.labels
        indices = {part: np.arange(*read.parts[part]) for part in read.parts}
        rest = indices[TRAIN]
        sizes = splits.drawn_sizes(len(rest), fractions, has_val=VAL in indices, has_test=TEST in indices)
        for part, size in sizes.items():
            drawn, seed = (TEST, self.split_seed) if part == splits.TEST else (VAL, self.seed)
            rest, indices[drawn] = stratified(
                labels, rest, size, seed, part=part, num_classes=self.num_classes, names=self.class_names
            )
        self.train, self.val = self._kept(whole.at(rest)), whole.at(indices[VAL])
        self._everything, self._test_indices = whole, indices[TEST]

    @cached_property
    def test(self) -> Split:
        return self._everything.at(self._test_indices)

    def _test_key(self) -> bytes:
        return self._test_indices.tobytes()

    @property
    def is_on_disk(self) -> bool:
        """Return whether the samples stay on disk."""
        return isinstance(self.train, SplitOnDisk)

    @cached_property
    def _statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the training pixels, in float64, wherever the samples are."""
        total, squares, count = 0.0, 0.0, 0
        for indices in torch.arange(len(self.train)).split(BLOCK):
            pixels: Tensor = as_float(self.train.take(indices)).double()
            total, squares = total + pixels.sum().item(), squares + pixels.square().sum().item()
            count += pixels.numel()
        mean = total / count
        return mean, max(0.0, squares / count - mean**2) ** 0.5

    @cached_property
    def pixel_mean(self) -> float:
        return self._statistics[0]

    @cached_property
    def pixel_std(self) -> float:
        return self._statistics[1]

    @classmethod
    def is_there(cls, config: PartConfig, root: Path) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return Path(str(config["path"])).expanduser().exists()
        return False

    @classmethod
    def prepare_for(cls, config: PartConfig, root: Path, seed: int) -> None:
        cls(root, seed, **{key: value for key, value in config.items() if key != "name"})  # type: ignore[arg-type]
