"""Files of one's own: folders of pictures and arrays, their parts, their identity, and what is refused in words."""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from snn_exp.cli import main
from snn_exp.config import own_files
from snn_exp.config.compose import compose
from snn_exp.config.experiment import resolve
from snn_exp.data import on_disk, own
from snn_exp.data.arrays import Arrays
from snn_exp.data.base import DATASETS, make_dataset
from snn_exp.data.datamodule import DataModule
from snn_exp.data.pictures import Images, PictureReader
from snn_exp.data.split import Split
from snn_exp.errors import UserError

CLASSES = ("cat", "dog", "eel")
TINY = ("neuron=s2nn", "network=mlp", "network.width=4", "depth.num_layers=2", "trainer.max_epochs=1", "logger=none")


def pixels(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_pictures(folder: Path, per_class: int = 8, side: int = 6, seed: int = 0) -> Path:
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            made = pixels(side, side, 3, seed=100 * seed + 10 * number + index) // 3
            made[:, 2 * number : 2 * number + 2] += 150
            Image.fromarray(made).save(folder / name / f"{index:03}.png")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def images(path: Path, seed: int = 0, **given: Any) -> Images:
    return Images(path.parent / "data", seed, path=str(path), **given)


def everything(data: Images | Arrays) -> dict[bytes, int]:
    """Each sample -> its label."""
    parts = (data.train, data.val, data.test)
    return {
        sample.numpy().tobytes(): int(label)
        for part in parts
        for sample, label in zip(part.samples, part.labels, strict=True)
    }


# parts ----------------------------------------------------------------------------------------------------


def test_a_folder_is_read_as_torchvision_reads_it(pictures: Path) -> None:
    (pictures / "dog" / "more").mkdir()
    Image.fromarray(pixels(6, 6, 3, seed=77)).save(pictures / "dog" / "more" / "0.bmp")
    (pictures / "dog" / "notes.txt").write_text("not a picture")
    data, theirs = images(pictures), ImageFolder(str(pictures))
    assert data.class_names == tuple(theirs.classes) and data.num_classes == 3
    read = [(np.asarray(picture).transpose(2, 0, 1).tobytes(), label) for picture, label in theirs]
    assert everything(data) == dict(read) and len(read) == 25
    assert [p.name for p in own_files.listing(str(pictures)).pictures] == [
        Path(path).relative_to(pictures).as_posix() for path, _ in theirs.samples
    ]


def test_parts_that_are_not_given_are_drawn_in_proportion(pictures: Path) -> None:
    one, other = images(pictures, 0), images(pictures, 1)
    assert (len(one.train), len(one.val), len(one.test)) == (15, 3, 6)
    assert torch.bincount(one.test.labels).tolist() == [2, 2, 2] and torch.bincount(one.val.labels).tolist() == [
        1,
        1,
        1,
    ]
    assert torch.equal(one.test.samples, other.test.samples) and one.fingerprint != other.fingerprint
    assert len(images(pictures, num_train=6).train) == 6
    assert images(pictures, split_seed=1).test_fingerprint != one.test_fingerprint


@pytest.mark.parametrize("parts", [("train",), ("train", "test"), ("train", "val"), ("train", "val", "test")], ids=str)
def test_parts_that_are_given_stay_as_they_are(parts: tuple[str, ...], tmp_path: Path) -> None:
    for number, part in enumerate(parts):
        write_pictures(tmp_path / "pictures" / part, seed=number)
    one, other = images(tmp_path / "pictures", 0), images(tmp_path / "pictures", 1)
    given = {part: dict(ImageFolder(str(tmp_path / "pictures" / part)).samples) for part in parts}
    for part in ("val", "test"):
        if part in parts:
            assert len(getattr(one, part)) == len(given[part]) == 24
            assert torch.equal(getattr(one, part).samples, getattr(other, part).samples)
    assert len(one.train) + sum(len(getattr(one, part)) for part in ("val", "test") if part not in parts) == 24
    assert len(everything(one)) == 24 * len(parts)
    assert (one.fingerprint == other.fingerprint) == ("val" in parts)


def test_a_class_may_be_called_train_where_there_are_others(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    (pictures / "eel").rename(pictures / "train")
    assert images(pictures).class_names == ("cat", "dog", "train")


def test_pictures_are_resized_only_if_asked_by_the_shorter_side(pictures: Path) -> None:
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 255  # the middle
    Image.fromarray(wide).save(pictures / "cat" / "wide.png")
    data = images(pictures, size=3, color="gray")
    assert data.in_shape == (1, 3, 3)
    assert (255 * torch.ones(1, 3, 3)).to(torch.uint8).numpy().tobytes() in everything(data)
    with pytest.raises(
        UserError, match=r"wide.png is 4 x 12 pixels \(height x width\), and .*000.png is 6 x 6; type dataset.size=6"
    ):
        images(pictures)


# identity -------------------------------------------------------------------------------------------------


def run_id(path: Path, *more: str, name: str = "images") -> str:
    own_files.forget()
    return compose([f"dataset={name}", f"dataset.path={path}", *more]).run_id


def test_the_same_pictures_elsewhere_are_the_same_run(pictures: Path, tmp_path: Path) -> None:
    before = run_id(pictures)
    shutil.copytree(pictures, tmp_path / "elsewhere")
    assert run_id(tmp_path / "elsewhere") == before == run_id(pictures, "dataset.memory_mib=1")
    (pictures / "cat" / ".DS_Store").write_bytes(b"x")
    assert run_id(pictures) == before, "a hidden file is no picture"
    others = {
        run_id(pictures, more) for more in ("dataset.size=3", "dataset.color=gray", "dataset.num_train=6", "seed=1")
    }
    picture = pictures / "cat" / "000.png"
    content = picture.read_bytes()
    Image.open(picture).point(lambda value: 255 - value).save(picture)
    others.add(run_id(pictures))
    picture.write_bytes(content)
    assert run_id(pictures) == before
    picture.rename(pictures / "cat" / "zzz.png")
    others.add(run_id(pictures))
    assert len(others) == 6 and before not in others


def test_a_config_is_composed_from_its_stored_form_where_the_pictures_are_no_more(pictures: Path) -> None:
    config = compose(["dataset=images", f"dataset.path={pictures}"])
    shutil.rmtree(pictures)
    own_files.forget()
    assert resolve(config.to_plain()).run_id == config.run_id


def test_files_that_change_after_they_were_asked_for_are_refused(pictures: Path, tmp_path: Path) -> None:
    config = compose(["dataset=images", f"dataset.path={pictures}"])
    (pictures / "cat" / "000.png").unlink()
    with pytest.raises(
        UserError,
        match=f"holds other data .* than those that were asked for .dataset.content={config.dataset['content']}",
    ):
        make_dataset(config.dataset, tmp_path / "data", 0, 1)


def test_a_run_is_found_again_from_a_folder_that_was_moved(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", "dataset=images", *TINY)
    assert main.main([*command, f"dataset.path={pictures}"]) == 0
    (run,) = (tmp_path / "out" / "runs").iterdir()
    moved = pictures.rename(tmp_path / "moved")
    capsys.readouterr()
    assert main.main([*command, f"dataset.path={moved}"]) == 0
    assert "done before; nothing to train" in capsys.readouterr().out
    assert main.main(["eval", run.name]) == 2
    assert f"dataset.path={pictures} does not exist" in capsys.readouterr().err
    assert main.main(["eval", run.name, f"dataset.path={write_pictures(tmp_path / 'others', seed=3)}"]) == 0


# memory ---------------------------------------------------------------------------------------------------


def test_samples_on_disk_are_those_in_memory(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snn_exp.data.on_disk.BLOCK", 500)  # some samples at a time
    in_memory = images(pictures, num_train=10)
    monkeypatch.setattr(own, "MIB", 1)
    left_there = images(pictures, num_train=10)
    assert left_there.is_on_disk and not in_memory.is_on_disk and type(in_memory.train) is Split
    assert left_there.fingerprint == in_memory.fingerprint and left_there.test_fingerprint == in_memory.test_fingerprint
    assert (left_there.pixel_mean, left_there.pixel_std) == (in_memory.pixel_mean, in_memory.pixel_std)
    samples = in_memory.train.samples.double() / 255
    assert (in_memory.pixel_mean, in_memory.pixel_std) == pytest.approx(
        (samples.mean().item(), samples.std(correction=0).item())
    )
    for one, other in zip(
        DataModule(left_there, 4, 0).train_dataloader(), DataModule(in_memory, 4, 0).train_dataloader(), strict=True
    ):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_pictures_are_read_once_for_all_seeds_and_a_damaged_cache_is_made_again(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, paths = PictureReader.read, []
    monkeypatch.setattr(PictureReader, "read", lambda self, path: paths.append(path) or read(self, path))
    first = images(pictures).fingerprint
    assert len(paths) == 24 + 1, "and the first one for its shape"
    images(pictures, 1)
    assert len(paths) == 24 + 2
    (cache,) = (pictures.parent / "data" / "cached").iterdir()
    for damage in (b"", cache.read_bytes()[:-1], b"\x93NUMPY\x01\x00\xff\xff"):
        cache.write_bytes(damage)
        assert images(pictures).fingerprint == first
    images(pictures, color="gray")
    assert len(list(cache.parent.iterdir())) == 2


def test_what_cannot_be_read_leaves_no_cache_behind(pictures: Path) -> None:
    (pictures / "eel" / "007.png").write_bytes(b"x")
    with pytest.raises(UserError):
        images(pictures)
    assert not list((pictures.parent / "data" / "cached").iterdir())


def test_a_disk_without_room_is_one_sentence(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(UserError, match="and its disk has 0 MiB left; make room there"):
        images(pictures)


# refused in a sentence ------------------------------------------------------------------------------------


def save(path: Path, array: npt.NDArray[Any], **how: Any) -> None:
    Image.fromarray(array).save(path, **how)


def cut(path: Path) -> None:
    whole = path.with_name("003.png").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def sixteen_bit_colour(path: Path) -> None:
    """A PNG whose header says 16 bits; Pillow would drop the lower ones without a word."""
    head = struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(6 * (1 + 6 * 3 * 2)))), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    with Image.open(path) as opened:
        assert opened.mode == "RGB", "Pillow says nothing of the other 8 bits"


WRONG: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "cut": ("p.png", cut, "cannot be read as a picture"),
    "nothing": ("p.png", lambda p: p.touch(), "cannot be read as a picture (it is none of PNG, JPEG"),
    "text": ("p.jpg", lambda p: p.write_text("hello"), "cannot be read as a picture"),
    "16 bits": ("p.png", lambda p: save(p, pixels(6, 6).astype(np.uint16) * 256), "has more than 8 bits per channel"),
    "16 bits a channel": ("p.png", sixteen_bit_colour, "has more than 8 bits per channel"),
    "16 bits of ppm": ("p.ppm", lambda p: p.write_bytes(b"P6 6 6\n# x\n65535\n" + bytes(216)), "has more than 8 bits per channel"),
    "floats": ("p.tif", lambda p: save(p, pixels(6, 6).astype(np.float32)), "has more than 8 bits per channel"),
    "alpha": ("p.png", lambda p: save(p, pixels(6, 6, 4)), "has transparency (an alpha channel)"),
    "a palette's": ("p.png", lambda p: Image.fromarray(pixels(6, 6) % 4).convert("P").save(p, transparency=0), "has transparency"),
    "animated": (
        "p.webp",
        lambda p: Image.fromarray(pixels(6, 6, 3)).save(p, save_all=True, append_images=[Image.fromarray(pixels(6, 6, 3, seed=9))]),
        "is animated, or has pages: 2 of them",
    ),
    "pages": (
        "p.tif",
        lambda p: Image.fromarray(pixels(6, 6, 3)).save(p, save_all=True, append_images=[Image.fromarray(pixels(6, 6, 3))]),
        "is animated, or has pages: 2 of them",
    ),
    "another size": ("p.png", lambda p: save(p, pixels(6, 7, 3)), "is 6 x 7 pixels (height x width)"),
    "too many pixels": ("p.bmp", lambda p: p.write_bytes(b"BM" + bytes(12) + b"\x28\0\0\0" + b"\0\0\2\0" * 2 + b"\1\0\x18\0" + bytes(24)), "has more than 67,108,864 pixels, the limit; reduce it"),
    "a pipe": ("p.png", lambda p: os.mkfifo(p), "is a named pipe, not a file"),
    "a link out": ("p.png", lambda p: p.symlink_to("/etc/hostname"), "is a link that leads out of"),
    "a link to nothing": ("p.png", lambda p: p.symlink_to("nowhere.png"), "is a broken link"),
    "a gif": ("p.gif", lambda p: save(p, pixels(6, 6)), "is of a kind that is not read; convert it to one of .jpg"),
    "PostScript": ("p.png", lambda p: p.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n"), "cannot be read as a picture"),
}  # fmt: skip


@cache
def defaults() -> dict[str, Any]:
    return compose([]).to_plain()


def refusal(name: str, path: Path) -> str:
    """What `snn-exp train` says of files before it trains, as it is composed and prepared."""
    own_files.forget()
    with pytest.raises(UserError) as caught:
        config = resolve({**defaults(), "dataset": {"name": name, "path": str(path)}})
        DATASETS[name].prepare_for(config.dataset, path.parent / "data", 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", WRONG)
def test_a_picture_that_is_none_is_named_in_one_sentence(kind: str, pictures: Path) -> None:
    name, make, sentence = WRONG[kind]
    make(pictures / "dog" / name)
    said = refusal("images", pictures)
    assert said.startswith(f"{pictures / 'dog' / name} ") and sentence in said


def test_files_are_refused_before_anything_is_trained(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    cut(pictures / "dog" / "p.png")
    objects(tmp_path / "a.npz")
    for words in (
        ["dataset=images", f"dataset.path={pictures}"],
        ["dataset=arrays", f"dataset.path={tmp_path / 'a.npz'}"],
    ):
        assert main.main(["train", "-m", *words, "seed=0,1", *TINY]) == 2
        assert capsys.readouterr().err.count("\n") == 1 and not (output / "runs").exists()


def empty(folder: Path) -> None:
    (folder / "fox").mkdir()


def one_class(folder: Path) -> None:
    for name in ("dog", "eel"):
        shutil.rmtree(folder / name)


def few(folder: Path) -> None:
    for path in sorted((folder / "dog").iterdir())[1:]:
        path.unlink()


def into_parts(folder: Path, *parts: str) -> None:
    inner = [folder / name for name in CLASSES]
    for part in parts:
        for path in inner:
            shutil.copytree(path, folder / part / path.name)
    for path in inner:
        shutil.rmtree(path)


def lacking(folder: Path) -> None:
    into_parts(folder, "train", "test")
    shutil.rmtree(folder / "test" / "eel")


def loose(folder: Path) -> None:
    into_parts(folder, "train", "test")
    save(folder / "test" / "x.png", pixels(6, 6, 3))


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an empty class": (empty, "fox holds no picture, and is a class by its place"),
    "one class": (one_class, "has one class, cat, and there must be at least two"),
    "a class too small": (few, "class 1 (dog) has 1 of them and needs at least 2"),
    "a part without a class": (lacking, "test has no folder eel, which is a class elsewhere"),
    "a picture beside the classes": (lambda f: save(f / "x.png", pixels(6, 6, 3)), "x.png belongs to no class"),
    "a part of another name": (lambda f: into_parts(f, "train", "valid"), "has folders in train/, and beside it valid/, which is not read; rename it val/, or"),
    "a picture beside the classes of a part": (loose, "x.png belongs to no class"),
    "no folder": (lambda f: [shutil.rmtree(f / name) for name in CLASSES], "holds no folder; "),
    "a link to a folder": (lambda f: (f / "gnu").symlink_to(f / "cat"), "gnu is a link to a folder, and such links are not followed"),
    "alike": (lambda f: [save(p, np.full((6, 6, 3), 7, np.uint8)) for p in f.glob("*/*.png")], "each pixel of all samples is 7"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_another_form_is_one_sentence(kind: str, pictures: Path) -> None:
    make, sentence = FOLDERS[kind]
    make(pictures)
    said = refusal("images", pictures)
    assert sentence in said and (str(pictures) in said or "(dog)" in said)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["dataset=images"], "dataset=images reads a folder with a folder of pictures per class, and dataset.path is not given; type dataset.path=..."),
        (["dataset=images", "dataset.path=/nowhere"], "dataset.path=/nowhere does not exist; type dataset.path=... with one that does"),
        (["dataset=images", "dataset.path=/etc/hostname"], "dataset.path=/etc/hostname is not a folder; type dataset=arrays, if it is an .npz file"),
        (["dataset=arrays", "dataset.path=/etc"], "dataset.path=/etc is a folder; type dataset=images, if it holds a folder per class"),
        (["dataset=arrays", "dataset.path=/dev/null"], "/dev/null is a device, not a file"),
    ],
)  # fmt: skip
def test_a_path_that_is_none_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    for command in ("train", "plan", "show"):
        assert main.main([command, *words]) == 2
        assert sentence in capsys.readouterr().err
    assert not output.exists()


def test_a_shift_out_of_view_is_refused_once_the_size_is_known(pictures: Path) -> None:
    with pytest.raises(UserError, match="max_shift=6 shifts an image of 6 x 6 pixels out of view"):
        images(pictures, max_shift=6)
    with pytest.raises(UserError, match="max_shift=4 shifts an image of 4 x 4 pixels out of view"):
        compose(["dataset=images", f"dataset.path={pictures}", "dataset.size=4", "dataset.max_shift=4"])


# arrays ---------------------------------------------------------------------------------------------------

X = pixels(24, 5, 6, seed=1)
Y = np.arange(24) % 3


def write_arrays(path: Path, **given: Any) -> Path:
    np.savez(path, **{"x": X, "y": Y, **given})
    return path


def arrays(path: Path, seed: int = 0, **given: Any) -> Arrays:
    own_files.forget()
    return Arrays(path.parent / "data", seed, path=str(path), **given)


@pytest.mark.parametrize("form", ["NHW", "NCHW", "NHWC", "words", "floats", "unsigned"])
def test_arrays_come_through_in_every_form(form: str, tmp_path: Path) -> None:
    rgb = pixels(24, 3, 5, 6, seed=2)
    x, y = {"NCHW": rgb, "NHWC": rgb.transpose(0, 2, 3, 1).copy(), "floats": X / np.float64(255)}.get(form, X), Y
    y = {"words": np.array(CLASSES)[Y], "unsigned": Y.astype(np.uint8)}.get(form, y)
    data = arrays(write_arrays(tmp_path / "a.npz", x=x, y=y))
    wanted = rgb if form in ("NCHW", "NHWC") else X[:, None]
    assert data.class_names == (CLASSES if form == "words" else ())
    assert data.in_shape == wanted.shape[1:] and (len(data.train), len(data.val), len(data.test)) == (15, 3, 6)
    if form == "floats":
        wanted = (wanted / np.float64(255)).astype(np.float32)
    assert everything(data) == {sample.tobytes(): int(label) for sample, label in zip(wanted, Y, strict=True)}


def test_parts_of_arrays_that_are_given_stay_as_they_are(tmp_path: Path) -> None:
    x_test, y_test = pixels(7, 5, 6, seed=8), np.array([0, 1, 2, 0, 1, 2, 2])
    data = arrays(write_arrays(tmp_path / "a.npz", x_test=x_test, y_test=y_test))
    assert np.array_equal(data.test.samples[:, 0].numpy(), x_test) and data.test.labels.tolist() == y_test.tolist()
    assert len(data.train) + len(data.val) == 24


def test_packing_and_place_are_no_part_of_the_identity_of_arrays(tmp_path: Path) -> None:
    before = run_id(write_arrays(tmp_path / "a.npz"), name="arrays")
    np.savez_compressed(tmp_path / "b.npz", y=Y, x=X, note=np.zeros(3))
    assert run_id(tmp_path / "b.npz", name="arrays") == before
    assert run_id(write_arrays(tmp_path / "a.npz", y=Y[::-1].copy()), name="arrays") != before


def test_arrays_on_disk_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snn_exp.data.arrays.BLOCK", 100)  # some samples at a time
    path = write_arrays(tmp_path / "a.npz", x=X / 255)
    in_memory = arrays(path)
    monkeypatch.setattr(own, "MIB", 1)
    left_there = arrays(path)
    assert left_there.is_on_disk and not in_memory.is_on_disk and left_there.fingerprint == in_memory.fingerprint


def test_rows_come_in_any_order_and_those_that_follow_one_another_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk.write(tmp_path / "x.npy", X[:, None].shape, np.uint8, iter([X[:10, None], X[10:, None]]))
    array = on_disk.ArrayOnDisk(tmp_path / "x.npy")
    calls, read = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda *given: calls.append(given) or read(*given))
    for rows, num_reads in (([5], 1), ([3, 4, 5, 9, 8], 3), ([7, 7], 2), (list(range(24)), 1), ([], 0)):
        calls.clear()
        assert np.array_equal(array.take(np.array(rows, dtype=np.int64)), X[rows, None]) and len(calls) == num_reads
    monkeypatch.setattr(os, "preadv", lambda file, into, at: read(file, [into[0][:7]], at))
    assert np.array_equal(array.take(np.arange(24)), X[:, None]), "a read may be of less than was asked for"
    os.truncate(tmp_path / "x.npy", 200)
    with pytest.raises(UserError, match="was cut short while it was read"):
        array.take(np.arange(24))


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def objects(path: Path) -> None:
    write_arrays(path, y=np.array([Payload(path.with_name("canary"))] * 24, dtype=object))


def changed(path: Path) -> None:
    content = bytearray(write_arrays(path).read_bytes())
    content[400] ^= 1  # within x
    path.write_bytes(content)


def longer(path: Path) -> None:
    """The header of x says more samples than there are."""
    write_arrays(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(b"(24, 5, 6)", b"(99, 5, 6)"))


ARRAYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "objects": (objects, "holds Python objects in y, which are never unpacked"),
    "no y": (lambda p: np.savez(p, x=X), "has no array y; it has x, and must have x and y"),
    "other names": (lambda p: np.savez(p, x_train=X, y_train=Y), "has no array x; it has x_train, y_train"),
    "half a part": (lambda p: write_arrays(p, x_test=X), "has no array y_test"),
    "counts": (lambda p: write_arrays(p, y=Y[:-1]), "has 24 samples in x and 23 labels in y"),
    "a gap": (lambda p: write_arrays(p, y=Y * 2), "has labels from 0 to 4 in y and no sample of class 1"),
    "from one on": (lambda p: write_arrays(p, y=Y + 1), "has labels from 1 to 3 in y and no sample of class 0"),
    "one class": (lambda p: write_arrays(p, y=Y * 0), "has one class in y"),
    "fractions": (lambda p: write_arrays(p, y=Y / 2), "labels are [N], whole numbers or words"),
    "one-hot": (lambda p: write_arrays(p, y=np.eye(3, dtype=int)[Y]), "has y of shape (24, 3)"),
    "a class of the test set": (lambda p: write_arrays(p, x_test=X, y_test=Y + 1), "has the class 3 in y_test, and not in y"),
    "whole numbers": (lambda p: write_arrays(p, x=X.astype(int)), "has x of int64; pixels are bytes, numpy.uint8, or floats"),
    "flat": (lambda p: write_arrays(p, x=X.reshape(24, -1)), "has x of shape (24, 30); it must be [N, H, W]"),
    "ambiguous": (lambda p: write_arrays(p, x=pixels(24, 3, 5, 3)), "in which the channels may be first or last"),
    "other parts": (lambda p: write_arrays(p, x_test=X[:, 1:], y_test=Y), "the samples of all parts need one shape and type"),
    "out of range": (lambda p: write_arrays(p, x=X * 1.0), "floats must lie between 0 and 1"),
    "not a number": (lambda p: write_arrays(p, x=np.where(X == 7, np.nan, X / 255)), "floats must lie between 0 and 1"),
    "alike": (lambda p: write_arrays(p, x=X * 0), "each pixel of all samples is 0"),
    "no sample": (lambda p: write_arrays(p, x=X[:0], y=Y[:0]), "has no sample in x"),
    "a class too small": (lambda p: write_arrays(p, y=np.where(np.arange(24) == 5, 2, np.arange(24) % 2)), "class 2 has 1 of them"),
    "Fortran's order": (lambda p: write_arrays(p, x=np.asfortranarray(X)), "has x in Fortran's order"),
    "changed": (changed, "is damaged: x cannot be read"),
    "longer": (longer, "is damaged: x cannot be read"),
    "cut": (lambda p: p.write_bytes(write_arrays(p).read_bytes()[:-50]), "is not an .npz file"),
    "text": (lambda p: p.write_text("x"), "is not an .npz file"),
    "a pipe": (lambda p: os.mkfifo(p), "is a named pipe, not a file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_that_are_none_are_one_sentence(kind: str, tmp_path: Path) -> None:
    make, sentence = ARRAYS[kind]
    make(tmp_path / "a.npz")
    said = refusal("arrays", tmp_path / "a.npz")
    assert sentence in said and (str(tmp_path / "a.npz") in said or kind == "a class too small")
    assert not (tmp_path / "canary").exists()


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((30, 200, 200), np.uint8), y=np.arange(30) % 3)
    monkeypatch.setattr(own_files, "MOST_BLIND", 2**20)
    assert "a.npz unpacks to 1 MiB from 0.0 MiB, as no pictures do" in refusal("arrays", tmp_path / "a.npz")


# commands -------------------------------------------------------------------------------------------------


def test_from_300_pictures_to_a_table_of_two_methods_over_three_seeds_by_one_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pictures(tmp_path / "pictures", per_class=100)
    command = ["train", "-m", "dataset=images", f"dataset.path={folder}", "method=s2nn_bn,relu_bn", "seed=0,1,2"]
    small = [
        "network=mlp",
        "residual=none",
        "network.width=8",
        "depth.num_layers=2",
        "trainer.max_epochs=1",
        "logger=none",
    ]
    assert main.main([*command, *small]) == 0
    said = capsys.readouterr().out
    rows = [line.split("│") for line in said.splitlines() if line.startswith("│")]
    assert sorted((row[1].strip(), row[3].strip()) for row in rows) == [("relu", "3"), ("s2nn", "3")]
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 6


def test_data_check_says_what_a_folder_holds(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["data", "check", "images", f"dataset.path={pictures}"]) == 0
    assert capsys.readouterr().out == (
        "dataset=images: 15 training, 3 validation and 6 test samples of 6 x 6 pixels and 3 channels, 3 classes\n"
    )
    assert main.main(["data", "fetch", "images"]) == 2
    assert "is of files of your own; type dataset=images dataset.path=..." in capsys.readouterr().err
