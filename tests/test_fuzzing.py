"""What `make fuzz` judges by: each promise is broken here once, and must be seen to be."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from snn_exp.errors import UserError
from tests.fuzz import calls, judging
from tests.fuzz.box import Box
from tests.fuzz.calls import Call, Running


def write_outside(box: str) -> None:
    (Path(box) / "outside" / "x").write_text("x")


def write_outside_and_clear_up(box: str) -> None:
    write_outside(box)
    (Path(box) / "outside" / "x").unlink()


def execute(box: str) -> None:
    os.system(f"touch {box}/canary/x")


def wait_for_ever(box: str) -> None:
    os.mkfifo(Path(box) / "tmp" / "fifo")
    (Path(box) / "tmp" / "fifo").read_text()


def compute_for_ever(box: str) -> None:
    while True:
        pass


def take_memory(box: str) -> None:
    held = bytearray(int(calls.MEMORY))  # more than is allowed, however little a fork still shares
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(5)


def crash(box: str) -> None:
    raise KeyError("x")


def die(box: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse_in_foreign_words(box: str) -> None:
    raise UserError("mismatched input '=' expecting <EOF>")


def refuse_without_a_sentence(box: str) -> None:
    sys.exit(2)


def print_an_escape(box: str) -> None:
    print("\x1b[2J")


def change_a_run(box: str) -> None:
    (Path(box) / "out" / "runs" / "other" / "result.json").write_text("changed")


def keep_every_promise(box: str) -> None:
    (Path(box) / "out" / "made").write_text("x")
    raise UserError("no run is called x; type snn-exp runs")


BREAKS: dict[Callable[[str], None], tuple[str, ...]] = {
    write_outside: ("act", "changed"),
    write_outside_and_clear_up: ("act",),
    execute: ("act", "executed"),
    wait_for_ever: ("hang",),
    compute_for_ever: ("slow",),
    take_memory: ("memory",),
    crash: ("traceback",),
    die: ("died",),
    refuse_in_foreign_words: ("foreign",),
    refuse_without_a_sentence: ("silent",),
    print_an_escape: ("control",),
    change_a_run: ("changed",),
    keep_every_promise: (),
}


@pytest.mark.parametrize("act", BREAKS, ids=lambda act: act.__name__)
def test_a_promise_that_is_broken_is_seen(
    act: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(calls.FUNCTIONS, "it", act)
    monkeypatch.setattr(calls, "WAIT_S", 1.0)
    monkeypatch.setattr(calls, "LIMIT_S", 2.0)
    allowed = psutil.Process().memory_info().rss + 350 * 10**6  # a forked call begins with what this process holds
    monkeypatch.setattr(calls, "MEMORY", allowed / 1.5)
    monkeypatch.setattr(judging, "MEMORY", allowed)
    box = Box.made(tmp_path / "box")
    (box.runs / "other").mkdir(parents=True)
    (box.runs / "other" / "result.json").write_text("as it was")
    before = box.seen()
    asked = Call(("python", "it", str(box.root)), may_change=("out/*",), keeps=("out/runs/other/*",))
    running = Running(box, asked)
    while (got := running.outcome()) is None:
        time.sleep(0.02)
    found = [fault.partition(":")[0] for fault in judging.faults(box, asked, got, before, box.seen())]
    found = [fault for fault in found if act is not take_memory or fault != "slow"]  # to fill it takes a while
    assert tuple(sorted(set(found))) == BREAKS[act], got
