"""How much a search may spend: trials, core hours, wall time. No torch, no Optuna."""

from __future__ import annotations

import dataclasses
import re

from snn_exp.errors import UserError

DEFAULT = "20"
_PART = re.compile(r"(\d+(?:\.\d+)?) *(trials?|core-h|core-min|h|min|s)?")
_SECONDS = {"core-h": 3600.0, "core-min": 60.0, "h": 3600.0, "min": 60.0, "s": 1.0}
MOST_TRIALS = 100_000


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a search may spend; a trial begins while all of it is left, and is trained to its end.

    Args:
        trials: in all, those of earlier commands among them; None for any number.
        core_s: CPU seconds of training, likewise of all trials; None for any.
        wall_s: seconds since this command began; None for any.
    """

    trials: int | None = None
    core_s: float | None = None
    wall_s: float | None = None

    @classmethod
    def read(cls, text: str) -> Budget:
        """Read a budget.

        Raises:
            UserError: it is none.

        Example:
            >>> Budget.read("40,8core-h,90min")
            Budget(trials=40, core_s=28800.0, wall_s=5400.0)
        """
        found: dict[str, float] = {}
        for part in text.split(","):
            match = _PART.fullmatch(part.strip())
            number = float(match[1]) if match else 0.0
            unit = (match and match[2]) or "trials"
            kind = "trials" if unit.startswith("trial") else "core_s" if unit.startswith("core") else "wall_s"
            if not 0 < number <= MOST_TRIALS or kind in found or (kind == "trials" and not number.is_integer()):
                raise UserError(
                    f"--budget {text}: {part.strip() or 'nothing'} is no budget; give up to {MOST_TRIALS:,} trials, "
                    f"core hours or wall time, each once, such as --budget 40 or --budget 40,8core-h,2h (units: "
                    f"trials, core-h, core-min, h, min, s)"
                )
            found[kind] = number * _SECONDS.get(unit, 1.0)
        trials = found.pop("trials", None)
        return cls(None if trials is None else int(trials), **found)

    def is_spent(self, trials: int, core_s: float, wall_s: float) -> bool:
        """Return whether no further trial may begin.

        Args:
            trials: begun so far, without those that crashed.
            core_s: CPU seconds of all that have ended.
            wall_s: seconds since the command began.

        Example:
            >>> Budget.read("2").is_spent(1, 0, 0), Budget.read("9,1s").is_spent(1, 0, 2)
            (False, True)
        """
        spent = ((self.trials, trials), (self.core_s, core_s), (self.wall_s, wall_s))
        return any(most is not None and now >= most for most, now in spent)

    @property
    def words(self) -> str:
        """Return it in words.

        Example:
            >>> Budget.read("40,30core-min").words
            '40 trials, 0.5 core hours'
        """
        parts = [] if self.trials is None else [f"{self.trials} trial{'' if self.trials == 1 else 's'}"]
        parts += [] if self.core_s is None else [f"{self.core_s / 3600:g} core hours"]
        parts += [] if self.wall_s is None else [f"{self.wall_s / 60:g} min"]
        return ", ".join(parts)
