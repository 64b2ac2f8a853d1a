"""A search: Hydra's Optuna sweeper proposes runs, our rules check them, validation data alone judge them. No torch.

outputs/searches/<search id>/
    search.json   what is searched: read by every job
    study.db      Optuna's study in sqlite, from which a killed search resumes
    search.log    why the launcher gave up, if it did

The search id is a hash of what decides the result, as a run's is. The sweeper's proposals reach Hydra under
keys of our own (+value.optim.lr, +choice.neuron), so that a combination that does not fit together meets our rules and
their sentence, and cannot end the search.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rich.table import Table

from snn_exp.config import compose
from snn_exp.config.command_line import command_line
from snn_exp.config.experiment import EnergyConfig, ExperimentConfig
from snn_exp.config.hydra_settings import quoted
from snn_exp.config.overrides import CHOICES
from snn_exp.errors import UserError, unknown
from snn_exp.escaping import say
from snn_exp.files import read_json, write_json
from snn_exp.metrics.energy import total_pj
from snn_exp.reporting.formatting import shown
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import Taken, owning
from snn_exp.runs.paths import output_root
from snn_exp.runs.run_files import Result
from snn_exp.runs.source import source_of
from snn_exp.runs.teacher import teacher_of
from snn_exp.sweeps import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

NUM_FRESH_SEEDS = 5
NUM_SHOWN = 5
VALUE, CHOICE = "+value.", "+choice."
OURS_TO_CHOOSE = ("n_trials", "n_jobs", "sampler")  # of hydra.sweeper; the others follow from the command

# What a search over a key would find instead of the best network.
UNFIT = {"seed": "the luckiest seed", "dataset": "the easiest data", "energy": "the lowest prices"}


@dataclasses.dataclass(frozen=True)
class Objective:
    """An objective of a search.

    Args:
        direction: in Optuna's word.
        worst: value given to a run that diverged or is refused, so that it ranks last and Optuna avoids similar ones:
            no network that trains is worse. Finite, since Optuna measures volumes with it.
    """

    direction: str
    worst: float


OBJECTIVES = {
    "val/acc": Objective("maximize", 0.0),
    "val/energy_pj": Objective("minimize", 1e12),  # one joule per sample
}


@dataclasses.dataclass(frozen=True)
class Search:
    """A search: its space and objectives.

    Args:
        id: 10 hex digits that name it.
        fixed: the overrides that all its runs have.
        axes: the overrides that leave a choice.
        objectives: names among OBJECTIVES.
        hydra_overrides: Hydra's own, such as hydra/launcher=joblib.
        folders: further folders of configs.
    """

    id: str
    fixed: Sequence[str]
    axes: Sequence[str]
    objectives: Sequence[str]
    hydra_overrides: Sequence[str]
    folders: Sequence[str]

    @property
    def folder(self) -> Path:
        """Folder of the search."""
        return output_root() / "searches" / self.id

    @property
    def storage(self) -> str:
        """Optuna's storage as a URI: SQLAlchemy interprets ? in a path, and Optuna braces."""
        return f"sqlite:///file:{quote(str((self.folder / 'study.db').resolve()))}?uri=true"

    @property
    def worst(self) -> tuple[float, ...]:
        """Values given to a run that has none of its own."""
        return tuple(OBJECTIVES[name].worst for name in self.objectives)

    def study(self) -> Any:
        """Open Optuna's study, or create it."""
        return _optuna().create_study(
            study_name=self.id,
            storage=self.storage,
            directions=[OBJECTIVES[name].direction for name in self.objectives],
            load_if_exists=True,
        )

    def config_of(self, proposed: Sequence[str]) -> ExperimentConfig:
        """Compose the run that is proposed.

        Raises:
            UserError: the rules refuse it, or it has no teacher that can teach it, or none to start from.
        """
        config = compose.compose(_untested(self.fixed, proposed), self.folders)
        teacher_of(config)
        source_of(config)
        return config


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


def read(
    arguments: Sequence[str], objectives: str = "val/acc", folders: Sequence[str] = ()
) -> tuple[Search, list[ExperimentConfig]]:
    """Read a search, and compose the runs at the corners of its space.

    Args:
        arguments: Hydra overrides; those with several values or a range are searched.
        objectives: val/acc, or val/acc,val/energy_pj.
        folders: further folders of configs.

    Raises:
        UserError: an override or objective that a search cannot have; the package is missing; nothing that could be
            proposed can be trained.
    """
    names = _read_objectives(objectives)
    space = compose.read_space(arguments, folders)
    _refuse_unfit(space)
    hydra_overrides = tuple(dict.fromkeys(["hydra/sweeper=optuna", *space.hydra_overrides]))
    launch.ready_launcher(hydra_overrides, folders)
    corners = _corners(space.axes)
    cells = compose.compose_cells([_untested(space.fixed, corner) for corner in corners], folders)
    configs = [cell.config for cell in cells if cell.config]
    if not configs:
        raise UserError(f"no proposal of this search can be trained; {' '.join(corners[0])}: {cells[0].refusal}")
    decisive = [sorted({config.run_id for config in configs}), sorted(space.axes), names]
    if "val/energy_pj" in names:
        decisive.append(sorted({str(config.energy) for config in configs}))
    name = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:10]
    absolute = tuple(str(Path(folder).resolve()) for folder in folders)
    return Search(name, space.fixed, space.axes, names, hydra_overrides, absolute), configs


