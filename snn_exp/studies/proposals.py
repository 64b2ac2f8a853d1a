"""The trials of a method whose tuning is a search: drawn in rounds, by what the rounds before have found. No torch.

Nothing is kept of a search but its rows: the proposals are drawn again from the beginning each time, with the same
random numbers, and so are the same. All methods draw with the same numbers, so that they begin at the same points.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from snn_exp.config.overrides import parsed_override
from snn_exp.errors import UserError, unknown
from snn_exp.sweeps.search import UNFIT
from snn_exp.sweeps.space import Axis, read_axis

Overrides = tuple[str, ...]

SAMPLERS = ("qmc", "random", "tpe")
ROUND = 6  # trials that are drawn before the next are told what came out: they can be trained at once


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A tuning whose points are drawn from a space.

    Args:
        sampler: among SAMPLERS.
        num_trials: of each method.
        axes: what is left open.
    """

    sampler: str
    num_trials: int
    axes: tuple[Axis, ...]

    @classmethod
    def read(cls, sampler: str, num_trials: int, lines: Sequence[str], where: str) -> Drawn:
        """Read and check it.

        Args:
            sampler: its name.
            num_trials: of each method.
            lines: overrides, each with a range or several values.
            where: the file.

        Raises:
            UserError: another sampler, a line that leaves no choice, a key that no search may choose.
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
        return cls(sampler, num_trials, tuple(map(read_axis, lines)))

    @property
    def example(self) -> Overrides:
        """Return a point: every axis at its first value."""
        return tuple(axis.override(axis.ends[0]) for axis in self.axes)

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
                point = tuple(axis.override(journal.suggested(trial, axis)) for axis in self.axes)
                drawn.append((trial, point))
            round_ = [point for _, point in drawn]
            found += round_
            merits = merits_of(round_)
            if any(merit is None for merit in merits):
                break
            for (trial, _), merit in zip(drawn, merits, strict=True):
                study.tell(trial, merit)
        return found
