"""Real training that a signal, a kill or a removed folder meets: what is said, and that nothing is lost; `make killed`.

docs/reliability.md has the table of these faults.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from snn_exp.config.compose import compose
from snn_exp.runs.folder import RunFolder
from tests.disturbing import (
    NUM_EPOCHS,
    TINY,
    came_out,
    hold,
    let_go,
    owner_of,
    undisturbed,
    wait_for,
)

pytestmark = pytest.mark.killed

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
SWEEP = ("train", "-m", *TINY, "seed=0,1,2")


@contextmanager
def started(words: tuple[str, ...], said: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command, whose words go to a file; SIGINT is heard, whatever this process ignores."""
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "snn_exp", *words], stdout=file, stderr=file, start_new_session=True,
            env={**os.environ, **environment},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
    try:
        yield process
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
            child.kill()
        process.kill()
        process.wait()


@contextmanager
def held(num: int) -> Iterator[list[int]]:
    """The processes of the first runs of SWEEP, stopped behind their first checkpoints; woken after the block."""
    folders = [RunFolder.of(compose([*TINY, f"seed={seed}"])) for seed in range(num)]
    for folder in folders:
        hold(folder)
    pids = [pid for folder in folders if (pid := owner_of(folder))]
    assert len(pids) == num
    yield pids
    let_go(pids)


def ends_as_undisturbed(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the same command ends well, with the same weights; what it says."""
    said = tmp_path / "said_again"
    with started(words, said) as again:
        assert again.wait(400) == 0, said.read_text()
    seeds = range(3) if "-m" in words else range(1)
    configs = [compose([*TINY, f"seed={seed}"]) for seed in seeds]
    found = [came_out(config) for config in configs]
    assert found == [undisturbed(config, tmp_path, monkeypatch) for config in configs]
    return said.read_text()


def last_line(said: Path) -> str:
    text = said.read_text()
    assert "Traceback" not in text and "Exception ignored" not in text, text
    return text.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_single_run_goes_on_from_the_epoch_that_it_named(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", *TINY)
    with started(words, tmp_path / "said") as run:
        with held(1):
            run.send_signal(number)
        assert run.wait(20) == 128 + number
    named = re.fullmatch(
        rf"snn-exp: interrupted after epoch (\d+) of {NUM_EPOCHS}; the same command resumes from there",
        last_line(tmp_path / "said"),
    )
    assert named
    assert owner_of(RunFolder.of(compose(TINY))) is None
    said = ends_as_undisturbed(words, tmp_path, monkeypatch)
    assert f"resumes after epoch {named[1]} of {NUM_EPOCHS}" in said


@pytest.mark.parametrize(("number", "launcher"), [(signal.SIGINT, JOBLIB), (signal.SIGTERM, ())])
def test_a_sweep_is_left_without_a_process_and_goes_on(
    number: signal.Signals, launcher: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*SWEEP, *launcher)
    num_at_once = 2 if launcher else 1
    with started(words, tmp_path / "said") as sweep:
        with held(num_at_once):
            children = psutil.Process(sweep.pid).children(recursive=True)
            os.killpg(sweep.pid, number)  # as a terminal does it
        assert sweep.wait(20) == 128 + number
    assert last_line(tmp_path / "said") == (
        f"snn-exp: interrupted: 0 of 3 runs done, {num_at_once} in training; the same command resumes from there"
    )
    assert not psutil.wait_procs(children, timeout=5)[1]
    ends_as_undisturbed(words, tmp_path, monkeypatch)


def test_a_study_goes_on_after_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies" / "tiny").mkdir(parents=True)
    monkeypatch.setenv("SNN_EXP_STUDIES", str(tmp_path / "studies"))
    (tmp_path / "studies" / "tiny" / "study.yaml").write_text(
        textwrap.dedent(
            f"""\
            question: Does it go on?
            status: exploratory
            budget_core_hours: 1
            seeds: [0, 1, 2]
            base: [{", ".join(TINY)}]
            methods: {{bn: [norm=bn]}}
            """
        )
    )
    words = ("study", "tiny", *JOBLIB)
    with started(words, tmp_path / "said") as study:
        with held(2):
            os.killpg(study.pid, signal.SIGINT)
        assert study.wait(20) == 130
    assert last_line(tmp_path / "said") == (
        "snn-exp: interrupted: 0 of 3 runs done, 2 in training; the same command resumes from there"
    )
    with started(words, tmp_path / "said_again") as again:
        assert again.wait(400) == 0, (tmp_path / "said_again").read_text()
    assert (tmp_path / "studies" / "tiny" / "results.jsonl").read_text().count("\n") == 3


def test_a_worker_that_is_killed_takes_no_run_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*SWEEP, *JOBLIB)
    with started(words, tmp_path / "said") as sweep:
        with held(2) as pids:
            os.kill(pids[0], signal.SIGKILL)
        assert sweep.wait(400) == 0, (tmp_path / "said").read_text()
    assert "snn-exp: warning: a process was killed; 3 jobs continue" in (tmp_path / "said").read_text()
    ends_as_undisturbed(words, tmp_path, monkeypatch)


def test_a_worker_that_is_killed_again_and_again_fails_its_run_and_the_others_go_on(tmp_path: Path) -> None:
    victim = RunFolder.of(compose([*TINY, "seed=1"]))
    others = [RunFolder.of(compose([*TINY, f"seed={seed}"])) for seed in (0, 2)]
    with started((*SWEEP, *JOBLIB), tmp_path / "said") as sweep:
        for _ in range(3):
            hold(victim)
            pid = owner_of(victim)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: owner_of(victim) != pid, 20)
        assert sweep.wait(400) == 1, (tmp_path / "said").read_text()
    text = (tmp_path / "said").read_text()
    failed = re.findall(r"^snn-exp: failed (.*): its process was killed 3 times, .* \(log: (.*)\)$", text, re.MULTILINE)
    assert [name.rpartition(" ")[2] for name, _ in failed] == ["seed=1"] and Path(failed[0][1]).exists()
    assert all(folder.result() for folder in others)


def test_of_a_sweep_whose_folder_is_removed_one_run_is_lost_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*SWEEP, *JOBLIB)
    with started(words, tmp_path / "said") as sweep:
        victim = RunFolder.of(compose([*TINY, "seed=0"]))
        with held(1):
            shutil.rmtree(victim.path)
        assert sweep.wait(400) == 1, (tmp_path / "said").read_text()
    (failed,) = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("snn-exp: failed ")]
    assert f"the folder {victim.path} was removed while its run trained; the same command trains it again" in failed
    ends_as_undisturbed(words, tmp_path, monkeypatch)


def test_without_a_server_of_wandb_every_run_ends_and_says_how_to_send_it_later(tmp_path: Path) -> None:
    words = tuple(word for word in SWEEP if word != "logger=none" and not word.startswith("trainer.max_epochs"))
    environment = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": "online"}
    with started((*words, "trainer.max_epochs=2", "logger=wandb"), tmp_path / "said", **environment) as sweep:
        assert sweep.wait(400) == 0, (tmp_path / "said").read_text()
    for log in (tmp_path / "out" / "runs").glob("*/train.log"):
        assert "warning: W&B failed (" in log.read_text() and "the run is kept for `wandb sync " in log.read_text()
