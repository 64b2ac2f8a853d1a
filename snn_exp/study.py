"""A study as data: one question, asked of several methods with the same tuning budget. No torch.

It is written in studies/<name>/study.yaml; docs/studies.md says what each key means.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import yaml

from snn_exp import compose
from snn_exp.errors import UserError, unknown

Overrides = tuple[str, ...]
Key = tuple[str, str]  # setting, method


@dataclasses.dataclass(frozen=True)
class Setting:
    """A circumstance in which all methods are compared, such as a depth.

    Args:
        name: of the setting.
        overrides: what it sets.
        grid: key -> values that every method may tune over here.
        trial_seeds: each point of the grid is tried with each of them.
        tuned_in: the setting whose choice is used here instead of tuning.
    """

    name: str
    overrides: Overrides
    grid: Mapping[str, Sequence[Any]]
    trial_seeds: Sequence[int]
    tuned_in: str

    def points(self) -> list[Overrides]:
        """The points of the grid, as overrides."""
        return [
            tuple(f"{key}={value}" for key, value in zip(self.grid, values, strict=True))
            for values in itertools.product(*self.grid.values())
        ]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence that the figures decide.

    Args:
        says: the sentence.
        test: higher or lower (the interval of the paired difference excludes 0), within (the mean paired difference is
            at most margin), equivalent (two one-sided tests at margin), at_least or at_most (the mean against value),
            ratio (the interval of the paired ratio of `of` to `than` lies below value).
        of: methods it is said of.
        than: methods they are compared with.
        settings: where.
        metric: such as test/acc.
        margin: in the metric's unit.
        value: in the metric's unit; of a ratio, a number.
        than_metric: of `than` in a ratio, where it is another one.
        than_in: the setting in which it is compared with `than`, if not its own; then `than` may be left out, which
            compares each method with itself.
    """

    says: str
    test: Literal["higher", "lower", "within", "equivalent", "at_least", "at_most", "ratio"]
    of: Sequence[str]
    than: Sequence[str]
    settings: Sequence[str]
    metric: str
    margin: float | None
    value: float | None
    than_metric: str | None = None
    than_in: str | None = None


