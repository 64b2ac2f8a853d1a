"""Ctrl-C, SIGTERM and SIGHUP: an exit code, one sentence, a clean line; tests/runs/test_interrupted.py has real training."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import pytorch_lightning as pl

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.runs import interrupts
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.interrupts import Interrupted, listening
from snn_exp.training import train
from tests import stored
from tests.disturbing import wait_for

BY = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def stopped_in(config: ExperimentConfig, number: int, *, num_epochs: int) -> None:
    """Stand in for training that is stopped after so many epochs."""
    folder = RunFolder.of(config)
    folder.begin(config, {})
    if num_epochs:
        folder.checkpoints.mkdir()
        (folder.checkpoints / "last.ckpt").touch()
        folder.metrics_csv.write_text("epoch\n" + "".join(f"{epoch}\n" for epoch in range(num_epochs)))
    os.kill(os.getpid(), number)
    time.sleep(5)
    pytest.fail("it was not stopped")


@pytest.mark.parametrize("number", BY)
def test_a_single_run_says_from_which_epoch_it_goes_on(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(each) for each in BY]
    monkeypatch.setattr(train, "run", lambda config, **_: stopped_in(config, number, num_epochs=7))
    assert main.main(["train", "logger=none"]) == BY[number]
    sentence = "snn-exp: interrupted after epoch 7 of 12; the same command resumes from there\n"
    assert capsys.readouterr().err == sentence
    assert [signal.getsignal(each) for each in BY] == before


def test_what_has_no_checkpoint_begins_again_and_with_rerun_another_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "run", lambda config, **_: stopped_in(config, signal.SIGINT, num_epochs=0))
    assert main.main(["train", "logger=none"]) == 130
    assert capsys.readouterr().err == (
        "snn-exp: interrupted before the end of the first epoch; the same command starts again\n"
    )
    monkeypatch.setattr(train, "run", lambda config, **_: stopped_in(config, signal.SIGINT, num_epochs=2))
    assert main.main(["train", "logger=none", "--rerun"]) == 130
    assert "after epoch 2 of 12; the same command without --rerun resumes from there" in capsys.readouterr().err


def test_within_a_long_epoch_the_step_is_named_and_the_same_command_goes_on_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "network.width=4", "neuron=s2nn", "logger=none", "optim.batch_size=512", "trainer.max_epochs=2",
             "trainer.checkpoint_every_minutes=1e-9"]  # fmt: skip

    def stop(_: object, trainer: pl.Trainer, *__: object) -> None:
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as once:
        once.setattr("snn_exp.training.callbacks.Clock.on_train_batch_end", stop, raising=False)
        assert main.main(words) == 130
    said = capsys.readouterr().err
    assert said == "snn-exp: interrupted within epoch 1 of 2; the same command resumes after its step 1\n"
    assert main.main(words) == 0
    assert "resumes within epoch 1 of 2, step 1 of " in capsys.readouterr().out


def test_a_sweep_counts_what_is_done_and_was_in_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    stored.store("seed=0", split=stored.split_of(compose(["seed=0"])))

    def run(config: ExperimentConfig, **_: object) -> None:
        if config.seed == 2:
            stopped_in(config, signal.SIGTERM, num_epochs=1)
        elif config.seed == 1:
            raise ValueError("odd")

    monkeypatch.setattr(train, "run", run)
    assert main.main(["train", "-m", "logger=none", "seed=range(5)"]) == 143
    sentence = "snn-exp: interrupted: 1 of 5 runs done, 1 in training; the same command resumes from there\n"
    assert capsys.readouterr().err == sentence


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """What a library hears that handles SIGTERM itself."""
    found: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: found.append(number))
    yield found
    signal.signal(signal.SIGTERM, before)


def test_a_signal_that_a_library_has_taken_over_stops_the_command_all_the_same(heard: list[int]) -> None:
    with listening(), pytest.raises(Interrupted) as stopped:
        signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert heard == [signal.SIGTERM] and stopped.value.number == signal.SIGTERM


def test_a_signal_that_comes_while_an_object_is_deleted_is_not_lost() -> None:
    class Deleted:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    with listening(), pytest.raises(Interrupted):
        Deleted()
        time.sleep(5)


def test_what_the_system_was_told_to_ignore_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.4)
    finally:
        signal.signal(signal.SIGHUP, before)


SLOW_TO_CLOSE = """
import subprocess, sys, time
from rich.progress import Progress
from snn_exp.cli import main
from snn_exp.runs import interrupts
def train(arguments):
    with interrupts.kept_from_children():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with Progress() as bar:
        bar.add_task("sweep", total=10)
        print("child", child.pid, flush=True)
        try:
            time.sleep(60)
        finally:
            time.sleep(float(arguments[0]))
main.COMMANDS["train"] = train
sys.argv = ["snn-exp", "train", *sys.argv[1:]]
main.entry_point()
"""


def in_a_terminal(seconds_to_close: float, act: Callable[[int], None]) -> tuple[int, str, int]:
    """The exit code, what the terminal was told since, and the child of a command in the foreground of a terminal."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_TO_CLOSE, str(seconds_to_close)], stdin=its, stdout=its, stderr=its,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(its)
    os.set_blocking(ours, False)
    text = b""

    def read() -> bytes:
        nonlocal text
        with contextlib.suppress(OSError):  # nothing yet, or nobody writes any more
            text += os.read(ours, 100_000)
        return text

    try:
        wait_for(lambda: b"\n" in read().partition(b"child ")[2], 60)
        child = int(text.partition(b"child ")[2].split()[0])
        act(ours)
        wait_for(lambda: [read()] and process.poll() is not None, 20)
        read()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return process.returncode, text.decode(), child


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def twice(terminal: int) -> None:
    os.write(terminal, b"\x03")
    time.sleep(0.5)
    os.write(terminal, b"\x03")


@pytest.mark.parametrize(
    ("seconds_to_close", "act"), [(0.0, lambda terminal: os.write(terminal, b"\x03")), (60, twice)]
)
def test_ctrl_c_leaves_a_clean_line_and_no_process_and_twice_ends_at_once(
    seconds_to_close: float, act: Callable[[int], None]
) -> None:
    code, text, child = in_a_terminal(seconds_to_close, act)
    assert code == 130
    assert text.endswith("\r\x1b[K\x1b[?25hsnn-exp: interrupted; the same command starts it again\r\n"), text
    assert "Traceback" not in text and "ignored" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is seen again"
    wait_for(lambda: has_ended(child), 5)


def test_what_cannot_be_closed_in_time_is_ended() -> None:
    code = (
        "import os, signal, time; from snn_exp.runs import interrupts; interrupts.GRACE_S = 0.3\n"
        "with interrupts.listening():\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)\n"
        "    finally: time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 143 and done.stderr == f"snn-exp: {interrupts.begins_again()}\n"
