"""What a person sees of a sweep, read from run folders that fill while it runs."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from snn_exp.config.compose import read_command
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Result
from snn_exp.sweeps import progress
from tests import stored


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ExperimentConfig]:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    cells = read_command(["seed=range(4)", "trainer.max_epochs=10", "logger=none"], multirun=True).cells
    return [cell.config for cell in cells if cell.config]


def has_epochs(folder: RunFolder, num: int) -> None:
    folder.path.mkdir(parents=True)
    folder.metrics_csv.write_text("epoch,val/acc\n" + "".join(f"{epoch},0.5\n" for epoch in range(num)))


def test_the_line_counts_what_is_done_runs_and_has_failed_in_this_sweep(
    configs: list[ExperimentConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    done, runs, fails, failed_before = map(RunFolder.of, configs)
    failed_before.fail("of yesterday", "")
    os.utime(failed_before.path / "failure.json", (0, 0))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    finished: list[Result] = []
    with progress.watching(configs, console, on_finish=finished.append):
        has_epochs(runs, 3)
        has_epochs(fails, 2)
        fails.fail("ValueError: of today", "")
        stored.store("seed=0", "trainer.max_epochs=10", acc=0.875)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "1 of 4 runs done, 1 running, 1 failed" in text
    assert "15/40" in text, "epochs: ten of the run that is done, three and two of the others"
    assert "87.5 %" in text and [result.run_id for result in finished] == [done.path.name]


def test_the_line_says_that_workers_start_until_a_run_has_begun(
    configs: list[ExperimentConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = progress._Watcher(configs, Console(), lambda result: None, {}, num_workers=2)
    assert watcher._state() == "starting 2 workers"
    RunFolder.of(configs[1]).begin(configs[1], {})
    assert watcher._state() == "0 of 4 runs done, 0 running"
    shutil.rmtree(RunFolder.of(configs[1]).path)
    assert watcher._state() == "0 of 4 runs done, 0 running", "it does not go back"
