"""Comparisons of two methods over the same seeds. scipy and statsmodels do the mathematics. No torch.

A pair shares the seed, and with it training, validation and test set. Intervals are of the mean difference.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """How far a lies above b over the seeds that both have.

    Args:
        n: number of pairs.
        mean: mean of a - b.
        sd: standard deviation of a - b; None for fewer than two pairs.
        low: lower end of the 95 % interval of the mean, by Student's t; None for fewer than two pairs.
        high: its upper end.
        p: two-sided p of the paired t-test; None for fewer than two pairs.
    """

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> PairedDifference | None:
    """a - b over the seeds that both have; None if there is no such seed.

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
    sd = float(differences.std(ddof=1))
    if sd == 0:  # t is not defined: the seeds agree to the last digit
        return PairedDifference(n, mean, sd, mean, mean, 1.0 if mean == 0 else 0.0)
    test = scipy_stats.ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(CONFIDENCE)
    return PairedDifference(n, mean, sd, float(interval.low), float(interval.high), float(test.pvalue))


@dataclasses.dataclass(frozen=True)
class PairedRatio:
    """How many times b a is over the seeds that both have.

    Args:
        n: number of pairs.
        mean: geometric mean of a / b.
        low: lower end of its 95 % interval, by Student's t on the logarithms; None for fewer than two pairs.
        high: its upper end.
    """

    n: int
    mean: float
    low: float | None = None
    high: float | None = None


def paired_ratio(a: Mapping[int, float], b: Mapping[int, float]) -> PairedRatio | None:
    """a / b over the seeds that both have; None if there is no such seed, or a value is not above 0.

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
    logs = [{seed: math.log(value) for seed, value in of.items()} for of in (a, b)]
    d = paired_difference(*logs)
    if d is None:
        return None
    ends = [None if end is None else math.exp(end) for end in (d.low, d.high)]
    return PairedRatio(d.n, math.exp(d.mean), *ends)


def equivalence_p(a: Mapping[int, float], b: Mapping[int, float], margin: float) -> float | None:
    """p of two one-sided paired t-tests that |a - b| < margin; None for fewer than two pairs.

    Below 0.05 the two are equivalent within the margin.

    Source: Schuirmann 1987; statsmodels.stats.weightstats.ttost_paired.

    Example:
        >>> a = {seed: 0.97 + 0.001 * seed for seed in range(5)}
        >>> equivalence_p(a, {seed: value + 0.0005 * (seed % 2) for seed, value in a.items()}, 0.01) < 0.05
        True
    """
    differences = _differences(a, b)
    if len(differences) < 2:
        return None
    if differences.std() == 0:
        return 0.0 if abs(float(differences[0])) < margin else 1.0
    return float(ttost_paired(differences, np.zeros_like(differences), -margin, margin)[0])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-corrected p values, in the order given.

    Source: Holm 1979; statsmodels.stats.multitest.multipletests.

    Example:
        >>> holm([0.01, 0.04])
        [0.02, 0.04]
    """
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def _differences(a: Mapping[int, float], b: Mapping[int, float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    shared = sorted(a.keys() & b.keys())
    return np.array([a[seed] - b[seed] for seed in shared], dtype=np.float64)
