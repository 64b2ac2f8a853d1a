"""What is known of each class: the confusion matrix in result.json, and the predictions that may be stored beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.data.split import Split, as_float
from snn_exp.errors import UserError
from snn_exp.files import Unreadable
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.row import Row
from snn_exp.runs.run_files import DataFacts, read_result
from snn_exp.training import build, train
from snn_exp.training.build import facts_of
from snn_exp.training.predictions import Predictions


def config(*overrides: str) -> ExperimentConfig:
    return compose(["dataset=digits_200", "neuron=s2nn", "network.width=4", "logger=none", "trainer.progress=false",
                    "trainer.max_epochs=1", *overrides])  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root with a finished run."""
    root = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_EXP_OUTPUT", str(root))
        train.run(config(), echo=False)
    return root


def test_the_confusion_matrix_counts_every_sample_and_says_the_accuracy(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(trained))
    result = RunFolder.of(config()).result()
    assert result is not None
    for split, size in (("val", 269), ("test", 450)):
        counts = np.array(result.confusion[split])
        assert counts.shape == (10, 10) and counts.sum() == size
        assert np.trace(counts) / size == pytest.approx(result.metrics[f"{split}/acc"])
    labels = build.build_data(config()).dataset.test.labels
    assert np.array(result.confusion["test"]).sum(1).tolist() == torch.bincount(labels).tolist()
    assert result.data is not None and result.data["in_shape"] == [1, 8, 8] and result.data["num_classes"] == 10


def test_names_of_classes_are_stored_so_that_they_can_be_read_again() -> None:
    data = build.build_data(config())
    data.dataset.class_names = ("a\nb", "\x1b[31m", "x" * 5000, *"cdefghi")
    names = facts_of(data)["class_names"]
    assert DataFacts.model_validate(facts_of(data)).class_names == names
    assert names[:2] == ["a\\nb", "\\x1b[31m"] and len(names[2]) < 300


def test_a_committed_row_keeps_neither(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(trained))
    row = Row.of(RunFolder.of(config()))
    assert row is not None and row.result.confusion == {} and row.result.data is None


def test_predictions_are_those_that_were_counted_and_a_finished_run_gets_them_too(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(trained))
    folder = RunFolder.of(config())
    before = folder.result()
    assert before is not None and not folder.predictions.exists()
    asked = config("trainer.keep_predictions=true")
    assert asked.run_id == config().run_id and not folder.is_complete(asked)
    assert train.run(asked, echo=False) == before
    assert folder.is_complete(asked)
    with np.load(folder.predictions) as stored:
        logits, labels = stored["logits"], stored["labels"]
    assert logits.shape == (450, 10) and logits.dtype == np.float32
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, logits.argmax(1)), 1)
    assert counts.tolist() == before.confusion["test"]


def test_the_file_has_the_pictures_of_the_mistaken_samples_and_no_others(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(trained))
    asked = config("trainer.keep_predictions=true")
    train.run(asked, echo=False)
    with np.load(RunFolder.of(asked).predictions) as stored:
        wrong = np.flatnonzero(stored["logits"].argmax(1) != stored["labels"])
        assert stored["places"].tolist() == wrong.tolist() != []
        pixels = build.build_data(asked).dataset.test.samples[wrong]
        assert np.abs(stored["pictures"] / 255 - as_float(pixels).numpy()).max() < 0.5 / 255 + 1e-6


def test_large_pictures_are_kept_small_and_many_are_not_all_kept(tmp_path: Path) -> None:
    kept = Predictions()
    kept.add(torch.tensor([[0.0, 1.0]]).repeat(1200, 1), torch.zeros(1200, dtype=torch.int64))
    kept.write(tmp_path / "p.npz", Split(torch.full((1200, 3, 96, 192), 51, dtype=torch.uint8), torch.zeros(1200)))
    with np.load(tmp_path / "p.npz") as stored:
        assert stored["pictures"].shape == (1000, 3, 32, 64) and (stored["pictures"] == 51).all()


def test_where_nothing_is_mistaken_no_picture_is_kept(tmp_path: Path) -> None:
    kept = Predictions()
    kept.add(torch.eye(2), torch.arange(2))
    kept.write(tmp_path / "p.npz", Split(torch.zeros(2, 1, 96, 96), torch.arange(2)))
    with np.load(tmp_path / "p.npz") as stored:
        assert stored["places"].shape == (0,)


def test_predictions_without_a_test_are_refused() -> None:
    with pytest.raises(UserError, match="leave one of them out"):
        config("trainer.keep_predictions=true", "trainer.test=false")


def test_more_than_a_hundred_classes_have_no_matrix() -> None:
    for num_classes, has_one in ((100, True), (101, False)):
        kept = Predictions()
        kept.add(torch.eye(num_classes), torch.arange(num_classes))
        assert (kept.confusion() is not None) == has_one


@pytest.mark.parametrize("counts", [[[1, 2], [3]], [[1, -2], [3, 4]], [[1.5]], [[0]] * 101])
def test_a_matrix_that_is_none_is_refused(
    counts: object, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(trained))
    stored = json.loads((RunFolder.of(config()).path / "result.json").read_text())
    file = tmp_path / "result.json"
    file.write_text(json.dumps(stored | {"confusion": {"val": stored["confusion"]["val"]}}))
    assert read_result(file).confusion
    file.write_text(json.dumps(stored | {"confusion": {"val": counts}}))
    with pytest.raises(Unreadable, match="confusion"):
        read_result(file)
