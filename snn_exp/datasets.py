"""Data sets in memory, split once; the digits are in digits.py, data with time in events.py.

A data set answers three questions, and inherits the answers: how it is split (StratifiedTest, OfficialTest),
where its files come from (embedded, or Fetched), and what a sample is.

Shapes: N samples, T steps, C channels, H W space.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge
from torch import Tensor

from snn_exp.errors import UserError
from snn_exp.registry import OpenFraction, Registry, Scalar

Indices = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Split:
    """Samples and what they show.

    Args:
        samples: images [N, C, H, W], uint8 in 0..255 or float in [0, 1]; or counts [N, T, C, H, W], int16.
        labels: [N], int64.
    """

    samples: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, indices: Indices) -> Split:
        """Some of the samples."""
        chosen = torch.from_numpy(indices)
        return Split(self.samples[chosen], self.labels[chosen])


DATASETS: Registry[Dataset] = Registry("dataset", traits=("embedded", "has_time"))


class Dataset(ABC):
    """Train, validation and test samples of one data set.

    Args:
        root: the folder of the data.
        seed: draws training and validation; pairs of runs with the same seed share both.
        num_steps: T of data with time; images know no time.
        max_shift: largest random shift of a training image, pixels.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {}
    embedded: ClassVar[bool] = False
    has_time: ClassVar[bool] = False
    num_classes: ClassVar[int] = 10
    version: ClassVar[int] = 1

    flip: bool = False
    train: Split
    val: Split

    def __init__(self, root: Path, seed: int, num_steps: int = 1, *, max_shift: Annotated[int, Ge(0)] = 0) -> None:
        self.root = root
        self.seed = seed
        self.num_steps = num_steps
        self.max_shift = max_shift

    @abstractmethod
    def _read(self, *, train: bool) -> Split:
        """The official training or test set; all samples, where there is no official test set."""

    @cached_property
    @abstractmethod
    def test(self) -> Split:
        """The test set; read only when asked for."""

    @classmethod
    def is_present(cls, root: Path) -> bool:
        """Whether the files lie under root."""
        return cls.embedded

    @classmethod
    def prepare(cls, root: Path) -> None:
        """Makes sure that the files lie under root; an embedded set has nothing to do.

        Raises:
            UserError: they do not, and cannot be fetched.
        """
        return

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, H, W), or (T, C, H, W) of data with time."""
        return tuple(self.train.samples.shape[1:])

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one step."""
        c, h, w = self.sample_shape[-3:]
        return c, h, w

    @cached_property
    def pixel_mean(self) -> float:
        """Mean of the training pixels, in [0, 1]."""
        return float(as_float(self.train.samples).mean())

    @cached_property
    def pixel_std(self) -> float:
        """Standard deviation of the training pixels."""
        return float(as_float(self.train.samples).std())

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the training and validation samples, in order, and of what fixes the test set."""
        digest = hashlib.sha256(self._test_key())
        for split in (self.train, self.val):
            digest.update(split.samples.numpy().tobytes())
            digest.update(split.labels.numpy().tobytes())
        return digest.hexdigest()[:16]

    @abstractmethod
    def _test_key(self) -> bytes:
        """Names the test samples without reading them."""


def as_float(samples: Tensor) -> Tensor:
    """float32: pixels in [0, 1], counts as they are."""
    return samples.float() / 255 if samples.dtype == torch.uint8 else samples.float()


def stratified(labels: Indices, indices: Indices, size: int, seed: int) -> tuple[Indices, Indices]:
    """Splits indices in two, the second of a given size, every class in proportion; both sorted.

    Raises:
        UserError: a part is too small to hold every class.
    """
    from sklearn.model_selection import train_test_split

    try:
        first, second = train_test_split(indices, test_size=size, stratify=labels[indices], random_state=seed)
    except ValueError:
        raise UserError(
            f"{len(indices)} samples cannot be split into {len(indices) - size} and {size} with every class in both; "
            f"change dataset.val_fraction (and dataset.test_fraction, where there is one)"
        ) from None
    return np.sort(first), np.sort(second)


class StratifiedTest(Dataset):
    """A data set without an official test set: a stratified part of it is the test set.

    Args:
        split_seed: fixes the test part.
        val_fraction: of all samples.
        test_fraction: of all samples.
    """

    def __init__(
        self,
        root: Path,
        seed: int,
        num_steps: int = 1,
        *,
        split_seed: Annotated[int, Ge(0)] = 0,
        val_fraction: OpenFraction = 0.15,
        test_fraction: OpenFraction = 0.25,
        **parent: Any,
    ) -> None:
        if val_fraction + test_fraction >= 1:
            raise UserError(
                f"dataset.val_fraction={val_fraction} and dataset.test_fraction={test_fraction} leave nothing to "
                f"train on; their sum must be below 1"
            )
        super().__init__(root, seed, num_steps, **parent)
        self.split_seed = split_seed
        self._everything = self._read(train=True)
        labels = self._everything.labels.numpy()
        rest, self._test_indices = stratified(
            labels, np.arange(len(labels)), round(test_fraction * len(labels) + 0.5), split_seed
        )
        train, val = stratified(labels, rest, int(val_fraction * len(labels)), seed)
        self.train, self.val = self._everything.at(train), self._everything.at(val)

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

    def __init__(
        self, root: Path, seed: int, num_steps: int = 1, *, val_fraction: OpenFraction = 0.1, **parent: Any
    ) -> None:
        super().__init__(root, seed, num_steps, **parent)
        everything = self._read(train=True)
        labels = everything.labels.numpy()
        indices = np.arange(len(labels))
        train, val = stratified(labels, indices, max(1, round(val_fraction * len(labels))), seed)
        self.train, self.val = everything.at(train), everything.at(val)

    @cached_property
    def test(self) -> Split:
        return self._read(train=False)

    def _test_key(self) -> bytes:
        return f"{type(self).__name__} official test set".encode()


class Mirrored(Dataset):
    """A data set whose things remain what they are in a mirror.

    Args:
        flip: mirror every other training image.
    """

    def __init__(
        self,
        root: Path,
        seed: int,
        num_steps: int = 1,
        *,
        max_shift: Annotated[int, Ge(0)] = 0,
        flip: bool = True,
    ) -> None:
        super().__init__(root, seed, num_steps, max_shift=max_shift)
        self.flip = flip


class Fetched(Dataset):
    """A data set whose files a library's class of the same name fetches and reads.

    `files` says in words what to place under root by hand.
    """

    files: ClassVar[str]

    @classmethod
    @abstractmethod
    def _open(cls, root: Path, *, train: bool, download: bool) -> Any:
        """The library's object; raises whatever the library does where files are missing."""

    @classmethod
    def is_present(cls, root: Path) -> bool:
        try:
            for train in (True, False):
                cls._open(root, train=train, download=False)
        except Exception:  # missing, or a damaged file, which each reader reports in its own way
            return False
        return True

    @classmethod
    def prepare(cls, root: Path) -> None:
        if cls.is_present(root):
            return
        before = {root, *root.rglob("*")} if root.exists() else set()
        try:
            root.mkdir(parents=True, exist_ok=True)
            for train in (True, False):
                cls._open(root, train=train, download=True)
        except Exception as error:  # the network, an archive cut short, a damaged file
            _remove_what_is_empty(root, before)
            raise UserError(
                f"the data set {cls.__name__} is not in {root.resolve()}, or is damaged there, and could not "
                f"be fetched ({in_words(error)}); place {cls.files} there by hand, or set SNN_EXP_DATA to the folder "
                f"with it"
            ) from None


