"""Every committed page is what the commands write; `make pages`."""

from __future__ import annotations

import re

import pytest

from snn_exp.studies import evidence_page, readme, runner
from snn_exp.studies.spec import load, names, studies_root

ROWS = (
    r"(?s)(## What was run\n).*?(\n## (?:Claims|Results))"  # a parameter added later adds a value that changed nothing
)


@pytest.fixture(autouse=True)
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNN_EXP_STUDIES", raising=False)


@pytest.mark.pages
def test_every_committed_page_of_a_study_is_what_the_command_writes() -> None:
    differing = []
    for name in names():
        path = studies_root() / name / "README.md"
        if path.is_file():
            pages = path.read_text(), readme.page(runner.survey(load(name)))
            if len({re.sub(ROWS, r"\1\2", page) for page in pages}) != 1:
                differing.append(name)
    assert differing == [], "type snn-exp report NAME for each of them"


@pytest.mark.pages
def test_the_committed_answers_are_what_snn_exp_evidence_writes() -> None:
    differing = [path.name for path, text in evidence_page.pages().items() if path.read_text() != text]
    assert differing == [], "type snn-exp evidence"
