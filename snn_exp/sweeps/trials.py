"""The trials of a search: proposed by Optuna, trained as any run, judged on validation data alone. No torch."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from snn_exp.config.command_line import command_line
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.config.hydra_settings import quoted
from snn_exp.config.overrides import CHOICES
from snn_exp.errors import UserError
from snn_exp.escaping import say
from snn_exp.files import read_json, write_json
from snn_exp.reporting.formatting import shown
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import Taken, owning
from snn_exp.sweeps import launch
from snn_exp.sweeps.search import OBJECTIVES, Search, import_optuna, key_of, objectives_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

VALUE, CHOICE = "+value.", "+choice."  # the keys under which the sweeper proposes: see search.py
NUM_FRESH_SEEDS = 5
NUM_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trained proposal.

    Args:
        number: Optuna's.
        proposed: its overrides.
        config: its resolved config.
        values: of the objectives.
    """

    number: int
    proposed: tuple[str, ...]
    config: ExperimentConfig
    values: tuple[float, ...]


def advance(search: Search) -> list[str]:
    """Continue a search up to its number of trials; return what failed.

    Raises:
        UserError: another process runs it.
    """
    try:
        with owning(search.folder):
            return _advance(search)
    except Taken as taken:
        raise UserError(f"search {search.id} is already running: {taken}") from None


def _advance(search: Search) -> list[str]:
    launcher = launch.ready_launcher(search.hydra_overrides, search.folders)
    file = search.folder / "search.json"
    write_json(file, dataclasses.asdict(search))
    study = search.study()
    _propose_again_what_was_killed(study)
    ended, failed = _num_in(study, "COMPLETE"), _num_in(study, "FAIL")
    wanted = int(launcher.sweeper["n_trials"])
    say(f"search {search.id}: {wanted} trials, {len(ended)} done before")
    if len(ended) >= wanted:
        return []
    chosen = [
        *launcher.overrides,
        f"++hydra.sweeper.n_trials={wanted - len(ended)}",
        f"hydra.sweeper.direction=[{','.join(OBJECTIVES[name].direction for name in search.objectives)}]",
        f"hydra.sweeper.study_name='{search.id}'",
        f"hydra.sweeper.storage={quoted(search.storage)}",
        "hydra.sweeper.max_failure_rate=1",
        *(f"{CHOICE if key_of(axis) in CHOICES else VALUE}{axis}" for axis in search.axes),
        f"+search_file={quoted(str(file.resolve()))}",
    ]
    if (seed := launcher.sweeper["sampler"].get("seed")) is not None:  # else a restart proposes the same once more
        chosen.append(f"++hydra.sweeper.sampler.seed={seed + len(ended) + len(failed)}")
    log, begun = file.with_suffix(".log"), file.stat().st_mtime
    failures = launch.multirun(launcher, chosen, log, _trial)
    for number, proposed in _num_in(study, "FAIL").items():
        if number not in failed:
            folder = RunFolder.of(search.config_of(proposed))
            failures.append(launch.why_open(" ".join(proposed), folder, log, begun))
    return failures


def interrupted(search: Search) -> str:
    """Return the message for a search that a signal has stopped."""
    study = search.study()
    under_way = [RunFolder.of(search.config_of(proposed)) for proposed in _num_in(study, "RUNNING").values()]
    done = len(_num_in(study, "COMPLETE")) + sum(folder.sound_result() is not None for folder in under_way)
    return f"interrupted: {done} trial{'' if done == 1 else 's'} done; the same command resumes from there"


def _num_in(study: Any, state: str) -> dict[int, tuple[str, ...]]:
    """Return number -> overrides of the trials in a state."""
    states = (import_optuna().trial.TrialState[state],)
    return {trial.number: _proposed(trial) for trial in study.get_trials(states=states)}


def _proposed(trial: Any) -> tuple[str, ...]:
    return tuple(f"{key.partition('.')[2]}={value}" for key, value in trial.params.items())


