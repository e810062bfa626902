"""Intervals are those of the publications and of scipy, and cover as often as they say."""

import math

import numpy as np
import pytest
from scipy.special import stdtrit
from scipy.stats import binomtest, ttest_1samp

from surefoot.record.intervals import of_discordant, of_mean, of_paired_shares, of_repeats, student, wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),  # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_the_published_one(right, n, low, high):
    assert [round(bound, 4) for bound in wilson(right, n)] == [low, high]


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (3, 7), (9_199, 10_000), (10_000, 10_000)])
def test_the_interval_is_scipys(right, n):
    assert wilson(right, n) == pytest.approx(tuple(binomtest(right, n).proportion_ci(method="wilson")), abs=1e-12)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    # Exact, by summing the binomial law: Wilson's coverage for n = 100 averages 95 % over p (Brown et al. 2001).
    n, covered = 100, []
    for p in np.linspace(0.05, 0.95, 181):
        mass = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        covered.append(sum(m for k, m in enumerate(mass) if wilson(k, n)[0] <= p <= wilson(k, n)[1]))
    assert 0.945 < np.mean(covered) < 0.957


@pytest.mark.parametrize("n", [2, 3, 30])
def test_the_interval_of_a_mean_is_students(n):
    values = np.random.default_rng(n).normal(size=n)
    found, theirs = of_mean(values), ttest_1samp(values, 0.0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("degrees", [1, 1.5, 2, 2.7, 5, 29, 333.3, 9_999, 10_001, 1e6, 1e9])
@pytest.mark.parametrize("level", [0.01, 0.5, 0.9, 0.95, 0.9975, 0.999, 0.99999])
def test_students_quantile_is_scipys(degrees, level):
    assert student(degrees, level) == pytest.approx(stdtrit(degrees, (1 + level) / 2), rel=1e-8)


def test_one_value_has_no_spread_and_so_an_endless_interval():
    found = of_mean([1.0])
    assert (found.value, found.low, found.high) == (1.0, -math.inf, math.inf)
    assert student(0) == math.inf


def test_paired_shares_count_only_where_the_two_differ():
    both = [True] * 80
    found = of_paired_shares(both + [True] * 15 + [False] * 5, both + [False] * 15 + [True] * 5)
    assert found == of_discordant(15, 5, 100)
    assert found.value == pytest.approx(0.1)
    assert found.is_better
    assert of_paired_shares([False] * 9, [True] * 9).is_worse
    assert not of_discordant(0, 2, 144).is_worse, "142 against 144 right of 144 tells nothing"


def test_the_interval_of_paired_shares_covers_as_often_as_it_says():
    # Exact over the trinomial law of (n_10, n_01), n = 40: Bonett and Price report 94 to 97 % on average.
    n, covered = 40, []
    for p, q in ((0.1, 0.1), (0.2, 0.1), (0.3, 0.05), (0.05, 0.02), (0.4, 0.3)):
        total = 0.0
        for a in range(n + 1):
            for b in range(n + 1 - a):
                found = of_discordant(a, b, n)
                if found.low <= p - q <= found.high:
                    ways = math.comb(n, a) * math.comb(n - a, b)
                    total += ways * p**a * q**b * (1 - p - q) ** (n - a - b)
        covered.append(total)
    assert 0.93 < np.mean(covered) < 0.975
    assert min(covered) > 0.93


def test_the_spread_of_repeats_is_pooled_about_each_groups_mean():
    draw = np.random.default_rng(0)
    groups = [level + 0.3 * draw.normal(size=3) for level in draw.normal(size=400)]
    spread, degrees = of_repeats(groups)
    assert degrees == 800
    assert spread == pytest.approx(0.3, rel=0.06)
    assert of_repeats([[1.0], [2.0]]) == (math.inf, 0)
