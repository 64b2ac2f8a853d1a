"""Files of the data sets: where they are found, and what is said of those that are not whole."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_exp.cli import main
from snn_exp.config import data_files, schemas
from snn_exp.data.base import DATASETS
from snn_exp.data.torchvision import CIFAR10, SVHN, FashionMNIST
from snn_exp.errors import UserError
from tests.data.test_base import idx, made, no_network, write_fashion


@pytest.fixture
def miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A small Fashion-MNIST that a package of the system has placed, packed; an empty data root and that folder."""
    no_network(monkeypatch, AssertionError("nothing is to be fetched"))
    train, test = made(5, 10, (1, 28, 28), seed=1), made(2, 10, (1, 28, 28), seed=2)
    write_fashion(tmp_path / "unpacked", train, test, monkeypatch)
    system = tmp_path / "system"
    system.mkdir()
    for file in (tmp_path / "unpacked" / "FashionMNIST" / "raw").iterdir():
        with gzip.open(system / f"{file.name}.gz", "wb") as packed:
            packed.write(file.read_bytes())
    monkeypatch.setattr(FashionMNIST, "system_folder", str(system))
    monkeypatch.setenv("SNN_EXP_DATA", str(tmp_path / "data"))
    return tmp_path / "data", system


def test_what_a_package_of_the_system_has_placed_is_read_as_it_is(miniature: tuple[Path, Path]) -> None:
    root, system = miniature
    before = sorted(system.iterdir())
    assert FashionMNIST.is_present(root)
    packed = FashionMNIST(root, 0, val_fraction=0.2)
    unpacked = FashionMNIST(root.parent / "unpacked", 0, val_fraction=0.2)
    assert packed.fingerprint == unpacked.fingerprint and packed.test_fingerprint == unpacked.test_fingerprint
    assert torch.equal(packed.test.samples, torch.from_numpy(made(2, 10, (1, 28, 28), seed=2)[0]))
    assert sorted(system.iterdir()) == before and not root.exists(), "nothing is copied"


def test_the_data_root_comes_before_the_system_and_may_hold_packed_files(miniature: tuple[Path, Path]) -> None:
    root, system = miniature
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    names = sorted(file.name for file in system.iterdir())
    for name in names[:3]:
        (folder / name).write_bytes((system / name).read_bytes())
    found = data_files.find(FashionMNIST.checks, root, FashionMNIST.system_folder)
    assert {path.parent for path in found.values()} == {system}, "three of four files are not the data set"
    (folder / names[3].removesuffix(".gz")).write_bytes(gzip.decompress((system / names[3]).read_bytes()))
    found = data_files.find(FashionMNIST.checks, root, FashionMNIST.system_folder)
    assert {path.parent for path in found.values()} == {folder}
    assert len(FashionMNIST(root, 0, val_fraction=0.2).test) == 20


