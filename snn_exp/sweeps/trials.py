"""The trials of a search: each claimed by one of any number of processes, trained as any run, told to Optuna. No torch.

A process that works on a search owns a folder in `workers/` as a run's does its own, and writes its name into the trial
that it has claimed. Claims are made one after the other, so that none is made twice and no more than the budget has. A
trial that is running and whose process is gone is claimed by the next that looks: it keeps its number and its proposal,
and its run resumes from its checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from snn_exp.config.compose import Launcher
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.config.hydra_settings import quoted
from snn_exp.errors import UserError
from snn_exp.escaping import say
from snn_exp.reporting.formatting import shown
from snn_exp.runs.folder import DamagedRun, RunFolder
from snn_exp.runs.lock import Taken, owning, refuse_if_taken
from snn_exp.runs.run_files import Pruned, Result
from snn_exp.sweeps import journal, launch
from snn_exp.sweeps.budget import Budget
from snn_exp.sweeps.journal import Frozen, State, Study
from snn_exp.sweeps.pruning import Curve
from snn_exp.sweeps.search import Search, objectives_of
from snn_exp.sweeps.workers import at_work

if TYPE_CHECKING:
    from omegaconf import DictConfig

POLL_S = 1.0
OWNER, KILLS, CAME_TO, CPU_S, WHY = "worker", "kills", "checkpoint of", "cpu_s", "why"  # attributes of a trial


@dataclasses.dataclass(frozen=True)
class Order:
    """What one command asks of the processes that work for it.

    Args:
        budget: of the search.
        begun: when the command began, as by time.time().
        failed_before: numbers of the trials that had crashed by then; those that crash later count as begun.
    """

    budget: Budget
    begun: float
    failed_before: Sequence[int] = ()

    def to_text(self) -> str:
        """Return it as text."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Order:
        """Read what `to_text` has written."""
        plain = json.loads(text)
        return cls(**{**plain, "budget": Budget(**plain["budget"])})

    def is_filled(self, trials: Sequence[Frozen]) -> bool:
        """Return whether no further trial may begin."""
        counted = [
            t
            for t in trials
            if t.state != State.WAITING and not (t.state == State.FAIL and t.number in self.failed_before)
        ]
        core_s = sum(float(trial.user_attrs.get(CPU_S, 0.0)) for trial in trials)
        return self.budget.is_spent(len(counted), core_s, time.time() - self.begun)


def advance(search: Search, budget: Budget, workers: int) -> list[str]:
    """Work on a search until its budget is spent; return what failed.

    Other processes may work on it at the same time, by the same command or another with its own budget.

    Args:
        search: the search.
        budget: of the search.
        workers: how many processes a launcher starts.

    Raises:
        UserError: its folder holds another search.
    """
    launcher = launch.ready_launcher(search.hydra_overrides, search.folders)
    search.folder.mkdir(parents=True, exist_ok=True)
    with journal.exclusive(search.folder / "claim.lock"):
        search.keep()
    study = journal.open_study(search)
    failed = [trial.number for trial in study.trials if trial.state == State.FAIL]
    order = Order(budget, time.time(), failed)
    say(f"search {search.name}: {budget.words}; {_in_words(study)}")
    log, begun = search.folder / "search.log", (search.folder / "search.json").stat().st_mtime
    failures = _launch(search, order, launcher, workers, log) if launcher.name != "basic" else _work(search, order)
    for trial in journal.open_study(search).get_trials(states=(State.FAIL,)):
        if trial.number not in failed:
            lines = journal.proposed(search, trial)
            why = trial.user_attrs.get(WHY)
            if why is None:
                failures.append(launch.why_open(" ".join(lines), RunFolder.of(search.config_of(lines)), log, begun))
            else:
                failures.append(f"failed {' '.join(lines)}: {why}")
    return failures


def num_workers(search: Search, given: int | None) -> int:
    """Return how many processes a launcher starts: as many as asked for, or as joblib has jobs.

    Raises:
        UserError: without a launcher there is one.
    """
    launcher = launch.ready_launcher(search.hydra_overrides, search.folders)
    if given is not None and given < 1:
        raise UserError(f"--workers {given} would train nothing; type --workers 2, say")
    if launcher.name == "basic" and (given or 1) > 1:
        raise UserError(
            f"--workers {given} needs a launcher that starts them; type hydra/launcher=joblib "
            f"hydra.launcher.n_jobs={given}"
        )
    if given is None and launcher.name == "joblib":
        jobs = int(launcher.settings["n_jobs"])
        return jobs if jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + jobs)
    return given or 1


