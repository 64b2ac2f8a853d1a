"""The space of a search: what is left open, and which parameters belong to which option. No torch, no Optuna.

An axis is an override that leaves a choice, in the grammar of every other command:

    neuron=lif,plif                            an option of a group
    network.width=8,16,24                      one of some values
    depth.num_layers=range(8,21,4)             whole numbers from 8 to 20 in steps of 4
    "optim.lr=tag(log,interval(0.001,0.03))"   a number, uniform in its logarithm
    "network.width=int(interval(8,24))"        a whole number
    "surrogate.atan.alpha=interval(1,5)"       a parameter of one option: proposed where that option is

A parameter that only some options of its group have is proposed with those alone; the three-part key is for a range of
each option's own. Which options a proposal has is asked of the composed config, so that a method, an experiment and a
default count as what is typed does.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import exp, log, prod
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, RangeSweep

from snn_exp.config import compose, schemas
from snn_exp.config.overrides import CHOICES, num_values, parsed_override
from snn_exp.errors import UserError, nearest

Params = dict[str, Any]  # key of an axis -> value
NUM_TRIED = 120  # proposals that are composed before a search starts


@dataclasses.dataclass(frozen=True)
class Axis:
    """What one override leaves open.

    Args:
        line: the override.
        key: its key, which names the parameter in Optuna.
        target: the key that is set, the option left out of it.
        option: the option that it belongs to alone; None for whichever has such a parameter.
        values: those to choose from, as text; None for numbers from `low` to `high`.
        low: the least number.
        high: the greatest.
        step: between numbers; None for any.
        is_log: uniform in the logarithm.
        is_int: whole numbers.
    """

    line: str
    key: str
    target: str
    option: str | None = None
    values: tuple[str, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    is_log: bool = False
    is_int: bool = False

    @property
    def is_choice(self) -> bool:
        """Return whether it chooses among options of a group, a method or an experiment."""
        return self.key in CHOICES

    @property
    def listed(self) -> list[Any] | None:
        """Return all its values; None where there is no end of them."""
        if self.values is not None:
            return list(self.values)
        if self.is_int and not self.is_log:
            return list(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        if self.step is None:
            return [self.low] if self.low == self.high else None
        return [self.low + i * self.step for i in range(round((self.high - self.low) / self.step) + 1)]

    @property
    def ends(self) -> tuple[Any, Any]:
        """Return its first and its last value."""
        if self.values is not None:
            return self.values[0], self.values[-1]
        return (int(self.low), int(self.high)) if self.is_int else (self.low, self.high)

    def drawn(self, rng: random.Random) -> Any:
        """Return a value at random."""
        if (listed := self.listed) is not None:
            return rng.choice(listed)
        value = exp(rng.uniform(log(self.low), log(self.high))) if self.is_log else rng.uniform(self.low, self.high)
        return round(value) if self.is_int else value

    @property
    def is_conditional(self) -> bool:
        """Return whether some options of its group have it and others do not."""
        owns = self._has_it().values()
        return self.option is not None or (any(owns) and not all(owns))

    @property
    def owners(self) -> list[str]:
        """Return the options that have it."""
        return [self.option] if self.option else sorted(name for name, has in self._has_it().items() if has)

    def _has_it(self) -> dict[str, bool]:
        """Return option -> whether it has the parameter."""
        group, _, parameter = self.target.partition(".")
        options = schemas.load().get(group, {})
        return {name: any(p.name == parameter for p in option.parameters) for name, option in options.items()}

    def belongs_to(self, options: Mapping[str, str]) -> bool:
        """Return whether it is proposed with these options.

        Args:
            options: group -> option of a proposal.
        """
        group = self.target.partition(".")[0]
        if self.option is not None:
            return options.get(group) == self.option
        owns = self._has_it()
        if not any(owns.values()):
            return True  # of a group without options, or a key that the rules refuse with their own sentence
        return owns.get(options.get(group, "auto"), True)  # what `auto` takes is for the rules to say

    def override(self, value: Any) -> str:
        """Return the override that gives it this value."""
        return f"{self.target}={value}"


def read_axis(line: str) -> Axis:
    """Read an axis.

    Raises:
        UserError: a range that does not go up, a logarithm of what is not positive, an option that the group lacks.

    Example:
        >>> read_axis("optim.lr=tag(log,interval(0.001,0.03))").is_log
        True
        >>> read_axis("surrogate.atan.alpha=interval(1,5)").target
        'surrogate.alpha'
    """
    override = parsed_override(line)
    key, sweep = override.key_or_group, override.value()
    target, option = _target(line, key)
    if isinstance(sweep, IntervalSweep):
        is_int = "int" in sweep.tags or (isinstance(sweep.start, int) and isinstance(sweep.end, int))
        low, high, is_log = float(sweep.start or 0), float(sweep.end or 0), "log" in sweep.tags
        if not low < high < float("inf"):
            raise UserError(f"{line}: a range goes up, from its least value to its greatest, as interval(0.001,0.03)")
        if is_log and low <= 0:
            raise UserError(f"{line}: a logarithm has no value at {low:g}; give a range above 0, or no tag(log,...)")
        return Axis(line, key, target, option, None, low, high, None, is_log, is_int)
    if isinstance(sweep, RangeSweep):
        num_values(override)
        numbers = [float(text) for text in override.sweep_string_iterator()]
        is_int = all(number.is_integer() for number in numbers)
        low, high = min(numbers), max(numbers)
        step = (high - low) / (len(numbers) - 1) if len(numbers) > 1 else 1.0
        return Axis(line, key, target, option, None, low, high, step, False, is_int)
    return Axis(line, key, target, option, tuple(dict.fromkeys(override.sweep_string_iterator())))


def _target(line: str, key: str) -> tuple[str, str | None]:
    """Return the key that is set, and the option that it belongs to."""
    group, *rest = key.split(".")
    options = schemas.load().get(group, {})
    if len(rest) < 2 or not options:
        return key, None
    option, parameter = rest[0], ".".join(rest[1:])
    if option not in options:
        found = nearest(option, options)
        meant = f"; did you mean {group}.{found}.{parameter}?" if found else ""
        raise UserError(f"{line}: {option} is no option of {group}; allowed: {', '.join(sorted(options))}{meant}")
    return f"{group}.{parameter}", option


@dataclasses.dataclass(frozen=True)
class OpenSpace:
    """A search's space.

    Args:
        fixed: the overrides that all its runs have.
        axes: what is left open.
        folders: further folders of configs.
    """

    fixed: tuple[str, ...]
    axes: tuple[Axis, ...]
    folders: tuple[str, ...] = ()

    @classmethod
    def of(cls, fixed: Sequence[str], lines: Sequence[str], folders: Sequence[str] = ()) -> OpenSpace:
        """Read the axes.

        Raises:
            UserError: as `read_axis`.
        """
        axes = tuple(map(read_axis, lines))
        for axis in axes:
            twice = [other.line for other in axes if other.target == axis.target and other.option != axis.option]
            if axis.option is None and twice:
                raise UserError(
                    f"{axis.line} is of every option that has such a parameter, and {twice[0]} of one; give each "
                    f"option its own range, or one range to all"
                )
        return cls(tuple(fixed), axes, tuple(folders))

    @functools.cached_property
    def _options(self) -> dict[tuple[str, ...], dict[str, str]]:
        return {}

    def options(self, choices: tuple[str, ...]) -> dict[str, str]:
        """Return group -> option of a proposal, by the choices that it makes."""
        if not self.folders:  # an option of ours sets nothing in another group, so that only these need to be composed
            wide = ("method", "experiment", *(axis.target.partition(".")[0] for axis in self._parameters))
            choices = tuple(line for line in choices if line.partition("=")[0] in wide)
        if choices not in self._options:
            common = [line for line in self.fixed if read_fixed(line)[1] is None]
            self._options[choices] = compose.options_of([*common, *choices], self.folders)
        return self._options[choices]

    @functools.cached_property
    def _parameters(self) -> tuple[Axis, ...]:
        """Return what is proposed, or fixed, with some option alone."""
        fixed = [Axis(line, line.partition("=")[0], *read_fixed(line)) for line in self.fixed]
        return (*(axis for axis in self.axes if not axis.is_choice), *(axis for axis in fixed if axis.option))

    def walk(self, value_of: Any) -> tuple[str, ...]:
        """Return the overrides of a proposal: first its options, then the parameters that go with them.

        Args:
            value_of: called with each axis that the proposal has, returns its value.
        """
        choices = tuple(axis.override(value_of(axis)) for axis in self.axes if axis.is_choice)
        rest = [axis for axis in self.axes if not axis.is_choice]
        options = self.options(choices) if rest else {}
        lines = [axis.override(value_of(axis)) for axis in rest if axis.belongs_to(options)]
        return (*choices, *lines)

    def fixed_with(self, proposed: Sequence[str]) -> tuple[str, ...]:
        """Return the fixed overrides of a proposal: those of an option where that option is."""
        read = [(line, *read_fixed(line)) for line in self.fixed]
        if all(option is None for _, _, option in read):
            return self.fixed
        options = self.options(tuple(line for line in proposed if line.partition("=")[0] in CHOICES))
        return tuple(
            line if option is None else f"{target}={line.partition('=')[2]}"
            for line, target, option in read
            if option is None or options.get(target.partition(".")[0]) == option
        )

    def cells(self) -> Iterator[Params]:
        """Yield every proposal once, the last axis first; the space must be finite."""
        choices = [axis for axis in self.axes if axis.is_choice]
        for chosen in product(*(axis.listed or [] for axis in choices)):
            values = dict(zip((axis.key for axis in choices), chosen, strict=True))
            options = self.options(tuple(axis.override(values[axis.key]) for axis in choices))
            active = [axis for axis in self.axes if not axis.is_choice and axis.belongs_to(options)]
            for numbers in product(*(axis.listed or [] for axis in active)):
                yield values | dict(zip((axis.key for axis in active), numbers, strict=True))

    @property
    def endless(self) -> Axis | None:
        """Return an axis with no end of values, if there is one."""
        return next((axis for axis in self.axes if axis.listed is None), None)

    def corners(self) -> list[tuple[str, ...]]:
        """Return proposals: all axes at their first value, all at their last, each at its last and the others first."""
        ends = {axis.key: axis.ends for axis in self.axes}
        ats = [dict.fromkeys(ends, 0), dict.fromkeys(ends, 1), *({**dict.fromkeys(ends, 0), key: 1} for key in ends)]
        return [*dict.fromkeys(self.walk(lambda axis, at=at: ends[axis.key][at[axis.key]]) for at in ats)]

    def samples(self) -> list[tuple[str, ...]]:
        """Return proposals to try: all of a small space, else some at random, the same each time."""
        if self.endless is None and prod(len(axis.listed or []) for axis in self.axes) <= NUM_TRIED:
            return [self.walk(lambda axis, cell=cell: cell[axis.key]) for cell in self.cells()]
        rngs = {axis.key: random.Random(axis.key) for axis in self.axes}
        drawn = (self.walk(lambda axis: axis.drawn(rngs[axis.key])) for _ in range(NUM_TRIED))
        return [*dict.fromkeys(drawn)]

    def require_each_parameter_somewhere(self) -> None:
        """Refuse a parameter that no proposal has.

        Raises:
            UserError: with the parameter, and the options that the search has instead.
        """
        choices = [axis for axis in self.axes if axis.is_choice]
        first = {axis.key: axis.ends[0] for axis in choices}
        reached = [
            self.options(tuple(axis.override({**first, varied.key: value}[axis.key]) for axis in choices))
            for varied in choices
            for value in varied.listed or []
        ] or [self.options(())]
        for axis in self._parameters:
            if not any(axis.belongs_to(options) for options in reached):
                group = axis.target.partition(".")[0]
                there = sorted({options[group] for options in reached if group in options})
                owners = axis.owners
                raise UserError(
                    f"{axis.line} is a parameter of {group}={' or '.join(owners)}, and this search has "
                    f"{group}={' or '.join(there)} alone; leave it out, or type {group}={','.join([*there, owners[0]])}"
                )


def read_fixed(line: str) -> tuple[str, str | None]:
    """Return the key that a fixed override sets, and the option that it belongs to, if any."""
    return _target(line, line.partition("=")[0])
