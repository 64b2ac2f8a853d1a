"""Sixty runs by joblib, killed with -9 five times at random moments and typed again; run by `make killed`.

With KILLS=4 they are 24 runs, killed twice.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from snn_exp.config.compose import read_command
from snn_exp.runs.folder import RunFolder
from tests.disturbing import KILLS, came_out, wait_for

pytestmark = pytest.mark.killed

OVERRIDES = ["neuron=s2nn,lif,relu", "norm=bn,psp", f"seed=range({KILLS})", "residual=pre", "network.width=4",
             "optim.batch_size=128", "trainer.max_epochs=2", "logger=none", "hydra/launcher=joblib",
             "hydra.launcher.n_jobs=2"]  # fmt: skip
NUM_RUNS, NUM_KILLS = 6 * KILLS, KILLS // 2
SAID = re.compile(r"(\d+) runs: (\d+) done before, (\d+) to train")


def swept(output: Path, said: Path) -> subprocess.Popen[bytes]:
    with said.open("ab") as file:
        command = [sys.executable, "-m", "snn_exp", "train", "-m", *OVERRIDES]
        environment = {**os.environ, "SNN_EXP_OUTPUT": str(output)}
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)


def finished(output: Path) -> dict[str, int]:
    """Run id -> when its result was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in output.glob("runs/*/result.json")}


def kill(sweep: subprocess.Popen[bytes], workers_too: bool) -> None:
    children = psutil.Process(sweep.pid).children(recursive=True)
    sweep.kill()
    for process in children if workers_too else ():
        process.kill()
    sweep.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, "a worker ends by itself when it finds its sweep gone"


def test_every_run_of_a_killed_sweep_is_finished_once_and_its_table_is_that_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert swept(undisturbed, tmp_path / "said_undisturbed").wait(600) == 0, (tmp_path / "said_undisturbed").read_text()
    moment = random.Random(0)
    seen: dict[str, int] = {}
    for number in range(NUM_KILLS):
        sweep = swept(killed, tmp_path / f"said_{number}")
        wait_for(lambda num=10 * number: len(finished(killed)) > num, 600)
        time.sleep(moment.uniform(0, 2))
        assert sweep.poll() is None, (tmp_path / f"said_{number}").read_text()
        kill(sweep, workers_too=number % 2 == 0)
        assert seen.items() <= finished(killed).items(), "what was finished is not written again"
        seen = finished(killed)
    last = tmp_path / "said_last"
    assert swept(killed, last).wait(600) == 0, last.read_text()
    match = SAID.search(last.read_text())
    assert match is not None and [int(number) for number in match.groups()] == [
        NUM_RUNS,
        len(seen),
        NUM_RUNS - len(seen),
    ]
    assert seen.items() <= finished(killed).items()
    assert sorted(path.name for path in (killed / "runs").iterdir()) == sorted(finished(undisturbed))

    configs = [cell.config for cell in read_command(OVERRIDES, multirun=True).cells]
    assert len(configs) == NUM_RUNS
    tables = []
    for output in (undisturbed, killed):
        monkeypatch.setenv("SNN_EXP_OUTPUT", str(output))
        tables.append([came_out(config) for config in configs])
        assert not any(RunFolder.of(config).failure() for config in configs)
    assert tables[0] == tables[1]
    assert len(table(last)) == 6 and table(tmp_path / "said_undisturbed") == table(last)


def table(said: Path) -> list[str]:
    """What it says of every cell but for the time of training, which stands last."""
    return [line.rsplit("│", 2)[0] for line in said.read_text().splitlines() if "±" in line and "│" in line]
