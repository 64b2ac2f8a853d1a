"""Select stored runs by filters in the syntax of overrides. No torch.

A filter is an override. Hydra's parser reads it, the parameter's own check gives it its type, and it is compared with
the typed value of a stored config: neuron.tau=2, 2.0 and 2e0 are one value, as they are to `snn-exp train`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException

from snn_exp.config import schemas
from snn_exp.config.constraints import RUN_ID
from snn_exp.config.experiment import GROUPS, NEUTRAL, NEUTRAL_GROUPS, RUN_KEYS, SETTINGS, resolve
from snn_exp.config.hydra_setup import config_dir, options_of
from snn_exp.config.overrides import CHOICES, parse_overrides, parsed_override
from snn_exp.config.resolving import own_augment
from snn_exp.errors import UserError, nearest, unknown
from snn_exp.registry import Parameter, Scalar, parameters_of
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import output_root

SPECIAL = ("seed", "experiment", *RUN_KEYS)  # keys of a config besides the groups
KEYS = (*CHOICES, "seed", *RUN_KEYS, "state")  # keys of filters besides the parameters of an option
MOST_VALUES = 100_000


def value_text(value: Any) -> str:
    """Return a value as it is typed.

    Example:
        >>> value_text(None), value_text(True), value_text(2.0), value_text("bn")
        ('null', 'true', '2.0', 'bn')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def chosen(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return all values of a stored config, flat: {"neuron": "lif", "neuron.tau": 2.0, "seed": 3}.

    A parameter that is younger than the run has the value that reproduces it.

    Example:
        >>> chosen({"neuron": {"name": "lif", "tau": 2.0}, "seed": 3})
        {'neuron': 'lif', 'neuron.tau': 2.0, 'seed': 3}
    """
    flat: dict[str, Scalar] = {}
    for group in GROUPS:
        of = config.get(group)
        if isinstance(of, Mapping):
            flat |= {group if key == "name" else f"{group}.{key}": value for key, value in of.items()}
    for key, value in younger(config).items():
        flat.setdefault(key, value)
    return flat | {key: config[key] for key in SPECIAL if key in config}


def younger(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the parameters that a run may be older than, each with the value that reproduces the run.

    Example:
        >>> younger({"trainer": {"max_epochs": 12}})
        {'trainer.patience': None, 'trainer.peek': False}
    """
    groups = {group: of for group in GROUPS if isinstance(of := config.get(group), Mapping)}
    keys = [(key.split("."), value) for key, value in NEUTRAL.items()]
    return {
        f"{group}.{parameter}": value
        for (group, option, parameter), value in keys
        if group in groups and option in ("*", groups[group].get("name"))
    }


def group_of(config: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """Return a group of a stored config; one that is not stored is the neutral choice, or the data set's own.

    Example:
        >>> group_of({"dataset": {"name": "digits", "max_shift": 1}}, "augment")
        {'name': 'shift', 'max_shift': 1}
    """
    of = config.get(group)
    if of is None and group == "augment" and isinstance(dataset := config.get("dataset"), Mapping):
        return own_augment(dataset)
    if of is None and "dataset" in config:  # a whole config
        return NEUTRAL_GROUPS.get(group, {})
    return of if isinstance(of, Mapping) else {}


@dataclasses.dataclass(frozen=True)
class StoredValues:
    """The filterable values of a stored run.

    Args:
        config: the plain config; empty where it cannot be read.
        state: such as done or failed.
    """

    config: Mapping[str, Any]
    state: str = "done"

    @functools.cached_property
    def chosen(self) -> dict[str, Scalar]:
        """Return the config, flat, and the state."""
        unstored = ("augment", *NEUTRAL_GROUPS) if self.config else ()
        return {**chosen({**self.config, **{g: group_of(self.config, g) for g in unstored}}), "state": self.state}

    @functools.cached_property
    def method(self) -> str:
        """Return the method whose choices it has, the one with most choices if there are several; else none."""
        return next((name for name, bundle in _methods().items() if Condition("", bundle).agrees(self)), "none")


@dataclasses.dataclass(frozen=True)
class Condition:
    """One asked value.

    Args:
        text: as it can be typed back, such as neuron.tau=3.0.
        demands: flat key -> value; a run must have all of them. A method, a bundle of choices, has several.
    """

    text: str
    demands: Mapping[str, Scalar]

    def agrees(self, run: StoredValues) -> bool:
        """Return whether a run has all that is demanded."""
        return all(_has(run, key, value) for key, value in self.demands.items())


@dataclasses.dataclass(frozen=True)
class Filter:
    """A key and the values of which a run must have one.

    Args:
        key: as typed, without a leading +.
        conditions: one for each asked value.
    """

    key: str
    conditions: Sequence[Condition]

    def agrees(self, run: StoredValues) -> bool:
        """Return whether a run has one of the values."""
        return any(condition.agrees(run) for condition in self.conditions)


def read(text: str, stored: Iterable[str] = ()) -> Filter:
    """Return the filter that a person has typed.

    Args:
        text: key=value or key=value,value, such as neuron=lif,plif, depth=20, "optim.lr=1e-3, 0.01" or method=lif_bn.
        stored: the flat keys of the stored runs, some of which may be of a plugin that is no longer installed.

    Raises:
        UserError: not of this form; an unknown key or option; a value that no run can have.

    Example:
        >>> [c.demands for c in read("neuron.tau=2, 3e0").conditions]
        [{'neuron.tau': 2.0}, {'neuron.tau': 3.0}]
        >>> [c.text for c in read("depth=8,d20").conditions]
        ['depth.num_layers=8', 'depth.num_layers=20']
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip(" +"):
        raise UserError(f"{text!r} is not a valid filter; type key=value, such as neuron=lif or state=failed")
    key = key.strip(" +").removesuffix(".name")
    _require_key(key, value, stored)
    conditions = {c.text: c for value in _values(key, text) for c in [_condition(key, value)]}
    return Filter(key, list(conditions.values()))


def _require_key(key: str, value: str, stored: Iterable[str]) -> None:
    if key.startswith("hydra"):
        raise UserError(f"{key} says how runs are started, which is not stored with a run; leave it out")
    known = {*stored, *KEYS}
    if key not in known and not _parameters(key):
        guess = nearest(key, {*known, *_schema()})
        typed = value.replace("{", "{{").replace("}", "}}")
        raise unknown("key", key, known | {guess} if guess else known, f"{{}}={typed}")


def _values(key: str, text: str) -> Iterator[Any]:
    """Return each value as Hydra reads it, one per cell of a sweep."""
    value = text.partition("=")[2]
    if key in RUN_KEYS:  # a run id of digits alone, or with one e among them, is not a number
        value = ",".join(f"'{word.strip()}'" if RUN_ID.fullmatch(word.strip()) else word for word in value.split(","))
    (override,) = parse_overrides([f"{key}={value}"])
    if not override.is_sweep_override():
        yield override.value()
        return
    try:
        found = list(islice(override.sweep_string_iterator(), MOST_VALUES + 1))
    except (HydraException, ValueError):  # such as interval(0,1), glob(*), range(0,1,0)
        raise UserError(f"{text} names no values; type them, such as {key}=A,B") from None
    if len(found) > MOST_VALUES:
        raise UserError(f"{text} are more than {MOST_VALUES:,} values; name fewer")
    for word in found:
        yield parsed_override(f"{key}={word}").value()


def _condition(key: str, value: Any) -> Condition:
    if key == "seed":
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UserError(f"seed={value_text(value)} is not a seed; a seed is an int >= 0, such as seed=0")
    elif key in CHOICES:
        demands = _demands(key, value_text(value))
        kept = key if key not in SETTINGS or key in demands else next(iter(demands), key)
        return Condition(f"{kept}={value_text(demands.get(kept, value))}", demands)
    elif key in ("state", *RUN_KEYS):
        value = None if value is None else str(value)
        _words(value or "")
    else:
        value = _checked(key, value)
    return Condition(f"{key}={value_text(value)}", {key: value})


def _checked(key: str, value: Any) -> Scalar:
    """Return the value in the type that this parameter has in one of its group's options."""
    refusals = []
    for parameter in _parameters(key):
        if parameter.optional and parameter.type != "choice" and str(value).lower() == "none":
            value = None  # as Python writes what is typed as null
        try:
            return parameter.checked(value, key.partition(".")[0] + ".")
        except UserError as refusal:
            refusals.append(refusal)
    if refusals:
        raise refusals[0]
    return value  # type: ignore[no-any-return]  # of a plugin that is gone


def _parameters(key: str) -> list[Parameter]:
    """Return the parameters of this name, of each option of the group that has one."""
    return _schema().get(key, [])


@functools.cache
def _schema() -> dict[str, list[Parameter]]:
    """Return key of a group -> its parameters."""
    found: dict[str, list[Parameter]] = {}
    for group, cls in SETTINGS.items():
        for parameter in parameters_of(cls):
            found.setdefault(f"{group}.{parameter.name}", []).append(parameter)
    for group, options in schemas.load().items():
        for option in options.values():
            for parameter in option.parameters:
                found.setdefault(f"{group}.{parameter.name}", []).append(parameter)
    return found


def owners(key: str) -> list[str]:
    """Return the options that have a parameter, as overrides.

    Example:
        >>> owners("neuron.refractory")
        ['neuron=srm']
    """
    group, _, name = key.partition(".")
    options = schemas.load().get(group, {})
    return [f"{group}={option.name}" for option in options.values() if option.parameter(name)]


def _demands(group: str, name: str) -> dict[str, Scalar]:
    """Return the values that a choice of an option requires of a config."""
    if group == "experiment":
        return {group: name if name != "null" else None}
    if group == "depth" and name.removeprefix("d").isdecimal():
        return {"depth.num_layers": int(name.removeprefix("d"))}
    if group in schemas.REGISTRIES and name in schemas.load()[group]:
        return {group: name}
    file = config_dir() / group / f"{name}.yaml"
    options = options_of(group)
    if name not in options:
        raise unknown(group, name, options, f"{group}={{}}")
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    if group == "method":
        return _bundle(content)
    if name == "auto":
        return {group: name}
    own = {key: value for key, value in content.items() if key != "defaults"}
    head = own.pop("name", _schema_name(content) or name)
    named = {group: head} if group in schemas.REGISTRIES or group in ("logger", "energy") else {}
    return named | {f"{group}.{key}": _checked(f"{group}.{key}", value) for key, value in own.items()}


def _bundle(content: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the choices that a file of configs/method makes, and the values that it sets."""
    demands: dict[str, Scalar] = {}
    for entry in content.get("defaults") or []:
        for key, name in entry.items() if isinstance(entry, Mapping) else ():
            group = key.removeprefix("override ").strip().removeprefix("/").partition("@")[0]
            if group in CHOICES and name is not None:
                demands |= _demands(group, value_text(name))
    for group, of in content.items():
        if group in GROUPS and isinstance(of, Mapping):
            demands |= {f"{group}.{key}": _checked(f"{group}.{key}", value) for key, value in of.items()}
    return demands


def _schema_name(content: Mapping[str, Any]) -> str | None:
    """Return the registered part whose schema a variant such as configs/neuron/lif_slow.yaml takes."""
    for entry in content.get("defaults") or []:
        if isinstance(entry, str) and entry.startswith("/schema/"):
            return Path(entry.partition("@")[0]).name
    return None


@functools.cache
def _methods() -> dict[str, dict[str, Scalar]]:
    """Return name -> choices of each method; those with more choices come first."""
    names = sorted(path.stem for path in (config_dir() / "method").glob("*.yaml"))
    bundles = {name: _demands("method", name) for name in names}
    return dict(sorted(bundles.items(), key=lambda item: -len(item[1])))


def same(a: Scalar, b: Scalar) -> bool:
    """Return whether two values are one: 2 and 2.0 are, 1 and true are not."""
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def _has(run: StoredValues, key: str, value: Scalar) -> bool:
    if key in RUN_KEYS:
        return _is_named(run.chosen.get(key), value)
    if key not in run.chosen:
        return key == "experiment" and value is None
    stored = run.chosen[key]
    return same(stored, value) or (value in ("auto", None) and _is_answer(run.config, key, value, stored))


def _is_answer(config: Mapping[str, Any], key: str, asked: Scalar, stored: Scalar) -> bool:
    """Return whether a config has the value that `auto` or null resolves to in it."""
    group, _, parameter = key.partition(".")
    if group not in GROUPS:
        return False
    changed = {**group_of(config, group), parameter: None} if parameter else {"name": asked}
    try:
        return same(StoredValues(resolve({**config, group: changed}).to_plain()).chosen.get(key), stored)
    except (UserError, KeyError, TypeError):  # a config of an older form has no answer
        return False


def _is_named(stored: Scalar, asked: Scalar) -> bool:
    """Return whether a named run, such as a teacher, is the requested one: by id, or by overrides it agrees with."""
    if not isinstance(stored, str) or not isinstance(asked, str) or "=" not in asked:
        return same(stored, asked)
    result = RunFolder(output_root() / "runs" / stored).sound_result()
    return result is not None and all(read(word).agrees(StoredValues(result.config)) for word in _words(asked))


def _words(overrides: str) -> list[str]:
    try:
        return shlex.split(overrides)
    except ValueError as error:
        raise UserError(f"{overrides!r} cannot be read ({error}); type overrides apart by spaces") from None


def missing(filters: Sequence[Filter], runs: Sequence[StoredValues]) -> list[str]:
    """Return a sentence for each asked value that no run has, or none of those that agree with the other filters."""
    left = [run for run in runs if all(one.agrees(run) for one in filters)]
    said = []
    for one in filters:
        others = " and ".join(",".join(c.text for c in other.conditions) for other in filters if other is not one)
        for condition in one.conditions:
            if not any(map(condition.agrees, runs)):
                said.append(f"no run has {condition.text}; {_there_are(one.key, condition, runs)}")
            elif left and not any(map(condition.agrees, left)):
                said.append(f"no run with {others} has {condition.text}")
    if not left and not said and runs:
        said.append(f"no run has {' and '.join(','.join(c.text for c in one.conditions) for one in filters)} together")
    return said


def _there_are(key: str, condition: Condition, runs: Sequence[StoredValues]) -> str:
    keys = list(condition.demands)
    if key == "method":
        found: dict[str, Any] = {run.method: run.method for run in runs if run.config}
    else:
        found = {value_text(run.chosen[k]): run.chosen[k] for run in runs for k in keys[:1] if k in run.chosen}
    if found:
        several = sorted(found, key=lambda text: _in_order(found[text]))
        return f"there are {', '.join(several[:12])}{', ...' if len(several) > 12 else ''}"
    belongs = owners(keys[0]) if keys else []
    return f"it belongs to {', '.join(belongs[:5])}" if belongs else "there are none"


def _in_order(value: Any) -> tuple[int, float, str]:
    """Return a sort key: numbers by size, before words."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, float(value), ""
    return 1, 0.0, value_text(value)
