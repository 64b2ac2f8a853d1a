"""The runs of a study: which there are, which are done, and the grid point that each method keeps. No torch.

Every method tunes over the same grid on validation data; the point it keeps is trained on fresh seeds, and only those
runs read the test set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from snn_exp.config import compose
from snn_exp.config.experiment import RUN_KEYS, EnergyConfig, ExperimentConfig
from snn_exp.errors import UserError, say_once
from snn_exp.files import Unreadable
from snn_exp.reporting.comparison import priced
from snn_exp.runs.folder import DamagedRun, RunFolder
from snn_exp.runs.paths import output_root
from snn_exp.runs.row import Row
from snn_exp.runs.run_files import Result
from snn_exp.runs.same_data import DataAtHand
from snn_exp.studies.proposals import Drawn
from snn_exp.studies.results import Ledger
from snn_exp.studies.spec import Key, Overrides, Setting, Study, matches
from snn_exp.sweeps import plan
from snn_exp.training import preflight

SECONDS_A_LAYER = 0.03  # CPU, for plan.size 1; used until a finished run gives a better estimate


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Args:
        setting: its setting.
        method: its method.
        point: the point of the grid.
        config: its resolved config.
        is_trial: True for a run that tunes.
    """

    setting: str
    method: str
    point: Overrides
    config: ExperimentConfig
    is_trial: bool

    @property
    def key(self) -> Key:
        """Return setting and method."""
        return self.setting, self.method

    @property
    def name(self) -> str:
        """Return a name that is unique in the study."""
        return " ".join(["/".join(self.key), *self.point, f"seed={self.config.seed}"])


def trials(study: Study, overrides: Overrides = (), rows: Mapping[str, Row] | None = None) -> list[StudyRun]:
    """List the runs that tune: every method, every point of the grid, every trial seed; none reads the test set.

    Where tuning is a search, those of its rounds so far.

    Args:
        study: the study.
        overrides: of every run.
        rows: of the trials that have ended, which a search needs beyond its first round.
    """
    by_search: list[StudyRun] = []
    for setting in study.settings.values():
        if setting.tuned_in == setting.name and setting.drawn:
            searches = {
                method: _search_of(study, setting.name, method, setting.drawn, overrides)
                for method in study.methods
                if (setting.name, method) in study.pairs()
            }
            setting.drawn.require_each_somewhere(searches.values(), f"{study.name}/study.yaml")
            for method, search in searches.items():
                by_search += _drawn(study, setting, search, method, overrides, rows or {})
    wanted = [
        (setting.name, method, point, seed)
        for setting in study.settings.values()
        if setting.tuned_in == setting.name and not setting.drawn and setting.num_points > 1
        for seed in setting.trial_seeds
        for point in setting.points()
        for method in study.methods
        if (setting.name, method) in study.pairs()
    ]
    return [*by_search, *(_composed(study, wanted, overrides, is_trial=True) if wanted else [])]


def _search_of(study: Study, setting: str, method: str, drawn: Drawn, overrides: Overrides = ()) -> Drawn:
    """Return the search that a method tunes by, over the parameters that its options have."""
    fixed = (*study.base, *study.settings[setting].overrides, *study.methods[method], *overrides)
    return drawn.for_method(fixed, study.search)


def _drawn(
    study: Study, setting: Setting, drawn: Drawn, method: str, overrides: Overrides, rows: Mapping[str, Row]
) -> list[StudyRun]:
    """List the trials of a method whose tuning is a search, as far as they are decided."""
    found: list[StudyRun] = []

    def merits_of(points: Sequence[Overrides]) -> list[float | None]:
        wanted = [(setting.name, method, point, seed) for point in points for seed in setting.trial_seeds]
        runs = _composed(study, wanted, overrides, is_trial=True)
        found.extend(runs)
        return [_accuracy([rows.get(run.config.run_id) for run in runs if run.point == point]) for point in points]

    drawn.points(merits_of)
    return found


def _accuracy(rows: Sequence[Row | None]) -> float | None:
    """Return mean validation accuracy over the seeds, 0 if a run diverged; None if one has not ended."""
    ended = [row for row in rows if row is not None]
    if len(ended) < len(rows):
        return None
    return fmean(row.result.metrics["val/acc"] for row in ended) if all(row.done for row in ended) else 0.0


