"""Data sets: the splits, and the real files of each set in miniature."""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import torch
import torchvision
from sklearn.datasets import load_digits
from torch import Tensor

from snn_exp.data.base import DATASETS, Dataset
from snn_exp.data.datamodule import DataModule
from snn_exp.data.digits import Digits
from snn_exp.data.split import Split
from snn_exp.data.torchvision import CIFAR10, CIFAR100, MNIST, SVHN, FashionMNIST, TorchvisionDataset
from snn_exp.errors import UserError

Pixels = npt.NDArray[np.uint8]
Part = tuple[Pixels, npt.NDArray[np.int64]]  # images [N, C, H, W], labels [N]


def keys(images: Tensor | Pixels) -> list[bytes]:
    """What tells the images apart."""
    return [np.asarray(image).tobytes() for image in images]


@functools.cache
def digits(seed: int = 0, split_seed: int = 0) -> Digits:
    return Digits(Path(), seed, split_seed=split_seed)


def same(one: Split, other: Split) -> bool:
    return torch.equal(one.samples, other.samples) and torch.equal(one.labels, other.labels)


# digits ---------------------------------------------------------------------------------------------------


def test_the_digits_are_split_60_15_25() -> None:
    data = digits()
    sizes = [len(data.train), len(data.val), len(data.test)]
    assert sum(sizes) == 1797
    assert [size / 1797 for size in sizes] == pytest.approx([0.6, 0.15, 0.25], abs=0.001)
    assert data.in_shape == (1, 8, 8)
    assert data.num_classes == 10


@pytest.mark.parametrize("seed", [0, 1])
def test_every_part_of_the_digits_has_every_class_in_proportion(seed: int) -> None:
    data = digits(seed)
    overall = np.bincount(load_digits().target) / 1797
    for part in (data.train, data.val, data.test):
        counts = torch.bincount(part.labels, minlength=10).numpy()
        assert np.abs(counts - overall * len(part)).max() <= 1.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_parts_of_the_digits_are_the_whole_and_share_no_sample(seed: int) -> None:
    data = digits(seed)
    found = [key for part in (data.train, data.val, data.test) for key in keys(part.samples)]
    everything = keys((load_digits().images[:, None] / 16).astype(np.float32))
    assert len(set(everything)) == 1797, "no digit occurs twice, so that a key is a sample"
    assert sorted(found) == sorted(everything)


def test_the_digits_keep_their_own_labels() -> None:
    data = digits(3)
    bunch = load_digits()
    labels = dict(zip(keys((bunch.images[:, None] / 16).astype(np.float32)), bunch.target, strict=True))
    for part in (data.train, data.val, data.test):
        assert [labels[key] for key in keys(part.samples)] == part.labels.tolist()


def test_the_test_part_stays_whatever_the_seed_while_the_rest_is_redrawn() -> None:
    one, other = digits(0), digits(1)
    assert same(one.test, other.test)
    assert not torch.equal(one.train.samples, other.train.samples)
    assert set(keys(one.val.samples)) != set(keys(other.val.samples))
    assert one.fingerprint != other.fingerprint


def test_the_same_seed_gives_the_same_parts_and_fingerprint() -> None:
    one, other = Digits(Path(), 5), Digits(Path(), 5)
    assert same(one.train, other.train) and same(one.val, other.val) and same(one.test, other.test)
    assert one.fingerprint == other.fingerprint
    assert len(one.fingerprint) == 16 and int(one.fingerprint, 16) >= 0


def test_another_split_seed_gives_another_test_part_and_fingerprint() -> None:
    one, other = digits(0, split_seed=0), digits(0, split_seed=1)
    assert set(keys(one.test.samples)) != set(keys(other.test.samples))
    assert one.fingerprint != other.fingerprint


def test_fractions_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(UserError, match="leave nothing to train on"):
        Digits(Path(), 0, val_fraction=0.5, test_fraction=0.5)


def test_the_pixel_statistics_are_those_of_the_training_part() -> None:
    data = digits()
    assert data.pixel_mean == pytest.approx(data.train.samples.mean().item())
    assert data.pixel_std == pytest.approx(data.train.samples.std().item())


