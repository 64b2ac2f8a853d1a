"""Limit a config's interpolations to `${seed}`, `${oc.env:HOME}`, `${oc.decode:${oc.env:HOME}}`, without nesting.

OmegaConf has more, some of which call functions that a package registers, and each in a chain may double what the one
before it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from snn_exp.errors import UserError

# Allowed in an interpolation: a key of the config, an environment variable, or the value that one spells.
_VARIABLE = r"\$\{\s*oc\.env:\s*\w+\s*(?:,[^${}]*)?\}"
_INTERPOLATION = re.compile(rf"{_VARIABLE}|\$\{{\s*oc\.decode:\s*{_VARIABLE}\s*\}}|\$\{{\s*\.*\w+(?:\.\w+)*\s*\}}")


def require_plain(value: str, where: str) -> None:
    """Refuse an interpolation that is more than a key or an environment variable.

    Raises:
        UserError: with the interpolations that are allowed.

    Example:
        >>> require_plain("${oc.env:HOME}/${seed}", "x.yaml")
        >>> require_plain("${now:%Y}", "x.yaml")
        Traceback (most recent call last):
        snn_exp.errors.UserError: x.yaml has ${now:%Y}: an interpolation names a key, such as ${seed}, or an ...
    """
    if "${" in value and "${" in _INTERPOLATION.sub("", value):
        raise UserError(
            f"{where} has {' '.join(value.split())[:80]}: an interpolation names a key, such as ${{seed}}, or an "
            f"environment variable, such as ${{oc.env:HOME}}; write the value itself"
        )


def require_flat(plain: Mapping[str, Any]) -> None:
    """Refuse interpolations of interpolations: each could double what the one before it says.

    Args:
        plain: a composed config, not resolved.

    Raises:
        UserError: an interpolation calls something, or names a key whose value has one.
    """
    for path, value in _strings(plain, ()):
        require_plain(value, ".".join(path))
        for dots, name in re.findall(r"\$\{\s*(\.*)([\w.]+)\s*\}", value):
            start = path[: -len(dots)] if dots else ()
            if "${" in str(_named(plain, (*start, *name.split(".")))):
                raise UserError(
                    f"{'.'.join(path)}={value[:80]} names {name}, which is an interpolation itself; name the value "
                    f"that both mean"
                )


def unresolved(error: Exception) -> str:
    """Describe why an interpolation has no value, without the words of OmegaConf; "" if that is not what is wrong.

    Example:
        >>> unresolved(ValueError("Interpolation key 'TAU' not found\\n    full_key: neuron.tau"))
        'neuron.tau names TAU, which is no key; name one, such as ${seed}, or a variable, such as ${oc.env:TAU}'
    """
    said = str(error)
    where = re.search(r"full_key: ([\w.]+)", said)
    what = where[1] if where else "an interpolation"
    if key := re.search(r"Interpolation key '([^']+)' not found|Error resolving key '([^']+)'", said):
        name = (key[1] or key[2]).strip(".") or "nothing"
        return (
            f"{what} names {name}, which is no key; name one, such as ${{seed}}, or a variable, such as "
            f"${{oc.env:{name}}}"
        )
    if "Recursive interpolation" in said:
        return f"{what} names itself; write the value"
    if variable := re.search(r"Environment variable '(\w+)' not found", said):
        return (
            f"{what} names the environment variable {variable[1]}, which is not set; set it, or type "
            f"${{oc.env:{variable[1]},DEFAULT}}"
        )
    return ""


def _strings(plain: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(plain, str):
        if "${" in plain:
            yield path, plain
    elif isinstance(plain, Mapping):
        for key, value in plain.items():
            yield from _strings(value, (*path, str(key)))
    elif isinstance(plain, list):
        for index, value in enumerate(plain):
            yield from _strings(value, (*path, str(index)))


def _named(plain: Any, path: Sequence[str]) -> Any:
    """Return the value at a path of a plain config, or at the first part of it that is not a container."""
    for key in path:
        if isinstance(plain, Mapping):
            plain = plain.get(key)
        elif isinstance(plain, list) and key.isdigit() and int(key) < len(plain):
            plain = plain[int(key)]
        else:
            return plain
    return plain