def finals(study: Study, chosen: Mapping[Key, Overrides], overrides: Overrides = ()) -> list[StudyRun]:
    """List the final runs: every method with the point chosen for it, on every fresh seed."""
    wanted = [(*key, chosen[key], seed) for key in study.pairs() if key in chosen for seed in study.seeds_of(key)]
    wanted.sort(key=lambda run: run[-1])  # so that a stopped study has every method on its first seeds
    runs = _composed(study, wanted, overrides, is_trial=False)
    first_of: dict[str, StudyRun] = {}
    for run in runs:
        other = first_of.setdefault(run.config.run_id, run)
        if other.method != run.method and not {other.method, run.method} & study.tuned_as.keys():
            raise UserError(
                f"the methods {other.method} and {run.method} of study {study.name} are the same network in setting "
                f"{run.setting} (run {run.config.run_id}); take one of them out, or exclude {run.setting}/{run.method}"
            )
    return runs


def _composed(
    study: Study, wanted: Sequence[tuple[str, str, Overrides, int]], overrides: Overrides, *, is_trial: bool
) -> list[StudyRun]:
    last = ("trainer.test=false",) if is_trial else ()
    commands = [
        (*study.base, *study.settings[s].overrides, *study.methods[m], *point, f"seed={seed}", *overrides, *last)
        for s, m, point, seed in wanted
    ]
    runs = []
    for (s, m, point, _), cell in zip(wanted, compose.compose_cells(commands, study.search), strict=True):
        if cell.config is None:
            raise UserError(f"study {study.name}, {s}/{m}: {cell.refusal} (or name {s}/{m} under exclude)")
        if cell.config.trainer.peek:
            raise UserError(
                f"study {study.name}, {s}/{m}: trainer.peek=true reads the test set after every epoch, and no claim "
                f"may rest on that; leave it out, and train such a run by snn-exp train"
            )
        runs.append(StudyRun(s, m, point, cell.config, is_trial))
    if other := next((run for run in runs if run.config.energy != runs[0].config.energy), None):
        raise UserError(
            f"study {study.name} prices {'/'.join(runs[0].key)} with energy={runs[0].config.energy.name} and "
            f"{'/'.join(other.key)} with energy={other.config.energy.name}; one profile prices all: give it under base"
        )
    return runs


def choose(study: Study, tried: Sequence[StudyRun], rows: Mapping[str, Row]) -> dict[Key, Overrides]:
    """Choose the point of the grid for each method whose trials have all ended.

    The highest mean validation accuracy over the trial seeds wins; ties go to the lower validation loss, and a point
    with a diverged run ranks behind all without one.
    """
    chosen: dict[Key, Overrides] = {}
    for setting, method in study.pairs():
        source = study.settings[setting].tuned_in
        place = study.settings[source]
        runs = [run for run in tried if run.key == (source, study.tuned_as.get(method, method))]
        points = list(dict.fromkeys(run.point for run in runs)) if place.drawn else place.points()
        if place.drawn and len(runs) < place.num_points * len(place.trial_seeds):
            continue  # later rounds are to come
        if not runs:
            if len(points) == 1:
                chosen[setting, method] = points[0]
        elif all(run.config.run_id in rows for run in runs):
            chosen[setting, method] = max(
                points, key=lambda p: _merit([rows[r.config.run_id] for r in runs if r.point == p])
            )
    return chosen


def first_points(study: Study, pairs: Sequence[Key]) -> dict[Key, Overrides]:
    """Return some point of the grid for each setting and method, for estimates of cost alone."""
    tuned = {s: study.settings[study.settings[s].tuned_in] for s, _ in pairs}
    return {
        (s, m): _search_of(study, tuned[s].name, study.tuned_as.get(m, m), drawn).example
        if (drawn := tuned[s].drawn)
        else tuned[s].points()[0]
        for s, m in pairs
    }


def _merit(rows: Sequence[Row]) -> tuple[int, float, float]:
    done = [row.result.metrics for row in rows if row.done]
    if not done:
        return -len(rows), 0.0, 0.0
    return len(done) - len(rows), fmean(m["val/acc"] for m in done), -fmean(m["val/loss"] for m in done)