@pytest.mark.parametrize("fractions", [{"val_fraction": 0.001}, {"test_fraction": 0.001}], ids=str)
def test_a_part_too_small_for_every_class_is_refused(fractions: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="every class in both"):
        Digits(Path(), 0, **fractions)


# the real files in miniature ------------------------------------------------------------------------------


def made(per_class: int, num_classes: int, shape: tuple[int, int, int], seed: int) -> Part:
    """Random images, classes mixed."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(num_classes), per_class)).astype(np.int64)
    images = rng.integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    images[0], images[1, ..., 0] = 255, 0
    return images, labels


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """The idx format: two zeros, the type (8: unsigned byte), the rank, big-endian sizes, the bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_idx(name: str) -> Callable[[Path, Part, Part, pytest.MonkeyPatch], None]:
    def write(root: Path, train: Part, test: Part, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = root / name / "raw"
        folder.mkdir(parents=True)
        for prefix, (images, labels) in (("train", train), ("t10k", test)):
            (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images[:, 0]))
            (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels.astype(np.uint8)))

    return write


def write_fashion(root: Path, train: Part, test: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx("FashionMNIST")(root, train, test, monkeypatch)
    sums = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in FashionMNIST.checks}
    monkeypatch.setattr(FashionMNIST, "checks", {name: f"sha256:{sha256}" for name, sha256 in sums.items()})


