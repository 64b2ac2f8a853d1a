"""Progress within an epoch: lines that come at intervals, and what stands behind the bar."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from snn_exp.config.compose import compose
from snn_exp.runs.folder import RunFolder
from snn_exp.training import progress, train

TINY = (
    "dataset=digits_200",
    "neuron=s2nn",
    "network.width=4",
    "logger=none",
    "trainer.max_epochs=2",
    "trainer.test=false",
)


def test_a_long_epoch_prints_a_line_at_intervals_and_a_short_one_only_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 100_000, 8))  # 8 seconds pass whenever the lines look at their clock
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    config = compose([*TINY, "trainer.progress=false"])
    train.run(config, echo=False)
    lines = (RunFolder.of(config).path / "train.log").read_text().splitlines()
    within = [line for line in lines if "step" in line]
    form = r"epoch [12]/2  step \d/7  loss \d\.\d{3}  \d+ samples/s  (\d+ s|\d+ min) left"
    assert 1 <= len(within) < 12 and all(re.fullmatch(form, line) for line in within), lines
    ends = [line for line in lines if "val acc" in line]
    assert len(ends) == 2 and ends[1].endswith(" 0 s left")
    assert re.fullmatch(r"epoch 1/2  loss .*  val acc .* %  firing rate .*  \d+ samples/s  .* left", ends[0])


def test_without_a_long_epoch_there_is_one_line_each() -> None:
    config = compose([*TINY, "trainer.progress=false"])
    train.run(config, echo=False)
    lines = (RunFolder.of(config).path / "train.log").read_text().splitlines()
    assert len([line for line in lines if line.startswith("epoch ")]) == 2


def test_the_live_line_says_what_a_line_of_the_log_says_within_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    train.run(compose(TINY), echo=False, live=True)
    shown = capsys.readouterr()
    both = shown.out + shown.err
    assert re.search(r"epoch 1/2 +\d+ %  loss \d\.\d{3}  \d+ samples/s  (\d+ s|\d+ min) left", both)
    second = r"epoch 2/2 +\d+ %  loss \d\.\d{3}  acc \d+\.\d %  rate 0\.\d{3}  \d+ samples/s  (\d+ s|\d+ min) left"
    found = re.search(second, both)
    assert found and len(found[0]) < 80, "the bar takes what is left"


def test_nothing_of_the_bars_is_left_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    train.run(compose(TINY), echo=False, live=True)
    lines: list[str] = []  # of a terminal that has read all
    for line in capsys.readouterr().out.split("\n"):
        screen = ""
        for text in line.removesuffix("\r").split("\r"):
            screen = text + screen[len(text) :]
        lines.append(screen.strip())
    assert not [line for line in lines if line], lines


def test_a_run_that_resumes_within_an_epoch_counts_from_there() -> None:
    pace = progress.Pace(100)
    pace.start(2.5, now=10.0)
    assert pace.samples_per_s(3.0, now=15.0) == 10.0
    assert pace.seconds_left(3.0, 5, now=15.0) == 20.0
