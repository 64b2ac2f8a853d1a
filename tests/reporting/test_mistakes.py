"""The samples that runs mistake, from the predictions that they kept."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from snn_exp.cli import main
from snn_exp.config.experiment import EnergyConfig
from snn_exp.reporting import mistakes
from snn_exp.reporting.comparison import Panel, of_runs
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root
from snn_exp.runs.store import stored_runs
from tests.stored import store

LABELS = [0, 1, 2, 1]


def keeping(
    folder: RunFolder,
    guessed: Sequence[int],
    labels: Sequence[int] = LABELS,
    places: Sequence[int] = (),
    pictures: np.ndarray | None = None,
) -> None:
    logits = np.eye(3, dtype=np.float32)[list(guessed)]
    kept = np.zeros((0, 1, 8, 8), np.uint8) if pictures is None else pictures
    np.savez_compressed(
        folder.predictions, logits=logits, labels=np.array(labels), places=np.array(places), pictures=kept
    )


def panel() -> Panel:
    (found,) = of_runs(stored_runs([]), metric="test/acc", profile=EnergyConfig(), title="t").panels
    return found


def test_the_sample_that_most_runs_mistake_comes_first_with_what_it_is_taken_for() -> None:
    keeping(store("norm=bn", "seed=0"), [0, 2, 2, 1])
    keeping(store("norm=bn", "seed=1"), [0, 2, 0, 1])
    keeping(store("norm=psp", "seed=0"), [0, 0, 2, 1])
    store("norm=psp", "seed=1")  # kept none
    found = mistakes.table(panel())
    assert found is not None
    assert found[0] == ["sample", "class", "runs", "bn", "psp"]
    assert [[entry.text for entry in row] for row in found[1]] == [
        ["1", "1", "3 of 3", "2 of 2: 2", "1 of 1: 0"],
        ["2", "2", "1 of 3", "1 of 2: 0", "0 of 1"],
    ]


def test_there_is_no_table_of_nothing_kept_nothing_mistaken_or_other_labels() -> None:
    first = store("norm=bn", "seed=0")
    assert mistakes.table(panel()) is None
    keeping(first, LABELS)
    assert mistakes.table(panel()) is None
    keeping(first, [1, 1, 1, 1])
    assert mistakes.table(panel()) is not None
    keeping(store("norm=bn", "seed=1"), [1, 1, 1, 1], [0, 0, 0, 0])
    assert mistakes.table(panel()) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x80\x04N."])
def test_predictions_that_are_damaged_are_passed_over(content: bytes) -> None:
    keeping(store("norm=bn", "seed=0"), [1, 1, 2, 1])
    store("norm=bn", "seed=1").predictions.write_bytes(content)
    found = mistakes.table(panel())
    assert found is not None and [row[-1].text for row in found[1]] == ["1 of 1: 1"]


def test_labels_beyond_the_classes_are_passed_over() -> None:
    keeping(store("norm=bn", "seed=0"), [1, 1, 2, 1], [9, 1, 2, 1])
    assert mistakes.table(panel()) is None


def test_the_page_shows_the_sample_where_a_run_kept_its_picture() -> None:
    red = np.zeros((1, 3, 2, 2), np.uint8)
    red[:, 0] = 255
    keeping(store("norm=bn", "seed=0"), [1, 1, 2, 1], places=[0], pictures=red)
    assert main.main(["report", "dataset=digits", "--format", "html,md"]) == 0
    (page,) = (output_root() / "reports").glob("*/report.html")
    (address,) = re.findall(r'<img class="sample" src="data:image/png;base64,([^"]+)" alt="">0', page.read_text())
    assert np.array(Image.open(io.BytesIO(base64.b64decode(address)))).tolist() == [[[255, 0, 0]] * 2] * 2
    assert "base64" not in page.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    "pictures",
    [np.zeros((1, 3, 2, 2)), np.zeros((1, 2, 2, 2), np.uint8), np.zeros((2, 1, 2, 2), np.uint8),
     np.zeros((1, 1, 2, 4000), np.uint8), np.zeros((1, 1, 0, 2), np.uint8), np.zeros(1, np.uint8)],
)  # fmt: skip
def test_what_is_no_small_picture_is_not_shown_and_the_table_stays(pictures: np.ndarray) -> None:
    keeping(store("norm=bn", "seed=0"), [1, 1, 2, 1], places=[0], pictures=pictures)
    found = mistakes.table(panel())
    assert found is not None and found[1][0][0].picture == ""


def test_the_page_has_the_table() -> None:
    keeping(store("norm=bn", "seed=0"), [1, 1, 2, 1])
    assert main.main(["report", "dataset=digits", "--format", "html,md"]) == 0
    (page,) = (output_root() / "reports").glob("*/report.html")
    assert "The test samples that most runs mistake" in page.read_text()
    assert "| 0 | 0 | 1 of 1: 1 |" in page.with_suffix(".md").read_text()
