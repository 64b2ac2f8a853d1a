"""A multirun on a real Slurm of one node, among jobs that are killed, preempted and out of time; run by `make slurm`."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from snn_exp.cli import main
from snn_exp.config import compose
from snn_exp.runs.folder import RunFolder
from tests import slurm
from tests.disturbing import TINY, came_out, hold, hold_until_it_is_gone, num_first_epochs, send, undisturbed
from tests.test_readme import COMMANDS

pytestmark = pytest.mark.slurm

LAUNCHER = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=low", "hydra.launcher.timeout_min=9",
            "hydra.launcher.max_num_timeout=1", "hydra.launcher.cpus_per_task=1"]  # fmt: skip
COMMAND = ["train", "-m", *TINY, "seed=0,1,2,3", *LAUNCHER]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    assert not slurm.missing(), slurm.missing()
    with slurm.one_node(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def test_what_slurm_kills_puts_back_or_lets_run_out_of_time_ends_as_if_undisturbed(
    cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = [compose.compose([*TINY, f"seed={seed}"]) for seed in range(4)]
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "disturbed"))
    killed, out_of_time, preempted, _ = folders = [RunFolder.of(config) for config in configs]
    environment = {**cluster, "SNN_EXP_OUTPUT": str(tmp_path / "disturbed")}
    with (tmp_path / "said").open("w") as said, (tmp_path / "warned").open("w") as warned:
        sweep = subprocess.Popen(
            [sys.executable, "-m", "snn_exp", *COMMAND], env=environment, stdout=said, stderr=warned
        )
    try:
        hold(killed)
        send(signal.SIGKILL, killed)
        hold(out_of_time)
        send(signal.SIGUSR2, out_of_time)  # as Slurm does when the time is nearly up
        send(signal.SIGCONT, out_of_time)
        hold(preempted)
        urgent = ["sbatch", "-p", "urgent", "--exclusive", "-o", str(tmp_path / "urgent"), "--wrap", "true"]
        subprocess.run(urgent, env=cluster, check=True, capture_output=True)
        hold_until_it_is_gone(preempted)
        sweep.wait(timeout=400)
    finally:
        sweep.kill()
    text = (tmp_path / "warned").read_text()
    jobs = slurm.show_jobs(cluster)
    assert sweep.returncode == 1, text
    assert f"failed {configs[0].label}: it was stopped before it finished" in text and text.count("failed ") == 1
    assert "the launcher submitit_slurm gave up: Job " in text
    assert jobs[0]["JobState"] == "FAILED" and [jobs[i]["Restarts"] for i in range(3)] == ["0", "1", "1"]

    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    assert main.main(COMMAND) == 0
    assert "4 runs: 3 done before, 1 to train" in capsys.readouterr().out
    assert [num_first_epochs(folder) for folder in folders[:3]] == [1, 1, 1], "they went on from their checkpoints"
    assert [came_out(config) for config in configs] == [
        undisturbed(config, tmp_path, monkeypatch) for config in configs
    ]


def test_what_slurm_refuses_is_said_in_its_words(
    cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**cluster, "SNN_EXP_OUTPUT": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    elsewhere = [word.replace("partition=low", "partition=nowhere") for word in COMMAND]
    assert main.main(elsewhere) == 1
    text = capsys.readouterr().err
    assert "the launcher submitit_slurm gave up: " in text and "invalid partition specified: nowhere" in text
    assert text.count("it was not started") == 4


def test_the_commands_of_the_documentation_are_read() -> None:
    commands = [words for words, _ in COMMANDS if "hydra/launcher=submitit_slurm" in words]
    assert commands
    for words in commands:
        assert compose.read_command([word for word in words[2:] if word != "-m"], multirun=True).cells