def write_cifar(name: str, label_key: str, num_files: int) -> Callable[[Path, Part, Part, pytest.MonkeyPatch], None]:
    def write(root: Path, train: Part, test: Part, monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(torchvision.datasets, name)
        folder = root / real.base_folder
        folder.mkdir(parents=True)

        def pickled(file: str, content: dict[str, object]) -> list[str]:
            # the official files are of Python 2 and an old numpy: protocol 2, a dtype's flags are the numbers 0 and 1
            new = pickle.dumps(content, protocol=2)
            (folder / file).write_bytes(new.replace(b"\x89\x88\x87", b"K\x00K\x01\x87"))
            return [file, md5(folder / file)]

        def batch(images: Pixels, labels: npt.NDArray[np.int64]) -> dict[str, object]:
            return {"data": images.reshape(len(images), -1), label_key: labels.tolist()}

        parts = zip(np.array_split(train[0], num_files), np.array_split(train[1], num_files), strict=True)
        names = [file for file, _ in real.train_list]
        train_list = [pickled(file, batch(*part)) for file, part in zip(names, parts, strict=True)]
        test_list = [pickled(real.test_list[0][0], batch(*test))]
        _, meta_md5 = pickled(
            real.meta["filename"], {real.meta["key"]: [str(k) for k in range(int(test[1].max()) + 1)]}
        )
        monkeypatch.setattr(real, "train_list", train_list)
        monkeypatch.setattr(real, "test_list", test_list)
        monkeypatch.setattr(real, "meta", {**real.meta, "md5": meta_md5})

    return write


def write_svhn(root: Path, train: Part, test: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir(parents=True)
    split_list = dict(torchvision.datasets.SVHN.split_list)
    for name, (images, labels) in (("train", train), ("test", test)):
        path = root / f"{name}_32x32.mat"
        ten_for_zero = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        scipy.io.savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": ten_for_zero})
        url, file, _ = split_list[name]
        split_list[name] = [url, file, md5(path)]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", split_list)


REAL = {
    "mnist": (MNIST, (1, 28, 28), 10, write_idx("MNIST")),
    "fashion_mnist": (FashionMNIST, (1, 28, 28), 10, write_fashion),
    "cifar10": (CIFAR10, (3, 32, 32), 10, write_cifar("CIFAR10", "labels", 5)),
    "cifar100": (CIFAR100, (3, 32, 32), 100, write_cifar("CIFAR100", "fine_labels", 1)),
    "svhn": (SVHN, (3, 32, 32), 10, write_svhn),
}


def no_network(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    monkeypatch.setattr("torchvision.datasets.svhn.download_url", refuse)
    monkeypatch.setattr(FashionMNIST, "system_folder", "/nowhere/fashion-mnist")


@pytest.fixture(params=REAL)
def real(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[type[TorchvisionDataset], Path, Part, Part]:
    """A data set's class, its folder, and what was written there as training and test set."""
    cls, shape, num_classes, write = REAL[request.param]
    train, test = made(5, num_classes, shape, seed=1), made(2, num_classes, shape, seed=2)
    no_network(monkeypatch, AssertionError("nothing is to be fetched"))
    write(tmp_path / "data", train, test, monkeypatch)
    return cls, tmp_path / "data", train, test


def test_every_data_set_that_is_not_embedded_is_read_here_from_real_files() -> None:
    assert set(REAL) == {name for name in DATASETS if issubclass(DATASETS[name], TorchvisionDataset)}


def test_pixels_and_labels_come_through_exactly(real: tuple[type[TorchvisionDataset], Path, Part, Part]) -> None:
    cls, root, train, test = real
    data = cls(root, 0, val_fraction=0.2)
    num_classes = int(test[1].max()) + 1
    assert data.is_present(root)
    assert data.num_classes == num_classes
    assert data.in_shape == train[0].shape[1:]
    assert (len(data.train), len(data.val), len(data.test)) == (4 * num_classes, num_classes, 2 * num_classes)
    for part in (data.train, data.val, data.test):
        assert part.samples.dtype == torch.uint8 and part.labels.dtype == torch.int64
    assert torch.equal(data.test.samples, torch.from_numpy(test[0]))
    assert torch.equal(data.test.labels, torch.from_numpy(test[1]))
    found = list(zip(keys(data.train.samples) + keys(data.val.samples),
                     data.train.labels.tolist() + data.val.labels.tolist(), strict=True))  # fmt: skip
    assert sorted(found) == sorted(zip(keys(train[0]), train[1].tolist(), strict=True))
    assert torch.bincount(data.val.labels).tolist() == [1] * num_classes, "stratified"


def test_a_training_batch_is_float_in_zero_to_one_and_evaluation_shows_the_pixels(
    real: tuple[type[TorchvisionDataset], Path, Part, Part],
) -> None:
    cls, root, _, test = real
    module = DataModule(cls(root, 0, val_fraction=0.2), 16, 0)
    x, labels = next(iter(module.train_dataloader()))
    assert x.shape == (16, *test[0].shape[1:]) and x.dtype == torch.float32
    assert labels.shape == (16,) and labels.dtype == torch.int64
    assert x.min() == 0 and 0.9 < x.max() <= 1
    shown = torch.cat([x for x, _ in module.test_dataloader()])
    assert shown.max() == 1
    torch.testing.assert_close(shown, torch.from_numpy(test[0]).float() / 255, rtol=0, atol=0)


def test_the_seed_redraws_validation_of_an_official_training_set(
    real: tuple[type[TorchvisionDataset], Path, Part, Part],
) -> None:
    cls, root, _, _ = real

    def drawn(seed: int) -> Dataset:
        return cls(root, seed, val_fraction=0.2)

    one, again, other = drawn(0), drawn(0), drawn(1)
    assert same(one.train, again.train) and same(one.val, again.val)
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert set(keys(one.val.samples)) != set(keys(other.val.samples))
    assert same(one.test, other.test)


def test_fewer_training_samples_are_in_proportion_and_leave_validation_and_test_alone(
    real: tuple[type[TorchvisionDataset], Path, Part, Part],
) -> None:
    cls, root, _, _ = real
    whole = cls(root, 0, val_fraction=0.2)
    few = cls(root, 0, val_fraction=0.2, num_train=2 * whole.num_classes)
    assert torch.bincount(few.train.labels).tolist() == [2] * whole.num_classes
    assert set(keys(few.train.samples)) < set(keys(whole.train.samples))
    assert same(few.val, whole.val) and same(few.test, whole.test)
    assert few.flip == whole.flip and few.fingerprint != whole.fingerprint


def test_the_pixel_statistics_of_bytes_are_in_zero_to_one(
    real: tuple[type[TorchvisionDataset], Path, Part, Part],
) -> None:
    cls, root, _, _ = real
    data = cls(root, 0, val_fraction=0.2)
    pixels = data.train.samples.double() / 255
    assert data.pixel_mean == pytest.approx(pixels.mean().item(), rel=1e-4)
    assert data.pixel_std == pytest.approx(pixels.std().item(), rel=1e-4)


@pytest.mark.parametrize("error", [URLError("no route to host"), RuntimeError("no route to host")], ids=repr)
@pytest.mark.parametrize("name", REAL)
def test_a_data_set_that_is_nowhere_is_named_with_the_folder_and_the_files(
    name: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = REAL[name][0]
    no_network(monkeypatch, error)
    root = tmp_path / "nowhere"
    assert not cls.is_present(root)
    with pytest.raises(UserError) as caught:
        cls(root, 0)
    text = str(caught.value)
    assert text.startswith(f"dataset={name}: the data set {cls.__name__} ")
    assert str(root) in text
    files = {
        "mnist": ["MNIST/raw/", "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"],
        "fashion_mnist": ["FashionMNIST/raw/", "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"],
        "cifar10": ["cifar-10-batches-py/"],
        "cifar100": ["cifar-100-python/"],
        "svhn": ["train_32x32.mat", "test_32x32.mat"],
    }[name]
    assert all(file in text for file in files)
    assert "\n" not in text
    assert not root.exists(), "a failed download leaves no folder behind"


def test_a_failed_download_leaves_the_files_of_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_network(monkeypatch, URLError("no route to host"))
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no route to host"):
        MNIST.prepare(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine.txt"]


def test_a_download_cut_short_is_a_fault_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_network(monkeypatch, EOFError())
    with pytest.raises(UserError, match=r"could not be fetched \(it cannot be read\)"):
        MNIST.prepare(tmp_path)


def test_a_damaged_file_is_a_fault_in_words(real: tuple[type[TorchvisionDataset], Path, Part, Part]) -> None:
    cls, root, _, _ = real
    victim = next(path for path in sorted(root.rglob("*")) if path.is_file() and path.name.startswith("t"))
    victim.write_bytes(victim.read_bytes()[:6])
    with pytest.raises(UserError, match="damaged") as caught:
        cls(root, 0)
    assert f"dataset={DATASETS.name_of(cls)}: " in str(caught.value) and f"{victim.resolve()} is truncated" in str(
        caught.value
    )


@pytest.mark.parametrize(("count", "wrong"), [(60, "labels"), (40, "labels")])
def test_labels_of_another_number_than_images_are_named_with_the_files(count: int, wrong: str, tmp_path: Path) -> None:
    train, test = made(5, 10, (1, 28, 28), seed=1), made(2, 10, (1, 28, 28), seed=2)
    write_idx("MNIST")(tmp_path, (train[0], np.resize(train[1], count)), test, pytest.MonkeyPatch())
    with pytest.raises(UserError) as caught:
        MNIST(tmp_path, 0, val_fraction=0.2)
    folder = tmp_path.resolve() / "MNIST" / "raw"
    assert f"in {folder} (train-images-idx3-ubyte, train-labels-idx1-ubyte) is damaged: it has 50 samples and " in str(
        caught.value
    )
    assert f"{count} labels" in str(caught.value) and "replace the files, or" in str(caught.value)


def test_images_of_another_size_than_the_rest_are_refused(tmp_path: Path) -> None:
    train, test = made(5, 10, (1, 28, 28), seed=1), made(2, 10, (1, 20, 20), seed=2)
    write_idx("MNIST")(tmp_path, train, test, pytest.MonkeyPatch())
    with pytest.raises(
        UserError, match=r"t10k-images.* its samples are 20 x 20 pixels of 1 channel, and should be 28 x 28"
    ):
        _ = MNIST(tmp_path, 0, val_fraction=0.2).test


def test_half_of_a_data_set_is_not_present(real: tuple[type[TorchvisionDataset], Path, Part, Part]) -> None:
    cls, root, _, _ = real
    victim = next(path for path in sorted(root.rglob("*")) if path.is_file() and path.name.startswith("t"))
    victim.unlink()
    assert not cls.is_present(root)
