"""Data sets in memory, split once; the digits are in digits.py, data with time in events.py.

A data set answers three questions, and inherits the answers: how it is split (StratifiedTest, OfficialTest),
where its files come from (embedded, or Fetched), and the form of a sample.

Shapes: N samples, T steps, C channels, H W space.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge

from snn_exp.config import splits
from snn_exp.data.split import Indices, Split, as_float
from snn_exp.errors import UserError
from snn_exp.registry import Below, Limit, OpenFraction, PartConfig, Registry, Scalar, Seed

DATASETS: Registry[Dataset] = Registry(
    "dataset",
    traits=(
        *("embedded", "own", "has_time", "is_series", "steps_divide", "num_classes", "image_shape", "class_counts"),
        *("checks", "system_folder", "package", "licence", "download_mib"),
    ),
)
NumTrain = Annotated[int, Ge(1)] | None
MaxShift = Annotated[int, Ge(0), Limit(1024, "nothing remains of an image")]


class Dataset(ABC):
    """Train, validation and test samples of one data set.

    Args:
        root: the folder of the data.
        seed: draws training and validation; pairs of runs with the same seed share both.
        num_steps: T of data with time; images know no time.
        max_shift: largest random shift of a training image, pixels.
        num_train: training samples to keep, every class in proportion, drawn by the seed; null keeps all. Validation
            and test stay as they are.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {}
    embedded: ClassVar[bool] = False
    own: ClassVar[bool] = False  # the user says where the files are, by the parameter `path`
    has_time: ClassVar[bool] = False
    is_series: ClassVar[bool] = False  # data with time whose samples are real values over time, and no frames
    steps_divide: ClassVar[int] = 0  # a number that T must divide; 0: any T will do
    num_classes: int = 10
    checks_itself: ClassVar[bool] = False  # that its samples are whole, and keeps num_train of them
    # checked against a config before a file is read: (C, H, W) of one step, H and W 0 where `size` says them,
    # of a series (C, 1, L) of all its steps; and how many samples of each class are split; None where only the files
    # know
    image_shape: ClassVar[tuple[int, int, int] | None] = None
    class_counts: ClassVar[tuple[int, ...] | None] = None
    class_names: tuple[str, ...] = ()  # empty where they are called 0 to K - 1
    version: ClassVar[int] = 1

    # what `snn-exp data` says: the files (as in config/data_files.py), where a package of the system puts them and
    # its name, the licence, and the size of the download
    checks: ClassVar[Mapping[str, str]] = {}
    system_folder: ClassVar[str] = ""
    package: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    download_mib: ClassVar[int] = 0

    how_to_load_faster: str = ""  # where the samples are not in memory
    flip: bool = False
    train: Split
    val: Split

    def __init__(
        self, root: Path, seed: int, num_steps: int = 1, *, max_shift: MaxShift = 0, num_train: NumTrain = None
    ) -> None:
        self.root = root
        self.seed = seed
        self.num_steps = num_steps
        self.max_shift = max_shift
        self.num_train = num_train

    @abstractmethod
    def _read(self, *, train: bool) -> Split:
        """Read the official training or test set; all samples where there is no official test set."""

    def _read_whole(self, *, train: bool) -> Split:
        """Read the samples and check that they are complete.

        Raises:
            UserError: it is damaged.
        """
        return self._whole(self._read(train=train), train=train)

    def _whole(self, split: Split, *, train: bool) -> Split:
        if fault := _fault(split, self.num_classes, self._expected_shape()):
            raise UserError(
                f"{self._source(train=train)} is damaged: {fault}; replace the files, or set SNN_EXP_DATA to "
                f"a folder with them"
            )
        return split

    def _kept(self, train: Split) -> Split:
        """Return the training samples that `num_train` keeps.

        Raises:
            UserError: there are not as many, or too few are kept for every class.
        """
        if self.num_train is None:
            return train
        splits.require_num_train(self.num_train, len(train), self.num_classes)
        _, chosen = stratified(
            train.labels.numpy(), np.arange(len(train)), self.num_train, self.seed,
            part=splits.TRAINING, num_classes=self.num_classes, names=self.class_names,
        )  # fmt: skip
        return train.at(chosen)

    def require_whole(self) -> None:
        """Check the samples of a data set that splits itself, and so does not go by `_read_whole`.

        Raises:
            UserError: its training or validation samples are damaged.
        """
        for split in (self.train, self.val):
            self._whole(split, train=True)

    def _expected_shape(self) -> tuple[int, int, int] | None:
        """Return (C, H, W) of one step, where it is known before a file is read."""
        return self.image_shape

    def _source(self, *, train: bool) -> str:
        """Describe where samples come from."""
        return f"dataset={DATASETS.name_of(type(self))}: the {'training' if train else 'test'} set"

    @cached_property
    @abstractmethod
    def test(self) -> Split:
        """Return the test set; read only when asked for."""

    @classmethod
    def is_present(cls, root: Path) -> bool:
        """Return whether the files lie under root."""
        return cls.embedded

    @classmethod
    def prepare(cls, root: Path) -> None:
        """Make sure that the files lie under root; an embedded set has nothing to do.

        Raises:
            UserError: they do not, and cannot be fetched.
        """
        return

    @classmethod
    def is_there(cls, config: PartConfig, root: Path) -> bool:
        """Return whether the files of a config's data set can be read; root is the data root."""
        return cls.is_present(root)

    @classmethod
    def prepare_for(cls, config: PartConfig, root: Path, seed: int) -> None:
        """Make sure that the data set of a config can be read; root is the data root.

        Raises:
            UserError: it cannot.
        """
        cls.prepare(root)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Return (C, H, W), or (T, C, H, W) of data with time."""
        return self.train.sample_shape

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """Return (C, H, W) of one step."""
        c, h, w = self.sample_shape[-3:]
        return c, h, w

    @cached_property
    def pixel_mean(self) -> float:
        """Return the mean of the training pixels, in [0, 1]."""
        return float(as_float(self.train.samples).mean())

    @cached_property
    def pixel_std(self) -> float:
        """Return the standard deviation of the training pixels."""
        return float(as_float(self.train.samples).std())

    @cached_property
    def fingerprint(self) -> str:
        """Hash the training and validation samples, in order, and what fixes the test set, to 16 hex digits."""
        digest = hashlib.sha256(self._test_key())
        for split in (self.train, self.val):
            _update(digest, split)
        return digest.hexdigest()[:16]

    @cached_property
    def test_fingerprint(self) -> str:
        """Hash the test samples, in order, to 16 hex digits; this reads them."""
        digest = hashlib.sha256()
        _update(digest, self.test)
        return digest.hexdigest()[:16]

    @abstractmethod
    def _test_key(self) -> bytes:
        """Name the test samples without reading them."""


def _update(digest: hashlib._Hash, split: Split) -> None:
    for block in split.blocks():
        digest.update(block.numpy().tobytes())
    digest.update(split.labels.numpy().tobytes())


def _fault(split: Split, num_classes: int, image_shape: tuple[int, int, int] | None) -> str | None:
    """Describe what is wrong with samples that were read; None if nothing is."""
    x, y = split.samples, split.labels
    if len(x) != len(y):
        return f"it has {len(x)} samples and {len(y)} labels"
    if not len(y):
        return "it has no samples"
    if y.is_floating_point() or y.dim() != 1:
        return f"its labels are {y.dtype} {tuple(y.shape)}, and should be one whole number for each sample"
    beyond = ((y < 0) | (y >= num_classes)).nonzero().flatten()
    if len(beyond):
        first = int(beyond[0])
        return (
            f"{len(beyond)} of {len(y)} labels lie beyond the classes 0 to {num_classes - 1}, the first of them is "
            f"class {int(y[first])} of sample {first}"
        )
    if image_shape is not None and tuple(x.shape[-3:]) != image_shape:
        return f"its samples are {_sides(x.shape[-3:])}, and should be {_sides(image_shape)}"
    if x.is_floating_point() and not bool(x.isfinite().all()):
        first = int((~x.flatten(1).isfinite().all(1)).nonzero()[0])
        return f"sample {first}, of class {int(y[first])}, has pixels that are NaN or infinite"
    least, most = x.min().item(), x.max().item()
    if least == most:
        return f"each of its values is {least:g}, in all samples, so there is nothing to tell apart"
    if x.is_floating_point() and (least < 0 or most > 1):
        return f"its pixels go from {least:g} to {most:g}, and as floats they should lie between 0 and 1"
    return None


def _sides(shape: tuple[int, ...]) -> str:
    c, h, w = shape
    return f"{h} x {w} pixels of {c} channel{'s' if c > 1 else ''}"


def stratified(
    labels: Indices, indices: Indices, size: int, seed: int, *, part: str, num_classes: int, names: Sequence[str] = ()
) -> tuple[Indices, Indices]:
    """Split indices in two, the second of a given size, every class in proportion; both sorted.

    Args:
        labels: of all samples.
        indices: the samples to split.
        size: samples of the second part.
        seed: of the draw.
        part: the purpose of the second part.
        num_classes: K.
        names: of the classes, if they have some.

    Raises:
        UserError: a part is too small to hold every class, or a class too small for its parts.
    """
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels[indices], minlength=num_classes)
    splits.require_every_class([int(count) for count in counts], size, part, names)
    first, second = train_test_split(indices, test_size=size, stratify=labels[indices], random_state=seed)
    for chosen, of in ((first, "the rest"), (second, part)):
        missing = np.flatnonzero(np.bincount(labels[chosen], minlength=num_classes) == 0)
        if len(missing):
            raise UserError(
                f"{splits.named(int(missing[0]), names)} has {counts[missing[0]]} of {len(indices)} samples, and none "
                f"of them came into the {len(chosen)} of {of}, which are drawn in proportion: it needs about "
                f"{-(-len(indices) // len(chosen))}; add samples of that class, or type a larger part"
            )
    return np.sort(first), np.sort(second)


FRACTIONS_BELOW_1 = Below(
    "val_fraction + test_fraction",
    "1",
    "{val_fraction} and {test_fraction} leave nothing to train on; their sum must be below 1",
)


class StratifiedTest(Dataset):
    """A data set without an official test set: a stratified part of it is the test set.

    Args:
        split_seed: fixes the test part.
        val_fraction: of all samples.
        test_fraction: of all samples.
    """

    constraints = (FRACTIONS_BELOW_1,)
    checks_itself = True

    def __init__(
        self,
        root: Path,
        seed: int,
        num_steps: int = 1,
        *,
        split_seed: Seed = 0,
        val_fraction: OpenFraction = 0.15,
        test_fraction: OpenFraction = 0.25,
        **parent: Any,
    ) -> None:
        super().__init__(root, seed, num_steps, **parent)
        self.split_seed = split_seed
        self._everything = self._read_whole(train=True)
        labels, total = self._everything.labels.numpy(), len(self._everything)
        rest, self._test_indices = stratified(
            labels, np.arange(total), splits.num_test(total, test_fraction), split_seed,
            part=splits.TEST, num_classes=self.num_classes,
        )  # fmt: skip
        train, val = stratified(
            labels, rest, splits.num_val(total, val_fraction), seed,
            part=splits.VALIDATION, num_classes=self.num_classes,
        )  # fmt: skip
        self.train, self.val = self._kept(self._everything.at(train)), self._everything.at(val)

    @cached_property
    def test(self) -> Split:
        return self._everything.at(self._test_indices)

    def _test_key(self) -> bytes:
        return self._test_indices.tobytes()


class OfficialTest(Dataset):
    """A data set with an official test set.

    Args:
        val_fraction: share of the official training set that is held out for validation, redrawn by the seed.
    """

    checks_itself = True

    def __init__(
        self, root: Path, seed: int, num_steps: int = 1, *, val_fraction: OpenFraction = 0.1, **parent: Any
    ) -> None:
        super().__init__(root, seed, num_steps, **parent)
        everything = self._read_whole(train=True)
        labels, total = everything.labels.numpy(), len(everything)
        train, val = stratified(
            labels, np.arange(total), splits.num_val_of_official(total, val_fraction), seed,
            part=splits.VALIDATION, num_classes=self.num_classes,
        )  # fmt: skip
        self.train, self.val = self._kept(everything.at(train)), everything.at(val)

    @cached_property
    def test(self) -> Split:
        return self._read_whole(train=False)

    def _test_key(self) -> bytes:
        return f"{type(self).__name__} official test set".encode()


class Mirrored(Dataset):
    """A data set whose classes are invariant to mirroring.

    Args:
        flip: mirror every other training image.
    """

    def __init__(self, root: Path, seed: int, num_steps: int = 1, *, flip: bool = True, **parent: Any) -> None:
        super().__init__(root, seed, num_steps, **parent)
        self.flip = flip


def make_dataset(config: PartConfig, root: Path, seed: int, num_steps: int) -> Dataset:
    """Make the data set of a resolved config group."""
    dataset = DATASETS.make(config, root, seed, num_steps)
    if not dataset.checks_itself:
        dataset.require_whole()
        dataset.train = dataset._kept(dataset.train)
    return dataset
