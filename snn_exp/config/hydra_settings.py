"""Limit which of Hydra's own settings may be set, and by whom: Hydra instantiates some of them, and so runs code.

The composed tree is compared with the one that the installed plugins make of the same choices, value by value, so that
it does not matter how a file or an argument brings its value in. What differs has to be on one of two lists: what a
file may set, which holds plain numbers and names, and what the command line may also set, which may run commands
(the `setup` lines of a Slurm job): a person types that, and nobody can send it. The classes to call, callbacks,
logging, folders and the environment of jobs are on neither.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from snn_exp.config.overrides import first_line
from snn_exp.errors import UserError

Leaves = dict[str, Any]  # path under hydra -> value, not resolved

CHOICES = ("hydra/launcher", "hydra/sweeper", "hydra/sweeper/sampler")

# Settings that a file may make, each to null, a number, a yes or no, or a name.
FROM_FILES = (
    "mode",
    "launcher.n_jobs",
    "launcher.batch_size",
    "launcher.timeout_min",
    "launcher.cpus_per_task",
    "launcher.gpus_per_node",
    "launcher.gpus_per_task",
    "launcher.tasks_per_node",
    "launcher.nodes",
    "launcher.mem_gb",
    "launcher.mem_per_cpu",
    "launcher.mem_per_gpu",
    "launcher.partition",
    "launcher.qos",
    "launcher.account",
    "launcher.constraint",
    "launcher.gres",
    "launcher.array_parallelism",
    "launcher.max_num_timeout",
    "launcher.signal_delay_s",
    "launcher.ray.init.num_cpus",
    "launcher.ray.init.num_gpus",
    "launcher.ray.remote.num_cpus",
    "launcher.ray.remote.num_gpus",
    "launcher.ray.remote.max_retries",
)
PARAMS = "sweeper.params"  # overrides, checked as what is typed

# Settings that the command line may make as well: whatever the launcher and the sweeper take that does not name code.
TYPED_BELOW = ("launcher.", "sweeper.")
NAMES_CODE = ("custom_search_space",)

MOST = {"launcher.n_jobs": 1_000}

# Keys that Hydra itself fills in anew in each composition.
NOTED = ("runtime.version", "runtime.version_base", "runtime.cwd", "runtime.config_sources", "runtime.choices")
NOTED_OF_JOB = ("job.override_dirname", "job.config_name")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,:+-]{0,99}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*")
_ABSENT = object()

MAY = (
    "of Hydra's own settings hydra/launcher, hydra/sweeper, hydra.mode, hydra.sweeper.params and plain settings of the "
    "launcher such as hydra.launcher.n_jobs may be set"
)


def choices_of(composed: DictConfig) -> tuple[tuple[str, str], ...]:
    """Return the launcher, the sweeper and the sampler that are chosen."""
    return tuple((group, str(name)) for group, name in _hydras_choices(composed).items() if group in CHOICES)


def _hydras_choices(composed: DictConfig) -> dict[str, Any]:
    """Return the choices of Hydra's own groups."""
    return {str(group): name for group, name in composed.hydra.runtime.choices.items() if is_own(str(group))}


def require_no_deletion(overrides: Sequence[Override]) -> None:
    """Refuse to take out one of Hydra's own settings.

    Raises:
        UserError: an override such as ~hydra.launcher.
    """
    for o in overrides:
        if o.is_delete() and is_own(o.key_or_group):
            raise UserError(f"{o.input_line} would take out a setting of Hydra's own; leave it out for the default")


def is_own(key: str) -> bool:
    """Return whether a key or group is Hydra's own.

    Example:
        >>> is_own("hydra/launcher"), is_own("hydra.mode"), is_own("hydra"), is_own("neuron")
        (True, True, True, False)
    """
    return key.partition(".")[0].partition("/")[0].partition("@")[0] == "hydra"


def require_allowed(composed: DictConfig, plain: DictConfig, overrides: Sequence[Override]) -> None:
    """Refuse settings of Hydra's own that are set and may not be.

    Args:
        composed: everything, with all files and overrides.
        plain: what the installed plugins and our root config make of the same choices.
        overrides: those of the command line.

    Raises:
        UserError: with the first setting that is on no list, or that only the command line may make.
    """
    found, default = leaves(composed.hydra), leaves(plain.hydra)
    own = [o for o in overrides if is_own(o.key_or_group) and "/" not in o.key_or_group and not o.is_sweep_override()]
    typed = leaves(_with_typed(plain, own)) if own else default
    lines = [str(o.input_line) for o in overrides]
    if sorted(_listed(composed.hydra.overrides)) != sorted(lines):
        raise UserError(f"a config file sets hydra.overrides, which may not be set: {MAY}; take it out of the file")
    chosen, usual = _hydras_choices(composed), _hydras_choices(plain)
    for group in sorted({*chosen, *usual}):
        if chosen.get(group) != usual.get(group):
            raise UserError(f"{group}={chosen.get(group)} may not be chosen: {MAY}; leave it out")
    for path, most in MOST.items():
        if isinstance(number := found.get(path), int) and number > most:
            raise UserError(f"hydra.{path}={number} is more than the {most:,} that it may be; give fewer")
    for path in sorted({*found, *default}):
        value = found.get(path, _ABSENT)
        if value is _ABSENT and default[path] == {} and any(other.startswith(f"{path}.") for other in found):
            continue  # an empty mapping that is filled; what fills it is looked at
        if _same(value, default.get(path, _ABSENT)) or path.startswith((*NOTED, "overrides.")) or path in NOTED_OF_JOB:
            continue
        if _same(value, typed.get(path, _ABSENT)):
            _require_typeable(path, value)
        else:
            _require_sendable(path, value, default)


