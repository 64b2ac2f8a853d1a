"""The specification of a study: one question, asked of several methods with the same tuning budget. No torch.

It is written in studies/<name>/study.yaml; docs/studies.md says what each key means.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from snn_exp.config.hydra_setup import config_dir
from snn_exp.errors import UserError, unknown
from snn_exp.files import Unreadable, printable, read_yaml
from snn_exp.reporting.claims import CLAIMS, Claim, keys_of
from snn_exp.runs.fields import NAME
from snn_exp.runs.validation import what_it_should_be
from snn_exp.studies.proposals import Drawn
from snn_exp.studies.sentences import SENTENCES
from snn_exp.studies.study_file import ClaimFile, SettingFile, StudyFile, TuningFile, claim_keys, schemas

Overrides = tuple[str, ...]
Key = tuple[str, str]  # setting, method
MAX_RUNS = 100_000


@dataclasses.dataclass(frozen=True)
class Setting:
    """A condition under which all methods are compared, such as a depth.

    Args:
        name: of the setting.
        overrides: what it sets.
        grid: key -> values that every method may tune over here.
        trial_seeds: each point of the grid is tried with each of them.
        tuned_in: the setting whose choice is used here instead of tuning.
        drawn: the search by which every method tunes here, in place of a grid.
    """

    name: str
    overrides: Overrides
    grid: Mapping[str, Sequence[Any]]
    trial_seeds: Sequence[int]
    tuned_in: str
    drawn: Drawn | None = None

    @property
    def num_points(self) -> int:
        """Return how many points every method tries; 1 where nothing is tuned."""
        return self.drawn.num_trials if self.drawn else math.prod(map(len, self.grid.values()))

    @property
    def tuned_keys(self) -> tuple[str, ...]:
        """Return the keys that every method may tune here."""
        return self.drawn.keys if self.drawn else tuple(self.grid)

    def points(self) -> list[Overrides]:
        """Return the points of the grid, as overrides."""
        return [
            tuple(f"{key}={value}" for key, value in zip(self.grid, values, strict=True))
            for values in itertools.product(*self.grid.values())
        ]


@dataclasses.dataclass(frozen=True)
class Study:
    """A study as study.yaml specifies it.

    Args:
        folder: studies/<name>.
        question: the question, in a sentence.
        status: claims, or exploratory.
        metric: the metric on which the claims rest.
        reference: the method that the others are compared with in tables.
        budget_core_hours: most CPU time all its runs together may take.
        seeds: of the final runs.
        more_seeds: pattern SETTING/METHOD -> seeds beyond those.
        methods: name -> overrides.
        settings: name -> setting.
        exclude: pattern SETTING/METHOD of what is not run -> why.
        base: overrides of every run.
        claims: the statements that the results decide.
        tuned_as: method -> the method whose chosen point it takes: a run that another starts from, or learns from,
            must have been trained as that one is.
        note: a caveat to be read before the claims, printed at the top of the page.
        search: further folders of configs, of a method that joins it.
    """

    folder: Path
    question: str
    status: Literal["claims", "exploratory"]
    metric: str
    reference: str
    budget_core_hours: float
    seeds: Sequence[int]
    more_seeds: Mapping[str, Sequence[int]]
    base: Overrides
    methods: Mapping[str, Overrides]
    settings: Mapping[str, Setting]
    exclude: Mapping[str, str]
    claims: Sequence[Claim]
    tuned_as: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""
    search: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Return the name of the folder."""
        return self.folder.name

    def pairs(self) -> list[Key]:
        """Return all pairs of setting and method that are compared."""
        pairs = itertools.product(self.settings, self.methods)
        return [key for key in pairs if not any(matches(key, pattern) for pattern in self.exclude)]

    def num_runs(self) -> int:
        """Return an upper bound on the number of runs, trials and final ones."""
        points = {
            setting.name: setting.num_points * len(setting.trial_seeds)
            for setting in self.settings.values()
            if setting.tuned_in == setting.name
        }
        finals = len(self.seeds) + sum(map(len, self.more_seeds.values()))
        return len(self.methods) * (sum(points.values()) + len(self.settings) * finals)

    def seeds_of(self, key: Key) -> list[int]:
        """Return the seeds of the final runs of a setting and method."""
        more = (seeds for pattern, seeds in self.more_seeds.items() if matches(key, pattern))
        return sorted({*self.seeds, *itertools.chain(*more)})


def matches(key: Key, pattern: str) -> bool:
    """Return whether a setting and method match a pattern such as 'digits_*/bn'."""
    return fnmatch.fnmatch("/".join(key), pattern)


