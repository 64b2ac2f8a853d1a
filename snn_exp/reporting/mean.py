"""Mean and standard deviation over seeds. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from statistics import fmean, stdev


@dataclasses.dataclass(frozen=True)
class Mean:
    """Mean and standard deviation over seeds.

    Args:
        mean: None without a value.
        sd: None for fewer than two values.
        n: number of values.
    """

    mean: float | None
    sd: float | None
    n: int

    @classmethod
    def of(cls, sample: Mapping[int, float]) -> Mean:
        """Compute them from seed -> value."""
        found = list(sample.values())
        return cls(fmean(found) if found else None, stdev(found) if len(found) > 1 else None, len(found))

    def text(self, factor: float, digits: int) -> str:
        """Format mean ± sd, or the one value, or a dash.

        Example:
            >>> Mean.of({0: 0.5, 1: 0.7}).text(100, 1), Mean.of({0: 0.5}).text(100, 1), Mean.of({}).text(1, 0)
            ('60.0 ± 14.1', '50.0', '-')
            >>> Mean.of({0: 1200.0, 1: 1300.0}).text(1, 0)
            '1,250 ± 71'
        """
        if self.mean is None:
            return "-"
        return f"{factor * self.mean:,.{digits}f}" + ("" if self.sd is None else f" ± {factor * self.sd:,.{digits}f}")

    def beside(self, n: int, factor: float, digits: int) -> str:
        """Format the same, with n if it differs from that of the row.

        Example:
            >>> Mean.of({0: 0.5, 1: 0.7}).beside(2, 1, 1), Mean.of({0: 0.5}).beside(2, 1, 1)
            ('0.6 ± 0.1', '0.5 (n = 1)')
        """
        return self.text(factor, digits) + (f" (n = {self.n})" if self.n not in (0, n) else "")
