"""List the runs that a command would train, which of them are done, and the time for the rest. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table

from snn_exp.config import sizes
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Result
from snn_exp.runs.store import state_of
from snn_exp.sweeps.cells import names, note_on_same

_DIGITS = 1078  # training samples of the digits


def seconds(config: ExperimentConfig, finished: Iterable[Result]) -> float | None:
    """Estimate a run's CPU time from finished runs on the same data; None if there are none.

    Definition:
        size x (median over the alike of CPU time / size), with `size` as below; alike are runs of the same neuron if
        there are any
    """
    done = [r for r in finished if r.cpu_s and r.config["dataset"]["name"] == config.dataset["name"]]
    alike = [r for r in done if r.config["neuron"]["name"] == config.neuron["name"]] or done
    if not alike:
        return None
    return median(r.cpu_s / size(r.config) for r in alike) * size(config.to_plain())


def size(config: Mapping[str, Any]) -> float:
    """Return the quantity that a run's time is roughly proportional to.

    Definition:
        layers x (1 + T) x epochs x N / 1,078 x (3 + P / 64 x width / 16) / 4, for N training samples of P pixels: 1 per
        layer and step for an epoch of the digits at 16 channels, where three quarters of a step are not arithmetic.
        Data whose files alone know N and P count as the digits
    """
    steps = 1 + int(config["encoding"]["num_steps"])
    num_train, shape = sizes.num_train(config), sizes.sample_shape(dict(config))
    pixels = 64 if shape is None else math.prod(shape[1:])
    data = (num_train or _DIGITS) / _DIGITS * (3 + pixels / 64 * (config["network"].get("width") or 16) / 16) / 4
    return float(config["depth"]["num_layers"] * steps * config["trainer"]["max_epochs"]) * data


def progress(config: ExperimentConfig) -> tuple[str, float]:
    """Return how far a run is, in a word or two, and the share that is left to train."""
    folder = RunFolder.of(config)
    state = state_of(folder)
    if state in ("damaged", "newer"):
        return f"{state}, --rerun", 1.0
    if folder.is_complete(config):
        return "done", 0.0
    if state == "done":
        return "to be tested", 0.0
    epochs, asked = len(folder.epochs()), config.trainer.max_epochs
    if state == "training":
        return f"training, epoch {epochs} of {asked}", 1 - epochs / asked
    if folder.last_checkpoint is not None:
        return f"resumes at epoch {epochs} of {asked}", 1 - epochs / asked
    return ("failed before" if state == "failed" else "to run"), 1.0


def table(configs: Sequence[ExperimentConfig], estimates: Mapping[str, float | None]) -> Table:
    """Return a table with one line per run and the time it has left.

    Args:
        configs: the runs, each once.
        estimates: run id -> CPU seconds of the whole run; None where nothing is known.
    """
    drawn = Table(title=f"{len(configs)} runs", title_justify="left")
    for heading in ("run", "what", "state", "left, CPU"):
        drawn.add_column(heading, justify="right" if heading.startswith("left") else "left")
    called = names(configs)
    for config in configs:
        state, share = progress(config)
        drawn.add_row(config.run_id, called[config.run_id], state, _shown(estimates[config.run_id], share))
    return drawn


def total(configs: Sequence[ExperimentConfig], estimates: Mapping[str, float | None], num_same: int) -> str:
    """Summarise the plan in one line.

    Args:
        configs: the runs, each once.
        estimates: as in `table`.
        num_same: duplicate cells.
    """
    found = {config.run_id: progress(config) for config in configs}
    words = Counter(state.partition(",")[0].partition(" at ")[0] for state, _ in found.values())
    states = ", ".join(f"{count} {word}" for word, count in words.items())
    same = f"; {note}" if (note := note_on_same(num_same)) else ""
    open_runs = {run_id: share for run_id, (_, share) in found.items() if share}
    known = [share * s for run_id, share in open_runs.items() if (s := estimates[run_id]) is not None]
    left = "" if not open_runs else f"; left: {_time(sum(known))} of CPU time" if known else "; left: ?"
    unknown = len(open_runs) - len(known)
    runs, them = ("run", "it") if unknown == 1 else ("runs", "them")
    more = f" and {unknown} {runs} without an estimate (--calibrate measures {them})" if unknown else ""
    return f"{states}{same}{left}{more}"


def _shown(seconds: float | None, share: float) -> str:
    if not share:
        return "-"
    return "?" if seconds is None else _time(share * seconds)


def _time(seconds: float) -> str:
    """Return a duration in words.

    Example:
        >>> _time(42.0), _time(4200.0)
        ('42 s', '1.2 h')
    """
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 3600
        else f"{seconds / 3600:.1f} h"
    )