def studies_root() -> Path:
    """Return the folder of the studies: SNN_EXP_STUDIES, or studies/ beside the configs, or here."""
    if given := os.environ.get("SNN_EXP_STUDIES"):
        return Path(given)
    beside = config_dir().parent / "studies"
    is_code = (
        beside == Path(__file__).parent
    )  # once installed, the configs are inside the package, as these modules are
    return beside if beside.is_dir() and not is_code else Path("studies")


def names() -> list[str]:
    """Return the names of all studies."""
    found = (path.parent.name for path in studies_root().glob("*/study.yaml"))
    return sorted(name for name in found if NAME.fullmatch(name))


def load(name: str) -> Study:
    """Read studies/<name>/study.yaml.

    Raises:
        UserError: no such study, broken YAML, an unknown or missing key, an invalid value, an undefined name, or more
            than MAX_RUNS runs.
    """
    if not NAME.fullmatch(name) and name in (path.parent.name for path in studies_root().glob("*/study.yaml")):
        raise UserError(
            f"the folder {printable(name)} of {studies_root()} has a name that no study can have; rename it to a-z, "
            f"0-9, '_', '.' and '-', beginning with a letter or digit"
        )
    if not names():
        raise UserError(
            f"There is no study {printable(name)!r}, since {studies_root().absolute()} holds none; set SNN_EXP_STUDIES "
            f"to a folder that holds such as NAME/study.yaml; snn-exp study takes --studies FOLDER as well"
        )
    if name not in names():
        raise unknown("study", name, names(), "snn-exp study {}")
    folder = studies_root() / name
    if folder.is_symlink() and not folder.resolve().is_relative_to(studies_root().resolve()):
        raise UserError(
            f"{folder} is a link that leads out of {studies_root()}, where its page would be written; place the folder "
            f"itself there, or point SNN_EXP_STUDIES at the folder that holds it"
        )
    return read(folder)


def read(folder: Path) -> Study:
    """Read the study.yaml of a folder.

    Raises:
        FileNotFoundError: there is none.
        UserError: as `load`.
    """
    where = f"{folder.name}/study.yaml"
    y = _written(folder / "study.yaml", where)
    tuning = y.tuning or TuningFile()
    drawn = _drawn(tuning, where)
    methods = {method: tuple(overrides) for method, overrides in y.methods.items()}
    if not methods:
        raise UserError(f"{where} has no methods; type at least two, such as bn: [norm=bn]")
    settings: dict[str, Setting] = {}
    for setting, given in (y.settings or {"main": None}).items():
        s = given or SettingFile()
        is_own = "grid" in s.model_fields_set
        settings[setting] = Setting(
            name=setting,
            overrides=tuple(s.overrides),
            grid=(s.grid if is_own else tuning.grid) or {},
            drawn=None if is_own else drawn,
            trial_seeds=tuning.seeds or (),
            tuned_in=setting if s.tuned_in is None else s.tuned_in,
        )
    for place in settings.values():
        if place.tuned_in not in settings:
            raise unknown(f"setting in {where}", place.tuned_in, settings, "tuned_in: {}")
        if (chooser := settings[place.tuned_in]).tuned_in != chooser.name:
            raise UserError(
                f"{where}: {place.name} is tuned_in {chooser.name}, which takes the choice of {chooser.tuned_in} and "
                f"tunes nothing; name a setting that tunes itself"
            )
    more_seeds = y.more_seeds or {}
    if not y.seeds and not more_seeds:
        raise UserError(f"{where} has no seeds, so nothing is answered; type {_EXAMPLES['seeds']}")
    _require_no_seed(y, where)
    if shared := set(tuning.seeds or ()) & {*y.seeds, *itertools.chain(*more_seeds.values())}:
        raise UserError(f"{where} tunes on seed {min(shared)}, which is also a final seed; final seeds must be fresh")
    exclude = y.exclude or {}
    for pattern in (*more_seeds, *exclude):
        if not any(matches(key, pattern) for key in itertools.product(settings, methods)):
            raise UserError(
                f"{where}: {printable(pattern)} is not a SETTING/METHOD of this study; type '*/{next(iter(methods))}'"
            )
    if all(any(matches(key, pattern) for pattern in exclude) for key in itertools.product(settings, methods)):
        raise UserError(f"{where} excludes every SETTING/METHOD, so nothing is left to compare; exclude fewer")
    tuned_as = y.tuned_as or {}
    for method in (*tuned_as, *tuned_as.values()):
        if method not in methods:
            raise unknown(f"method in {where}", printable(method), methods, "tuned_as: {{{}: ...}}")
    if twice := next((method for method in tuned_as.values() if method in tuned_as), None):
        raise UserError(
            f"{where}: tuned_as: {printable(twice)} takes the point of {printable(tuned_as[twice])} and cannot give "
            f"one of its own; name the method that chooses"
        )
    reference = next(iter(methods)) if y.reference is None else y.reference
    if reference not in methods:
        raise unknown(f"method in {where}", reference, methods, "reference: {}")
    study = Study(
        folder=folder,
        question=_on_one_line(y.question),
        status=y.status,
        metric=y.metric,
        reference=reference,
        budget_core_hours=y.budget_core_hours,
        seeds=y.seeds,
        more_seeds=more_seeds,
        base=tuple(y.base),
        methods=methods,
        settings=settings,
        exclude=exclude,
        tuned_as=tuned_as,
        claims=[_claim(c, f"{where}: claims", methods, settings, y.metric) for c in y.claims or ()],
        note=_on_one_line(y.note or ""),
    )
    if (runs := study.num_runs()) > MAX_RUNS:
        raise UserError(
            f"{where} asks for {runs:,} runs, and a study may have {MAX_RUNS:,}; give it a smaller grid, or fewer "
            f"seeds, methods or settings"
        )
    return study


