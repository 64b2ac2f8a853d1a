"""The committed rows of a study: written once, read back, never lost, compared when done again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from snn_exp.errors import UserError
from snn_exp.ledger import MOST_LAYERS, Ledger, Row, disagreement
from snn_exp.results import Result, RunFolder, write_json


def row(run_id: str = "0123456789", acc: float = 0.97, **changes: Any) -> Row:
    result = Result(run_id, "done", {"seed": 0}, {"test/acc": acc}, 3.0, 2.5, "2026-01-01T00:00:00+00:00", 1, "f")
    made = Row(result, {"val/acc": [0.5, 0.9]}, {"torch": "2"}, {"cores": 2}, {"trainer": {"num_threads": 1}}, "code")
    return dataclasses.replace(made, **changes)


def test_rows_are_read_back_as_they_were_and_written_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    ledger = Ledger(path)
    ledger.add(row())
    ledger.add(row("aaaaaaaaaa", 0.5))
    ledger.add(row(acc=0.1))  # the same run again: the first one stands
    assert len(path.read_text().splitlines()) == 2
    assert Ledger(path).rows == {"0123456789": row(), "aaaaaaaaaa": row("aaaaaaaaaa", 0.5)}


def test_what_another_process_has_added_since_is_not_added_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    ours, theirs = Ledger(path), Ledger(path)
    theirs.add(row())
    ours.add(row())
    ours.add(row("aaaaaaaaaa"))
    assert len(path.read_text().splitlines()) == 2


def test_a_line_that_was_cut_short_is_dropped_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    Ledger(path).add(row())
    with path.open("a") as file:
        file.write('{"run_id": "bbbb')
    assert list(Ledger(path).rows) == ["0123456789"]
    Ledger(path).add(row("cccccccccc"))
    assert list(Ledger(path).rows) == ["0123456789", "cccccccccc"]
    path.write_text("nonsense\n")
    with pytest.raises(UserError, match=r"results.jsonl, line 1 is damaged; remove that line"):
        Ledger(path)


def test_a_row_holds_a_runs_curves_and_leaves_out_what_belongs_to_single_layers(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert Row.of(folder) is None
    layers = {"init": {"variance": [float(i) for i in range(100)]}}
    metrics = {"test/acc": 0.97123456789, "test/firing_rate/stages.0": 0.1}
    result = dataclasses.replace(row().result, metrics=metrics, layers=layers)
    write_json(tmp_path / "result.json", dataclasses.asdict(result))
    write_json(tmp_path / "manifest.json", {"versions": {"torch": "2"}, "hardware": {}, "execution": {}, "code": "c"})
    folder.metrics_csv.write_text("epoch,val/acc,val/firing_rate/a\n0,0.25,1\n1,0.5,1\n")
    found = Row.of(folder)
    assert found is not None
    assert found.result.metrics == {"test/acc": 0.971235}
    assert found.curves == {"val/acc": [0.25, 0.5]}
    variance = found.result.layers["init"]["variance"]
    assert variance == [0.5 + 2 * i for i in range(50)] and len(variance) <= MOST_LAYERS
    assert Row.from_plain(json.loads(json.dumps(found.to_plain()))) == found


def test_on_the_same_machine_a_run_done_again_must_be_equal() -> None:
    assert disagreement(row(), row(), "test/acc", [0.9, 0.99]) is None
    said = disagreement(row(), row(acc=0.9700001), "test/acc", [0.9, 0.99])
    assert said == "run 0123456789, done again, gives another test/acc on the same machine"


def test_elsewhere_it_must_lie_within_three_sd_of_its_cell() -> None:
    other = {"hardware": {"cores": 64}}
    spread = [0.96, 0.97, 0.98]  # sd 0.01
    assert disagreement(row(), row(acc=0.945, **other), "test/acc", spread) is None
    said = disagreement(row(), row(acc=0.93, **other), "test/acc", spread)
    assert said is not None and "gives test/acc 0.9300, which was 0.9700: more than 3 sd (0.0100) away" in said


def test_a_run_that_diverged_and_now_does_not_is_named() -> None:
    again = row(code="another")
    stored = dataclasses.replace(
        again, result=dataclasses.replace(again.result, status="diverged", metrics={}), code="c"
    )
    assert disagreement(stored, again, "test/acc", []) == "run 0123456789, done again, is done and was diverged"
