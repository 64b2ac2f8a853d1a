"""Read a line of overrides with Hydra's parser, and refuse unknown keys and options.

Afterwards each is in plain form: no '+', depth=110 as d110, nothing given twice.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from itertools import islice
from math import prod
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep, Sweep
from hydra.errors import HydraException
from hydra.types import RunMode

from snn_exp.config import interpolations, loggers, override_faults, schemas
from snn_exp.config.constraints import RUN_ID
from snn_exp.config.experiment import GROUPS, KEYS, RUN_KEYS
from snn_exp.errors import UserError, unknown

CHOICES = (*GROUPS, "method", "experiment")  # every config folder a person can choose from
CONFIG_NAME = "train"
MAX_CELLS = 100_000
MAX_ARGUMENTS = 1_000


def parse_overrides(arguments: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Parse overrides as Hydra does; a loader knows which keys are groups.

    Raises:
        UserError: one that cannot be read.

    Example:
        >>> [o.key_or_group for o in parse_overrides(["neuron=lif", "neuron.tau=3"])]
        ['neuron', 'neuron.tau']
    """
    if len(arguments) > MAX_ARGUMENTS:
        raise UserError(
            f"{len(arguments):,} arguments are more than the {MAX_ARGUMENTS:,} that a command takes; put what they set "
            f"into an experiment, a file such as experiment/mine.yaml in a folder given as --config-dir"
        )
    return [_parsed(line, loader) for line in arguments]


# Raised by the parser besides its own errors: by int() and float(), and by functions given a wrong argument.
_FAILS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, AssertionError, RecursionError)


def _parsed(line: str, loader: ConfigLoader | None) -> Override:
    if fault := override_faults.unreadable(line):
        raise UserError(fault)
    line = _with_quotes(line)
    try:
        (override,) = OverridesParser.create(loader).parse_overrides([line])
    except (HydraException, *_FAILS) as error:
        raise _fault(line, str(error)) from None
    if not override.key_or_group:
        raise _fault(line)
    interpolations.require_plain(override.input_line or "", "an argument")
    num_values(override)
    return override


def _fault(line: str, said: str = "") -> UserError:
    return UserError(override_faults.sentence(line, (*CHOICES, *KEYS), schemas.load(), said))


def _with_quotes(line: str) -> str:
    """Quote the overrides of a named run again where the shell has removed their quotes."""
    key, _, value = line.partition("=")
    if key.lstrip("+") in RUN_KEYS and "=" in value and not re.search(r"['\"(]", value):
        return f"{key}='{value}'"
    return line


def num_values(override: Override) -> int:
    """Return the number of values of a sweep without expanding it; 1 if it is not a sweep.

    Raises:
        UserError: it has none, or more than a sweep may have runs.

    Example:
        >>> num_values(parsed_override("seed=range(5)")), num_values(parsed_override("neuron=lif,plif"))
        (5, 2)
    """
    sweep, line = override.value(), text_of(override)
    if isinstance(sweep, RangeSweep):
        number = _num_in_range(sweep, line)
    elif isinstance(sweep, ChoiceSweep):
        number = len(sweep.list)
        if any(isinstance(value, Sweep) for value in sweep.list):
            raise UserError(f"{line} is a sweep within a sweep; name all its values in one, such as seed=0,1,2")
    elif isinstance(sweep, Glob) and override.config_loader is not None:
        number = len(list(override.sweep_iterator()))
    else:
        return 1
    if number == 0:
        why = "no option matches" if isinstance(sweep, Glob) else "a range goes up, such as range(0,5)"
        raise UserError(f"{line} names no value: {why}; type snn-exp options to see what there is")
    if number > MAX_CELLS:
        raise UserError(f"{line} has {number:,} values, and a sweep may have {MAX_CELLS:,} runs; name fewer")
    return number


def _num_in_range(sweep: RangeSweep, line: str) -> int:
    try:
        start, stop, step = (Decimal(str(number)) for number in (sweep.start, sweep.stop, sweep.step))
        if not (start.is_finite() and stop.is_finite() and step.is_finite() and step):
            raise UserError(f"{line} never ends; a range has two ends and a step other than 0, such as range(0,1,0.1)")
        return max(0, int(((stop - start) / step).to_integral_value(ROUND_CEILING)))
    except ArithmeticError:
        raise UserError(f"{line} is not a range of numbers; type range(0,5), say") from None


def require_few_runs(overrides: Sequence[Override]) -> None:
    """Refuse a sweep of too many runs before it is expanded.

    Raises:
        UserError: with the number of runs and the choices it is the product of.
    """
    axes = [(o.key_or_group, num_values(o)) for o in overrides if o.is_discrete_sweep()]
    require_few([number for _, number in axes], " x ".join(f"{number:,} of {key}" for key, number in axes))