@dataclasses.dataclass
class Progress:
    """The progress of a study.

    Args:
        study: the study.
        ledger: its finished runs.
        trials: the runs that tune.
        finals: the final runs, as far as the trials have decided them.
        chosen: the point that each method keeps.
        is_standard: True for the study as written, False for one changed by overrides.
    """

    study: Study
    ledger: Ledger
    trials: list[StudyRun]
    finals: list[StudyRun]
    chosen: dict[Key, Overrides]
    is_standard: bool = True

    def rows(self) -> dict[str, Row]:
        """Return run id -> row of the finished runs."""
        return self.ledger.rows

    @property
    def profile(self) -> EnergyConfig:
        """Return the energy profile, as chosen in the study's base."""
        runs = self.finals or self.trials
        return runs[0].config.energy if runs else EnergyConfig()

    def rows_of(self, key: Key) -> dict[int, Row]:
        """Return seed -> row of the finished final runs of a setting and method, with energies in the metrics."""
        return {
            run.config.seed: priced(self.ledger.rows[run.config.run_id], self.profile)
            for run in self.finals
            if run.key == key and run.config.run_id in self.ledger.rows
        }

    def todo(self, only: str = "*") -> list[StudyRun]:
        """List the runs that can be trained now: trials first, and finals whose trials are done.

        With them those that they start from or learn from, where their weights are not here: rows are kept without.
        """
        known = {run.config.run_id: run for run in (*self.trials, *self.finals)}
        left = {
            run_id: run for run_id, run in known.items() if run_id not in self.ledger.rows and matches(run.key, only)
        }
        ahead = list(left.values())
        while ahead:
            config = ahead.pop().config
            for source in filter(None, (getattr(config, key) for key in RUN_KEYS)):
                if source in known and source not in left and not RunFolder.of(known[source].config).weights.exists():
                    left[source] = known[source]
                    ahead.append(known[source])
        return [run for run_id, run in known.items() if run_id in left]

    def waiting(self, only: str = "*") -> list[StudyRun]:
        """List the final runs that wait for trials, each at a stand-in for the point to be chosen."""
        undecided = [key for key in self.study.pairs() if key not in self.chosen and matches(key, only)]
        return finals(self.study, first_points(self.study, undecided))

    def seconds(self, config: ExperimentConfig) -> float:
        """Estimate the CPU time of a run."""
        done = [row.result for row in self.ledger.rows.values() if row.done]
        estimate = plan.seconds(config, done)
        return SECONDS_A_LAYER * plan.size(config.to_plain()) if estimate is None else estimate

    def spent_hours(self) -> float:
        """Return the CPU time of the study's finished runs."""
        ids = {run.config.run_id for run in (*self.trials, *self.finals)}
        return sum(row.result.cpu_s for run_id, row in self.ledger.rows.items() if run_id in ids) / 3600

    def hours_to_come(self, only: str = "*") -> dict[str, float]:
        """Estimate setting -> CPU hours of the remaining runs, including undecided final runs."""
        hours = dict.fromkeys(self.study.settings, 0.0)
        for run in (*self.todo(only), *self.waiting(only)):
            hours[run.setting] += self.seconds(run.config) / 3600
        for place in self.study.settings.values():
            for method in self.study.methods if place.drawn and place.tuned_in == place.name else ():
                known = [run for run in self.trials if run.key == (place.name, method) and matches(run.key, only)]
                later = place.num_points * len(place.trial_seeds) - len(known) if known else 0
                hours[place.name] += later * self.seconds(known[0].config) / 3600 if later else 0.0
        return hours

    def require_budget(self, only: str = "*") -> None:
        """Refuse a study that would exceed its budget.

        Raises:
            UserError: with what to leave out.
        """
        hours = self.hours_to_come(only)
        total = self.spent_hours() + sum(hours.values())
        if total > self.study.budget_core_hours:
            longest = max(hours, key=lambda setting: hours[setting])
            raise UserError(
                f"study {self.study.name} would take {total:.2g} core hours, {self.spent_hours():.2g} of them spent, "
                f"and its budget_core_hours is {self.study.budget_core_hours:g}; drop the setting {longest} "
                f"({hours[longest]:.2g} core hours), or fewer seeds, or raise the budget in study.yaml"
            )

    def require_startable(self, only: str = "*") -> None:
        """Refuse runs that could be trained now but for their teacher, the run that they start from, or this machine.

        Raises:
            UserError: the first of them, and what is wrong with it; see `snn_exp.training.preflight.require`.
        """
        runs = self.todo(only)
        coming = {run.config.run_id: run.config for run in runs}
        for run in runs:
            try:
                preflight.require(run.config, coming)
            except UserError as refusal:
                raise UserError(f"study {self.study.name}, {run.setting}/{run.method}: {refusal}") from None


def survey(study: Study, overrides: Overrides = ()) -> Progress:
    """Return the progress of a study, after adding matching runs from outputs/ and from other studies to its file.

    Overrides that change the results make it a different study, kept in outputs/studies/<name>/.
    """
    tuning = trials(study, overrides)
    theirs = study.folder / "results.jsonl"
    standard = not overrides or _ids(tuning or _first_finals(study, overrides)) == _ids(
        trials(study) or _first_finals(study)
    )
    ledger = Ledger(theirs if standard else output_root() / "studies" / study.name / "results.jsonl")
    others = _rows_of_other_studies(study)
    _take_in(tuning, ledger, others)
    while any(setting.drawn for setting in study.settings.values()):
        further = trials(study, overrides, ledger.rows)
        if len(further) == len(tuning):
            break
        tuning = further
        _take_in(tuning, ledger, others)
    chosen = choose(study, tuning, ledger.rows)
    answering = finals(study, chosen, overrides)
    _take_in(answering, ledger, others)
    return Progress(study, ledger, tuning, answering, chosen, standard)


