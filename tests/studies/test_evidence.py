"""What the claims of studies say of the abstracts' sentences, and the pages that print it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from snn_exp.cli import main
from snn_exp.errors import UserError
from snn_exp.reporting.claims import CLAIMS, Finding, Measured, Outcome
from snn_exp.reporting.forest import forest
from snn_exp.reporting.mean import Mean
from snn_exp.reporting.verdicts import Answer, Verdict
from snn_exp.studies import claims_section, evidence_page
from snn_exp.studies.evidence import Evidence, Figure, Found, Place, gather, verdict_of
from snn_exp.studies.sentences import SENTENCES
from snn_exp.studies.spec import load, names
from snn_exp.studies.study_links import linked


def verdict(finding: Finding, setting: str = "here", mean: float = 0.01) -> Verdict:
    measured = Measured("difference", mean, mean - 0.005, mean + 0.005, 5, (0.0,))
    return Verdict(setting, "psp", "bn", Outcome(finding, "figures", 0.01, measured, 0.04))


def answer(*verdicts: Verdict, **about: str) -> Answer:
    kind: Any = CLAIMS["higher"]
    claim = kind(
        "It helps.", ["psp"], ["here"], "test/acc", than=["bn"], than_in=None, **{"states": "", "beside": "", **about}
    )
    return Answer(claim, verdicts)


def found(finding: Finding, layers: int = 20) -> Found:
    of = answer(verdict(finding))
    return Found("some", 1, of, of.verdicts[0], Place("digits", "pre", layers), "lif")


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "not shown"], "holds when"),
        (["holds", "the opposite holds"], "holds when"),
        (["holds", "the opposite holds", "the opposite holds", "not shown"], "mostly the opposite"),
        (["not shown", "no test"], "not shown"),
        (["not shown", "the opposite holds"], "the opposite"),
        (["holds", "not decided"], "holds"),
        (["not decided"], "still to be run"),
        ([], "still to be run"),
    ],
)
def test_verdicts_add_up_to_one_word(findings: list[Finding], said: str) -> None:
    assert verdict_of(map(verdict, findings)) == said


def test_the_answer_to_a_sentence_counts_every_comparison_and_not_those_to_come() -> None:
    of = [found("holds"), found("holds"), found("not shown"), found("the opposite holds"), found("not decided")]
    said = "**holds when** (2 of 4 comparisons; the opposite in 1; not shown in 1)"
    assert evidence_page._counted(of) == said
    assert evidence_page._counted([found("the opposite holds"), found("not shown")]) == (
        "**the opposite** (1 of 2 comparisons; not shown in 1)"
    )
    mostly = [found("holds"), *(found("the opposite holds") for _ in range(3)), found("not shown")]
    assert evidence_page._counted(mostly) == (
        "**mostly the opposite** (3 of 5 comparisons; not shown in 1; holds in 1)"
    )
    assert evidence_page._counted([found("not decided")]) == "still to be run"


def test_what_does_not_show_is_printed_first() -> None:
    nothing: dict[str, list[Any]] = {name: [] for name in SENTENCES}
    found_of = {**nothing, "psp_depth": [found("holds")], "s2nn_others": [found("not shown")]}
    evidence = Evidence(found_of, nothing, nothing, [], {"some": (load_study(), [])}, [])
    lines = evidence_page._lines(evidence).splitlines()
    assert SENTENCES["s2nn_others"].says in lines[2] and "**not shown** (1 of 1 comparisons)" in lines[2]
    assert SENTENCES["psp_depth"].says in lines[3] and "still to be run" in lines[4]
    assert "[some](studies/some/README.md) |" in lines[3]
    unfinished = evidence_page._lines(dataclasses.replace(evidence, unfinished={"some"}))
    assert "[some](studies/some/README.md) (unfinished) |" in unfinished
    page = evidence_page._full(evidence, "../studies/")
    assert (
        "| digits | pre | 20 | lif | psp against bn (test/acc, higher) | +1.00 [+0.50, +1.50] points | 5 | 0.040 |"
        in page
    )
    assert "[some, claim 1](../studies/some/README.md#claim-1)" in page


def load_study() -> Any:
    @dataclasses.dataclass
    class Some:
        name: str = "some"
        note: str = ""
        question: str = "Does it?"
        status: str = "claims"

    return Some()


def test_published_figures_stand_beside_ours_with_how_each_was_chosen() -> None:
    nothing: dict[str, list[Any]] = {name: [] for name in SENTENCES}
    ours = Figure("fashion_mnist", "some", "whole", "s2nn", 8, "24", "1", Mean.of({0: 0.917, 1: 0.919}))
    page = evidence_page._full(Evidence(nothing, nothing, nothing, [ours], {}, []), "")
    assert (
        "| ours: s2nn, 8 layers, width 24, T = 1 | 91.80 ± 0.14 | 2 | on validation data | [some](some/README.md) |"
        in page
    )
    assert "| 94.38 | - | best epoch on the test set | [PLIF, README](" in page
    assert "none is reproduced here" in page


def test_a_page_without_marks_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("nothing")
    with pytest.raises(UserError, match="has no place for the answers; add the two lines <!-- snn-exp evidence: begin"):
        evidence_page._between_marks(tmp_path / "page.md", "new")
    (tmp_path / "page.md").write_text(f"a\n{evidence_page.BEGIN}\nold\n{evidence_page.END}\nb\n")
    made = evidence_page._between_marks(tmp_path / "page.md", "new")
    assert made == f"a\n{evidence_page.BEGIN}\n\nnew\n\n{evidence_page.END}\nb\n"


def test_every_sentence_is_stated_by_a_claim_of_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNN_EXP_STUDIES", raising=False)
    claims = [claim for name in names() for claim in load(name).claims]
    assert {claim.states for claim in claims} - {""} == SENTENCES.keys()
    assert not [claim for claim in claims if claim.states and claim.beside]


def test_without_a_study_there_is_no_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_STUDIES", str(tmp_path))
    assert main.main(["evidence"]) == 2
    assert "there is no study in" in capsys.readouterr().err


def test_a_study_without_a_page_is_named_and_counts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SNN_EXP_STUDIES", str(tmp_path))
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "study.yaml").write_text(
        "question: Does it?\nbudget_core_hours: 1\nseeds: [0]\nmethods: {a: [norm=bn], b: [norm=none]}\n"
        "claims: [{says: It does., test: higher, of: a, than: b, states: psp_depth}]\n"
    )
    assert main.main(["evidence"]) == 0
    page = (tmp_path / "README.md").read_text()
    assert "| [later](later/study.yaml) | Does it? | written down, still to be run |" in page
    evidence = gather()
    assert evidence.waiting["psp_depth"] == ["later"] and not any(evidence.found.values())
    assert linked("as later asks", "../") == "as [later](../later/study.yaml) asks"
    assert linked("as later asks", "../", but="later") == "as later asks"


def test_the_verdict_stands_before_the_table_of_a_claim_and_what_does_not_show_before_what_does() -> None:
    shows = answer(verdict("holds"), verdict("holds", "there"))
    partly = answer(verdict("holds"), verdict("not shown", "there"), verdict("the opposite holds", "yonder"))
    fails = answer(verdict("not shown"))
    page = claims_section.written([shows, partly, fails])
    overview = page.splitlines()[2:5]
    assert [line[:8] for line in overview] == ["| [3](#c", "| [2](#c", "| [1](#c"]
    assert "| holds in 1 of 3 settings (not shown in 1, the opposite in 1) | It helps. |" in overview[1]
    section = page.partition("### Claim 2\n\n")[2].partition("### Claim 3")[0]
    assert section.startswith("**holds in 1 of 3 settings (not shown in 1, the opposite in 1)**: It helps (test/acc, ")
    assert "| there | psp against bn | +1.00 [+0.50, +1.50] points | 5 | 0.040 | not shown |" in section
    assert "![claim_02](figures/claim_02.png)" in section
    assert "claim_03" not in page, "one interval is read in its table"


def test_a_forest_plot_draws_each_interval_once() -> None:
    picture = forest(answer(verdict("holds"), verdict("not shown", "there", -0.002)), "claim_01")
    assert picture is not None
    assert picture.data[["comparison", "mean", "low"]].to_numpy().tolist() == [
        ["here, psp against bn", 0.01, 0.005],
        ["there, psp against bn", -0.002, -0.007],
    ]
    drawn = picture.svg()
    assert drawn.count("there, psp against bn") == 1 and "difference of test/acc, points" in drawn
    assert forest(answer(verdict("holds")), "claim_01") is None


def test_plots_of_claims_that_are_no_more_are_removed(tmp_path: Path) -> None:
    for name in ("claim_01.png", "claim_07.png", "depth.png"):
        (tmp_path / name).write_bytes(b"")
    picture = forest(answer(verdict("holds"), verdict("not shown", "there")), "claim_01")
    assert picture is not None
    claims_section.remove_others(tmp_path, [picture])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claim_01.png", "depth.png"]
