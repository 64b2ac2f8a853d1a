"""Optuna's study of a search, kept in a journal that many processes write to and any may be killed at. No torch.

With trials.py, pruning.py and shown.py the files that import Optuna.
"""

from __future__ import annotations

import fcntl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from snn_exp.sweeps.pruning import pruner_of
from snn_exp.sweeps.search import OBJECTIVES, Search
from snn_exp.sweeps.space import Axis, Params

optuna.logging.set_verbosity(optuna.logging.WARNING)

POPULATION = 16  # of NSGA-II: Optuna's 50 would be all that a search of tens of trials ever draws at random

State = optuna.trial.TrialState
Study: TypeAlias = Any  # optuna.Study, and below optuna.trial.FrozenTrial: an extra's types are not there to be checked
Frozen: TypeAlias = Any


@contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """Keep other processes out of the block; a killed one leaves nothing that would have to be waited for.

    Args:
        file: made if it is not there.
    """
    with file.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class WholeLines:
    """Keeps a journal to one writer at a time, and takes off a last line that a full disk has torn.

    Optuna's own locks are files, which a killed process leaves behind for half a minute.

    Args:
        file: the journal.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._handle: Any = None

    def acquire(self) -> bool:
        """Wait for the others."""
        handle = self.file.with_name(f"{self.file.name}.lock").open("ab")
        fcntl.flock(handle, fcntl.LOCK_EX)
        self._handle = handle
        with self.file.open("rb+") as journal:
            if end := journal.seek(0, 2):
                journal.seek(max(0, end - 1))
                if journal.read(1) != b"\n":
                    journal.seek(0)
                    journal.truncate(journal.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Let the others in."""
        self._handle.close()


def open_study(search: Search) -> Study:
    """Open a search's study, or create it."""
    search.folder.mkdir(parents=True, exist_ok=True)
    file = search.folder / "journal.log"
    storage = JournalStorage(JournalFileBackend(str(file), WholeLines(file)))
    with exclusive(search.folder / "claim.lock"):
        return optuna.create_study(
            study_name=search.id,
            storage=storage,
            sampler=sampler_of(search, 0),
            pruner=pruner_of(search),
            directions=[OBJECTIVES[name].direction for name in search.objectives],
            load_if_exists=True,
        )


def sampler_of(search: Search, number: int) -> BaseSampler:
    """Return the sampler that proposes a trial of a search."""
    return sampler_by(search.sampler, search.sampler_seed, number)


def sampler_by(name: str, sampler_seed: int, number: int) -> BaseSampler:
    """Return the sampler that proposes a trial.

    Its random numbers are those of the trial, so that a search that is killed and goes on proposes what it would have.

    Args:
        name: of the sampler.
        sampler_seed: of its random numbers.
        number: of the trial.
    """
    seed = int(np.random.SeedSequence([sampler_seed, number]).generate_state(1)[0])
    with warnings.catch_warnings(action="ignore"):  # some are called experimental, and have been for years
        if name == "tpe":
            return TPESampler(seed=seed)
        if name == "nsgaii":
            return NSGAIISampler(population_size=POPULATION, seed=seed)
        if name == "qmc":  # one sequence for all processes: the journal says how far it is
            return QMCSampler(
                scramble=True, seed=sampler_seed, independent_sampler=RandomSampler(seed=seed),
                warn_independent_sampling=False, warn_asynchronous_seeding=False,
            )  # fmt: skip
        return RandomSampler(seed=seed)  # a grid's trials are enqueued


def suggested(trial: optuna.Trial, axis: Axis) -> Any:
    """Return the value that a trial proposes for an axis; the one that it has, if it was asked before."""
    if axis.values is not None:
        return trial.suggest_categorical(axis.key, axis.values)
    if axis.is_int:
        step = 1 if axis.is_log else int(axis.step or 1)
        return trial.suggest_int(axis.key, int(axis.low), int(axis.high), step=step, log=axis.is_log)
    return trial.suggest_float(axis.key, axis.low, axis.high, step=axis.step, log=axis.is_log)


def propose(search: Search, trial: optuna.Trial) -> tuple[str, ...]:
    """Return the overrides that a trial proposes."""
    return search.space.walk(lambda axis: suggested(trial, axis))


def proposed(search: Search, trial: Frozen) -> tuple[str, ...]:
    """Return the overrides that a stored trial has proposed; none where it was killed before it had."""
    try:
        return search.space.walk(lambda axis: trial.params[axis.key])
    except KeyError:
        return ()


def next_cell(search: Search, trials: list[Frozen]) -> Params | None:
    """Return the first cell of a grid that no trial has; None if each has one.

    Optuna's grid has every combination; of a space with conditions it would train the same run several times.
    """
    taken = [trial.system_attrs.get("fixed_params", trial.params) for trial in trials]
    return next((cell for cell in search.space.cells() if cell not in taken), None)
