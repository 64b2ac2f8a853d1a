"""Runs of a sweep, disturbed in the middle of their training, and what must come out nevertheless."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.files import read_json
from snn_exp.runs.folder import RunFolder
from snn_exp.training import train

NUM_EPOCHS = 12  # what is to disturb a run comes in time because the run is held, however short it is
KILLS = int(os.environ.get("KILLS", "10"))  # of each run at random moments; `.ci/run` takes a sample
TINY = ("neuron=s2nn", "residual=bireal", "network.width=4", "optim.batch_size=128", f"trainer.max_epochs={NUM_EPOCHS}",
        "logger=none")  # fmt: skip


def wait_for(what: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come within its time"
        time.sleep(0.05)


def owner_of(folder: RunFolder) -> int | None:
    """The living process that trains the run, if there is one."""
    try:
        pid = int(read_json(folder.path / "owner" / "owner.json")["pid"])
    except FileNotFoundError:
        return None
    return pid if psutil.pid_exists(pid) else None


def has_a_checkpoint_and_goes_on(folder: RunFolder) -> bool:
    return folder.last_checkpoint is not None and folder.result() is None and owner_of(folder) is not None


def hold(folder: RunFolder) -> None:
    """Stops the run behind its first checkpoint, so that what is to disturb it is not too late on any machine."""
    wait_for(lambda: has_a_checkpoint_and_goes_on(folder), 600)
    send(signal.SIGSTOP, folder)
    assert folder.result() is None, "it ended before it could be held"


def hold_until_it_is_gone(folder: RunFolder) -> None:
    """Stops the run again whenever it is woken, until it is killed.

    Slurm wakes what it preempts and leaves it some seconds, in which a fast machine would be done with the run.
    """
    pid = owner_of(folder)
    assert pid is not None

    def is_gone() -> bool:
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return True
        return False

    wait_for(is_gone, 600)


def send(number: signal.Signals, folder: RunFolder) -> None:
    pid = owner_of(folder)
    assert pid is not None
    os.kill(pid, number)


def let_go(pids: Iterable[int]) -> None:
    """Wakes what was held and still lives."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def num_first_epochs(folder: RunFolder) -> int:
    return (folder.path / "train.log").read_text().count(f"epoch 1/{NUM_EPOCHS}")


def came_out(config: ExperimentConfig) -> tuple[object, ...]:
    folder = RunFolder.of(config)
    result = folder.result()
    assert result is not None
    return result.status, result.metrics, result.layers, folder.epochs(), folder.weights.read_bytes()


_UNDISTURBED: dict[str, tuple[object, ...]] = {}


def undisturbed(config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """What comes out of a run that nothing happens to, which each process of the tests trains once."""
    asked = json.dumps(config.to_plain())
    if asked not in _UNDISTURBED:
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("SNN_EXP_OUTPUT", str(tmp_path / "undisturbed"))
            train.run(config, echo=False)
            _UNDISTURBED[asked] = came_out(config)
    return _UNDISTURBED[asked]
