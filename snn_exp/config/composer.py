"""Compose cells with Hydra, each distinct choice of groups once per process. No torch.

Groups are composed by Hydra; values are laid over them here, so that a wrong one meets our checks and their messages.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from hydra import compose as hydra_compose
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from snn_exp.config import interpolations
from snn_exp.config.experiment import GROUPS, ExperimentConfig, resolve
from snn_exp.config.overrides import CONFIG_NAME, first_line, is_value, parsed_override, text_of
from snn_exp.errors import UserError


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a sweep: `config` is None where `refusal` says why not."""

    overrides: tuple[str, ...]
    config: ExperimentConfig | None
    refusal: str = ""


@functools.cache
def cache_of(search: tuple[str, ...]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the cache choices -> composed groups of this process for these folders."""
    return {}


class Composer:
    """Composes cells, each distinct choice of groups once per process.

    Args:
        search: further folders of configs; each list of them has a cache of its own.
    """

    def __init__(self, search: Sequence[str] = ()) -> None:
        self._composed = cache_of(tuple(search))
        self._valued: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, Any]] = {}

    def remember(self, overrides: tuple[str, ...], base: dict[str, Any]) -> None:
        """Remember the composed groups of these overrides."""
        self._composed[_choices(overrides)] = {key: value for key, value in base.items() if key != "hydra"}

    def cells(self, commands: Sequence[tuple[str, ...]]) -> list[Cell]:
        """Compose one cell per list of overrides."""
        distinct = set(map(_choices, commands))
        one_by_one = {part for choices in distinct for part in _parts(choices)}
        return [self._cell(command, by_parts=len(one_by_one) < len(distinct)) for command in commands]

    def _cell(self, overrides: tuple[str, ...], *, by_parts: bool) -> Cell:
        parsed = [parsed_override(line) for line in overrides]
        choices = _choices(overrides)
        try:
            if choices not in self._composed:
                self._composed[choices] = self._joined(choices) if by_parts else self._whole(choices)
            plain = self._with_values(choices, [o for o in parsed if is_value(o)])
            experiment = next((o.value() for o in parsed if o.key_or_group == "experiment"), None)
            return Cell(overrides, resolve({**plain, "experiment": experiment}))
        except UserError as refusal:
            return Cell(overrides, None, str(refusal))
        except OmegaConfBaseException as error:
            return Cell(overrides, None, interpolations.unresolved(error) or first_line(error))

    def _whole(self, choices: tuple[str, ...]) -> dict[str, Any]:
        if choices not in self._composed:
            self._composed[choices] = compose_plain([parsed_override(line) for line in choices], with_hydra=False)
        return self._composed[choices]

    def _joined(self, choices: tuple[str, ...]) -> dict[str, Any]:
        """Compose each choice alone and merge the groups: a grid needs one composition per option, not per cell.

        Where a choice sets something in another group, as a user's YAML file may, all are composed at once.
        """
        base, *alone = _parts(choices)
        joined = dict(self._whole(base))
        for part in alone:
            group, composed = parsed_override(part[-1]).key_or_group, self._whole(part)
            if any(composed[key] != value for key, value in self._whole(base).items() if key != group):
                return self._whole(choices)
            joined[group] = composed[group]
        return joined

    def _with_values(self, choices: tuple[str, ...], values: Sequence[Override]) -> dict[str, Any]:
        """Set the values in the composed groups; cells that differ only in the seed share the work."""
        composed = self._composed[choices]
        reads_seed = "${" in str(composed) or any("${" in text_of(o) for o in values)  # an interpolation may
        early = [o for o in values if reads_seed or o.key_or_group != "seed"]
        key = (choices, tuple(map(text_of, early)))
        if key not in self._valued:
            config = OmegaConf.create(composed)
            for o in early:
                OmegaConf.update(config, o.key_or_group, o.value(), merge=False)
            if reads_seed:
                interpolations.require_flat(as_plain(config, resolve=False))
            self._valued[key] = as_plain(config)
        return {**self._valued[key], **{o.key_or_group: o.value() for o in values if o.key_or_group == "seed"}}


def _choices(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Return the overrides that choose an option, which Hydra composes; the rest are values."""
    return tuple(line for line in overrides if not is_value(parsed_override(line)))


def _parts(choices: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Split choices into those that may affect any group, and with each of them the choices of one group."""
    wide = tuple(line for line in choices if parsed_override(line).key_or_group not in GROUPS)
    return [wide, *((*wide, line) for line in choices if line not in wide)]


def compose_plain(overrides: Sequence[Override], *, with_hydra: bool) -> dict[str, Any]:
    """Compose a config as plain data, choices as words, interpolations unresolved."""
    plain = OmegaConf.to_container(composed_by_hydra(overrides, with_hydra=with_hydra), resolve=False, enum_to_str=True)
    assert isinstance(plain, dict)
    if missing := [group for group in GROUPS if group not in plain]:
        raise UserError(
            f"no config file says what {missing[0]} is: the chosen option's file sets something else; give it a key of "
            f"{missing[0]}, or type {missing[0]}=... with another option"
        )
    return {str(key): value for key, value in plain.items()}


def composed_by_hydra(overrides: Sequence[Override], *, with_hydra: bool) -> DictConfig:
    """Compose what the overrides choose; their values are left out."""
    return hydra_compose(
        CONFIG_NAME, [text_of(o) for o in overrides if not is_value(o)], return_hydra_config=with_hydra
    )


def as_plain(settings: DictConfig, *, resolve: bool = True) -> dict[str, Any]:
    """Return a node as plain data, with or without its interpolations resolved."""
    plain = OmegaConf.to_container(settings, resolve=resolve)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
