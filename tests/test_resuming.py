"""Runs that are killed at any moment, whose checkpoints are torn, or whose disk is full: they go on to the same end."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from snn_exp import callbacks, results, resuming, train
from snn_exp.cli import main
from snn_exp.compose import compose
from snn_exp.config import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.results import RunFolder
from tests.disturbing import NUM_EPOCHS, TINY, came_out, undisturbed, wait_for

CONFIG = compose([*TINY, "seed=0"])
THREE_EPOCHS = [word for word in TINY if "max_epochs" not in word] + ["trainer.max_epochs=3"]
SHORT = compose(THREE_EPOCHS)
NUM_KILLS = 20


def trained_by(output: Path, before: Callable[[], None]) -> None:
    """What a child does."""
    os.environ["SNN_EXP_OUTPUT"] = str(output)
    before()
    train.run(CONFIG, echo=False)


def undressed() -> None:
    """Nothing is in wait for the child but the signal."""


def torn_in_the_last() -> None:
    die_at("last.ckpt", Path.write_bytes, half=True)


def torn_in_the_best() -> None:
    die_at("best.ckpt", Path.write_bytes, half=True)


def dead_behind_the_best() -> None:
    die_at("last.ckpt", Path.write_bytes, half=False)


def dead_before_the_last_is_in_place() -> None:
    die_at("last.ckpt", Path.replace, half=False)


def die_at(name: str, at: Callable[..., object], *, half: bool) -> None:
    """This process kills itself at the second time that it does this to the scratch file of that name."""
    seen = []

    def doing(path: Path, what: object) -> object:
        if f".{name}." in path.name:
            seen.append(path)
            if len(seen) == 2:
                if half:
                    assert isinstance(what, memoryview)
                    at(path, what[: len(what) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
        return at(path, what)

    setattr(Path, at.__name__, doing)


def child(output: Path, before: Callable[[], None] = undressed) -> BaseProcess:
    """A process that goes on with the run; torch is imported already where it is forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_resuming"])
    process = context.Process(target=trained_by, args=(output, before))
    process.start()
    return process


@pytest.mark.killed
def test_a_run_killed_twenty_times_at_any_moment_ends_with_bitwise_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "killed"
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(output))
    folder = RunFolder.of(CONFIG)
    for before in (torn_in_the_last, torn_in_the_best, dead_behind_the_best, dead_before_the_last_is_in_place):
        process = child(output, before)
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, before
    moment = random.Random(0)
    for kill in range(4, NUM_KILLS):
        process = child(output)
        wait_for(lambda num=kill: len(folder.epochs()) >= num, 120)
        time.sleep(moment.uniform(0, 0.3))  # some epochs
        process.kill()
        process.join(30)
        assert process.exitcode == -signal.SIGKILL, "it was still running"
    assert folder.result() is None and folder.last_checkpoint is not None
    process = child(output)
    process.join(120)
    assert process.exitcode == 0
    assert len(folder.epochs()) == NUM_EPOCHS
    assert came_out(CONFIG) == undisturbed(CONFIG, tmp_path, monkeypatch)


def cut_off_in_the_last_epoch(config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    step = train.Classification.training_step

    def cut(task: train.Classification, *batch: Any) -> object:
        assert task.current_epoch < config.trainer.max_epochs - 1, "cut off"
        return step(task, *batch)

    with monkeypatch.context() as patched, pytest.raises(AssertionError, match="cut off"):
        patched.setattr(train.Classification, "training_step", cut)
        train.run(config, echo=False)
    return RunFolder.of(config)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "harm", "said"),
    [
        ("last.ckpt", cut_in_half, "the run goes on from the one before it, best.ckpt"),
        ("last.ckpt", flip_a_bit, "the run goes on from the one before it, best.ckpt"),
        ("best.ckpt", cut_in_half, "and with it the best weights so far; the run starts anew"),
        ("best.ckpt", Path.unlink, "and with it the best weights so far; the run starts anew"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_costs_time_alone(
    file: str, harm: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "damaged"))
    folder = cut_off_in_the_last_epoch(SHORT, monkeypatch)
    harm(folder.checkpoints / file)
    train.run(SHORT, echo=False)
    log = (folder.path / "train.log").read_text()
    assert f"the checkpoint {folder.checkpoints / file} is damaged" in log and said in log
    assert came_out(SHORT) == undisturbed(SHORT, tmp_path, monkeypatch)


def test_a_whole_checkpoint_has_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    folder = cut_off_in_the_last_epoch(SHORT, monkeypatch)
    said: list[str] = []
    assert resuming.checkpoint_to_resume(folder, said.append) == folder.checkpoints / "last.ckpt"
    assert said == []


def a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own: what is written for the third epoch goes to /dev/full."""
    append = callbacks.EpochTable.on_train_epoch_end

    def appended(table: callbacks.EpochTable, trainer: object, task: train.Classification) -> None:
        append(table, trainer, task)  # type: ignore[arg-type]
        if task.current_epoch == 2:
            for name in ("best.ckpt", "last.ckpt"):
                scratch = table.path.parent / "checkpoints" / f".{name}.{os.getpid()}"
                scratch.symlink_to("/dev/full")

    monkeypatch.setattr(callbacks.EpochTable, "on_train_epoch_end", appended)


def test_a_full_disk_is_said_and_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "full"))
    with monkeypatch.context() as patched:
        a_full_disk(patched)
        assert main(["train", *THREE_EPOCHS]) == 2
    folder = RunFolder.of(SHORT)
    said = f"the disk of {folder.path} is full; make room and type the same command again"
    assert said in capsys.readouterr().err
    assert folder.last_checkpoint is not None and resuming.damage(folder.last_checkpoint) is None
    for scratch in folder.checkpoints.glob(".*"):  # there is room again
        scratch.unlink()
    train.run(SHORT, echo=False)
    assert (folder.path / "train.log").read_text().count("epoch 1/3") == 1
    assert came_out(SHORT) == undisturbed(SHORT, tmp_path, monkeypatch)


def test_a_full_disk_ends_no_sweep_although_not_even_the_failure_can_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(train, "_train", full)
    train.run_or_store_failure(SHORT)
    assert "is full; make room" in str(RunFolder.of(SHORT).failure())
    monkeypatch.setattr(results, "write_json", full)
    train.run_or_store_failure(SHORT)
    assert f"failed {SHORT.label}: the disk of " in capsys.readouterr().out


def test_another_fault_of_the_disk_keeps_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(train, "_train", broken)
    with pytest.raises(OSError, match="Input/output error") as raised:
        train.run(SHORT, echo=False)
    assert not isinstance(raised.value, UserError)
