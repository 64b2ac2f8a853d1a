"""A trainer that trains nothing: it writes the row of each run with an accuracy that is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.studies.results import Ledger
from snn_exp.studies.spec import Study
from tests.studies.test_spec import row_of

Trainer = Callable[[list[ExperimentConfig], Callable[..., None]], list[str]]


def stand_in(
    study: Study,
    accuracy: Callable[[ExperimentConfig], float],
    rounds: list[list[ExperimentConfig]],
    stop_after: int = 99,
) -> Trainer:
    """Return what `runner.advance` trains with.

    Args:
        study: whose rows are written.
        accuracy: of a run.
        rounds: takes the runs of each call.
        stop_after: as many calls, Ctrl-C.
    """

    def train(configs: list[ExperimentConfig], keep: Callable[..., None]) -> list[str]:
        if len(rounds) == stop_after:
            raise KeyboardInterrupt
        rounds.append(configs)
        for config in configs:
            run: Any = SimpleNamespace(config=config)
            Ledger(study.folder / "results.jsonl").add(row_of(run, accuracy(config)))
        return []

    return train
