"""Paired comparisons against figures worked out by hand and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_exp.reporting.stats import equivalence_p, holm, paired_difference, paired_ratio


def test_the_interval_is_students_t_over_the_shared_seeds() -> None:
    d = paired_difference({0: 3.0, 1: 5.0, 2: 4.0, 9: 100.0}, {0: 1.0, 1: 2.0, 2: 3.0, 8: -100.0})
    # differences 2, 3, 1: mean 2, sd 1, t(2, 0.975) = 4.30265
    half = 4.302652729696142 / math.sqrt(3)
    assert (d.n, d.mean, d.sd) == (3, 2.0, 1.0)
    assert d.low == pytest.approx(2 - half) and d.high == pytest.approx(2 + half)
    assert d.p == pytest.approx(0.07417990022744858)
    assert not d.excludes_zero


def test_without_a_shared_seed_there_is_no_difference_and_with_one_there_is_no_interval() -> None:
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    single = paired_difference({0: 1.0}, {0: 0.25})
    assert (single.n, single.mean, single.low, single.p) == (1, 0.75, None, None)
    assert not single.excludes_zero


@pytest.mark.parametrize(
    ("a", "b", "mean"),
    [
        ({0: 1.0, 1: 1.0}, {0: 0.5, 1: 0.5}, 0.5),
        ({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}, 0.0),
        ({0: 0.0, 1: 0.0, 2: 0.0}, {0: 0.0, 1: 0.0, 2: 0.0}, 0.0),
        # one more of 450 images each time, in the six digits that are stored: 0.002223, 0.002222 and 0.002222
        ({0: 0.971111, 1: 0.973333, 2: 0.975556}, {0: 0.968889, 1: 0.971111, 2: 0.973333}, 0.002222),
        ({0: 123_456.0, 1: 123_457.0}, {0: 100_000.0, 1: 100_001.0}, 23_456.0),
    ],
)
def test_differences_that_are_all_equal_decide_nothing(a: dict[int, float], b: dict[int, float], mean: float) -> None:
    d = paired_difference(a, b)
    assert d.all_equal and d.n == len(a) and d.mean == pytest.approx(mean, abs=1e-6)
    assert (d.low, d.high, d.p) == (None, None, None) and not d.excludes_zero
    assert equivalence_p(a, b, 0.01) is None
    single = paired_difference({0: 1.0}, {0: 0.0})
    assert not single.all_equal and single.p is None


def test_ratios_that_are_all_equal_have_no_interval() -> None:
    r = paired_ratio({0: 1.0, 1: 2.0, 2: 3.0}, {0: 10.0, 1: 20.0, 2: 30.0})
    assert r.all_equal and r.n == 3 and r.mean == pytest.approx(0.1) and r.low is None and r.high is None
    assert not paired_ratio({0: 1.0}, {0: 2.0}).all_equal
    assert not paired_ratio({0: 1.0, 1: 2.0}, {0: 10.0, 1: 20.01}).all_equal


measured = st.floats(-1e6, 1e6, allow_subnormal=False)


@settings(deadline=None, max_examples=100)
@given(pairs=st.lists(st.tuples(measured, measured), min_size=0, max_size=6), margin=st.floats(1e-9, 1e6))
def test_an_interval_holds_its_mean_and_no_test_is_certain(pairs: list[tuple[float, float]], margin: float) -> None:
    a, b = ({seed: pair[side] for seed, pair in enumerate(pairs)} for side in (0, 1))
    d = paired_difference(a, b)
    assert (d is None) == (not pairs)
    for p in (d and d.p, equivalence_p(a, b, margin)):
        assert p is None or 0 < p <= 1
    if d is None or d.low is None:
        assert d is None or (d.high is None and d.p is None and (d.n == 1 or d.all_equal))
    else:
        assert d.n >= 2 and not d.all_equal and d.p is not None
        slack = 1e-9 * max(1.0, abs(d.low), abs(d.high))
        assert d.low - slack <= d.mean <= d.high + slack
        assert d.excludes_zero == (d.p < 0.05) or abs(d.p - 0.05) < 1e-6
    r = paired_ratio({s: abs(v) for s, v in a.items()}, {s: abs(v) for s, v in b.items()})
    assert r is None or r.low is None or r.low * (1 - 1e-9) <= r.mean <= r.high * (1 + 1e-9)


def test_a_ratio_beyond_the_numbers_is_infinite() -> None:
    assert paired_ratio({0: 5.0}, {0: 2.3e-308}).mean == math.inf
    assert paired_ratio({0: 5.0, 1: 5.0}, {0: 2.3e-308, 1: 2.4e-308}).low == math.inf


def test_the_interval_covers_the_true_mean_in_95_of_100_studies() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        values = dict(enumerate(0.3 + generator.standard_normal(5)))
        d = paired_difference(values, dict.fromkeys(values, 0.0))
        covered += d.low <= 0.3 <= d.high
    assert 930 <= covered <= 970


def test_the_interval_of_a_ratio_is_that_of_the_difference_of_logarithms() -> None:
    r = paired_ratio({0: math.e**2, 1: math.e**3, 2: math.e, 8: 5.0}, {0: 1.0, 1: 1.0, 2: 1.0, 9: 7.0})
    # logarithms 2, 3, 1: mean 2, sd 1, as above
    half = 4.302652729696142 / math.sqrt(3)
    assert r.n == 3 and r.mean == pytest.approx(math.e**2)
    assert [r.low, r.high] == pytest.approx([math.exp(2 - half), math.exp(2 + half)])
    assert paired_ratio({0: 1.0, 1: 1.0}, {0: 0.0, 1: 1.0}) is None
    single = paired_ratio({0: 1.0}, {0: 4.0})
    assert (single.n, single.mean, single.low, single.high) == (1, 0.25, None, None)


def test_equivalence_asks_for_both_sides() -> None:
    near = {0: 0.001, 1: -0.001, 2: 0.0005, 3: -0.0005}
    zero = dict.fromkeys(near, 0.0)
    assert equivalence_p(near, zero, 0.01) < 0.001
    above, below = ({seed: value + shift for seed, value in near.items()} for shift in (0.012, -0.012))
    assert equivalence_p(above, zero, 0.01) > 0.9 and equivalence_p(below, zero, 0.01) > 0.9
    assert equivalence_p({0: 0.0}, {0: 0.0}, 0.01) is None


def test_holm_multiplies_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.04, 0.001, 0.03]) == pytest.approx([0.06, 0.003, 0.06])
    assert holm([]) == []
