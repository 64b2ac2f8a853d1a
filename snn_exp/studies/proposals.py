"""The trials of a method whose tuning is a search: drawn in rounds, by what the rounds before have found. No torch.

Nothing is kept of a search but its rows: the proposals are drawn again from the beginning each time, with the same
random numbers, and so are the same. All methods draw with the same numbers, so that they begin at the same points.

A parameter that only some options have, such as a surrogate's own, is drawn for the methods that have it, after those
that every method has. Each method has the same number of trials, however many parameters it has.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from snn_exp.config.overrides import parsed_override
from snn_exp.errors import UserError, unknown
from snn_exp.sweeps.search import UNFIT
from snn_exp.sweeps.space import Axis, OpenSpace

Overrides = tuple[str, ...]

SAMPLERS = ("qmc", "random", "tpe")
ROUND = 6  # trials that are drawn before the next are told what came out: they can be trained at once


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A tuning whose points are drawn from a space.

    Args:
        sampler: among SAMPLERS.
        num_trials: of each method.
        axes: what is left open; that of some options alone last.
        space: the same for one method, where it depends on its options which axes it has.
    """

    sampler: str
    num_trials: int
    axes: tuple[Axis, ...]
    space: OpenSpace | None = None

    @classmethod
    def read(cls, sampler: str, num_trials: int, lines: Sequence[str], where: str) -> Drawn:
        """Read and check it.

        Args:
            sampler: its name.
            num_trials: of each method.
            lines: overrides, each with a range or several values.
            where: the file.

        Raises:
            UserError: another sampler, a line that leaves no choice, a key that no search may choose; as `read_axis`.
        """
        if sampler not in SAMPLERS:
            raise unknown(f"sampler in {where}", sampler, SAMPLERS, "sampler: {}")
        for line in lines:
            key = line.partition("=")[0]
            if (head := key.partition(".")[0]) in UNFIT:
                raise UserError(f"{where}: {line}: tuning would choose {UNFIT[head]}; give one value of {key} in base")
            if not parsed_override(line).is_sweep_override():
                raise UserError(
                    f"{where}: {line} leaves no choice; give values or a range, such as optim.lr: interval(0.001,0.03)"
                )
        axes = OpenSpace.of((), lines).axes
        return cls(sampler, num_trials, tuple(sorted(axes, key=lambda axis: axis.is_conditional)))

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys that some method's points set."""
        return tuple(dict.fromkeys(axis.target for axis in self.axes))

    def for_method(self, fixed: Sequence[str], folders: Sequence[str] = ()) -> Drawn:
        """Return the search of a method: over what its options have.

        Args:
            fixed: the overrides of all its trials.
            folders: further folders of configs.
        """
        if not any(axis.is_conditional for axis in self.axes):
            return self
        space = OpenSpace(tuple(fixed), self.axes, tuple(folders))
        return dataclasses.replace(self, space=space)

    def require_each_somewhere(self, methods: Iterable[Drawn], where: str) -> None:
        """Refuse a parameter that no method has.

        Args:
            methods: the searches of all methods, as `for_method` returns them.
            where: the file.

        Raises:
            UserError: with the parameter, and the options that have it.
        """
        reached = {axis for method in methods for axis in method.active}
        for axis in self.axes:
            if axis not in reached:
                group = axis.target.partition(".")[0]
                raise UserError(
                    f"{where}: {axis.line} is a parameter of {group}={' or '.join(axis.owners)}, which no method has; "
                    f"leave it out of tuning.space, or give a method {group}={axis.owners[0]}"
                )

    @property
    def active(self) -> tuple[Axis, ...]:
        """Return what some point sets."""
        if self.space is None:
            return self.axes
        found: list[Axis] = []

        def first(axis: Axis) -> Any:
            found.append(axis)
            return axis.ends[0]

        choices = [axis for axis in self.axes if axis.is_choice]
        for values in itertools.product(*(axis.listed or [axis.ends[0]] for axis in choices)):
            chosen = dict(zip(choices, values, strict=True))
            self.space.walk(lambda axis, chosen=chosen: chosen.get(axis) or first(axis))
        return tuple(dict.fromkeys([*choices, *found]))

    @property
    def example(self) -> Overrides:
        """Return a point: every axis at its first value."""
        return self._point(lambda axis: axis.ends[0])

    def _point(self, value_of: Callable[[Axis], Any]) -> Overrides:
        """Return a point, given the value of each axis that it has."""
        if self.space is not None:
            return self.space.walk(value_of)
        return tuple(axis.override(value_of(axis)) for axis in self.axes)

    @property
    def words(self) -> str:
        """Return it in words.

        Example:
            >>> Drawn.read("tpe", 24, ["optim.lr=interval(0.001,0.03)"], "study.yaml").words
            '24 trials by tpe over optim.lr=interval(0.001,0.03)'
        """
        return f"{self.num_trials} trials by {self.sampler} over {', '.join(axis.line for axis in self.axes)}"

    def points(self, merits_of: Callable[[Sequence[Overrides]], Sequence[float | None]]) -> list[Overrides]:
        """Return the points drawn so far: the first round, and each whose predecessors have all ended.

        Args:
            merits_of: returns validation accuracy for each of some points, None where a run of it has not ended.

        Raises:
            UserError: Optuna is not installed.
        """
        if find_spec("optuna") is None:
            raise UserError(
                f"a study tuned by sampler: {self.sampler} needs the package optuna, which is not installed; type "
                f"pip install 'snn-exp[search]'"
            )
        import optuna

        from snn_exp.sweeps import journal

        study, found = optuna.create_study(direction="maximize"), list[Overrides]()
        while len(found) < self.num_trials:
            drawn = []
            for number in range(len(found), min(len(found) + ROUND, self.num_trials)):
                study.sampler = journal.sampler_by(self.sampler, 0, number)
                trial = study.ask()
                drawn.append((trial, self._point(functools.partial(journal.suggested, trial))))
            round_ = [point for _, point in drawn]
            found += round_
            merits = merits_of(round_)
            if any(merit is None for merit in merits):
                break
            for (trial, _), merit in zip(drawn, merits, strict=True):
                study.tell(trial, merit)
        return found
