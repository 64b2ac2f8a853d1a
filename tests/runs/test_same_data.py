"""Results belong to their data: a data set that changes on disk between two commands, and what is said then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snn_exp
from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.errors import UserError
from snn_exp.files import read_json, write_json
from snn_exp.runs import provenance
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root
from snn_exp.runs.same_data import DataAtHand
from snn_exp.training import job, train
from snn_exp.training.build import build_data
from snn_exp.training.task import Classification
from tests import stored
from tests.data.test_base import idx

TINY = ("dataset=mnist", "network.width=4", "neuron=s2nn", "optim.batch_size=60", "logger=none")
ONE, THREE = (*TINY, "trainer.max_epochs=1"), (*TINY, "trainer.max_epochs=3")


def write_mnist(root: Path, *, relabelled: str = "", seed: int = 0) -> None:
    """MNIST of 200 + 100 random images; in the named part the first two labels may have changed places."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for prefix, num in (("train", 200), ("t10k", 100)):
        images = rng.integers(0, 256, (num, 28, 28), dtype=np.uint8)
        labels = np.arange(num, dtype=np.uint8) % 10
        if prefix == relabelled:
            labels[:2] = labels[1::-1].copy()
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data root."""
    monkeypatch.setenv("SNN_EXP_DATA", str(tmp_path / "data"))
    write_mnist(tmp_path / "data")
    return tmp_path / "data"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said, in a line."""
    capsys.readouterr()
    assert main.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_finished_run_is_refused_in_every_command_once_its_data_have_changed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["train", *ONE]) == 0
    folder = RunFolder.of(compose(ONE))
    run, manifest = folder.path.name, folder.manifest()
    stored = manifest["split_fingerprint"]
    result = folder.result()
    assert result is not None and result.split_fingerprint == stored
    assert main.main(["fold", run]) == 0
    write_mnist(data, relabelled="train")
    found = build_data(compose(ONE)).dataset.fingerprint
    sentence = (
        f"run {run} was trained on split {stored[:8]} and the data at hand give split {found[:8]}: the data, or what "
        f"splits them, have changed since; put the old data back, or train the run again with --rerun"
    )
    for command in (
        ("train", *ONE), ("train", "-m", *ONE), ("plan", *ONE), ("plan", "-m", *ONE), ("eval", run), ("eval", run, "encoding=rate"), ("verify", run),
        ("fold", run), ("export", run, "--format", "safetensors"), ("export", run, "--format", "safetensors", "--folded"),
    ):  # fmt: skip
        assert sentence in refused(capsys, *command), command
    assert snn_exp.load(run) is not None, "which reads no data"
    with pytest.raises(UserError, match="was trained on split"):
        train.run(compose(ONE), echo=False)
    sentence = (
        f"={run} was trained on another split, although its config is the same: {stored[:8]}, and the data at hand"
    )
    for verb in ("train", "plan"):
        for key in ("teacher", "init_from"):
            said = refused(capsys, verb, *TINY, "trainer.max_epochs=2", f"{key}={run}")
            assert f"{key}{sentence} give {found[:8]}" in said and "--rerun" in said
    assert main.main(["eval", run, "dataset=digits"]) == 0, "other data by name are no mismatch"
    assert folder.manifest() == manifest
    write_mnist(data)
    assert main.main(["train", *ONE]) == 0
    assert "done before; nothing to train" in capsys.readouterr().out
    write_mnist(data, relabelled="train")
    assert main.main(["train", *ONE, "--rerun"]) == 0
    assert folder.manifest()["split_fingerprint"] == found


def test_a_test_set_that_has_changed_is_refused_by_who_has_read_it(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    untested = (*ONE, "trainer.test=false")
    assert main.main(["train", *untested]) == 0
    assert RunFolder.of(compose(ONE)).test_fingerprint() is None
    write_mnist(data, relabelled="t10k")
    assert main.main(["train", *untested]) == 0
    assert "done before" in capsys.readouterr().out
    assert main.main(["train", *ONE]) == 0, "it was not tested yet"
    write_mnist(data)
    run = compose(ONE).run_id
    for command in (("train", *ONE), ("eval", run), ("verify", run)):
        assert f"run {run} was tested on test set " in refused(capsys, *command)


def cut_off(monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]) -> RunFolder:
    """In the second epoch."""
    step = Classification.training_step

    def cut(task: Classification, *batch: Any) -> object:
        assert task.current_epoch < 1, "cut off"
        return step(task, *batch)

    config = compose(overrides)
    with monkeypatch.context() as patched, pytest.raises(AssertionError, match="cut off"):
        patched.setattr(Classification, "training_step", cut)
        train.run(config, echo=False)
    return RunFolder.of(config)


