"""Paired comparisons against figures worked out by hand and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from snn_exp.stats import equivalence_p, holm, paired_difference, paired_ratio


def test_the_interval_is_students_t_over_the_shared_seeds():
    d = paired_difference({0: 3.0, 1: 5.0, 2: 4.0, 9: 100.0}, {0: 1.0, 1: 2.0, 2: 3.0, 8: -100.0})
    # differences 2, 3, 1: mean 2, sd 1, t(2, 0.975) = 4.30265
    half = 4.302652729696142 / math.sqrt(3)
    assert (d.n, d.mean, d.sd) == (3, 2.0, 1.0)
    assert d.low == pytest.approx(2 - half) and d.high == pytest.approx(2 + half)
    assert d.p == pytest.approx(0.07417990022744858)
    assert not d.excludes_zero


def test_without_a_shared_seed_there_is_no_difference_and_with_one_there_is_no_interval():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    single = paired_difference({0: 1.0}, {0: 0.25})
    assert (single.n, single.mean, single.low, single.p) == (1, 0.75, None, None)
    assert not single.excludes_zero


def test_seeds_that_agree_to_the_last_digit_have_an_interval_of_no_width():
    assert paired_difference({0: 1.0, 1: 1.0}, {0: 0.5, 1: 0.5}).excludes_zero
    same = paired_difference({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0})
    assert same.p == 1.0 and not same.excludes_zero
    assert equivalence_p({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}, 0.01) == 0.0
    assert equivalence_p({0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.0}, 0.01) == 1.0


def test_the_interval_covers_the_true_mean_in_95_of_100_studies():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        values = dict(enumerate(0.3 + generator.standard_normal(5)))
        d = paired_difference(values, dict.fromkeys(values, 0.0))
        covered += d.low <= 0.3 <= d.high
    assert 930 <= covered <= 970


def test_the_interval_of_a_ratio_is_that_of_the_difference_of_logarithms():
    r = paired_ratio({0: math.e**2, 1: math.e**3, 2: math.e, 8: 5.0}, {0: 1.0, 1: 1.0, 2: 1.0, 9: 7.0})
    # logarithms 2, 3, 1: mean 2, sd 1, as above
    half = 4.302652729696142 / math.sqrt(3)
    assert r.n == 3 and r.mean == pytest.approx(math.e**2)
    assert (r.low, r.high) == (pytest.approx(math.exp(2 - half)), pytest.approx(math.exp(2 + half)))
    assert paired_ratio({0: 1.0, 1: 1.0}, {0: 0.0, 1: 1.0}) is None
    single = paired_ratio({0: 1.0}, {0: 4.0})
    assert (single.n, single.mean, single.low, single.high) == (1, 0.25, None, None)


def test_equivalence_asks_for_both_sides():
    near = {0: 0.001, 1: -0.001, 2: 0.0005, 3: -0.0005}
    zero = dict.fromkeys(near, 0.0)
    assert equivalence_p(near, zero, 0.01) < 0.001
    above, below = ({seed: value + shift for seed, value in near.items()} for shift in (0.012, -0.012))
    assert equivalence_p(above, zero, 0.01) > 0.9 and equivalence_p(below, zero, 0.01) > 0.9
    assert equivalence_p({0: 0.0}, {0: 0.0}, 0.01) is None


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    assert holm([0.04, 0.001, 0.03]) == pytest.approx([0.06, 0.003, 0.06])
    assert holm([]) == []
