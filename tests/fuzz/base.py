"""Runs, exports and a study as today's code leaves them, on which every tampering begins."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.box import Box, tiny
from tests.fuzz.calls import Call, Running

STUDY = """# A study of two methods and two seeds.
question: Does a single-step network learn what a multi-step one does?
status: claims
metric: test/acc
reference: lif
budget_core_hours: 1
seeds: [0, 1]
base: [dataset=digits_200, network.width=4, trainer.max_epochs=1, logger=none]
methods:
  lif: [neuron=lif]
  s2nn: [neuron=s2nn, residual=bireal]
tuning:
  seeds: [100]
  grid: {optim.lr: [0.005, 0.01]}
settings:
  d8: {overrides: [depth=d8]}
claims:
  - {says: As accurate within ten points., test: equivalent, margin: 0.1, of: s2nn, than: lif}
  - {says: Cheaper., test: ratio, value: 0.5, of: s2nn, than: lif, metric: test/energy_pj}
"""

LIF, S2NN, SRM = (), ("neuron=s2nn", "residual=bireal"), ("neuron=srm", "norm=psp", "weight_norm=standardized")
DIVERGED = ("neuron=relu", "norm=none", "optim=sgd", "optim.lr=1000", "optim.clip_norm=0")
BEGUN = ("seed=3", "trainer.max_epochs=60")  # interrupted
BROKEN = ("seed=4",)  # failed


def made(root: Path) -> Box:
    """Seven runs (one interrupted, one failed, one diverged), an export, a packed run, and a study that is run; half a minute."""
    box = Box.made(root)
    for overrides in ((*LIF, "seed=0"), ("seed=1",), S2NN, SRM, DIVERGED):
        _must(box, ["train", *tiny(*overrides)])
    first = stored(box)
    _must(box, ["fold", first.name])
    _must(box, ["export", first.name, "--format", "safetensors"])
    _must(box, ["pack", first.name])
    _interrupted(box)
    _failed(box)
    folder = box / "studies" / "tiny"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    _must(box, ["study", "tiny"], trains=False)
    return box


def stored(box: Box) -> Path:
    """The first finished run that was trained truly."""
    return next(path.parent for path in sorted(box.runs.glob("*/weights.safetensors")))


def run_folders(box: Box) -> list[Path]:
    return sorted(path for path in box.runs.iterdir() if path.is_dir() and not path.name.startswith("."))


def _must(box: Box, argv: Sequence[str], *, trains: bool = True) -> None:
    running = Running(box, Call(tuple(argv), trains=trains), None if trains else stored(box))
    while (got := running.outcome()) is None:
        time.sleep(0.05)
    if got.code != 0:
        raise RuntimeError(
            f"the base cannot be made: {' '.join(argv)}\n{got.killed}\n{got.error}\n{got.err}\n{got.out}"
        )


def _interrupted(box: Box) -> None:
    """A run that is killed behind its first checkpoint."""
    running = Running(box, Call(("train", *tiny(*BEGUN)), trains=True))
    end = time.monotonic() + 300
    while not list(box.runs.glob("*/checkpoints/*.ckpt")) and time.monotonic() < end:
        if running.outcome() is not None:
            break
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(running.pid, signal.SIGKILL)
    while running.outcome() is None:
        time.sleep(0.02)
    if not list(box.runs.glob("*/checkpoints/*.ckpt")):
        raise RuntimeError("the base cannot be made: no checkpoint was left to go on from")


def _failed(box: Box) -> None:
    """A run that ended in an error, as `train -m` stores it."""
    from snn_exp.config.compose import compose
    from snn_exp.runs.folder import RunFolder

    before = os.environ.get("SNN_EXP_OUTPUT")
    os.environ["SNN_EXP_OUTPUT"] = str(box / "out")
    try:
        config = compose(tiny(*BROKEN))
        folder = RunFolder.of(config)
        folder.begin(config, {})
        folder.fail("out of memory", "Traceback (most recent call last):\n  ...\nout of memory\n")

    finally:
        os.environ.pop("SNN_EXP_OUTPUT")
        if before is not None:
            os.environ["SNN_EXP_OUTPUT"] = before