def _drawn(tuning: TuningFile, where: str) -> Drawn | None:
    """Return the search that a study tunes by, if it does."""
    given = {"sampler": tuning.sampler, "trials": tuning.trials, "space": tuning.space}
    if all(value is None for value in given.values()):
        return None
    example = "tuning: {seeds: [100], sampler: tpe, trials: 24, space: {optim.lr: 'interval(0.001,0.03)'}}"
    if missing := [key for key, value in {**given, "seeds": tuning.seeds}.items() if not value]:
        raise UserError(f"{where}: a tuning by a search lacks {', '.join(missing)}; type {example}")
    if tuning.grid is not None:
        raise UserError(f"{where}: tuning has a grid and a space; leave one of them out, such as {example}")
    lines = [f"{key}={values}" for key, values in (tuning.space or {}).items()]
    return Drawn.read(tuning.sampler or "", tuning.trials or 0, lines, where)


def _require_no_seed(y: StudyFile, where: str) -> None:
    """Refuse a seed among the overrides or tuned values: `seeds` and `tuning.seeds` say them, for all methods alike."""
    settings = [setting for setting in (y.settings or {}).values() if setting]
    lines = [*y.base, *itertools.chain(*y.methods.values()), *itertools.chain(*(s.overrides for s in settings))]
    tuning = y.tuning or TuningFile()
    keys = [*(tuning.grid or ()), *(tuning.space or ()), *itertools.chain(*(s.grid or () for s in settings))]
    for line in (*lines, *keys):
        if line.lstrip("+").partition("=")[0].strip() == "seed":
            raise UserError(
                f"{where} sets {printable(line)}, and the seeds are the same for all methods; leave it out, and type "
                f"{_EXAMPLES['seeds']} or tuning: {{seeds: [100]}}"
            )


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


_EXAMPLES = {
    "question": "question: Does it help?",
    "methods": "methods: {bn: [norm=bn], none: [norm=none]}",
    "seeds": "seeds: [0, 1, 2]",
    "budget_core_hours": "budget_core_hours: 10",
    "status": "status: claims",
    "metric": "metric: test/acc",
    "reference": "reference: bn",
    "base": "base: [depth=d20, logger=none]",
    "tuned_as": "tuned_as: {four_steps: one_step}",
    "settings": "settings: {d20: {overrides: [depth=d20]}}",
    "tuning": "tuning: {seeds: [100], grid: {optim.lr: [0.01, 0.02]}}",
    "more_seeds": "more_seeds: {'*/bn': [5, 6]}",
    "exclude": "exclude: {'d20/bn': why}",
    "claims": "claims: [{says: It helps., test: higher, of: bn, than: none}]",
    "note": "note: What to know first.",
}


def _written(path: Path, where: str) -> StudyFile:
    file, below = schemas()
    try:
        text = read_yaml(path, path.parent)
    except Unreadable as error:
        raise UserError(f"{where} {error.reason}") from None
    try:
        return file.model_validate(text)
    except ValidationError as error:
        raise _refusal(error, where, below) from None