def _propose_again_what_was_killed(study: Any) -> None:
    """Enqueue killed trials again, so that their runs resume from checkpoints; no other process uses the study."""
    state = import_optuna().trial.TrialState
    for trial in study.get_trials(states=(state.RUNNING,)):
        with warnings.catch_warnings(action="ignore"):  # it is experimental in Optuna 2, and has stayed
            study.enqueue_trial(trial.params)
        study.tell(trial.number, state=state.FAIL)


def _trial(cfg: DictConfig) -> float | list[float] | None:
    """Train one proposal; return its objectives, or None where its run did not finish. Never ends the process."""
    from hydra.core.hydra_config import HydraConfig

    search = Search(**read_json(cfg.search_file))
    lines = HydraConfig.get().overrides.task
    proposed = tuple(line.partition(".")[2] for line in lines if line.startswith((VALUE, CHOICE)))
    values: Sequence[float] | None = search.worst
    try:
        config = search.config_of(proposed)
    except UserError as refusal:
        words = f"refused, so it ranks last: {refusal}"
    else:
        with launch.at_work():
            result = launch.finish(config)
        values = objectives_of(result, search.objectives, config.energy) if result else None
        words = f"run {config.run_id}: {_words(search, values)}"
    say(f"{time.strftime('%H:%M:%S')}  {' '.join(proposed)}  {words}")
    return None if values is None else values[0] if len(values) == 1 else list(values)


def _words(search: Search, values: Sequence[float] | None) -> str:
    if values is None:
        return "it did not finish"
    if tuple(values) == search.worst:
        return "diverged, so it ranks last"
    return ", ".join(f"{name} {shown(value, name)}" for name, value in zip(search.objectives, values, strict=True))


def best(search: Search) -> list[Trial]:
    """Return the trained proposals, each once, the most accurate first, then by validation loss.

    With two objectives, return only the Pareto-optimal ones.
    """
    study = search.study()
    front = study.best_trials if len(search.objectives) > 1 else study.get_trials()
    found: dict[str, Trial] = {}
    for trial in front:
        if trial.values and tuple(trial.values) != search.worst:
            proposed = _proposed(trial)
            config = search.config_of(proposed)
            found.setdefault(config.run_id, Trial(trial.number, proposed, config, tuple(trial.values)))
    return sorted(found.values(), key=lambda trial: (-trial.values[search.objectives.index("val/acc")], _loss(trial)))


def _loss(trial: Trial) -> float:
    result = RunFolder.of(trial.config).result()
    return result.metrics["val/loss"] if result else math.inf


def table(search: Search, trials: Sequence[Trial]) -> Table:
    """Return a table of a search's best trials."""
    several = len(search.objectives) > 1
    drawn = Table(title="the Pareto front" if several else "the best trials", title_justify="left")
    for heading in ("trial", "run", *search.objectives, "overrides"):
        drawn.add_column(heading, justify="right" if heading in OBJECTIVES else "left")
    for trial in trials if several else trials[:NUM_SHOWN]:
        figures = [shown(value, name) for name, value in zip(search.objectives, trial.values, strict=True)]
        drawn.add_row(str(trial.number), trial.config.run_id, *figures, " ".join(trial.proposed))
    return drawn


def answer(search: Search, trials: Sequence[Trial]) -> list[str]:
    """Return what to type next: the command that tests a winner."""
    if not trials:
        return ["no trial could be trained, so there is no winner"]
    winners = trials if len(search.objectives) > 1 else trials[:1]
    return [
        f"chosen on validation data; run the test set on fresh seeds, without seed={trials[0].config.seed}, by "
        f"which it was chosen:",
        *(f"  {_test_command(search, trial)}" for trial in winners),
    ]


def _test_command(search: Search, trial: Trial) -> str:
    first = trial.config.seed + 1
    seeds = ",".join(str(seed) for seed in range(first, first + NUM_FRESH_SEEDS))
    kept = [line for line in search.fixed if key_of(line) != "seed"]
    return command_line("train", [*kept, *trial.proposed, f"seed={seeds}"], search.folders, ["-m"])
