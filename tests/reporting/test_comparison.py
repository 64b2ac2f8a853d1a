"""Stored runs side by side: what makes a line, what is compared with what, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from snn_exp.config.experiment import EnergyConfig
from snn_exp.errors import UserError
from snn_exp.reporting import tables
from snn_exp.reporting.comparison import Comparison, of_runs
from snn_exp.runs.store import stored_runs
from tests.stored import store


def compared(*filters: str, metric: str = "test/acc", **asked: Any) -> Comparison:
    return of_runs(stored_runs(filters), metric=metric, profile=EnergyConfig(), title="t", **asked)


BN = (0.90, 0.92, 0.94)
PSP = (0.93, 0.93, 0.97)


def store_pairs() -> None:
    for seed, (bn, psp) in enumerate(zip(BN, PSP, strict=True)):
        store("neuron=lif", "norm=bn", f"seed={seed}", acc=bn)
        store("neuron=lif", "norm=psp", f"seed={seed}", acc=psp, work=2.0)


def test_a_line_is_compared_with_the_one_that_differs_in_what_is_asked_alone() -> None:
    store_pairs()
    for seed in (0, 1):
        store("neuron=plif", "norm=psp", f"seed={seed}")
        store("neuron=plif", "norm=bn", f"seed={seed}")
    (panel,) = compared(versus={"norm": "bn"}).panels
    assert panel.versus == {"lif psp": "lif bn", "plif psp": "plif bn"}


def test_the_figures_of_a_line_are_those_of_scipy() -> None:
    store_pairs()
    comparison = compared(versus={"norm": "bn"}, margin=0.05)
    entry = tables.numbers(comparison).set_index("line").loc["psp"]
    expected = scipy_stats.ttest_rel(PSP, BN)
    interval = expected.confidence_interval()
    assert entry["mean"] == pytest.approx(sum(PSP) / 3)
    assert (entry["low"], entry["high"], entry["p"]) == pytest.approx((interval.low, interval.high, expected.pvalue))
    assert entry["energy_ratio"] == pytest.approx(2.0) and entry["pairs"] == 3
    headings, rows = tables.table(comparison, comparison.panels[0])
    assert headings[-1] == "p, within 5.00 %" and headings[-3] == "difference to bn"
    assert [row[0].text for row in rows] == ["bn", "psp"]
    assert rows[1][headings.index("difference to bn")].text.startswith("+2.33 [")


def test_every_data_set_is_a_panel_of_its_own() -> None:
    store("norm=bn", "dataset=digits")
    store("norm=bn", "dataset=digits_200")
    assert [panel.name for panel in compared().panels] == ["digits", "digits_200"]


def test_augmentations_are_lines_of_one_panel_also_where_the_data_set_says_them() -> None:
    for augment in ("augment=none", "augment=auto", "augment=cutout", "dataset.max_shift=2"):
        store("norm=bn", augment)
    (panel,) = compared(versus={"augment": "none", "dataset.max_shift": "0"}).panels
    names = [line.name for line in panel.lines]
    assert [name.partition(" ")[0] for name in names] == [
        "augment=cutout",
        "augment=none",
        "augment=shift",
        "augment=shift",
    ]
    (by_name,) = compared("augment=none,cutout").panels
    assert [line.name for line in by_name.lines] == ["augment=cutout", "augment=none"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"metric": "test/ac"}, "There is no metric 'test/ac'; allowed: .*did you mean test/acc"),
        ({"by": ["nuron"]}, "There is no choice 'nuron'; allowed: .*did you mean neuron"),
        ({"versus": {"norm": "group"}}, "--versus norm=group: no two lines differ in that alone; there are bn; psp"),
        ({"versus": {"dataset": "digits"}}, "--versus dataset=digits: runs on other data cannot be compared"),
        (
            {"by": ["neuron"]},
            "of seed 0 would share the line lif and differ in norm: (bn and psp|psp and bn); add norm",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(asked: dict[str, Any], sentence: str) -> None:
    store_pairs()
    with pytest.raises(UserError, match=sentence):
        compared(**asked)


def test_runs_of_a_seed_on_another_split_are_no_pair() -> None:
    store("norm=bn", split="a")
    store("norm=psp", split="b")
    with pytest.raises(UserError, match="bn and psp of seed 0 cannot be paired: their split_fingerprint differs"):
        compared()


def test_what_is_not_there_is_named(output: Path) -> None:
    store_pairs()
    store("norm=psp", "seed=7", acc=None, test=False)
    store("norm=bn", "seed=3", status="diverged")
    broken = store("norm=bn", "seed=4")
    (broken.path / "result.json").write_text("{")
    failed = store("norm=psp", "seed=5")
    (failed.path / "result.json").unlink()
    (failed.path / "failure.json").write_text('{"error": "it broke"}')
    said = tables.gaps(compared())
    assert f"{broken.path} is damaged; snn-exp runs clean state=damaged removes it" in said
    assert any(s.startswith("test/acc: 1 run ended without it and is left out: ") for s in said)
    assert "digits, psp: seed 5: it broke" in said
    assert "digits, psp: seed 3: not run" in said
    entry = tables.numbers(compared()).set_index("line").loc["bn"]
    assert (entry["n"], entry["diverged"]) == (3, 1)


def test_what_was_interrupted_is_named_and_blocks_nothing() -> None:
    store_pairs()
    before = compared(by=["norm"], versus={"norm": "bn"})
    for overrides in (("seed=0", "optim.lr=0.5"), ("seed=7", "optim.lr=0.5"), ("seed=8",)):
        folder = store("neuron=lif", "norm=psp", *overrides)
        (folder.path / "result.json").unlink()
    empty = store("norm=bn", "seed=9")
    (empty.path / "result.json").unlink()
    (empty.path / "manifest.json").unlink()
    after = compared(by=["norm"], versus={"norm": "bn"})
    assert tables.numbers(after).equals(tables.numbers(before))
    said = tables.gaps(after)
    assert sum("is left out of psp, whose runs have another optim.lr: " in s and "not 0.5" in s for s in said) == 2
    assert "digits, psp: seed 8: unfinished" in said
    assert f"{empty.path} has no config yet (unfinished)" in said


def test_one_seed_has_no_interval_and_says_so() -> None:
    store("norm=bn", acc=0.9)
    store("norm=psp", acc=0.95)
    comparison = compared(versus={"norm": "bn"})
    assert "digits, psp: one seed, so there is neither a spread nor an interval" in tables.gaps(comparison)
    assert tables.headline(comparison) == (
        "digits: of 2 lines psp has the highest mean test/acc, 95.00 % (n = 1); one pair with bn gives no interval."
    )


def test_the_headline_says_what_is_shown_and_what_is_not() -> None:
    store_pairs()
    assert "psp has the highest mean test/acc, 94.33 ± 2.31 % (n = 3), and is not shown to differ from bn" in (
        tables.headline(compared(versus={"norm": "bn"}))
    )
    assert "bn has the lowest mean test/energy_pj" in tables.headline(compared(metric="test/energy_pj"))


def test_equal_differences_are_called_that_and_ties_are_called_ties() -> None:
    for seed in range(3):
        store("norm=bn", f"seed={seed}", acc=0.9 + seed / 100)
        store("norm=psp", f"seed={seed}", acc=0.91 + seed / 100)
        store("norm=none", f"seed={seed}", acc=0.91 + seed / 100)
    comparison = compared(versus={"norm": "bn"}, margin=0.05)
    assert "lines none and psp tie for the highest mean test/acc, 92.00 ± 1.00 % (n = 3)." in tables.headline(
        comparison
    )
    entry = tables.numbers(comparison).set_index("line").loc["psp"]
    assert entry["pairs"] == 3 and entry[["low", "high", "p", "p_holm", "p_equivalent"]].isna().all()
    headings, cells = tables.table(comparison, comparison.panels[0])
    psp = dict(zip(headings, [cell.text for cell in cells[-1]], strict=True))
    assert psp["difference to bn"] == "all 3 differences are equal (+1.00 points): no spread, no test"
    assert psp["p"] == psp["p, within 5.00 %"] == "-" and psp["energy / bn"] == "1.00 (all 3 equal)"


def test_n_counts_what_was_measured() -> None:
    store("norm=bn", "seed=0")
    store("norm=bn", "seed=1", acc=None)  # a stored accuracy is finite: tests/runs/test_run_files.py
    store("norm=bn", "seed=2", acc=None, test=False)
    store("norm=bn", "seed=3", status="diverged")
    comparison = compared()
    (entry,) = tables.numbers(comparison).to_dict("records")
    assert (entry["n"], entry["diverged"], entry["mean"]) == (1, 1, 0.9)
    assert any(
        said.startswith("test/acc: 2 runs ended without it and are left out") for said in tables.gaps(comparison)
    )


def test_nothing_that_has_ended_is_refused() -> None:
    folder = store("norm=bn")
    (folder.path / "result.json").unlink()
    with pytest.raises(UserError, match="none of the 1 runs asked for has ended"):
        compared()
