"""Data sets: real images in memory, split once.

Shapes: N samples, B batch, C channels, H W space.
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
from snn_exp.registry import OpenFraction, PartConfig, Registry, Scalar

Indices = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Split:
    """Images and what they show.

    Args:
        images: [N, C, H, W], uint8 in 0..255 or float in [0, 1].
        labels: [N], int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, indices: Indices) -> Split:
        """Some of the samples."""
        chosen = torch.from_numpy(indices)
        return Split(self.images[chosen], self.labels[chosen])


DATASETS: Registry[ImageDataset] = Registry("dataset", traits=("embedded",))


class ImageDataset(ABC):
    """Train, validation and test images of one data set.

    Args:
        root: the folder of the data.
        seed: draws training and validation; pairs of runs with the same seed share both.
        max_shift: largest random shift of a training image, pixels; what moves in is black.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {}
    embedded: ClassVar[bool] = False
    num_classes: ClassVar[int] = 10
    version: ClassVar[int] = 1

    flip: bool = False  # mirror every other training image
    train: Split
    val: Split

    def __init__(self, root: Path, seed: int, *, max_shift: int) -> None:
        self.root = root
        self.seed = seed
        self.max_shift = max_shift

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
    def in_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        c, h, w = self.train.images.shape[1:]
        return c, h, w

    @cached_property
    def pixel_mean(self) -> float:
        """Mean of the training pixels, in [0, 1]."""
        return float(as_pixels(self.train.images).mean())

    @cached_property
    def pixel_std(self) -> float:
        """Standard deviation of the training pixels."""
        return float(as_pixels(self.train.images).std())

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the training and validation samples, in order, and of what fixes the test set."""
        digest = hashlib.sha256(self._test_key())
        for split in (self.train, self.val):
            digest.update(split.images.numpy().tobytes())
            digest.update(split.labels.numpy().tobytes())
        return digest.hexdigest()[:16]

    @abstractmethod
    def _test_key(self) -> bytes:
        """Names the test samples without reading them."""


def as_pixels(images: Tensor) -> Tensor:
    """float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


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


@DATASETS.register("digits")
class Digits(ImageDataset):
    """1,797 real handwritten digits of 8 x 8 pixels; comes with scikit-learn, no download.

    Definition:
        stratified 60 / 15 / 25: the test part is fixed by split_seed, training and validation are
        redrawn from the rest by the run's seed

    Args:
        split_seed: fixes the test part.
        val_fraction: of all samples.
        test_fraction: of all samples.
        max_shift: largest random shift of a training image, pixels.

    Raises:
        UserError: a parameter out of its range.

    Source: Alpaydin and Kaynak 1998, as in sklearn.datasets.load_digits.

    Example:
        >>> digits = Digits(Path(), seed=0)
        >>> len(digits.train), len(digits.val), len(digits.test)
        (1078, 269, 450)
    """

    embedded = True

    def __init__(
        self,
        root: Path,
        seed: int,
        *,
        split_seed: Annotated[int, Ge(0)] = 0,
        val_fraction: OpenFraction = 0.15,
        test_fraction: OpenFraction = 0.25,
        max_shift: Annotated[int, Ge(0)] = 1,
    ) -> None:
        from sklearn.datasets import load_digits

        if val_fraction + test_fraction >= 1:
            raise UserError(
                f"dataset.val_fraction={val_fraction} and dataset.test_fraction={test_fraction} leave nothing to "
                f"train on; their sum must be below 1"
            )
        super().__init__(root, seed, max_shift=max_shift)
        bunch = load_digits()
        labels = bunch.target.astype(np.int64)
        everything = Split(torch.from_numpy(bunch.images[:, None].astype(np.float32) / 16), torch.from_numpy(labels))
        rest, self._test_indices = stratified(
            labels, np.arange(len(labels)), round(test_fraction * len(labels) + 0.5), split_seed
        )
        train, val = stratified(labels, rest, int(val_fraction * len(labels)), seed)
        self._everything = everything
        self.train, self.val = everything.at(train), everything.at(val)

    @cached_property
    def test(self) -> Split:
        return self._everything.at(self._test_indices)

    def _test_key(self) -> bytes:
        return self._test_indices.tobytes()


class TorchvisionDataset(ImageDataset):
    """A data set with an official test set, read by torchvision's own class.

    Args:
        val_fraction: share of the official training set that is held out for validation, redrawn by the seed.
        max_shift: largest random shift of a training image, pixels.
    """

    torchvision_name: ClassVar[str]
    files: ClassVar[str]

    def __init__(
        self,
        root: Path,
        seed: int,
        *,
        val_fraction: OpenFraction = 0.1,
        max_shift: Annotated[int, Ge(0)] = 4,
    ) -> None:
        super().__init__(root, seed, max_shift=max_shift)
        everything = self._read(train=True)
        labels = everything.labels.numpy()
        indices = np.arange(len(labels))
        train, val = stratified(labels, indices, max(1, round(val_fraction * len(labels))), seed)
        self.train, self.val = everything.at(train), everything.at(val)

    @cached_property
    def test(self) -> Split:
        return self._read(train=False)

    def _test_key(self) -> bytes:
        return f"{self.torchvision_name} official test set".encode()

    @classmethod
    def _open(cls, root: Path, *, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return getattr(datasets, cls.torchvision_name)(str(root), train=train, download=download)

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
            _remove_empty_folders(root, before)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"the data set {cls.torchvision_name} is not in {root.resolve()}, or is damaged there, and could not "
                f"be fetched ({reason}); place {cls.files} there by hand, or set SNN_EXP_DATA to the folder with it"
            ) from None

    def _read(self, *, train: bool) -> Split:
        self.prepare(self.root)
        return self._as_split(self._open(self.root, train=train, download=False))

    def _as_split(self, read: Any) -> Split:
        """torchvision's arrays in our form."""
        return Split(torch.as_tensor(read.data).unsqueeze(1), torch.as_tensor(read.targets))


class MirroredDataset(TorchvisionDataset):
    """A data set whose things remain what they are in a mirror.

    Args:
        flip: mirror every other training image.
    """

    def __init__(
        self,
        root: Path,
        seed: int,
        *,
        val_fraction: OpenFraction = 0.1,
        max_shift: Annotated[int, Ge(0)] = 4,
        flip: bool = True,
    ) -> None:
        super().__init__(root, seed, val_fraction=val_fraction, max_shift=max_shift)
        self.flip = flip


def _remove_empty_folders(root: Path, before: set[Path]) -> None:
    """What a failed download leaves behind, and nothing that was there before."""
    for folder in sorted((path for path in {root, *root.rglob("*")} - before if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()


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
    torchvision_name = "MNIST"
    files = _MNIST_FILES.format("MNIST")


@DATASETS.register("fashion_mnist")
class FashionMNIST(MirroredDataset):
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
    torchvision_name = "FashionMNIST"
    files = _MNIST_FILES.format("FashionMNIST")


@DATASETS.register("cifar10")
class CIFAR10(MirroredDataset):
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

    torchvision_name = "CIFAR10"
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
    torchvision_name = "CIFAR100"
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

    torchvision_name = "SVHN"
    files = "train_32x32.mat and test_32x32.mat"

    @classmethod
    def _open(cls, root: Path, *, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.SVHN(str(root), split="train" if train else "test", download=download)

    def _as_split(self, read: Any) -> Split:
        return Split(torch.from_numpy(read.data), torch.from_numpy(read.labels.astype(np.int64)))


def make_dataset(config: PartConfig, root: Path, seed: int) -> ImageDataset:
    """The data set of a resolved config group."""
    return DATASETS.make(config, root, seed)