def require_few(factors: Sequence[int], what: str) -> None:
    """Refuse more than `MAX_CELLS` runs.

    Args:
        factors: numbers of which the runs are the product.
        what: the product in words.

    Raises:
        UserError: there are more.
    """
    if (number := prod(factors)) > MAX_CELLS:
        raise UserError(
            f"this is a sweep of {number:,} runs ({what}), and one may have {MAX_CELLS:,}; name fewer values, or let "
            f"snn-exp search choose among them"
        )


@functools.lru_cache(maxsize=4096)
def parsed_override(line: str) -> Override:
    """Parse one override, cached: cells share most of theirs."""
    (override,) = parse_overrides([line])
    return override


def first_line(error: Exception) -> str:
    """Return the first line of one of Hydra's messages; the rest is for its own developers."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "it cannot be read")
    return re.sub(r"^\w+(?:Error|Exception) raised while [^:]*: ", "", line)


def is_value(override: Override) -> bool:
    """Return whether it is a value (neuron.tau=3, seed=1), not a choice of a group nor a setting of Hydra's own."""
    key = override.key_or_group
    return key not in CHOICES and not key.startswith("hydra")


def is_sweepers(override: Override) -> bool:
    """Return whether it is a setting of the sweeper."""
    return override.key_or_group.startswith(("hydra.sweeper", "hydra/sweeper"))


def is_hydras(override: Override) -> bool:
    """Return whether it is a setting of Hydra's own, or an experiment, which may hold some."""
    key = override.key_or_group
    return key == "experiment" or key.startswith("hydra")


def text_of(override: Override) -> str:
    """Return the override as it was typed."""
    assert override.input_line is not None
    return override.input_line


def read_overrides(arguments: Sequence[str], loader: ConfigLoader) -> list[Override]:
    """Read the overrides of a command line in plain form."""
    overrides = [normalized(o, loader) for o in parse_overrides(arguments, loader)]
    _refuse_twice_given(overrides)
    return overrides


def with_params(overrides: list[Override], hydra: Mapping[str, Any], loader: ConfigLoader) -> list[Override]:
    """Add an experiment's hydra.sweeper.params, which typed overrides take precedence over."""
    given = hydra["sweeper"].get("params") or {}
    if not isinstance(given, Mapping):
        raise UserError(f"hydra.sweeper.params={given} is not a list of axes; each is a line such as seed: 0,1,2")
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
    """Keep the last override of each key."""
    return list({o.key_or_group: o for o in overrides}.values())


def normalized(override: Override, loader: ConfigLoader) -> Override:
    """Return the override in plain form: no '+', depth=110 as d110; refuse an unknown key or option."""
    key, line = override.key_or_group, text_of(override)
    head = key.partition("@")[0].partition(".")[0].partition("/")[0]
    if head == "hydra":
        if key == "hydra" or ("/" in key and not isinstance(override.value(), str | Sweep)):
            raise UserError(f"{line} is not valid for Hydra; type hydra/launcher=joblib hydra.launcher.n_jobs=2, say")
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
    if override.package is not None:
        instead = f"{head}={line.partition('=')[2]}"
        raise UserError(f"{line} would move {head} to where it is not read; type {instead}")
    if override.is_delete():
        choice = loader.load_configuration(CONFIG_NAME, [], RunMode.RUN).hydra.runtime.choices.get(key, 0)
        has_none = "none" in _options(loader, key)
        instead = f"type {key}=none" if has_none else f"leave it out for {key}={choice}"
        raise UserError(f"{line} would leave a run without its {key}; {instead}")
    plain = line.lstrip("+")
    if key == "logger" and isinstance(several := override.value(), list):
        return parse_overrides([f"logger.name={loggers.joined([str(each) for each in several])}"], loader)[0]
    if key in CHOICES and isinstance(given := override.value(), list | dict):
        each = ",".join(map(str, given))
        raise UserError(f"{line} is a list, and {key} is one of its options; to run each, type -m {key}={each}")
    (override,) = parse_overrides([plain], loader)
    if key in CHOICES and override.is_interval_sweep():
        raise UserError(f"{line} is a range, and {key} a choice among options; name some of: "
                        f"{', '.join(sorted(_options(loader, key)))}")  # fmt: skip
    if key == "depth":
        sweeping = override.is_sweep_override()
        values = list(override.sweep_string_iterator()) if sweeping else [plain.partition("=")[2]]
        (override,) = parse_overrides([f"depth={','.join('d' + v if v.strip().isdigit() else v for v in values)}"])
    if key in RUN_KEYS:  # a run id of digits alone, or with one e among them, is not a number
        words = plain.partition("=")[2].split(",")
        (override,) = parse_overrides([f"{key}=" + ",".join(f"'{w}'" if RUN_ID.fullmatch(w) else w for w in words)])
    if key in CHOICES:
        _check_options(override, loader)
    return override


@functools.lru_cache(maxsize=128)
def _options(loader: ConfigLoader, group: str) -> list[str]:
    """Return the options of a group, cached: Hydra copies its whole repository to list them."""
    return loader.get_group_options(group, ObjectType.CONFIG)


def _check_options(override: Override, loader: ConfigLoader) -> None:
    """Refuse a choice that is not one of the group's YAML files."""
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