def leaves(node: DictConfig) -> Leaves:
    """Return path -> value of every value below a node; lists are values, and so are empty mappings.

    Example:
        >>> leaves(OmegaConf.create({"a": {"b": 1, "c": {}}, "d": [2]}))
        {'a.b': 1, 'a.c': {}, 'd': [2]}
    """
    return dict(_leaves(OmegaConf.to_container(node, resolve=False, enum_to_str=True), ""))


def _leaves(plain: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and bool(one == other))


def _listed(overrides: DictConfig) -> list[str]:
    plain = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(plain, dict)
    return [str(line) for of in ("hydra", "task") for line in plain[of]]


def _with_typed(plain: DictConfig, overrides: Sequence[Override]) -> DictConfig:
    """Return Hydra's own settings with only the command line's overrides applied."""
    root = copy.deepcopy(plain)
    OmegaConf.set_readonly(root.hydra, False)
    for o in overrides:
        key = o.key_or_group
        if not _is_params(key.partition(".")[2]):
            try:
                OmegaConf.update(root, key, o.value(), merge=True, force_add=True)
            except (OmegaConfBaseException, TypeError, ValueError, AssertionError) as error:
                raise UserError(f"{o.input_line} cannot be set: {first_line(error)}") from None
    typed = root.hydra
    if not isinstance(typed, DictConfig):
        raise UserError(f"hydra may not be set as a whole: {MAY}")
    return typed


def _has_underscored(path: str) -> bool:
    return any(key.startswith("_") or key in NAMES_CODE for key in path.split("."))


def _holds_underscored(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_underscored(str(key)) or _holds_underscored(v) for key, v in value.items())
    return isinstance(value, list | tuple) and any(map(_holds_underscored, value))


def _require_typeable(path: str, value: Any) -> None:
    """Refuse a typed setting that names code or is not of the launcher or sweeper."""
    if path == "mode" or _is_params(path):
        return
    if _has_underscored(path) or _holds_underscored(value):
        raise UserError(f"hydra.{path} names code, which only an installed plugin does: {MAY}; leave it out")
    if not path.startswith(TYPED_BELOW):
        raise UserError(f"hydra.{path} may not be set: {MAY}; leave it out")


def _require_sendable(path: str, value: Any, default: Leaves) -> None:
    """Refuse a setting from a file that is not on the list, or not plain."""
    if _has_underscored(path) or not (path.startswith(TYPED_BELOW) or path == "mode"):
        raise UserError(
            f"a config file sets hydra.{path}{_shown(value)}, which may not be set: a file runs no code, and {MAY}; "
            f"take it out of the file"
        )
    if _is_params(path):
        return
    if value is _ABSENT:
        raise UserError(f"a config file takes out hydra.{path}, which Hydra needs; leave it in")
    if path.startswith("sweeper."):
        raise UserError(
            f"a config file sets hydra.{path}{_shown(value)}, which nothing reads any more; take it out of the file: "
            f"snn-exp search has --budget, --sampler and --sampler-seed"
        )
    if path not in FROM_FILES:
        raise UserError(
            f"a config file sets hydra.{path}{_shown(value)}, and only the command line may, since it can run commands "
            f"or write elsewhere; take it out of the file, and type hydra.{path}=... if you want it"
        )
    if not _is_plain(value):
        raise UserError(
            f"a config file sets hydra.{path}{_shown(value)}, and may set it only to a number, true, false, null or a "
            f"name; type hydra.{path}=... if you want it"
        )


def _is_params(path: str) -> bool:
    return path == PARAMS or path.startswith(f"{PARAMS}.")


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and bool(_NAME.fullmatch(value)))


def _shown(value: Any) -> str:
    return "" if value is _ABSENT else f"={' '.join(str(value).split())[:60]}"


def as_overrides(composed: DictConfig, plain: DictConfig) -> tuple[str, ...]:
    """Return the overrides that make the same launcher and sweeper without the files that chose them.

    What they hold has been checked; a process that starts later cannot meet another file in its place.

    Args:
        composed: with all files and overrides.
        plain: what the installed plugins make of the same choices.
    """
    lines = [f"{group}={name}" for group, name in choices_of(composed)]
    found, default = leaves(composed.hydra), leaves(plain.hydra)
    for path, value in found.items():
        if path.startswith(TYPED_BELOW) and not _is_params(path) and not _same(value, default.get(path, _ABSENT)):
            if not _KEY.fullmatch(path):
                raise UserError(f"hydra.{path} is not a key: each part is a word, such as hydra.launcher.n_jobs")
            lines.append(f"++hydra.{path}={written(value)}")
    return tuple(lines)


def written(value: Any) -> str:
    """Return a value in Hydra's override grammar, interpolations unresolved.

    Example:
        >>> print(written(["a 'b'", None, True, 2.5, {"k": "v"}]))
        ['a \\'b\\'',null,true,2.5,{k:'v'}]
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(written, value)) + "]"
    return QuotedString(str(value), Quote.single).with_quotes()


def quoted(text: str) -> str:
    """Return a text quoted in Hydra's override grammar: a path may hold quotes, spaces and `${`.

    Example:
        >>> print(quoted("/tmp/it's ${here}"))
        '/tmp/it\\'s \\${here}'
    """
    literal = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    return written(literal)
