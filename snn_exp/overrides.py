"""A line of overrides: Hydra's parser reads it, and what we have no such key or option for is refused here.

Afterwards each is in plain form: no '+', depth=110 as d110, nothing given twice.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode

from snn_exp.config import GROUPS, KEYS
from snn_exp.errors import UserError, unknown
from snn_exp.rules import RUN_ID

CHOICES = (*GROUPS, "method", "experiment")  # every config folder a person can choose from
CONFIG_NAME = "train"


def parse_overrides(arguments: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Overrides as Hydra reads them; a loader knows which keys are groups.

    Raises:
        UserError: one that cannot be read.

    Example:
        >>> [o.key_or_group for o in parse_overrides(["neuron=lif", "neuron.tau=3"])]
        ['neuron', 'neuron.tau']
    """
    try:
        return OverridesParser.create(loader).parse_overrides(list(arguments))
    except HydraException as error:
        raise UserError(f"{first_line(error)}; an override looks like neuron=lif or neuron.tau=3") from None


@functools.lru_cache(maxsize=4096)
def parsed_override(line: str) -> Override:
    """One override; cells share most of theirs."""
    (override,) = parse_overrides([line])
    return override


def first_line(error: Exception) -> str:
    """What a message of Hydra's says first; the rest is for its own developers."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def is_value(override: Override) -> bool:
    """A value (neuron.tau=3, seed=1) and not a choice of a group, nor a setting of Hydra's own."""
    key = override.key_or_group
    return key not in CHOICES and not key.startswith("hydra")


def is_sweepers(override: Override) -> bool:
    """A setting of the sweeper."""
    return override.key_or_group.startswith(("hydra.sweeper", "hydra/sweeper"))


def is_hydras(override: Override) -> bool:
    """A setting of Hydra's own, or an experiment, which may hold some."""
    key = override.key_or_group
    return key == "experiment" or key.startswith("hydra")


def text_of(override: Override) -> str:
    """It as it was typed."""
    assert override.input_line is not None
    return override.input_line


def read_overrides(arguments: Sequence[str], loader: ConfigLoader) -> list[Override]:
    """The overrides of a command line in plain form."""
    overrides = [normalized(o, loader) for o in parse_overrides(arguments, loader)]
    _refuse_twice_given(overrides)
    return overrides


def with_params(overrides: list[Override], hydra: Mapping[str, Any], loader: ConfigLoader) -> list[Override]:
    """With the hydra.sweeper.params of an experiment, which what is typed overrules."""
    given = hydra["sweeper"].get("params") or {}
    if not isinstance(given, Mapping):
        raise UserError(f"hydra.sweeper.params={given} is no list of axes; each is a line such as seed: 0,1,2")
    params = [f"{key}={value}" for key, value in given.items()]
    for line in params:
        if line.lstrip("+~ ").startswith("hydra"):
            raise UserError(f"hydra.sweeper.params has {line}, and holds axes of runs only, such as seed: 0,1,2")
    return last_of_each([normalized(o, loader) for o in parse_overrides(params, loader)] + overrides)


def _refuse_twice_given(overrides: Sequence[Override]) -> None:
    seen: dict[str, Override] = {}
    for o in overrides:
        if o.key_or_group in seen:
            raise UserError(
                f"{o.key_or_group} is given twice, as {text_of(seen[o.key_or_group])} and {text_of(o)}; give it once"
            )
        seen[o.key_or_group] = o


def last_of_each(overrides: list[Override]) -> list[Override]:
    """What is said last of each key holds."""
    return list({o.key_or_group: o for o in overrides}.values())


def normalized(override: Override, loader: ConfigLoader) -> Override:
    """The override in plain form: no '+', depth=110 as d110, an unknown key or option refused here."""
    key, line = override.key_or_group, text_of(override)
    head = key.partition("@")[0].partition(".")[0].partition("/")[0]
    if head == "hydra":
        if override.is_sweep_override():
            raise UserError(
                f"{line} is a sweep, and a sweep has one {key}; give one value"
                + (f", in quotes: {key}=\"'{override.get_value_string()}'\"" if ".params." in key else "")
            )
        return override
    if head not in (*CHOICES, *KEYS):
        raise unknown(
            "group or key",
            key,
            dict.fromkeys((*CHOICES, *KEYS)),
            f"{{}}{line[line.find('=') :] if '=' in line else ''}",
        )
    if override.is_delete():
        choice = loader.load_configuration(CONFIG_NAME, [], RunMode.RUN).hydra.runtime.choices.get(key, 0)
        has_none = "none" in _options(loader, key)
        instead = f"type {key}=none" if has_none else f"leave it out for {key}={choice}"
        raise UserError(f"{line} would leave a run without its {key}; {instead}")
    plain = line.lstrip("+")
    (override,) = parse_overrides([plain], loader)
    if key in CHOICES and override.is_interval_sweep():
        raise UserError(f"{line} is a range, and {key} a choice among options; name some of: "
                        f"{', '.join(sorted(_options(loader, key)))}")  # fmt: skip
    if key == "depth":
        sweeping = override.is_sweep_override()
        values = list(override.sweep_string_iterator()) if sweeping else [plain.partition("=")[2]]
        (override,) = parse_overrides([f"depth={','.join('d' + v if v.strip().isdigit() else v for v in values)}"])
    if key == "teacher":  # a run id of digits alone, or with one e among them, is no number
        words = plain.partition("=")[2].split(",")
        (override,) = parse_overrides(["teacher=" + ",".join(f"'{w}'" if RUN_ID.fullmatch(w) else w for w in words)])
    if key in CHOICES:
        _check_options(override, loader)
    return override


@functools.lru_cache(maxsize=128)
def _options(loader: ConfigLoader, group: str) -> list[str]:
    """The YAML files of a group; Hydra copies its whole repository to list them."""
    return loader.get_group_options(group, ObjectType.CONFIG)


def _check_options(override: Override, loader: ConfigLoader) -> None:
    """Every value of a choice must be one of the group's YAML files."""
    group = override.key_or_group
    options = _options(loader, group)
    values = override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]
    for value in islice(values, 10_000):
        name = str(value) if value is not None else "null"
        if name in options:
            continue
        if group == "depth":
            depths = sorted(int(option[1:]) for option in options)
            given = int(name[1:]) if name[1:].isdigit() else depths[0]
            closest = min(depths, key=lambda depth: abs(depth - given))
            raise UserError(
                f"There is no depth {name.removeprefix('d')}; allowed: {', '.join(map(str, depths))}; the nearest is "
                f"{closest}: type depth=d{closest} (any other depth a network can have: depth.num_layers=N)"
            )
        raise unknown(group, name, options, f"{group}={{}}")
