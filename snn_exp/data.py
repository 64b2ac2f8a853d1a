"""Data sets: real images in memory, split once, indexed and augmented by the batch.

Shapes: N samples, B batch, C channels, H W space.

The order of an epoch and the augmentation of a sample derive from (seed, epoch, index) alone, so that a
resumed run repeats the undisturbed one, whatever the batches were.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from snn_exp.errors import UserError
from snn_exp.registry import OpenFraction, PartConfig, Registry

EVAL_BATCH_SIZE = 256
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
        flip: mirror every other training image.
    """

    embedded: ClassVar[bool] = False
    num_classes: ClassVar[int] = 10
    version: ClassVar[int] = 1

    train: Split
    val: Split

    def __init__(self, root: Path, seed: int, *, max_shift: int, flip: bool = False) -> None:
        self.root = root
        self.seed = seed
        self.max_shift = max_shift
        self.flip = flip

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
        flip: bool = False,
    ) -> None:
        super().__init__(root, seed, max_shift=max_shift, flip=flip)
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

    torchvision_name = "MNIST"
    files = _MNIST_FILES.format("MNIST")

    def __init__(
        self, root: Path, seed: int, *, val_fraction: OpenFraction = 0.1, max_shift: Annotated[int, Ge(0)] = 2
    ) -> None:
        super().__init__(root, seed, val_fraction=val_fraction, max_shift=max_shift)


@DATASETS.register("fashion_mnist")
class FashionMNIST(TorchvisionDataset):
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

    torchvision_name = "FashionMNIST"
    files = _MNIST_FILES.format("FashionMNIST")

    def __init__(
        self,
        root: Path,
        seed: int,
        *,
        val_fraction: OpenFraction = 0.1,
        max_shift: Annotated[int, Ge(0)] = 2,
        flip: bool = True,
    ) -> None:
        super().__init__(root, seed, val_fraction=val_fraction, max_shift=max_shift, flip=flip)