@dataclasses.dataclass(frozen=True)
class Study:
    """What study.yaml says.

    Args:
        folder: studies/<name>.
        question: what is asked, in a sentence.
        status: claims, or exploratory.
        metric: what the claims rest on.
        reference: the method that the others are compared with in tables.
        budget_core_hours: most CPU time all its runs together may take.
        seeds: of the final runs.
        more_seeds: pattern SETTING/METHOD -> seeds beyond those.
        methods: name -> overrides.
        settings: name -> setting.
        exclude: pattern SETTING/METHOD of what is not run -> why.
        base: overrides of every run.
        claims: what the figures decide.
        note: what a reader must know before the claims, printed on top of the page.
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
    note: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def pairs(self) -> list[Key]:
        """Setting and method of everything that is compared."""
        pairs = itertools.product(self.settings, self.methods)
        return [key for key in pairs if not any(matches(key, pattern) for pattern in self.exclude)]

    def seeds_of(self, key: Key) -> list[int]:
        """The seeds of the final runs of a setting and method."""
        more = (seeds for pattern, seeds in self.more_seeds.items() if matches(key, pattern))
        return sorted({*self.seeds, *itertools.chain(*more)})


def matches(key: Key, pattern: str) -> bool:
    """Whether a setting and method are meant by a pattern such as 'digits_*/bn'."""
    return fnmatch.fnmatch("/".join(key), pattern)


def studies_root() -> Path:
    """Where studies are: SNN_EXP_STUDIES, or studies/ beside the configs, or here."""
    if given := os.environ.get("SNN_EXP_STUDIES"):
        return Path(given)
    beside = compose.config_dir().parent / "studies"
    return beside if beside.is_dir() else Path("studies")


def names() -> list[str]:
    """The studies there are."""
    return sorted(path.parent.name for path in studies_root().glob("*/study.yaml"))


def load(name: str) -> Study:
    """Reads studies/<name>/study.yaml.

    Raises:
        UserError: no such study, broken YAML, an unknown or missing key, a name that is not defined.
    """
    if name not in names():
        raise unknown("study", name, names(), "snn-exp study {}")
    folder = studies_root() / name
    where = f"{folder.name}/study.yaml"
    try:
        text: Any = yaml.safe_load((folder / "study.yaml").read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{where} is broken YAML: {' '.join(str(error).split())}") from None
    y = _mapping(text, where, need={"question", "methods", "seeds", "budget_core_hours"},
                 may={"status", "metric", "reference", "base", "settings", "tuning", "more_seeds", "exclude",
                      "claims", "note"})  # fmt: skip
    tuning = _mapping(y.get("tuning") or {}, f"{where}: tuning", may={"grid", "seeds"})
    methods = {str(m): tuple(map(str, o or ())) for m, o in _mapping(y["methods"], f"{where}: methods").items()}
    if not methods:
        raise UserError(f"{where} has no methods; type at least two, such as bn: [norm=bn]")
    settings: dict[str, Setting] = {}
    for setting, given in _mapping(y.get("settings") or {"main": {}}, f"{where}: settings").items():
        s = _mapping(given or {}, f"{where}: settings.{setting}", may={"overrides", "grid", "tuned_in"})
        grid = s.get("grid", tuning.get("grid")) or {}
        settings[str(setting)] = Setting(
            name=str(setting),
            overrides=tuple(map(str, s.get("overrides") or ())),
            grid={str(k): list(v) for k, v in _mapping(grid, f"{where}: grid").items()},
            trial_seeds=list(tuning.get("seeds") or ()),
            tuned_in=str(s.get("tuned_in", setting)),
        )
    for place in settings.values():
        if place.tuned_in not in settings:
            raise unknown(f"setting in {where}", place.tuned_in, settings, "tuned_in: {}")
    more_seeds = {str(p): list(of) for p, of in _mapping(y.get("more_seeds") or {}, f"{where}: more_seeds").items()}
    if shared := set(tuning.get("seeds") or ()) & {*y["seeds"], *itertools.chain(*more_seeds.values())}:
        raise UserError(f"{where} tunes on seed {min(shared)}, which is also a final seed; final seeds must be fresh")
    exclude = {str(p): str(why) for p, why in _mapping(y.get("exclude") or {}, f"{where}: exclude").items()}
    for pattern in (*more_seeds, *exclude):
        if not any(matches(key, pattern) for key in itertools.product(settings, methods)):
            raise UserError(f"{where}: {pattern} is no SETTING/METHOD of this study; type '*/{next(iter(methods))}'")
    metric = str(y.get("metric", "test/acc"))
    reference = str(y.get("reference", next(iter(methods))))
    if reference not in methods:
        raise unknown(f"method in {where}", reference, methods, "reference: {}")
    return Study(
        folder=folder,
        question=" ".join(str(y["question"]).split()),
        status=y.get("status", "claims"),
        metric=metric,
        reference=reference,
        budget_core_hours=float(y["budget_core_hours"]),
        seeds=list(y["seeds"]),
        more_seeds=more_seeds,
        base=tuple(map(str, y.get("base") or ())),
        methods=methods,
        settings=settings,
        exclude=exclude,
        claims=[_claim(c, f"{where}: claims", methods, settings, metric) for c in y.get("claims") or ()],
        note=" ".join(str(y.get("note") or "").split()),
    )


def _mapping(given: Any, where: str, need: Collection[str] = (), may: Collection[str] | None = None) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise UserError(f"{where} must be a mapping of names to values, not {given!r}")
    if may is not None:
        for key in given:
            if key not in (*need, *may):
                raise unknown(f"key of {where}", str(key), (*need, *may), "{}: ...")
    if missing := sorted(set(need) - given.keys()):
        raise UserError(f"{where} lacks {', '.join(missing)}; type {missing[0]}: ...")
    return given


# What decides each test; a ratio may also name than_metric.
_TESTS: Mapping[str, tuple[str, ...]] = {
    "higher": ("than",), "lower": ("than",), "within": ("than", "margin"), "equivalent": ("than", "margin"),
    "at_least": ("value",), "at_most": ("value",), "ratio": ("than", "value"),
}  # fmt: skip


def _claim(given: Any, where: str, methods: Mapping[str, Any], settings: Mapping[str, Any], metric: str) -> Claim:
    decisive = ("than", "than_in", "margin", "value", "than_metric")
    c = _mapping(given, where, need={"says", "test", "of"}, may={"in", "metric", *decisive})
    test = str(c["test"])
    if test not in _TESTS:
        raise unknown(f"test of {where}", test, _TESTS, "test: {}")
    takes = (
        *_TESTS[test],
        *(["than_in"] if "than" in _TESTS[test] else []),
        *(["than_metric"] if test == "ratio" else []),
    )
    for key in decisive:
        if key in _TESTS[test] and key not in c and not (key == "than" and "than_in" in c):
            raise UserError(f"{where}: test: {test} needs {key}: ...")
        if key in c and key not in takes:
            raise UserError(
                f"{where}: {key} does not go with test: {test}, which takes {', '.join(takes)}; leave it out"
            )
    of, than, places = _names(c["of"]), _names(c.get("than", ())), _names(c.get("in", list(settings)))
    for name in (*of, *than):
        if name not in methods:
            raise unknown(f"method in {where}", name, methods, "of: {}")
    for name in (*places, *_names(c.get("than_in", ()))):
        if name not in settings:
            raise unknown(f"setting in {where}", name, settings, "in: {}")
    margin, value = (_number(c[key], f"{where}: {key}") if key in c else None for key in ("margin", "value"))
    return Claim(
        str(c["says"]),
        c["test"],
        of,
        than,
        places,
        str(c.get("metric", metric)),
        margin,
        value,
        c.get("than_metric"),
        c.get("than_in"),
    )


def _number(given: Any, where: str) -> float:
    """A number, also one written as a fraction such as 1/12."""
    try:
        return float(Fraction(str(given)))
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{where} must be a number such as 0.01 or 1/12, not {given!r}") from None


def _names(given: Any) -> list[str]:
    return [str(name) for name in given] if isinstance(given, list | tuple) else [str(given)]
