"""Accuracy of each class in a report: from which runs, under which names, and where there is no table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from snn_exp.config.experiment import EnergyConfig
from snn_exp.reporting import documents, per_class
from snn_exp.reporting.comparison import Panel, of_runs
from snn_exp.reporting.confusion import confusion
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.store import stored_runs
from tests.stored import store

NAMES = ["cat", "dog", "eel"]
FIRST = [[8, 2, 0], [1, 9, 0], [0, 0, 20]]
SECOND = [[6, 1, 3], [0, 10, 0], [0, 10, 10]]


def with_matrix(folder: RunFolder, confusion: object, names: Sequence[str] = ()) -> None:
    path = folder.path / "result.json"
    facts = {"in_shape": [1, 8, 8], "num_classes": 3, "pixel_mean": 0.3, "pixel_std": 0.3, "class_names": list(names)}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"confusion": {"test": confusion}, "data": facts}))


def panel() -> Panel:
    (found,) = of_runs(stored_runs([]), metric="test/acc", profile=EnergyConfig(), title="t").panels
    return found


def test_a_cell_has_a_row_per_class_with_its_spread_and_what_it_is_taken_for() -> None:
    with_matrix(store("norm=bn", "seed=0"), FIRST, NAMES)
    with_matrix(store("norm=bn", "seed=1"), SECOND, NAMES)
    found = per_class.table(panel())
    assert found is not None
    headings, rows = found
    assert headings == ["class", "samples", "lif bn, %", "most often taken for"]
    assert [[entry.text for entry in row] for row in rows] == [
        ["cat", "10", "70.0 ± 14.1", "dog, 15.0 %"],  # of both runs: 3 dogs and 3 eels of 20, the first of equals
        ["dog", "10", "95.0 ± 7.1", "cat, 5.0 %"],
        ["eel", "20", "75.0 ± 35.4", "dog, 25.0 %"],
        ["mean of the classes", "40", "80.0 ± 14.1", ""],
    ]
    assert rows[-1][2].number == pytest.approx((0.9 + 0.7) / 2)


def test_lines_stand_side_by_side_and_classes_without_names_are_numbers() -> None:
    with_matrix(store("norm=bn"), FIRST)
    with_matrix(store("norm=psp"), SECOND)
    found = per_class.table(panel())
    assert found is not None and found[0] == ["class", "samples", "bn, %", "psp, %"]
    assert [entry.text for entry in found[1][2]] == ["2", "20", "100.0", "50.0"]


def test_a_class_without_samples_has_no_accuracy_and_is_left_out_of_the_mean() -> None:
    with_matrix(store("norm=bn"), [[8, 2, 0], [0, 0, 0], [0, 0, 5]], NAMES)
    found = per_class.table(panel())
    assert found is not None
    assert [entry.text for entry in found[1][1]] == ["dog", "0", "-", "-"]
    assert found[1][-1][2].number == pytest.approx(0.9)


def test_there_is_no_table_where_a_line_lacks_its_matrix_or_there_are_too_many() -> None:
    for number in range(6):
        with_matrix(store("norm=bn", f"optim.lr=0.00{number + 1}"), FIRST)
    assert per_class.table(panel()) is not None
    last = store("norm=bn", "optim.lr=0.007")
    assert per_class.table(panel()) is None, "of seven"
    assert per_class.MOST_LINES == 6
    last.set_aside()
    path = stored_runs([])[0].folder.path / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"confusion": {}}))
    assert per_class.table(panel()) is None, "one lacks it"


def test_the_page_and_the_markdown_have_the_table() -> None:
    with_matrix(store("norm=bn"), FIRST, ["<b>", "dog", "eel"])
    asked = documents.Asked(command="snn-exp report norm=bn")
    made = documents.of_runs(["norm=bn"], asked)
    folder = stored_runs([])[0].folder.path.parents[1] / "reports" / "x"
    html, markdown = documents.write(made, folder, ["html", "md"])
    assert per_class.TITLE in html.read_text() and "&lt;b&gt;" in html.read_text() and "<b>" not in html.read_text()
    assert f"{per_class.TITLE}:\n\n| class | samples |" in markdown.read_text()


def test_the_matrices_are_drawn_summed_over_the_seeds_with_what_is_right_in_grey() -> None:
    with_matrix(store("norm=bn", "seed=0"), FIRST, NAMES)
    with_matrix(store("norm=bn", "seed=1"), SECOND, NAMES)
    found = of_runs(stored_runs([]), metric="test/acc", profile=EnergyConfig(), title="t")
    picture = confusion(found, found.panels[0])
    assert picture is not None
    numbers = picture.data.set_index(["class", "taken for"])
    assert numbers.loc[("cat", "dog"), "count"] == 3 and numbers.loc[("cat", "dog"), "share"] == pytest.approx(0.15)
    assert numbers.loc[("eel", "dog"), "count"] == 10 and len(numbers) == 9
    axes, *_ = picture.draw(picture.data).axes
    shown: Any = axes.images[0].get_array()
    assert shown.mask.diagonal().all() and shown.mask.sum() == 3
    assert shown[2, 1] == shown.max() == axes.images[0].norm.vmax, "the colours span what is wrong"
    assert picture.chart is not None and picture.chart.but_equal


def test_no_matrix_is_drawn_of_more_classes_than_can_be_read() -> None:
    many = [[int(k == j) for j in range(31)] for k in range(31)]
    with_matrix(store("norm=bn"), many)
    found = of_runs(stored_runs([]), metric="test/acc", profile=EnergyConfig(), title="t")
    assert confusion(found, found.panels[0]) is None and per_class.table(found.panels[0]) is not None