def _launch(search: Search, order: Order, launcher: Launcher, workers: int, log: Path) -> list[str]:
    """Start the workers; again where joblib has lost one, since it ends the others with it."""
    chosen = [
        *launcher.overrides,
        f"+worker={','.join(map(str, range(workers)))}",
        f"+search_folder={quoted(str(search.folder.resolve()))}",
        f"+order={quoted(order.to_text())}",
    ]
    ended, losses = -1, 0
    while True:
        failures = launch.multirun(launcher, chosen, log, _job, workers)
        if not failures or launcher.name != "joblib":
            return failures
        now = sum(trial.state.is_finished() for trial in journal.open_study(search).trials)
        ended, losses = now, losses + 1 if now == ended else 1
        if losses > launch.MOST_KILLS:
            return failures
        say("snn-exp: warning: a process was killed; the search continues")


def _job(cfg: DictConfig) -> None:
    """Work on a search in a process of a launcher."""
    _work(Search.read(Path(cfg.search_folder)), Order.from_text(cfg.order))


def _work(search: Search, order: Order) -> list[str]:
    """Claim and train trials until the budget is spent and nobody else has one that might be left behind."""
    study = journal.open_study(search)
    with _enrolled(search) as worker:
        while True:
            trial = _claim(search, study, order, worker)
            if trial is not None:
                _train(search, study, trial)
            elif any(t.state == State.RUNNING for t in study.get_trials(deepcopy=False)):
                time.sleep(POLL_S)
            else:
                return []


@contextmanager
def _enrolled(search: Search) -> Iterator[str]:
    """Own a folder among the workers inside the block; return its name."""
    name = uuid.uuid4().hex
    folder = search.folder / "workers" / name
    with owning(folder):
        yield name
    with suppress(OSError):
        folder.rmdir()


def _lives(search: Search, worker: str) -> bool:
    folder = search.folder / "workers" / worker
    if not worker or not folder.exists():
        return False
    try:
        refuse_if_taken(folder, patient=False)
    except Taken:
        return True
    return False


def _claim(search: Search, study: Study, order: Order, worker: str) -> optuna.Trial | None:
    """Return a trial for this process: one that another has left behind, else a new one; None if there is none."""
    with journal.exclusive(search.folder / "claim.lock"):
        trials = study.get_trials(deepcopy=False)
        for frozen in trials:
            if frozen.state == State.RUNNING and not _lives(search, frozen.user_attrs.get(OWNER, "")):
                if (trial := _adopted(search, study, frozen, worker)) is not None:
                    return trial
                trials = study.get_trials(deepcopy=False)
        if order.is_filled(trials):
            return None
        study.sampler = journal.sampler_of(search, len(trials))
        if search.sampler == "grid" and all(trial.state != State.WAITING for trial in trials):
            cell = journal.next_cell(search, trials)
            if cell is None:
                return None
            study.enqueue_trial(cell)
        trial = study.ask()
        trial.set_user_attr(OWNER, worker)
        return trial


def _adopted(search: Search, study: Study, frozen: Frozen, worker: str) -> optuna.Trial | None:
    """Take over a trial whose process is gone; None if it has been killed too often, which ends it as failed.

    A kill counts where the run has come no further since the one before.
    """
    study.sampler = journal.sampler_of(search, frozen.number)
    trial = optuna.Trial(study, frozen._trial_id)
    had_begun = frozen.user_attrs.get(OWNER, "") != ""  # one that was interrupted has put its name away
    lines = journal.proposed(search, frozen)
    last = _last_checkpoint(search, lines)
    is_further = last != frozen.user_attrs.get(CAME_TO, 0)
    kills = (0 if is_further else int(frozen.user_attrs.get(KILLS, 0))) + had_begun
    if kills >= launch.MOST_KILLS:
        trial.set_user_attr(WHY, f"its process was killed {kills} times, possibly for lack of memory")
        study.tell(frozen.number, state=State.FAIL)
        return None
    for key, value in ((OWNER, worker), (KILLS, kills), (CAME_TO, last)):
        trial.set_user_attr(key, value)
    return trial