def test_a_killed_run_goes_on_with_its_own_data_alone(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut_off(monkeypatch, THREE)
    manifest = folder.manifest()
    assert len(manifest["split_fingerprint"]) == 16, "it is kept from the start"
    write_mnist(data, relabelled="train")
    assert "was trained on split" in refused(capsys, "train", *THREE)
    job.run_or_store_failure(compose(THREE))
    assert "was trained on split" in str(folder.failure()), "in a sweep it is the failure of the run"
    assert folder.manifest() == manifest and folder.last_checkpoint is not None
    write_mnist(data)
    assert main.main(["train", *THREE]) == 0
    assert "resumes after epoch 1 of 3" in (folder.path / "train.log").read_text()


def test_a_run_that_was_killed_before_fingerprints_were_kept_goes_on_and_gets_one(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cut_off(monkeypatch, THREE)
    manifest = folder.manifest()
    fingerprint = manifest.pop("split_fingerprint")
    write_json(folder.path / "manifest.json", manifest)
    assert main.main(["train", *THREE]) == 0
    assert folder.manifest()["split_fingerprint"] == fingerprint


def test_an_old_manifest_leaves_it_to_the_result(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", *ONE]) == 0
    path = RunFolder.of(compose(ONE)).path / "manifest.json"
    write_json(path, {k: v for k, v in read_json(path).items() if not k.endswith("_fingerprint")})
    assert main.main(["train", *ONE]) == 0
    write_mnist(data, relabelled="train")
    assert "was trained on split" in refused(capsys, "train", *ONE)


def test_a_stored_result_stands_where_the_data_are_not(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["train", *ONE]) == 0
    monkeypatch.setenv("SNN_EXP_DATA", str(data / "elsewhere"))
    assert main.main(["train", *ONE]) == 0
    assert "done before; nothing to train" in capsys.readouterr().out


def test_each_data_set_is_read_once_and_then_only_looked_at(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [compose([*TINY, f"seed={seed}", f"optim.lr={lr}"]) for seed in (0, 1) for lr in (0.01, 0.02)]
    made = []
    from snn_exp.data import base

    make = base.make_dataset
    monkeypatch.setattr(base, "make_dataset", lambda *given: made.append(given) or make(*given))

    def fingerprints() -> list[str]:
        at_hand = DataAtHand()
        found = [at_hand.fingerprints(config, with_test=True) for config in configs]
        return [f"{one.split} {one.test}" for one in found if one]

    first = fingerprints()
    assert len(made) == 2 and len(first) == 4 and len(set(first)) == 2
    assert fingerprints() == first and len(made) == 2
    labels = data / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    os.utime(labels, ns=(1, 1))
    assert fingerprints() == first and len(made) == 4, "a file that was touched is read again"
    before = labels.stat()
    write_mnist(data, relabelled="train")
    os.utime(labels, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not set(fingerprints()) & set(first), "its times were put back, but not that of the last change"
    for kept in (output_root() / "fingerprints").iterdir():
        kept.write_text("no fingerprint")
    assert len(set(fingerprints())) == 2


def test_links_in_a_circle_under_the_data_root_end(data: Path) -> None:
    (data / "MNIST" / "circle").symlink_to(data)
    assert DataAtHand().fingerprints(compose(ONE), with_test=False) is not None


@pytest.mark.parametrize("name", ["neuron.py", "kernels/fused.cpp", "kernels/stretches.h"])
def test_the_hash_of_the_code_covers_every_source(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    (package / "kernels").mkdir(parents=True)
    (package / name).write_text("one")
    monkeypatch.setattr(provenance, "__file__", str(package / "runs/provenance.py"))
    one = provenance.code_hash.__wrapped__()
    (package / name).write_text("other")
    assert provenance.code_hash.__wrapped__() != one
    found = {path.suffix for path in Path(train.__file__).parents[1].rglob("*") if "__pycache__" not in path.parts}
    assert found - {""} <= {
        ".py",
        ".cpp",
        ".h",
        ".html",
        ".json",
        ".typed",
        ".yaml",
        ".css",
        ".js",
        ".bash",
        ".zsh",
        ".fish",
        ".txt",
    }, "is it a source?"


def test_a_study_leaves_out_a_run_of_other_data_and_trains_beside_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_STUDIES", str(tmp_path / "studies"))
    (tmp_path / "studies" / "tiny").mkdir(parents=True)
    (tmp_path / "studies" / "tiny" / "study.yaml").write_text(
        "question: q\nseeds: [0, 1]\nbudget_core_hours: 1\nbase: [logger=none]\n"
        "methods: {a: [neuron=lif], b: [neuron=if]}\n"
    )
    run = stored.store("neuron=lif", "seed=0", split="f").path.name
    assert main.main(["study", "tiny", "--plan"]) == 0
    assert capsys.readouterr().err.count(f"left out: run {run} was trained on split f and") == 1
    assert main.main(["study", "tiny"]) == 2
    assert f"snn-exp: run {run} was trained on split f and" in capsys.readouterr().err