def _refusal(error: ValidationError, where: str, below: Mapping[str, type[BaseModel]]) -> UserError:
    """Describe the first error: where, what was given, what is allowed, what to type."""
    errors = error.errors(include_url=False)
    first = errors[0]
    *parents, key = first["loc"] or ("",)
    place = ".".join(printable(str(word)) for word in parents)
    if first["type"] == "extra_forbidden":
        model = below.get(str(parents[0]), StudyFile) if parents else StudyFile
        allowed = [field.alias or name for name, field in model.model_fields.items()]
        return unknown(f"key of {where}{f': {place}' if place else ''}", printable(str(key)), allowed, "{}: ...")
    if first["type"] == "missing":
        missing = [str(e["loc"][-1]) for e in errors if e["type"] == "missing" and list(e["loc"][:-1]) == parents]
        return UserError(f"{where}{f': {place}' if place else ''} lacks {', '.join(missing)}; type {key}: ...")
    if not first["loc"]:
        return UserError(f"{where} must be a mapping of keys to values; type question: Does it help?")
    is_name = key == "[key]"
    named = f"{'.'.join(map(str, parents[:-1]))}: the name" if is_name else ".".join(filter(None, (place, str(key))))
    says = what_it_should_be(first).replace("should be", "must be")
    given = printable(repr(first["input"]), 60)
    return UserError(f"{where}: {named} {says}, not {given}; type {_EXAMPLES.get(str(first['loc'][0]), '')}")


def _claim(
    written: ClaimFile, where: str, methods: Mapping[str, Any], settings: Mapping[str, Any], metric: str
) -> Claim:
    c = written.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)
    test = str(c["test"])
    if test not in CLAIMS:
        raise unknown(f"test of {where}", printable(test), CLAIMS, "test: {}")
    takes = keys_of(CLAIMS[test])
    in_words = ", ".join(sorted(takes, key=lambda key: not takes[key].needed))
    for key in claim_keys():
        if key in takes and takes[key].needed and key not in c and not (key == "than" and "than_in" in c):
            raise UserError(f"{where}: test: {test} needs {key}: ...")
        if key in c and key not in takes:
            raise UserError(f"{where}: test: {test} takes {in_words} and no {key}; leave {key} out")
    of, places = _names(c["of"]), _names(c.get("in", list(settings)))
    own = {key: _value(takes[key].what, key, c[key], where) for key in takes if key in c}
    named = {what: [key for key in takes if takes[key].what == what] for what in ("methods", "setting")}
    for name in (*of, *itertools.chain(*(own.get(key, ()) for key in named["methods"]))):
        if name not in methods:
            raise unknown(f"method in {where}", printable(name), methods, "of: {}")
    for name in (*places, *(own[key] for key in named["setting"] if key in own)):
        if name not in settings:
            raise unknown(f"setting in {where}", printable(name), settings, "in: {}")
    if not own.get("than_in") and not own.get("than_metric") and (itself := set(of) & set(own.get("than", ()))):
        raise UserError(
            f"{where}: {min(itself)} is compared with itself, which shows nothing; name another method in than, or a "
            f"setting in than_in"
        )
    for key in ("states", "beside"):
        if key in c and c[key] not in SENTENCES:
            raise unknown(f"sentence in {where}", printable(str(c[key])), SENTENCES, key + ": {}")
    if "states" in c and "beside" in c:
        raise UserError(
            f"{where}: a claim states a sentence or stands beside one, not both; leave out states: "
            f"{c['states']} or beside: {c['beside']}"
        )
    left_out: dict[str, Any] = {key: [] if takes[key].what == "methods" else None for key in takes}
    kind: Any = CLAIMS[test]
    about = [str(c.get(key, "")) for key in ("states", "beside")]
    claim: Claim = kind(str(c["says"]), of, places, str(c.get("metric", metric)), *about, **{**left_out, **own})
    return claim


def _value(what: str, key: str, given: Any, where: str) -> Any:
    """Return what a key of a claim says, in its type."""
    if what == "methods":
        return _names(given)
    if what not in ("number", "margin"):
        return str(given)
    number = _number(given, f"{where}: {key}")
    if what == "margin" and number <= 0:
        raise UserError(f"{where}: {key} must be above 0, not {printable(repr(given))}; type {key}: 0.01")
    return number


def _number(given: Any, where: str) -> float:
    """Parse a number, also one written as a fraction such as 1/12."""
    try:
        if len(str(given)) <= 30 and re.search(r"[eE][-+]?\d{4}", str(given)) is None:  # else it may take for ever
            return float(Fraction(str(given)))
    except (ValueError, ZeroDivisionError, OverflowError):
        pass
    raise UserError(f"{where} must be a number such as 0.01 or 1/12, not {printable(repr(given))}")


def _names(given: Any) -> list[str]:
    return [str(name) for name in given] if isinstance(given, list | tuple) else [str(given)]