@pytest.mark.parametrize("damage", ["cut", "changed", "another", "a pipe"])
def test_a_damaged_file_of_the_system_is_named_with_what_puts_it_back(
    damage: str, miniature: tuple[Path, Path]
) -> None:
    root, system = miniature
    victim = system / "t10k-images-idx3-ubyte.gz"
    whole = victim.read_bytes()
    victim.unlink()
    if damage == "a pipe":
        os.mkfifo(victim)
    elif damage == "another":
        victim.write_bytes(gzip.compress(idx(np.ones((20, 28, 28), np.uint8))))
    else:
        victim.write_bytes(whole[:-20] if damage == "cut" else whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    assert not FashionMNIST.is_present(root)
    with pytest.raises(UserError) as caught:
        FashionMNIST(root, 0)
    fault = "is a named pipe, not a file" if damage == "a pipe" else "is truncated or has been changed"
    assert str(caught.value).startswith(
        f"dataset=fashion_mnist: the data set FashionMNIST is damaged: {victim} {fault}; "
        f"type apt-get install --reinstall dataset-fashion-mnist, or set SNN_EXP_DATA to a folder with "
    )


def test_where_it_is_nowhere_both_places_and_the_package_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_network(monkeypatch, OSError("no route to host"))
    with pytest.raises(UserError) as caught:
        FashionMNIST.prepare(tmp_path)
    assert str(caught.value).startswith(
        f"dataset=fashion_mnist: the data set FashionMNIST is not in {tmp_path}, nor in /nowhere/fashion-mnist, or is "
        f"damaged there, and could not be fetched (no route to host); type apt-get install dataset-fashion-mnist, or "
    )


def test_a_file_is_checked_once_for_as_long_as_it_stays_the_same(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"right")
    check = f"md5:{hashlib.md5(b'right').hexdigest()}"
    assert data_files.fault(file, check) is None
    file.write_bytes(b"wrong")
    assert data_files.fault(file, check) == "is truncated or has been changed"


def test_folders_are_checked_by_the_number_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/1.bin", "a/b/2.bin", "a/b/notes.txt"):
        (tmp_path / name).touch()
    assert data_files.fault(tmp_path / "a", "files:2:.bin") is None
    assert data_files.fault(tmp_path / "a", "files:1200:.bin") == "holds 2 of 1,200 files .bin"


def test_the_sums_of_pickled_and_other_files_are_torchvisions() -> None:
    for cls in (CIFAR10, DATASETS["cifar100"], SVHN):
        theirs = cls._sums(Path(), train=True) | cls._sums(Path(), train=False)  # type: ignore[attr-defined]
        assert cls.checks == {str(path): f"md5:{md5}" for path, md5 in theirs.items()}


# the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def menu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The menu reads what a test has set in the classes."""
    found = schemas.load()
    monkeypatch.setattr(schemas, "load", lambda: {**found, "dataset": DATASETS.options()})


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    assert main.main(["data"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {row[0]: row[1:] for row in cells if row[0]}


def test_every_data_set_is_listed_with_its_state_and_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    found = rows(capsys)
    assert set(found) == set(DATASETS)
    assert found["digits"] == ["embedded", "-", "CC BY 4.0", "with scikit-learn", "-"]
    assert found["mnist"][0] == "missing" and found["mnist"][-1] == "snn-exp data fetch mnist"
    assert not list(tmp_path.iterdir())
    labels = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    labels.parent.mkdir(parents=True)
    for name in DATASETS["mnist"].checks:
        (tmp_path / name).write_bytes(idx(np.zeros((2, 2), np.uint8)))
    assert rows(capsys)["mnist"][0] == "present"
    labels.write_bytes(labels.read_bytes()[:-1])
    assert rows(capsys)["mnist"][0] == "damaged"


@pytest.mark.usefixtures("menu")
def test_check_reads_a_data_set_as_a_run_would(
    miniature: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, system = miniature
    assert main.main(["data", "check", "fashion_mnist", "dataset.val_fraction=0.2"]) == 0
    said = capsys.readouterr().out
    assert f"{system}/t10k-images-idx3-ubyte.gz: as published\n" in said
    assert said.endswith(
        "dataset=fashion_mnist: 40 training, 10 validation and 20 test samples of 28 x 28 pixels and 1 channel, 10 classes\n"
    )
    (system / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    assert main.main(["data", "check", "fashion_mnist"]) == 2
    found = capsys.readouterr()
    assert f"{system}/t10k-labels-idx1-ubyte.gz: is truncated or has been changed\n" in found.out
    assert found.err.startswith("snn-exp: dataset=fashion_mnist is damaged: ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("checks mnist", "There is no action 'checks'; allowed: check, fetch; did you mean check? Type snn-exp data check"),
        ("check", "There is no dataset 'None'; allowed: "),
        ("check fashion_mnis", "did you mean fashion_mnist? Type snn-exp data check fashion_mnist"),
        ("fetch digits x", "x is more than fetch takes; type snn-exp data fetch digits"),
        ("check mnist", "dataset=mnist is missing: it was looked for in "),
    ],
)  # fmt: skip
def test_what_data_cannot_do_is_one_sentence(words: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["data", *words.split()]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


def test_what_is_there_is_not_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["data", "fetch", "digits"]) == 0
    assert capsys.readouterr().out == "dataset=digits: with scikit-learn\n"
