"""What a search has found: its best trials, their repeats on further seeds, and what to type next. No torch.

A search has one seed, and its best trial is the best by that seed too. So the best few are repeated on further seeds,
by validation data alone, before one of them is called best; the test set is read at the end, once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import fmean, stdev

from rich.table import Table

from snn_exp.config.command_line import command_line
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.reporting.formatting import shown
from snn_exp.runs.folder import RunFolder
from snn_exp.sweeps import journal
from snn_exp.sweeps.journal import State
from snn_exp.sweeps.search import OBJECTIVES, Search, key_of, objectives_of

NUM_FRESH_SEEDS = 5
NUM_CANDIDATES = 3
NUM_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trained proposal.

    Args:
        number: Optuna's.
        proposed: its overrides.
        config: its resolved config.
        values: of the objectives.
        repeats: of the objectives, for each further seed whose run is stored.
    """

    number: int
    proposed: tuple[str, ...]
    config: ExperimentConfig
    values: tuple[float, ...]
    repeats: tuple[tuple[float, ...], ...] = ()

    @property
    def is_repeated(self) -> bool:
        """Return whether all further seeds are there."""
        return len(self.repeats) == NUM_FRESH_SEEDS

    @property
    def means(self) -> tuple[float, ...]:
        """Return the mean of each objective over the further seeds."""
        return tuple(map(fmean, zip(*self.repeats, strict=True)))


def best(search: Search) -> list[Trial]:
    """Return the trained proposals, each once, the most accurate first, then by validation loss.

    With two objectives, return only the Pareto-optimal ones.
    """
    study = journal.open_study(search)
    front = study.best_trials if len(search.objectives) > 1 else study.get_trials(states=(State.COMPLETE,))
    found: dict[str, Trial] = {}
    for trial in front:
        if trial.values and tuple(trial.values) != search.worst:
            proposed = journal.proposed(search, trial)
            config = search.config_of(proposed)
            found.setdefault(config.run_id, Trial(trial.number, proposed, config, tuple(trial.values)))
    return sorted(found.values(), key=lambda trial: (-_accuracy(search, trial.values), _loss(trial)))


def _accuracy(search: Search, values: Sequence[float]) -> float:
    return values[search.objectives.index("val/acc")]


def _loss(trial: Trial) -> float:
    result = RunFolder.of(trial.config).result()
    return result.metrics["val/loss"] if result else math.inf


def candidates(search: Search, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that are repeated before one is called best, with what is stored of their repeats."""
    chosen = trials if len(search.objectives) > 1 else trials[:NUM_CANDIDATES]
    return [dataclasses.replace(trial, repeats=_repeats(search, trial)) for trial in chosen]


def fresh_seeds(search: Search, trial: Trial) -> list[int]:
    """Return the further seeds: those after the one of the search."""
    return list(range(trial.config.seed + 1, trial.config.seed + 1 + NUM_FRESH_SEEDS))


def _repeats(search: Search, trial: Trial) -> tuple[tuple[float, ...], ...]:
    found = []
    for seed in fresh_seeds(search, trial):
        config = search.config_of((*trial.proposed, f"seed={seed}"))
        if (result := RunFolder.of(config).sound_result()) is not None:
            found.append(objectives_of(result, search.objectives, config.energy))
    return tuple(found)


def table(search: Search, trials: Sequence[Trial]) -> Table:
    """Return a table of a search's best trials."""
    several = len(search.objectives) > 1
    title = "the Pareto front" if several else f"the best of {len(trials)} runs"
    drawn = Table(title=f"{title}, by validation data, seed {trials[0].config.seed} alone", title_justify="left")
    for heading in ("trial", "run", *search.objectives, "proposed"):
        drawn.add_column(heading, justify="right" if heading in OBJECTIVES else "left")
    for trial in trials if several else trials[:NUM_SHOWN]:
        figures = [shown(value, name) for name, value in zip(search.objectives, trial.values, strict=True)]
        drawn.add_row(str(trial.number), trial.config.run_id, *figures, " ".join(trial.proposed))
    return drawn


def answer(search: Search, trials: Sequence[Trial]) -> list[str]:
    """Return what to type next: what repeats the best on further seeds, then what tests those that stay best."""
    if not trials:
        return ["no trial could be trained, so there is no winner"]
    chosen, seed = candidates(search, trials), trials[0].config.seed
    if not all(trial.is_repeated for trial in chosen):
        which = "the front" if len(search.objectives) > 1 else f"the best {len(chosen)}" if chosen[1:] else "the best"
        return [
            f"{which} by seed={seed} alone; repeat on {NUM_FRESH_SEEDS} further seeds, by validation data, then type "
            f"the same search command again to see which is best:",
            *(f"  {_command(search, trial, ['trainer.test=false'])}" for trial in chosen if not trial.is_repeated),
        ]
    left = sorted(_undominated(search, chosen), key=lambda trial: -_accuracy(search, trial.means))
    return [
        f"on {NUM_FRESH_SEEDS} further seeds, mean and standard deviation:",
        *(f"  trial {trial.number}: {_spread(search, trial)}  {' '.join(trial.proposed)}" for trial in
          sorted(chosen, key=lambda trial: -_accuracy(search, trial.means))),
        f"{'best' if len(left) == 1 else 'the front'}: trial {', '.join(str(trial.number) for trial in left)}; run the "
        f"test set, which nothing has read so far:",
        *(f"  {_command(search, trial)}" for trial in left),
    ]  # fmt: skip


def _spread(search: Search, trial: Trial) -> str:
    columns = zip(search.objectives, zip(*trial.repeats, strict=True), strict=True)
    return ", ".join(f"{name} {shown(fmean(of), name)} +- {shown(stdev(of), name)}" for name, of in columns)


def _undominated(search: Search, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other beats in all means."""
    signs = [1 if OBJECTIVES[name].direction == "maximize" else -1 for name in search.objectives]
    scored = [(tuple(s * v for s, v in zip(signs, trial.means, strict=True)), trial) for trial in trials]
    if len(signs) == 1:
        return [max(scored, key=lambda pair: pair[0])[1]]
    return [
        trial
        for score, trial in scored
        if not any(other != score and all(o >= s for o, s in zip(other, score, strict=True)) for other, _ in scored)
    ]


def _command(search: Search, trial: Trial, more: Sequence[str] = ()) -> str:
    seeds = ",".join(map(str, fresh_seeds(search, trial)))
    kept = [line for line in search.space.fixed_with(trial.proposed) if key_of(line) != "seed"]
    return command_line("train", [*kept, *trial.proposed, *more, f"seed={seeds}"], search.folders, ["-m"])