def _first_finals(study: Study, overrides: Overrides = ()) -> list[StudyRun]:
    return finals(study, first_points(study, study.pairs()), overrides)


def _ids(runs: Sequence[StudyRun]) -> list[str]:
    return [run.config.run_id for run in runs]


def _rows_of_other_studies(study: Study) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for path in study.folder.parent.glob("*/results.jsonl"):
        if path.parent != study.folder:
            try:
                found |= Ledger(path).rows
            except Unreadable as error:
                say_once(f"left out: {error}")
    return found


def _take_in(runs: Sequence[StudyRun], ledger: Ledger, others: Mapping[str, Row]) -> None:
    at_hand = DataAtHand()
    for run in runs:
        run_id, folder = run.config.run_id, RunFolder.of(run.config)
        if run_id in ledger.rows:
            continue
        row = stored_row(folder, run.config)
        try:
            if row is not None:
                at_hand.require(folder, run.config)
        except UserError as error:
            say_once(f"left out: {error}")
            row = None
        row = row or others.get(run_id)
        if row is not None and (run.is_trial or not row.done or "test/acc" in row.result.metrics):
            ledger.add(row)


def stored_row(folder: RunFolder, config: ExperimentConfig | None = None) -> Row | None:
    """Return the row of a stored run, complete as its config asks if that is given; None for a damaged one."""
    try:
        return Row.of(folder) if config is None or folder.is_complete(config) else None
    except DamagedRun as damaged:
        damaged.say()
        return None


def advance(
    study: Study,
    train: Callable[[list[ExperimentConfig], Callable[[Result], None]], list[str]],
    overrides: Overrides = (),
    only: str = "*",
    names: dict[str, str] | None = None,
) -> tuple[Progress, list[str]]:
    """Train what is left, the trials first; return the progress and the failures.

    Args:
        study: the study.
        train: trains runs, passes on each result as soon as it is available, and returns the failures.
        overrides: of every run.
        only: a pattern SETTING/METHOD.
        names: filled with run id -> name before the runs are trained.

    Raises:
        UserError: over budget; a run has no suitable teacher, or is stored with data other than the present ones.
    """
    progress = survey(study, overrides)
    progress.require_budget(only)
    failures: list[str] = []
    for is_trial in (True, False):
        progress, said = _stage(study, progress, train, overrides, only, names, is_trial=is_trial)
        failures += said
    return progress, failures


def _stage(
    study: Study,
    progress: Progress,
    train: Callable[[list[ExperimentConfig], Callable[[Result], None]], list[str]],
    overrides: Overrides,
    only: str,
    names: dict[str, str] | None,
    *,
    is_trial: bool,
) -> tuple[Progress, list[str]]:
    """Train the trials, round by round where tuning is a search, or the final runs; see `advance`."""
    failures: list[str] = []
    before: list[str] = []
    while True:
        progress.require_startable(only)
        runs = [run for run in progress.todo(only) if run.is_trial == is_trial]
        if failures or (before and (not runs or _ids(runs) == before)):
            return progress, failures
        before = _ids(runs)
        configs = {run.config.run_id: run.config for run in runs}
        if names is not None:
            names.update({run.config.run_id: run.name for run in runs})
        at_hand = DataAtHand()
        for config in configs.values():
            folder = RunFolder.of(config)
            if stored_row(folder, config) is not None:
                at_hand.require(folder, config)
        if configs:
            failures += train(list(configs.values()), _keeper(progress.ledger, configs))
        progress = survey(study, overrides)
        if not is_trial or not configs:
            return progress, failures


def _keeper(ledger: Ledger, configs: Mapping[str, ExperimentConfig]) -> Callable[[Result], None]:
    def keep(result: Result) -> None:
        folder = RunFolder.of(configs[result.run_id])
        if row := stored_row(folder, configs[result.run_id]):
            ledger.add(row)

    return keep


def require_cells(study: Study, only: str) -> None:
    """Refuse a pattern that matches no setting and method of a study.

    Raises:
        UserError: with one that does.
    """
    if not any(matches(key, only) for key in study.pairs()):
        raise UserError(
            f"--only {only} matches no SETTING/METHOD of study {study.name}; type --only '{'/'.join(study.pairs()[0])}'"
        )
