"""The committed rows of a study: written once, read back, never lost, compared when done again."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_exp.config.compose import compose
from snn_exp.errors import UserError
from snn_exp.files import write_json
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.row import MOST_LAYERS, Row, disagreement, largest_difference, row_of_line
from snn_exp.runs.run_files import Result
from snn_exp.studies.results import Ledger

CONFIG = compose([]).to_plain()


def row(run_id: str = "0123456789", acc: float = 0.97, **changes: Any) -> Row:
    metrics = {"val/acc": 0.9, "val/loss": 0.1, "test/acc": acc}
    result = Result(run_id, "done", CONFIG, metrics, 3.0, 2.5, "2026-01-01T00:00:00+00:00", 1, "f")
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


def test_a_line_that_was_cut_short_is_dropped_and_a_damaged_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.jsonl"
    Ledger(path).add(row())
    with path.open("a") as file:
        file.write('{"run_id": "bbbb')
    before = path.read_bytes()
    assert list(Ledger(path).rows) == ["0123456789"]
    assert path.read_bytes() == before, "reading writes nothing"
    Ledger(path).add(row("cccccccccc"))
    assert list(Ledger(path).rows) == ["0123456789", "cccccccccc"]
    assert capsys.readouterr().err == ""
    path.write_text("nonsense\n" + path.read_text())
    for _ in range(2):
        assert list(Ledger(path).rows) == ["0123456789", "cccccccccc"]
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"snn-exp: left out: {path}, line 1 is not a row (no JSON: ")
    assert said.endswith("; remove that line; its run counts as not done")


def test_a_run_whose_line_is_damaged_is_appended_again_and_a_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    Ledger(path).add(row())
    path.write_text(path.read_text().replace('"done"', '"nope"'))
    Ledger(path).add(row())
    assert Ledger(path).rows == {"0123456789": row()}
    path.write_text(path.read_text().rstrip("\n"))
    Ledger(path).add(row("cccccccccc"))
    assert list(Ledger(path).rows) == ["0123456789", "cccccccccc"] and len(path.read_text().splitlines()) == 3


def test_a_file_that_is_none_is_refused_and_not_written_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("")
    (tmp_path / "study").mkdir()
    path = tmp_path / "study" / "results.jsonl"
    path.symlink_to(outside)
    with pytest.raises(UserError, match="is a link that leads out of"):
        Ledger(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="is a named pipe, not a file"):
        Ledger(path)


def test_a_row_holds_a_runs_curves_and_leaves_out_what_belongs_to_single_layers(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert Row.of(folder) is None
    layers = {"init": {"variance": [float(i) for i in range(100)]}}
    metrics = {"val/acc": 0.5, "val/loss": 0.1, "test/acc": 0.97123456789, "test/firing_rate/stages.0": 0.1}
    result = dataclasses.replace(row().result, metrics=metrics, layers=layers)
    write_json(tmp_path / "result.json", dataclasses.asdict(result))
    write_json(tmp_path / "manifest.json", {"versions": {"torch": "2"}, "hardware": {}, "execution": {}, "code": "c"})
    folder.metrics_csv.write_text("epoch,val/acc,val/firing_rate/a\n0,0.25,1\n1,0.5,1\n")
    found = Row.of(folder)
    assert found is not None
    assert found.result.metrics == {"val/acc": 0.5, "val/loss": 0.1, "test/acc": 0.971235}
    assert found.curves == {"val/acc": [0.25, 0.5]}
    variance = found.result.layers["init"]["variance"]
    assert variance == [0.5 + 2 * i for i in range(50)] and len(variance) <= MOST_LAYERS
    assert Row.of_stored(row_of_line(json.dumps(found.to_plain()).encode())) == found


def test_on_the_same_machine_a_run_done_again_must_be_equal() -> None:
    assert disagreement(row(), row(), "test/acc", [0.9, 0.99]) is None
    said = disagreement(row(), row(acc=0.9700001), "test/acc", [0.9, 0.99])
    assert said == "run 0123456789, done again, gives another test/acc on the same machine"


def test_elsewhere_it_may_differ_as_two_seeds_of_its_cell() -> None:
    other: dict[str, Any] = {"hardware": {"cores": 64}}
    spread = [0.95, 0.96, 0.97, 0.98, 0.99]  # sd 0.0158, t(0.995, 4) = 4.604: 0.1030
    assert disagreement(row(), row(acc=0.868, **other), "test/acc", spread) is None
    said = disagreement(row(), row(acc=0.866, **other), "test/acc", spread)
    assert said is not None and said.endswith(
        "gives test/acc 0.8660, which was 0.9700: two seeds of its cell differ by more than 0.1030 once in 100 times"
    )


def test_two_seeds_of_a_cell_are_said_to_differ_too_much_once_in_a_hundred_times() -> None:
    rng = np.random.default_rng(0)
    cells, pairs = rng.normal(size=(4000, 5)), rng.normal(size=(4000, 2))
    found = [abs(a - b) > largest_difference(cell) for cell, (a, b) in zip(cells.tolist(), pairs.tolist(), strict=True)]
    assert 0.006 < sum(found) / len(found) < 0.014


def test_a_run_that_diverged_and_now_does_not_is_named() -> None:
    again = row(code="another")
    stored = dataclasses.replace(
        again, result=dataclasses.replace(again.result, status="diverged", metrics={}), code="c"
    )
    assert disagreement(stored, again, "test/acc", []) == "run 0123456789, done again, is done and was diverged"
