"""What is shown while something takes long: a line in a terminal, of which nothing is left, and nothing in a pipe."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

import pytest

from snn_exp.data import fetched
from snn_exp.escaping import PlainConsole
from snn_exp.waiting import working


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, term: str = "xterm", file: io.StringIO | None = None) -> str:
    monkeypatch.setenv("TERM", term)
    file = Terminal() if file is None else file
    with working("folding", PlainConsole(file=file, width=80)):
        time.sleep(0.25)
    return file.getvalue()


def test_a_terminal_sees_a_line_and_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(monkeypatch)
    assert "folding" in said and "0:00:00" in said
    assert said.isascii(), "as every terminal can show it"
    erase = "\x1b[2K"
    assert said.rindex(erase) > said.rindex("folding"), "the line is wiped after it was drawn for the last time"


def test_a_pipe_and_a_dumb_terminal_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, file=io.StringIO()) == "" and shown(monkeypatch, "dumb") == ""


def test_a_line_within_a_line_leaves_it_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    with working("folding", PlainConsole(file=file)), working("reading", PlainConsole(file=file)):
        time.sleep(0.15)
    assert "folding" in file.getvalue() and "reading" not in file.getvalue()


def test_an_error_goes_through_and_the_line_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    with pytest.raises(KeyError), working("folding", PlainConsole(file=file)):
        raise KeyError("x")
    assert "\x1b[2K" in file.getvalue()


def test_the_bar_of_a_download_is_wiped_and_a_log_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import utils

    def drawn(file: io.StringIO) -> str:
        monkeypatch.setattr(sys, "stderr", file)
        with fetched._passing_bars():
            bar: Any = utils.tqdm
            with bar(total=100, file=file) as pbar:
                pbar.update(100)
        return file.getvalue()

    before = utils.tqdm
    assert "0/100" in drawn(Terminal()) and not drawn(Terminal()).endswith("\n")
    assert drawn(io.StringIO()) == ""
    assert utils.tqdm is before
