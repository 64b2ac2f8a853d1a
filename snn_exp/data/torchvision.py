"""Data sets that torchvision fetches and reads."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from snn_exp.data.base import DATASETS, MNIST_COUNTS, Fetched, Mirrored, OfficialTest, Split


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
        """Convert torchvision's arrays to our form."""
        return Split(torch.as_tensor(read.data).unsqueeze(1), torch.as_tensor(read.targets))


class _IdxFiles(TorchvisionDataset):
    """A data set in the four files of MNIST.

    Source: the idx format; a byte, its rank, its sizes, then all values.
    """

    @classmethod
    def _files(cls, root: Path, *, train: bool) -> tuple[Path, ...]:
        prefix = "train" if train else "t10k"
        names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        return tuple(root / cls.__name__ / "raw" / name for name in names)

    @classmethod
    def _is_whole(cls, root: Path, file: Path) -> bool:
        try:
            with file.open("rb") as opened:
                head = opened.read(4)
                rank = head[3] if head[:3] == b"\x00\x00\x08" and len(head) == 4 else 0
                sizes = [int.from_bytes(opened.read(4)) for _ in range(rank)]
        except OSError:  # such as a link to a file of the system's
            return False
        return rank > 0 and file.stat().st_size == 4 + 4 * rank + math.prod(sizes)


class _SummedFiles(TorchvisionDataset):
    """A data set whose files torchvision knows the md5 sums of."""

    @classmethod
    @abstractmethod
    def _sums(cls, root: Path, *, train: bool) -> dict[Path, str]:
        """Return the md5 sum of each file."""

    @classmethod
    def _files(cls, root: Path, *, train: bool) -> tuple[Path, ...]:
        return tuple(cls._sums(root, train=train))

    @classmethod
    def _is_whole(cls, root: Path, file: Path) -> bool:
        sums = cls._sums(root, train=True) | cls._sums(root, train=False)
        return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() == sums[file]


_MNIST_FILES = (
    "{}/raw/ with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
)


@DATASETS.register("mnist")
class MNIST(_IdxFiles):
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
    image_shape = (1, 28, 28)
    class_counts = MNIST_COUNTS
    files = _MNIST_FILES.format("MNIST")


@DATASETS.register("fashion_mnist")
class FashionMNIST(_IdxFiles, Mirrored):
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
    image_shape = (1, 28, 28)
    class_counts = (6000,) * 10
    files = _MNIST_FILES.format("FashionMNIST")


@DATASETS.register("cifar10")
class CIFAR10(_SummedFiles, Mirrored):
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

    image_shape = (3, 32, 32)
    class_counts: ClassVar[tuple[int, ...] | None] = (5000,) * 10
    files = "the unpacked folder cifar-10-batches-py/"

    @classmethod
    def _sums(cls, root: Path, *, train: bool) -> dict[Path, str]:
        from torchvision import datasets

        theirs = getattr(datasets, cls.__name__)
        listed = theirs.train_list if train else theirs.test_list
        return {root / theirs.base_folder / name: md5 for name, md5 in listed}

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
    class_counts = (500,) * 100
    files = "the unpacked folder cifar-100-python/"


@DATASETS.register("svhn")
class SVHN(_SummedFiles):
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

    image_shape = (3, 32, 32)
    class_counts = (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659)
    files = "train_32x32.mat and test_32x32.mat"

    @classmethod
    def _sums(cls, root: Path, *, train: bool) -> dict[Path, str]:
        from torchvision import datasets

        _, name, md5 = datasets.SVHN.split_list["train" if train else "test"]
        return {root / name: md5}

    @classmethod
    def _open(cls, root: Path, *, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.SVHN(str(root), split="train" if train else "test", download=download)

    def _as_split(self, read: Any) -> Split:
        return Split(torch.from_numpy(read.data), torch.from_numpy(read.labels.astype(np.int64)))