def _read_objectives(given: str) -> tuple[str, ...]:
    """Read and check the names of the objectives.

    Example:
        >>> _read_objectives("val/acc,val/energy_pj")
        ('val/acc', 'val/energy_pj')
    """
    names = tuple(dict.fromkeys(given.split(",")))
    for name in names:
        if name.startswith("test/"):
            raise UserError(
                f"--objective {name} would choose on the test set, which then could not judge what was chosen; type "
                f"--objective {name.replace('test/', 'val/')}"
            )
        if name not in OBJECTIVES:
            raise unknown("objective", name, OBJECTIVES, "--objective {}")
    if "val/acc" not in names:
        raise UserError(
            f"--objective {given} minimises energy alone, which selects a silent network; "
            f"type --objective val/acc,val/energy_pj"
        )
    return names


def _refuse_unfit(space: compose.Space) -> None:
    for line in space.axes:
        if (head := _key(line).partition(".")[0]) in UNFIT:
            raise UserError(f"{line}: a search would choose {UNFIT[head]}; give one value of {_key(line)}")
    for line in (*space.fixed, *space.axes):
        if _key(line) == "trainer.test":
            raise UserError(f"{line}: no run of a search reads the test set; leave it out")
    for line in space.hydra_overrides:
        if line.startswith("hydra.sweeper.") and line.split(".")[2].partition("=")[0] not in OURS_TO_CHOOSE:
            raise UserError(
                f"{line} follows from the rest of snn-exp search; leave it out: of hydra.sweeper, n_trials, n_jobs and "
                f"sampler can be set"
            )
        if line == "hydra/sweeper/sampler=grid":
            raise UserError(
                f"{line} would try every combination, as snn-exp train -m does; choose tpe, random or nsgaii"
            )


def _key(line: str) -> str:
    return line.partition("=")[0]


def _untested(fixed: Sequence[str], proposed: Sequence[str]) -> tuple[str, ...]:
    return (*fixed, *proposed, "trainer.test=false")


def _optuna() -> Any:
    """Import Optuna, without its note that a newer version exists."""
    os.environ.setdefault("SQLALCHEMY_SILENCE_UBER_WARNING", "1")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _corners(axes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return corners: all axes at their first value, all at their last, and each at its last with the others first."""
    _optuna()
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    try:
        distributions, _ = create_params_from_overrides(list(axes))
    except (AssertionError, NotImplementedError, ValueError) as error:
        raise UserError(f"{' '.join(axes)} cannot be searched by Optuna: {error}") from None
    ends = {
        key: (of.choices[0], of.choices[-1]) if hasattr(of, "choices") else (of.low, of.high)
        for key, of in distributions.items()
    }
    ats = [dict.fromkeys(ends, 0), dict.fromkeys(ends, 1), *({**dict.fromkeys(ends, 0), key: 1} for key in ends)]
    return [tuple(f"{key}={ends[key][end]}" for key, end in at.items()) for at in ats]


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
        *(f"{CHOICE if _key(axis) in CHOICES else VALUE}{axis}" for axis in search.axes),
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
    states = (_optuna().trial.TrialState[state],)
    return {trial.number: _proposed(trial) for trial in study.get_trials(states=states)}


def _proposed(trial: Any) -> tuple[str, ...]:
    return tuple(f"{key.partition('.')[2]}={value}" for key, value in trial.params.items())


def _propose_again_what_was_killed(study: Any) -> None:
    """Enqueue killed trials again, so that their runs resume from checkpoints; no other process uses the study."""
    state = _optuna().trial.TrialState
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


def objectives_of(result: Result, names: Sequence[str], profile: EnergyConfig) -> tuple[float, ...]:
    """Return the objectives of a finished run; the worst values if it diverged.

    Args:
        result: its result.
        names: the objectives.
        profile: the cost of each operation.
    """
    if result.status == "diverged":
        return tuple(OBJECTIVES[name].worst for name in names)
    return tuple(
        total_pj(result.metrics, "val", profile) if name == "val/energy_pj" else result.metrics[name] for name in names
    )


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
    kept = [line for line in search.fixed if _key(line) != "seed"]
    return command_line("train", [*kept, *trial.proposed, f"seed={seeds}"], search.folders, ["-m"])
