"""What figures say of a claim, on rows whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from snn_exp.reporting.claims import CLAIMS, keys_of
from snn_exp.runs.row import Row
from snn_exp.runs.run_files import Result
from snn_exp.studies.judging import judge
from snn_exp.studies.runner import Progress

SEEDS = range(5)
NOISE = (0.000, 0.002, -0.002, 0.001, -0.001)


def rows(
    mean: float, noise: tuple[float, ...] = NOISE, diverged: int = 0, more: Mapping[str, float] = MappingProxyType({})
) -> dict[int, Row]:
    found = {}
    for seed in SEEDS:
        status = "diverged" if seed < diverged else "done"
        metrics = {} if status == "diverged" else {"test/acc": mean + noise[seed], **more}
        result = Result(f"{seed}", status, {}, metrics, 1.0, 1.0, "", 0, "")
        found[seed] = Row(result, {}, {}, {}, {}, "")
    return found


def answer(cells: dict[tuple[str, str], dict[int, Row]], test: str, **claim: Any) -> Any:
    kind: Any = CLAIMS[test]
    shared = {"says": "x", "of": ["a"], "settings": ["here"], "metric": "test/acc", "states": "", "beside": ""}
    own = {"than": ["b"], "than_in": None, "than_metric": None}
    given = {key: value for key, value in {**shared, **own}.items() if key in shared or key in keys_of(kind)}
    study = SimpleNamespace(claims=[kind(**{**given, **claim})], pairs=lambda: list(cells))
    progress: Progress = SimpleNamespace(study=study, rows_of=lambda key: cells.get(key, {}))  # type: ignore[assignment]
    (found,) = judge(progress)
    return found


FLAT = (0.0,) * 5
ENERGY = {"test/energy_pj": 100_000.0, "test/energy_dense_pj": 1_250_000.0}


@pytest.mark.parametrize(
    ("claim", "a", "b", "summary"),
    [
        ({"test": "higher"}, rows(0.97), rows(0.95, FLAT), "holds"),
        ({"test": "higher"}, rows(0.95), rows(0.97, FLAT), "the opposite holds"),
        ({"test": "higher"}, rows(0.9505), rows(0.95, FLAT), "not shown"),
        ({"test": "lower"}, rows(0.95), rows(0.97, FLAT), "holds"),
        ({"test": "within", "margin": 0.01}, rows(0.955), rows(0.95, FLAT), "holds"),
        ({"test": "within", "margin": 0.01}, rows(0.97), rows(0.95, FLAT), "not shown"),
        ({"test": "equivalent", "margin": 0.01}, rows(0.951), rows(0.95, FLAT), "holds"),
        ({"test": "equivalent", "margin": 0.01}, rows(0.9595), rows(0.95, FLAT), "not shown"),
        ({"test": "at_least", "value": 0.95}, rows(0.96), {}, "holds"),
        ({"test": "at_least", "value": 0.97}, rows(0.96), {}, "not shown"),
        ({"test": "at_most", "value": 0.97}, rows(0.96), {}, "holds"),
        ({"test": "at_least", "value": 0.9}, rows(0.96, diverged=1), {}, "not shown"),
        ({"test": "higher"}, rows(0.97), {}, "not decided yet"),
        ({"test": "ratio", "value": 0.51}, rows(0.1), rows(0.2, FLAT), "holds"),
        ({"test": "ratio", "value": 0.51}, rows(0.1, FLAT), rows(0.2, FLAT), "no test"),
        ({"test": "higher"}, rows(0.97, FLAT), rows(0.95, FLAT), "no test"),
        ({"test": "lower"}, rows(0.97), rows(0.97), "no test"),
        ({"test": "equivalent", "margin": 0.01}, rows(0.97), rows(0.97), "no test"),
        ({"test": "within", "margin": 0.01}, rows(0.97), rows(0.97), "holds"),
        ({"test": "higher", "metric": "val/acc"}, rows(0.97), rows(0.95), "not decided yet"),
        ({"test": "higher"}, rows(math.nan), rows(0.95), "not decided yet"),
        ({"test": "ratio", "value": 0.505}, rows(0.1), rows(0.2, FLAT), "not shown"),
        ({"test": "ratio", "value": 0.4}, rows(0.1), rows(0.2, FLAT), "the opposite holds"),
        ({"test": "ratio", "value": 0.51}, rows(0.1, diverged=4), rows(0.2, FLAT), "not decided yet"),
        ({"test": "ratio", "value": 0.51}, rows(0.0, FLAT), rows(0.2, FLAT), "not shown"),
    ],
)
def test_a_claim_is_answered_by_its_test(claim: dict[str, Any], a: Any, b: Any, summary: str) -> None:
    assert answer({("here", "a"): a, ("here", "b"): b}, **claim).summary == summary


def test_a_claim_that_holds_somewhere_says_in_how_many() -> None:
    cells = {
        ("here", "a"): rows(0.97),
        ("here", "b"): rows(0.95, FLAT),
        ("there", "a"): rows(0.95),
        ("there", "b"): rows(0.97, FLAT),
    }
    found = answer(cells, test="higher", settings=["here", "there"])
    assert found.summary == "holds in 1 of 2 settings (the opposite in 1)"
    assert found.verdicts[0].figures.startswith("+2.00 [+1.80, +2.20] points, n = 5, Holm p < 0.001")


def test_what_holds_alone_and_not_among_all_tests_of_the_study_is_called_uncorrected() -> None:
    near = {("here", "a"): rows(0.9521), ("here", "b"): rows(0.95, FLAT)}  # p = 0.04
    assert answer(near, test="higher").summary == "holds"
    twice = {**near, ("there", "a"): rows(0.9521), ("there", "b"): rows(0.95, FLAT)}  # 0.08 after Holm
    found = answer(twice, test="higher", settings=["here", "there"])
    assert found.summary == "holds (2 of 2 uncorrected)" and found.holds_everywhere
    assert [v.said for v in found.verdicts] == ["holds, uncorrected"] * 2
    clear = {**near, ("there", "a"): rows(0.94), ("there", "b"): rows(0.97, FLAT)}
    found = answer(clear, test="higher", settings=["here", "there"])
    assert found.summary == "holds in 1 of 2 settings (the opposite in 1)" and not found.holds_everywhere
    unclear = {**near, ("there", "a"): rows(0.95), ("there", "b"): rows(0.951, FLAT)}
    found = answer(unclear, test="higher", settings=["here", "there"])
    assert found.summary == "holds in 1 of 2 settings (not shown in 1; 1 uncorrected)"


def test_what_a_study_excludes_decides_nothing() -> None:
    cells = {("here", "a"): rows(0.97), ("here", "b"): rows(0.95, FLAT), ("there", "a"): rows(0.95)}
    found = answer(cells, test="higher", settings=["here", "there"])
    assert found.summary == "holds" and len(found.verdicts) == 1
    assert answer(cells, test="higher", settings=["there"]).summary == "not run"


def test_a_method_may_be_compared_with_itself_in_another_setting() -> None:
    cells = {("here", "a"): rows(0.97), ("there", "a"): rows(0.80, FLAT), ("there", "b"): rows(0.99, FLAT)}
    with_itself = answer(cells, test="higher", than=[], than_in="there")
    assert [(v.than, v.finding) for v in with_itself.verdicts] == [("there/a", "holds")]
    with_another = answer(cells, test="higher", than=["b"], than_in="there")
    assert [(v.than, v.finding) for v in with_another.verdicts] == [("there/b", "the opposite holds")]


def test_a_ratio_may_take_another_metric_of_what_it_is_compared_with() -> None:
    cells = {("here", "a"): rows(0.1, more=ENERGY), ("here", "b"): rows(0.2, more=ENERGY)}
    for seed, row in cells["here", "b"].items():  # no two ratios may be equal, or there were no test
        row.result.metrics.update({key: value * (1 + seed / 1000) for key, value in ENERGY.items()})  # type: ignore[attr-defined]
    claim: dict[str, Any] = {"test": "ratio", "value": 1 / 12, "metric": "test/energy_pj"}
    assert answer(cells, **claim).verdicts[0].finding == "the opposite holds", "both spend the same"
    found = answer(cells, **claim, than_metric="test/energy_dense_pj").verdicts[0]
    assert (found.finding, found.outcome.p) == ("holds", None)
    assert found.figures == "ratio 0.0798 [0.0797, 0.0800] against 0.0833, n = 5"


def test_a_difference_of_energies_has_its_unit() -> None:
    cells = {("here", "a"): rows(0.1, more=ENERGY), ("here", "b"): rows(0.2, more={"test/energy_pj": 1000.0})}
    said = answer(cells, test="higher", metric="test/energy_pj").verdicts[0].figures
    assert said == "all 5 differences are equal (+99.0 nJ): no spread, no test"


def test_what_decides_nothing_is_named_where_a_claim_holds_elsewhere() -> None:
    cells = {
        ("here", "a"): rows(0.97),
        ("here", "b"): rows(0.95, FLAT),
        ("there", "a"): rows(0.97),
        ("there", "b"): rows(0.95),
    }
    found = answer(cells, test="higher", settings=["here", "there"])
    assert found.summary == "holds in 1 of 2 settings (no test in 1)"
    assert found.verdicts[1].figures == "all 5 differences are equal (+2.00 points): no spread, no test"


def test_pairs_with_a_diverged_run_are_left_out_and_counted() -> None:
    found = answer({("here", "a"): rows(0.97, diverged=2), ("here", "b"): rows(0.95, FLAT)}, test="higher")
    assert "n = 3" in found.verdicts[0].figures
