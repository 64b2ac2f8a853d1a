"""A multirun on a real Ray cluster of two workers, one of which is killed; run by `make ray`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from snn_exp.cli import main
from snn_exp.config import compose
from snn_exp.runs.folder import RunFolder
from snn_exp.sweeps import launch
from tests.disturbing import TINY, came_out, has_a_checkpoint_and_goes_on, num_first_epochs, send, undisturbed, wait_for
from tests.sweeps.test_workers import noting_job
from tests.test_readme import COMMANDS

pytestmark = pytest.mark.ray

COMMAND = ["train", "-m", *TINY, "seed=0,1,2", "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]


def swept_while_the_first_is_killed(folder: RunFolder, tmp_path: Path, *overrides: str) -> tuple[int, str]:
    """Exit code and words of the command, during which the worker of this run is killed."""
    environment = {**os.environ, "SNN_EXP_OUTPUT": str(tmp_path / "disturbed")}
    with (tmp_path / "said").open("w") as said:
        command = [sys.executable, "-m", "snn_exp", *COMMAND, *overrides]
        sweep = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
    try:
        wait_for(lambda: has_a_checkpoint_and_goes_on(folder) or sweep.poll() is not None, 600)
        send(signal.SIGKILL, folder)
        return sweep.wait(timeout=300), (tmp_path / "said").read_text()
    finally:
        sweep.terminate()  # Ray stops its processes with it
        sweep.wait(timeout=30)


def test_a_killed_worker_stops_no_other_and_its_run_ends_as_if_undisturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "disturbed"))
    configs = [compose.compose([*TINY, f"seed={seed}"]) for seed in range(3)]
    killed, *others = folders = [RunFolder.of(config) for config in configs]
    code, said = swept_while_the_first_is_killed(killed, tmp_path, "+hydra.launcher.ray.remote.max_retries=0")
    assert code == 1 and killed.result() is None, said
    assert "the launcher ray gave up: The worker died unexpectedly" in said
    assert f"failed {configs[0].label}: it was stopped before it finished" in said and said.count("failed ") == 1
    assert all(folder.result() is not None for folder in others)

    code, said = swept_while_the_first_is_killed(killed, tmp_path)  # as it comes, Ray tries again by itself
    assert code == 0 and "3 runs: 2 done before, 1 to train" in said, said
    assert [num_first_epochs(folder) for folder in folders] == [1, 1, 1], "it went on from its checkpoint, twice"
    assert came_out(configs[0]) == undisturbed(configs[0], tmp_path, monkeypatch)


def test_only_the_first_run_of_a_worker_imports_what_trains(monkeypatch: pytest.MonkeyPatch, output: Path) -> None:
    monkeypatch.setattr(launch, "_job", noting_job)
    one_worker = ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=1"]
    assert main.main(["train", "-m", "seed=range(3)", "logger=none", *one_worker]) == 0
    assert sorted(file.read_text() for file in output.glob("job *")) == ["False", "True", "True"]


def test_the_commands_of_the_documentation_are_read() -> None:
    commands = [words for words, _ in COMMANDS if "hydra/launcher=ray" in words]
    assert commands
    for words in commands:
        assert compose.read_command([word for word in words[2:] if word != "-m"], multirun=True).cells
