"""What the page of a search shows, from its journal and the stored runs. No torch."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import optuna

from snn_exp.errors import UserError
from snn_exp.reporting import search_page
from snn_exp.reporting.search_page import PRUNED, WHOLE, AxisShown, SearchShown, TrialShown
from snn_exp.runs.folder import DamagedRun, RunFolder
from snn_exp.sweeps import journal, winners
from snn_exp.sweeps.journal import Frozen, State, Study
from snn_exp.sweeps.search import Search
from snn_exp.sweeps.trials import CPU_S, WHY


def write_page(search: Search, trials: list[winners.Trial], command: str) -> Path:
    """Write the page of a search into its folder, and return it.

    Args:
        search: the search.
        trials: its best, as of `winners.best`.
        command: as typed.
    """
    study = journal.open_study(search)
    repeats = {trial.number: trial.repeats for trial in winners.candidates(search, trials)}
    found = [_trial(search, frozen, repeats.get(frozen.number, ())) for frozen in study.get_trials(deepcopy=False)
             if frozen.state.is_finished()]  # fmt: skip
    shown = SearchShown(
        name=search.name,
        command=command,
        facts=_facts(search, found),
        objectives=search.objectives,
        axes=[
            AxisShown(axis.key, axis.line, axis.is_log, axis.values is None or all(map(_is_number, axis.values)))
            for axis in search.space.axes
        ],
        trials=found,
        importances=_importances(search, study),
        answer=winners.answer(search, trials),
    )
    return search_page.write(shown, search.folder)


def _facts(search: Search, trials: list[TrialShown]) -> dict[str, str]:
    count = {state: sum(trial.state == state for trial in trials) for state in (WHOLE, PRUNED)}
    rest = len(trials) - sum(count.values())
    return {
        "space": " ".join(map(shlex.quote, search.axes)),
        "fixed": " ".join(search.fixed) or "-",
        "objective": ", ".join(search.objectives),
        "sampler": f"{search.sampler}, seed {search.sampler_seed}",
        "pruner": search.pruner,
        "trials": f"{count[WHOLE]} whole, {count[PRUNED]} pruned, {rest} refused, diverged or failed",
        "CPU time of training": f"{sum(trial.cpu_s for trial in trials) / 3600:.2g} core hours",
    }


def _trial(search: Search, frozen: Frozen, repeats: tuple[tuple[float, ...], ...]) -> TrialShown:
    values: dict[str, float] = {}
    epochs = ""
    state = "failed" if frozen.user_attrs.get(WHY) is None else str(frozen.user_attrs[WHY])
    run, folder = _run(search, frozen)
    if frozen.state == State.COMPLETE:
        is_whole = tuple(frozen.values) != search.worst
        state = WHOLE if is_whole else "diverged" if run else "refused"
        values = dict(zip(search.objectives, frozen.values, strict=True)) if is_whole else {}
    elif frozen.state == State.PRUNED:
        state = PRUNED
        last = max(frozen.intermediate_values, default=0)
        values = {"val/acc": frozen.intermediate_values[last]} if last else {}
        epochs = f"{last} of {search.max_epochs}"
    elif folder is not None:
        with suppress(DamagedRun):
            state = f"failed: {folder.failure()}" if folder.failure() else state
    of_seeds: Mapping[str, list[float]] = {
        name: [value[place] for value in repeats] for place, name in enumerate(search.objectives) if repeats
    }
    cpu_s = float(frozen.user_attrs.get(CPU_S, 0.0))
    return TrialShown(frozen.number, state, frozen.params, values, run, cpu_s, epochs, of_seeds)


def _run(search: Search, frozen: Frozen) -> tuple[str, RunFolder | None]:
    with suppress(UserError):
        if lines := journal.proposed(search, frozen):
            config = search.config_of(lines)
            return config.run_id, RunFolder.of(config)
    return "", None


def _importances(search: Search, study: Study) -> dict[str, float]:
    """Return the importance of each axis for accuracy by Optuna; empty for fewer than two trials, or equal ones."""
    place = search.objectives.index("val/acc")
    whole = [t for t in study.get_trials(states=(State.COMPLETE,)) if tuple(t.values) != search.worst]
    if len({trial.values[place] for trial in whole}) < 2:
        return {}
    alone = optuna.create_study(directions=["maximize"])  # of the whole trials: a refused one has no accuracy
    alone.add_trials([
        optuna.trial.create_trial(value=t.values[place], params=t.params, distributions=t.distributions) for t in whole
    ])  # fmt: skip
    with warnings.catch_warnings(action="ignore"):
        return dict(optuna.importance.get_param_importances(alone))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