@DATASETS.register("cifar10")
class CIFAR10(TorchvisionDataset):
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

    def __init__(
        self,
        root: Path,
        seed: int,
        *,
        val_fraction: OpenFraction = 0.1,
        max_shift: Annotated[int, Ge(0)] = 4,
        flip: bool = True,
    ) -> None:
        super().__init__(root, seed, val_fraction=val_fraction, max_shift=max_shift, flip=flip)

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

    def __init__(
        self, root: Path, seed: int, *, val_fraction: OpenFraction = 0.1, max_shift: Annotated[int, Ge(0)] = 4
    ) -> None:
        super().__init__(root, seed, val_fraction=val_fraction, max_shift=max_shift)

    @classmethod
    def _open(cls, root: Path, *, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.SVHN(str(root), split="train" if train else "test", download=download)

    def _as_split(self, read: Any) -> Split:
        return Split(torch.from_numpy(read.data), torch.from_numpy(read.labels.astype(np.int64)))


def make_dataset(config: PartConfig, root: Path, seed: int) -> ImageDataset:
    """The data set of a resolved config group."""
    return DATASETS.make(config, root, seed)


@dataclasses.dataclass(frozen=True)
class BatchIndex:
    """Which samples of which epoch make a batch."""

    epoch: int
    indices: Tensor


def _generator(*key: int) -> torch.Generator:
    """A generator of its own for each key."""
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


class EpochSampler(Sampler[BatchIndex]):
    """Batches of an epoch, in an order that derives from (seed, epoch); Lightning sets the epoch.

    Args:
        num_samples: N.
        batch_size: samples a batch; a last batch of one sample is left out, since no batch norm can use it.
        seed: None keeps the order of the data and every sample.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int | None) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order."""
        self.epoch = epoch

    def _num_dropped(self) -> int:
        lonely = self.seed is not None and self.num_samples > 1 and self.num_samples % self.batch_size == 1
        return 1 if lonely and self.batch_size > 1 else 0

    def __len__(self) -> int:
        return -(-(self.num_samples - self._num_dropped()) // self.batch_size)

    def __iter__(self) -> Iterator[BatchIndex]:
        # a generator, so that the order is drawn at the first batch: Lightning asks for the iterator of a
        # resumed epoch before it sets that epoch
        if self.seed is None:
            order = torch.arange(self.num_samples)
        else:
            order = torch.randperm(self.num_samples, generator=_generator(self.seed, self.epoch, 0))
        order = order[: self.num_samples - self._num_dropped()]
        for start in range(0, len(order), self.batch_size):
            yield BatchIndex(self.epoch, order[start : start + self.batch_size])


class BatchedSplit(TorchDataset[tuple[Tensor, Tensor]]):
    """A split that is indexed, and augmented, a batch at a time.

    Args:
        split: the samples.
        seed: of the augmentation.
        max_shift: largest shift, pixels; 0 does not shift.
        flip: mirror every other image.
    """

    def __init__(self, split: Split, seed: int = 0, max_shift: int = 0, flip: bool = False) -> None:
        self.split = split
        self.seed = seed
        self.max_shift = max_shift
        self.flip = flip
        self._drawn: tuple[int, Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, batch: BatchIndex) -> tuple[Tensor, Tensor]:
        x_BCHW = as_pixels(self.split.images[batch.indices])
        if self.max_shift or self.flip:
            shifts, flips = self._draw(batch.epoch)
            if self.flip:
                x_BCHW = torch.where(flips[batch.indices].view(-1, 1, 1, 1), x_BCHW.flip(-1), x_BCHW)
            if self.max_shift:
                x_BCHW = shifted(x_BCHW, shifts[batch.indices], self.max_shift)
        return x_BCHW, self.split.labels[batch.indices]

    def _draw(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Shifts and flips of all samples in an epoch."""
        if self._drawn is None or self._drawn[0] != epoch:
            generator = _generator(self.seed, epoch, 1)
            shifts = torch.randint(-self.max_shift, self.max_shift + 1, (len(self.split), 2), generator=generator)
            flips = torch.rand(len(self.split), generator=generator) < 0.5
            self._drawn = (epoch, shifts, flips)
        return self._drawn[1], self._drawn[2]


def shifted(x_BCHW: Tensor, shifts_B2: Tensor, max_shift: int) -> Tensor:
    """Each image moved down and right by its own shift; zeros move in.

    Example:
        >>> shifted(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[0, 1]]), 1)
        tensor([[[[0., 1.]]]])
    """
    b, c, h, w = x_BCHW.shape
    padded = functional.pad(x_BCHW, (max_shift,) * 4)
    rows = torch.arange(h) + max_shift - shifts_B2[:, :1]
    columns = torch.arange(w) + max_shift - shifts_B2[:, 1:]
    batch, channel = torch.arange(b).view(-1, 1, 1, 1), torch.arange(c).view(1, -1, 1, 1)
    return padded[batch, channel, rows.view(b, 1, h, 1), columns.view(b, 1, 1, w)]


class DataModule(pl.LightningDataModule):
    """A data set's loaders; no Python work a sample.

    Args:
        dataset: the data set.
        batch_size: training samples a step.
        seed: of order and augmentation.
    """

    def __init__(self, dataset: ImageDataset, batch_size: int, seed: int) -> None:
        super().__init__()
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed

    @property
    def num_train(self) -> int:
        """Training samples an epoch."""
        return len(self.dataset.train)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled and augmented."""
        d = self.dataset
        batched = BatchedSplit(d.train, self.seed, d.max_shift, d.flip)
        return _loader(batched, EpochSampler(len(d.train), self.batch_size, self.seed))

    def val_dataloader(self) -> DataLoader[Any]:
        """In order, as they are."""
        return self._in_order(self.dataset.val)

    def test_dataloader(self) -> DataLoader[Any]:
        """In order, as they are."""
        return self._in_order(self.dataset.test)

    def some_validation_samples(self, num_samples: int) -> tuple[Tensor, Tensor]:
        """The first pixels and classes of the validation set."""
        batched = BatchedSplit(self.dataset.val)
        return batched[BatchIndex(0, torch.arange(min(num_samples, len(batched))))]

    def _in_order(self, split: Split) -> DataLoader[Any]:
        return _loader(BatchedSplit(split), EpochSampler(len(split), EVAL_BATCH_SIZE, None))


def _loader(batched: BatchedSplit, sampler: EpochSampler) -> DataLoader[Any]:
    return DataLoader(batched, sampler=sampler, batch_size=None, num_workers=0)
