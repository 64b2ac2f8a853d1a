"""Where every test writes, on how many threads it computes, and that signals reach it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.finished import Finished

# what a shell starts in its background ignores Ctrl-C, and what nohup starts a hang-up; commands keep to that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output root of a test, which is nobody else's."""
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "out"))
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a pipe: tables have all their columns, whatever terminal the tests are started in."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Finished runs, each trained by the first test of this process that asks for it."""
    return Finished(tmp_path_factory.mktemp("finished"))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As in a run: tests stand beside each other, and a sum has one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
