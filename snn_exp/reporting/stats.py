"""Comparisons of two methods over the same seeds. scipy and statsmodels do the mathematics. No torch.

They are imported where something is tested: a sweep without pairs ends the sooner for it.

A pair shares the seed, and with it training, validation and test set. Intervals are of the mean difference. Differences
that are all equal have no spread, so they cannot be tested: there is neither an interval nor a p value.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np

CONFIDENCE = 0.95
DIGITS = 6  # significant, of a stored metric (`row.DIGITS`)

Differences = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """The mean of a - b over the seeds that both have.

    Args:
        n: number of pairs.
        mean: mean of a - b.
        sd: standard deviation of a - b; 0 where all are equal, None for fewer than two pairs.
        low: lower end of the 95 % interval of the mean, by Student's t; None for fewer than two pairs, or equal ones.
        high: its upper end.
        p: two-sided p of the paired t-test; None likewise.
    """

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def all_equal(self) -> bool:
        """Return whether there are several differences and all are equal, which decides nothing."""
        return self.sd == 0

    @property
    def excludes_zero(self) -> bool:
        """Return whether the interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> PairedDifference | None:
    """Return a - b over the seeds that both have; None if there is no such seed.

    Args:
        a: seed -> value.
        b: seed -> value.

    Source: the paired t interval, scipy.stats.ttest_1samp.

    Example:
        >>> d = paired_difference({0: 0.97, 1: 0.98, 2: 0.99}, {0: 0.95, 1: 0.97, 2: 0.97, 3: 0.5})
        >>> d.n, round(d.mean, 4), d.excludes_zero
        (3, 0.0167, True)
    """
    differences = _differences(a, b)
    n = len(differences)
    if n == 0:
        return None
    mean = float(differences.mean())
    if n == 1:
        return PairedDifference(n, mean)
    if _all_equal(differences, [*a.values(), *b.values()]):  # t is not defined
        return PairedDifference(n, mean, 0.0)
    return _tested(differences)


def _tested(differences: Differences) -> PairedDifference:
    from scipy import stats as scipy_stats

    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    test = scipy_stats.ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(CONFIDENCE)
    return PairedDifference(len(differences), mean, sd, float(interval.low), float(interval.high), _p(test.pvalue))


def _p(value: float) -> float:
    """Clip a p value to (0, 1]: one that underflows becomes the smallest positive float."""
    return min(1.0, max(float(value), sys.float_info.min))


def _all_equal(differences: Differences, values: Sequence[float]) -> bool:
    """Return whether differences are equal within the precision in which the values are stored."""
    largest = max(map(abs, values))
    digit = 10.0 ** (math.floor(math.log10(largest)) + 1 - DIGITS) if largest else 0.0
    if float(np.var(differences)) == 0.0:  # also where the squares of differences of 1e-200 underflow
        return True
    return float(np.ptp(differences)) <= 2.0001 * digit  # each of the four values is off by half a digit at most


@dataclasses.dataclass(frozen=True)
class PairedRatio:
    """The ratio a / b over the seeds that both have.

    Args:
        n: number of pairs.
        mean: geometric mean of a / b.
        low: lower end of its 95 % interval, by Student's t on the logarithms; None for fewer than two pairs, or where
            all ratios are equal.
        high: its upper end.
    """

    n: int
    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def all_equal(self) -> bool:
        """Return whether there are several ratios and all are equal, which decides nothing."""
        return self.n > 1 and self.low is None


def paired_ratio(a: Mapping[int, float], b: Mapping[int, float]) -> PairedRatio | None:
    """Return a / b over the seeds that both have; None if there is no such seed, or a value is not above 0.

    Args:
        a: seed -> value.
        b: seed -> value.

    Source: the paired t interval of log a - log b.

    Example:
        >>> r = paired_ratio({0: 1.0, 1: 2.0, 2: 3.0}, {0: 10.0, 1: 21.0, 2: 29.0})
        >>> r.n, round(r.mean, 3), r.high < 0.111
        (3, 0.1, True)
    """
    if min([*a.values(), *b.values()], default=0.0) <= 0:
        return None
    logs = _differences(*({seed: math.log(value) for seed, value in of.items()} for of in (a, b)))
    if len(logs) == 0:
        return None
    mean = _ratio_of(float(logs.mean()))
    # a value is off by 5 in the digit after the last at most, so a logarithm by that relative to 1
    if len(logs) == 1 or float(np.ptp(logs)) <= 2.0001 * 10.0 ** (1 - DIGITS):
        return PairedRatio(len(logs), mean)
    d = _tested(logs)
    assert d.low is not None and d.high is not None
    return PairedRatio(d.n, mean, _ratio_of(d.low), _ratio_of(d.high))


def _ratio_of(logarithm: float) -> float:
    return math.exp(logarithm) if logarithm < 709 else math.inf


def equivalence_p(a: Mapping[int, float], b: Mapping[int, float], margin: float) -> float | None:
    """Return p of two one-sided paired t-tests that |a - b| < margin; None for fewer than two pairs, or equal ones.

    Below 0.05 the two are equivalent within the margin.

    Source: Schuirmann 1987; statsmodels.stats.weightstats.ttost_paired.

    Example:
        >>> a = {seed: 0.97 + 0.001 * seed for seed in range(5)}
        >>> equivalence_p(a, {seed: value + 0.0005 * (seed % 2) for seed, value in a.items()}, 0.01) < 0.05
        True
    """
    differences = _differences(a, b)
    if len(differences) < 2 or _all_equal(differences, [*a.values(), *b.values()]):
        return None
    from statsmodels.stats.weightstats import ttost_paired

    return _p(ttost_paired(differences, np.zeros_like(differences), -margin, margin)[0])


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-corrected p values, in the order given.

    Source: Holm 1979; statsmodels.stats.multitest.multipletests.

    Example:
        >>> holm([0.01, 0.04])
        [0.02, 0.04]
    """
    if not p_values:
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def _differences(a: Mapping[int, float], b: Mapping[int, float]) -> Differences:
    shared = sorted(a.keys() & b.keys())
    return np.array([a[seed] - b[seed] for seed in shared], dtype=np.float64)
