"""The page of a search: what stands in its figures and tables, and that pruned trials are in none of them as whole."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from snn_exp.reporting import search_page
from snn_exp.reporting.search_page import PRUNED, WHOLE, AxisShown, SearchShown, TrialShown

AXES = (
    AxisShown("surrogate", "surrogate=atan,s2nn", is_log=False, is_number=False),
    AxisShown("optim.lr", "optim.lr=tag(log,interval(0.001,0.1))", is_log=True, is_number=True),
    AxisShown("surrogate.alpha", "surrogate.alpha=interval(1,4)", is_log=False, is_number=True),
)
BOTH = ("val/acc", "val/energy_pj")


def whole(number: int, accuracy: float, energy: float, *repeats: list[float]) -> TrialShown:
    params = {"surrogate": "s2nn", "optim.lr": 0.001 * 10**number, "surrogate.alpha": 2.0}
    if number == 1:
        params = {"surrogate": "atan", "optim.lr": 0.01}
    values = dict(zip(BOTH, (accuracy, energy), strict=True))
    return TrialShown(number, WHOLE, params, values, f"run{number}", 60.0, "", dict(zip(BOTH, repeats, strict=False)))


def shown(**changes: object) -> SearchShown:
    trials = (
        whole(0, 0.90, 1000.0, [0.88, 0.90, 0.92], [900.0, 1000.0, 1100.0]),
        whole(1, 0.95, 3000.0),
        whole(2, 0.85, 2000.0),
        TrialShown(3, PRUNED, {"surrogate": "atan", "optim.lr": 0.1}, {"val/acc": 0.99}, "run3", 20.0, "2 of 12"),
        TrialShown(4, "refused", {"surrogate": "atan", "optim.lr": 0.1}, {}, "", 0.0),
    )
    facts = {"space": "surrogate=atan,s2nn"}
    base = SearchShown("mine", "snn-exp search x", facts, BOTH, AXES, trials, {"optim.lr": 0.7}, ["type <this>"])
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_the_history_marks_a_pruned_trial_and_takes_its_accuracy_for_no_best() -> None:
    picture = search_page.history(shown())
    assert picture is not None
    assert picture.data["best"].tolist() == [0.90, 0.95, 0.95, 0.95]
    assert picture.data["state"].tolist() == [WHOLE] * 3 + [PRUNED], "the refused one has no accuracy"


def test_parallel_coordinates_are_of_whole_trials_and_break_where_a_parameter_is_not() -> None:
    picture = search_page.parallel(shown())
    assert picture is not None
    assert picture.data["trial"].tolist() == [0, 1, 2]
    assert picture.data["surrogate.alpha"].isna().tolist() == [False, True, False]
    heights, ticks = search_page._heights(picture.data["optim.lr"], True, "optim.lr")
    assert list(heights.values()) == pytest.approx([0.0, 0.5, 1.0]), "the axis of a logarithm is one"
    assert [text for _, text in ticks] == ["0.001", "0.1"]


def test_the_front_joins_what_no_other_beats_and_has_an_interval_where_a_trial_is_repeated() -> None:
    picture = search_page.front(shown())
    assert picture is not None
    assert picture.data["optimal"].tolist() == [True, True, False]
    assert picture.data["n"].tolist() == [3, 0, 0]
    assert picture.data["val/acc interval"][0] == pytest.approx(4.303 * 0.02 / 3**0.5, rel=1e-3), "t of two degrees"
    assert search_page.front(shown(objectives=("val/acc",))) is None


def test_the_page_is_one_file_with_every_trial_and_its_figures_numbers_lie_beside_it(tmp_path: Path) -> None:
    page = search_page.write(shown(), tmp_path)
    text = page.read_text()
    assert text.count("<svg") == 4
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "front.csv", "history.csv", "importance.csv", "parallel.csv"
    ]  # fmt: skip
    body = text.partition("<tbody>")[2].partition("</tbody>")[0]
    first = re.findall(r"<tr>\s*<td[^>]*>(.*?)</td>", body)
    assert first == ["1", "0", "2", "3", "4"], "the best whole one first, pruned and refused ones behind all"
    assert "99.00 %" not in body, "a pruned trial has no accuracy in the table"
    assert "type &lt;this&gt;" in text and not re.search(r"(src|href)=\"https?:", text)


def test_a_search_without_a_whole_trial_has_a_page_without_figures(tmp_path: Path) -> None:
    none = shown(trials=shown().trials[3:], importances={})
    assert search_page.pictures(none) == []
    assert "<svg" not in search_page.write(none, tmp_path).read_text()
