"""Data sets that torchvision fetches and reads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from snn_exp.config import data_files
from snn_exp.data.base import DATASETS, Mirrored, OfficialTest
from snn_exp.data.fetched import MNIST_COUNTS, Fetched
from snn_exp.data.split import Split


class TorchvisionDataset(Fetched, OfficialTest):
    """A data set that torchvision's class of the same name reads."""

    defaults = {"max_shift": 4}

    @classmethod
    def _open(cls, root: Path, *, train: bool, download: bool) -> Any:
        return _theirs(cls.__name__)(str(root), train=train, download=download)

    def _read(self, *, train: bool) -> Split:
        self.prepare(self.root)
        opened = self._open(self.root, train=train, download=False)
        self.class_names = tuple(getattr(opened, "classes", ()))
        return self._as_split(opened)

    def _as_split(self, read: Any) -> Split:
        """Convert torchvision's arrays to our form."""
        return Split(torch.as_tensor(read.data).unsqueeze(1), torch.as_tensor(read.targets))


def _theirs(name: str) -> Any:
    """Return torchvision's class of that name."""
    from torchvision import datasets

    return getattr(datasets, name)


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
    def _fault(cls, root: Path, file: Path) -> str | None:
        return data_files.fault(file, "idx")


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
    def _fault(cls, root: Path, file: Path) -> str | None:
        sums = cls._sums(root, train=True) | cls._sums(root, train=False)
        return data_files.fault(file, f"md5:{sums[file]}")


_IDX_NAMES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
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
    checks = {f"MNIST/raw/{name}": "idx" for name in _IDX_NAMES}
    licence = "CC BY-SA 3.0"
    download_mib = 11


@DATASETS.register("fashion_mnist")
class FashionMNIST(_IdxFiles, Mirrored):
    """70,000 pictures of clothes, 28 x 28 pixels.

    Definition:
        official test set of 10,000; validation a stratified part of the training set, redrawn by the seed.
        The files are read from the data root, packed or unpacked, else from where Debian's package
        dataset-fashion-mnist puts them, else fetched; their content must be the published one

    Args:
        flip: mirror every other training image.

    Raises:
        UserError: the files are not there and cannot be fetched, or are damaged.

    Source: Xiao et al. 2017; the files of torchvision.datasets.FashionMNIST.

    Example:
        >>> FashionMNIST.embedded
        False
    """

    defaults = {"max_shift": 2}
    image_shape = (1, 28, 28)
    class_counts = (6000,) * 10
    files = _MNIST_FILES.format("FashionMNIST")
    # of the unpacked files. The published sums are of the .gz: Debian packs the same content without name and time,
    # and with those put back the sums agree (tests/data/test_real.py)
    checks: ClassVar[Mapping[str, str]] = {
        f"FashionMNIST/raw/{name}": f"sha256:{sha256}"
        for name, sha256 in zip(
            _IDX_NAMES,
            (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
            strict=True,
        )
    }
    system_folder = "/usr/share/datasets/fashion-mnist"
    package = "dataset-fashion-mnist"
    licence = "MIT"
    download_mib = 30

    @classmethod
    def _files(cls, root: Path, *, train: bool) -> tuple[Path, ...]:
        found = data_files.find(cls.checks, root, cls.system_folder) or {name: root / name for name in cls.checks}
        prefix = "train" if train else "t10k"
        return tuple(path for name, path in found.items() if Path(name).name.startswith(prefix))

    @classmethod
    def _fault(cls, root: Path, file: Path) -> str | None:
        return data_files.fault(file, cls._check_of(file))

    @classmethod
    def _check_of(cls, file: Path) -> str:
        return next(check for name, check in cls.checks.items() if Path(name).name == file.name.removesuffix(".gz"))

    @classmethod
    def is_present(cls, root: Path) -> bool:
        files = data_files.find(cls.checks, root, cls.system_folder)
        return bool(files) and not any(cls._fault(root, file) for file in files.values())

    @classmethod
    def _open(cls, root: Path, *, train: bool, download: bool) -> Any:
        if download and not data_files.find(cls.checks, root, cls.system_folder):
            super()._open(root, train=train, download=True)
        images, labels = cls._files(root, train=train)
        targets = cls._array(labels).astype(np.int64)
        return SimpleNamespace(data=cls._array(images), targets=targets, classes=_theirs(cls.__name__).classes)

    @classmethod
    def _array(cls, file: Path) -> npt.NDArray[np.uint8]:
        """Read the values behind the header of an idx file whose content is right."""
        content = data_files.content(file, cls._check_of(file))
        sizes = np.frombuffer(content, ">u4", count=content[3], offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes).copy()


def read_fashion(root: Path, *, train: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], tuple[str, ...]]:
    """Return the pictures of Fashion-MNIST [N, 28, 28], their classes, and the names of these.

    Raises:
        UserError: the files are not there and cannot be fetched, or are damaged.
    """
    FashionMNIST.prepare(root)
    read = FashionMNIST._open(root, train=train, download=False)
    return read.data, read.targets, tuple(read.classes)


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
    # torchvision's own sums, here for `snn-exp data`, which needs no torch
    checks: ClassVar[Mapping[str, str]] = {
        "cifar-10-batches-py/data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "md5:634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
        "cifar-10-batches-py/test_batch": "md5:40351d587109b95175f43aff81a1287e",
    }
    licence = "none stated"
    download_mib = 163

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
    checks = {
        "cifar-100-python/train": "md5:16019d7e3df5f24257cddd939b257f8d",
        "cifar-100-python/test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
    }
    download_mib = 161


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
    checks = {
        "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
    }
    licence = "non-commercial use only"
    download_mib = 235

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