def _last_checkpoint(search: Search, lines: Sequence[str]) -> int:
    """Return when the run of a proposal was last checkpointed, in ns; 0 if it was not."""
    with suppress(UserError, OSError):
        if lines and (last := RunFolder.of(search.config_of(lines)).last_checkpoint) is not None:
            return last.stat().st_mtime_ns
    return 0


def _train(search: Search, study: Study, trial: optuna.Trial) -> None:
    """Train what a trial proposes, and tell Optuna what came of it."""
    values: Sequence[float] | None = search.worst
    pruned: Pruned | None = None
    try:
        lines = journal.propose(search, trial)
        try:
            config = search.config_of(lines)
        except UserError as refusal:
            words = f"refused, so it ranks last: {refusal}"
        else:
            folder = RunFolder.of(config)
            was_done, before = folder.sound_result() is not None, _cpu_s(folder)
            pruned = curve.stopped_before() if (curve := _curve(search, study, trial, folder)) else None
            result = None if pruned else _trained(config, curve)
            values = objectives_of(result, search.objectives, config.energy) if result else None
            pruned = None if result else _pruned(folder)
            trial.set_user_attr(CPU_S, max(0.0, _cpu_s(folder) - before))
            words = f"run {config.run_id}: {_words(search, values, pruned)}{', stored before' if was_done else ''}"
    except BaseException:
        trial.set_user_attr(OWNER, "")  # it was stopped, and not killed: who goes on with it counts nothing
        raise
    if pruned is not None:
        study.tell(trial.number, state=State.PRUNED)
    elif values is None:
        study.tell(trial.number, state=State.FAIL)
    else:
        study.tell(trial.number, list(values))
    say(f"{time.strftime('%H:%M:%S')}  {trial.number}  {' '.join(lines)}  {words}")


def _curve(search: Search, study: Study, trial: optuna.Trial, folder: RunFolder) -> Curve | None:
    """Return what judges a trial after each epoch; None if nothing does, or its run cannot be read."""
    if search.pruner == "none" or folder.damage():
        return None
    return Curve(trial, set(study.get_trials(deepcopy=False)[trial.number].intermediate_values), folder)


def _pruned(folder: RunFolder) -> Pruned | None:
    """Return where a run was pruned, if it was and that can be read."""
    with suppress(DamagedRun):
        return folder.pruned()
    return None


def _cpu_s(folder: RunFolder) -> float:
    """Return the CPU time that is stored of a run, whole or pruned."""
    with suppress(DamagedRun):
        ended = folder.result() or folder.pruned()
        return ended.cpu_s if ended else 0.0
    return 0.0


def _trained(config: ExperimentConfig, curve: Curve | None) -> Result | None:
    """Train a run; where another process does, wait for that one and take what it stores."""
    folder = RunFolder.of(config)
    while True:
        with at_work():
            result = launch.finish(config, curve)
        if result is not None or _pruned(folder) is not None or not _is_taken(folder):
            return result
        time.sleep(POLL_S)


def _is_taken(folder: RunFolder) -> bool:
    try:
        refuse_if_taken(folder.path, patient=False)
    except Taken:
        return True
    return False


def _words(search: Search, values: Sequence[float] | None, pruned: Pruned | None) -> str:
    if pruned is not None:
        accuracy = shown(pruned.metrics["val/acc"], "val/acc")
        return f"pruned after epoch {pruned.num_epochs} of {search.max_epochs}, val/acc {accuracy} there"
    if values is None:
        return "it did not finish"
    if tuple(values) == search.worst:
        return "diverged, so it ranks last"
    return ", ".join(f"{name} {shown(value, name)}" for name, value in zip(search.objectives, values, strict=True))


def _in_words(study: Study) -> str:
    """Return how far a study is."""
    trials = study.get_trials(deepcopy=False)
    count = {state: sum(trial.state == state for trial in trials) for state in State}
    words = [f"{count[State.COMPLETE]} done"]
    words += [f"{count[state]} {word}" for state, word in _STATES.items() if count[state]]
    return ", ".join(words)


_STATES = {State.PRUNED: "pruned", State.RUNNING: "under way", State.FAIL: "failed"}


def interrupted(search: Search) -> str:
    """Return the message for a search that a signal has stopped."""
    if not (search.folder / "journal.log").exists():
        return "interrupted before the first trial; the same command starts it again"
    return f"interrupted: {_in_words(journal.open_study(search))}; the same command resumes from there"
