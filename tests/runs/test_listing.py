"""`snn-exp runs`: columns, order and JSON; `snn-exp study --studies`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from snn_exp.cli.main import main
from tests.finished import Finished


@pytest.fixture
def names(finished: Finished) -> list[str]:
    """Two finished runs, the second with the larger learning rate."""
    return [finished("optim.lr=0.005")[0].run_id, finished("optim.lr=0.02")[0].run_id]


def printed(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words.split()) == 0
    return capsys.readouterr().out


def test_json_has_an_object_per_run_with_choices_metrics_and_date(
    names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {run["run"]: run for run in json.loads(printed("runs --json", capsys))}
    assert set(runs) == set(names)
    first = runs[names[0]]
    assert first["optim.lr"] == 0.005 and first["neuron"] == "s2nn" and first["seed"] == 0
    assert 0 <= first["test/acc"] <= 1 and first["ended"][:2] == "20"
    chosen = json.loads(printed("runs --json --columns run,optim.lr", capsys))
    assert [set(run) for run in chosen] == [{"run", "optim.lr"}] * 2


def test_runs_are_sorted_by_numbers_and_a_minus_turns_the_order(
    names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for sort, expected in (("--sort optim.lr", names), ("--sort=-optim.lr", names[::-1])):
        assert [run["run"] for run in json.loads(printed(f"runs {sort} --json", capsys))] == expected
    table = printed("runs --columns run,optim.lr,ended --sort optim.lr", capsys)
    assert table.index(names[0]) < table.index(names[1]) and "0.005" in table
    accuracies = re.findall(r"0\.\d+", printed("runs --columns run,test/acc", capsys))
    assert len(accuracies) == 2 and all(len(text) == len("0.1234") for text in accuracies)


def test_the_table_of_runs_says_what_differs_and_when_they_ended(
    names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    table = printed("runs", capsys)
    assert "optim.lr=0.02" in table and "ended" in table


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("runs --sort optim.lrr", "did you mean optim.lr? Type --sort optim.lr"),
        ("runs --columns run,test/ac", "did you mean test/acc? Type --columns test/acc"),
        ("runs --sort -optim.lr", "--sort lacks its value, which an = joins to it if it begins with -"),
        ("runs clean state=failed --json", "--json lists runs and removes none"),
    ],
)
def test_a_column_that_no_run_has_is_refused(
    words: str, says: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert says in capsys.readouterr().err


def test_studies_of_ones_own_are_found_and_an_empty_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_STUDIES", "")  # so that it is put back afterwards
    assert f"there is no study in {tmp_path.resolve()}" in printed(f"study --studies {tmp_path}", capsys)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.yaml").write_text(
        "question: q\nseeds: [0, 1]\nbudget_core_hours: 1\nmethods: {a: [neuron=s2nn], b: [neuron=lif]}\n"
    )
    assert "mine" in printed(f"study --studies {tmp_path}", capsys)
    assert os.environ["SNN_EXP_STUDIES"] == str(tmp_path.resolve()), "its workers look there too"
    assert main(["study", "--studies", str(tmp_path / "none")]) == 2
    assert "is not a folder; it must hold folders such as NAME/study.yaml" in capsys.readouterr().err