def in_words(error: Exception) -> str:
    """What a library says of a fault, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _remove_what_is_empty(root: Path, before: set[Path]) -> None:
    """What a failed download leaves behind, and nothing that was there before."""
    for path in sorted({root, *root.rglob("*")} - before, reverse=True):
        with contextlib.suppress(OSError):  # a folder that is not empty
            if path.is_dir():
                path.rmdir()
            elif path.stat().st_size == 0:
                path.unlink()


class TorchvisionDataset(Fetched, OfficialTest):
    """A data set that torchvision's class of the same name reads."""

    defaults = {"max_shift": 4}

    @classmethod
    def _open(cls, root: Path, *, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return getattr(datasets, cls.__name__)(str(root), train=train, download=download)

    def _read(self, *, train: bool) -> Split:
        self.prepare(self.root)
        return self._as_split(self._open(self.root, train=train, download=False))

    def _as_split(self, read: Any) -> Split:
        """torchvision's arrays in our form."""
        return Split(torch.as_tensor(read.data).unsqueeze(1), torch.as_tensor(read.targets))


_MNIST_FILES = (
    "{}/raw/ with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
)


@DATASETS.register("mnist")
class MNIST(TorchvisionDataset):
    """70,000 handwritten digits of 28 x 28 pixels.

    Definition:
        official test set of 10,000; validation a stratified part of the training set, redrawn by the seed

    Args:
        max_shift: largest random shift of a training image, pixels.

    Raises:
        UserError: the files are not there and cannot be fetched.

    Source: LeCun et al. 1998; torchvision.datasets.MNIST.

    Example:
        >>> MNIST.embedded
        False
    """

    defaults = {"max_shift": 2}
    files = _MNIST_FILES.format("MNIST")


@DATASETS.register("fashion_mnist")
class FashionMNIST(TorchvisionDataset, Mirrored):
    """70,000 pictures of clothes, 28 x 28 pixels.

    Definition:
        official test set of 10,000; validation a stratified part of the training set, redrawn by the seed

    Args:
        flip: mirror every other training image.

    Raises:
        UserError: the files are not there and cannot be fetched.

    Source: Xiao et al. 2017; torchvision.datasets.FashionMNIST.

    Example:
        >>> FashionMNIST.embedded
        False
    """

    defaults = {"max_shift": 2}
    files = _MNIST_FILES.format("FashionMNIST")


@DATASETS.register("cifar10")
class CIFAR10(TorchvisionDataset, Mirrored):
    """60,000 small pictures of ten kinds of things, 32 x 32 pixels, colour.

    Definition:
        official test set of 10,000; validation a stratified part of the training set, redrawn by the seed

    Args:
        flip: mirror every other training image.

    Raises:
        UserError: the files are not there and cannot be fetched.

    Source: Krizhevsky 2009; torchvision.datasets.CIFAR10.

    Example:
        >>> CIFAR10.num_classes
        10
    """

    files = "the unpacked folder cifar-10-batches-py/"

    def _as_split(self, read: Any) -> Split:
        return Split(torch.from_numpy(read.data).permute(0, 3, 1, 2).contiguous(), torch.as_tensor(read.targets))


@DATASETS.register("cifar100")
class CIFAR100(CIFAR10):
    """60,000 small pictures of a hundred kinds of things, 32 x 32 pixels, colour.

    Definition:
        official test set of 10,000; validation a stratified part of the training set, redrawn by the seed

    Args:
        flip: mirror every other training image.

    Raises:
        UserError: the files are not there and cannot be fetched.

    Source: Krizhevsky 2009; torchvision.datasets.CIFAR100.

    Example:
        >>> CIFAR100.num_classes
        100
    """

    num_classes = 100
    files = "the unpacked folder cifar-100-python/"


@DATASETS.register("svhn")
class SVHN(TorchvisionDataset):
    """99,289 house numbers, 32 x 32 pixels, colour.

    Definition:
        official test set of 26,032; validation a stratified part of the training set, redrawn by the seed

    Args:
        max_shift: largest random shift of a training image, pixels.

    Raises:
        UserError: the files are not there and cannot be fetched.

    Source: Netzer et al. 2011; torchvision.datasets.SVHN.

    Example:
        >>> SVHN.num_classes
        10
    """

    files = "train_32x32.mat and test_32x32.mat"

    @classmethod
    def _open(cls, root: Path, *, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.SVHN(str(root), split="train" if train else "test", download=download)

    def _as_split(self, read: Any) -> Split:
        return Split(torch.from_numpy(read.data), torch.from_numpy(read.labels.astype(np.int64)))
