"""The rules against slow twins written as the original loops, and on curves whose answer is known."""

import numpy as np
import pytest

from surefoot.steps.lr_range import range_test as rules

LRS = np.geomspace(1e-7, 10, 100)


def curve(seed=0, edge=1.0):
    rng = np.random.default_rng(seed)
    return 2.3 - 1.5 / (1 + (0.01 / LRS) ** 1.5) + (LRS / edge) ** 2 + 0.05 * rng.normal(size=100)


def slow_valley(lrs, losses):
    lengths, last = [1] * len(losses), 0
    for i in range(len(losses)):
        for j in range(i):
            if losses[i] < losses[j]:
                lengths[i] = max(lengths[i], lengths[j] + 1)
        if lengths[i] > lengths[last]:
            last = i
    begin = last - lengths[last] if lengths[last] > 1 else 0
    third = (last - begin) / 3
    return lrs[begin + int(third) + int(third / 2)]


def slow_slide(lrs, losses):
    slope, right = np.gradient(losses), -1
    left = right - rules.SLIDE_GAP
    found = lrs[left]
    while left >= -len(losses) and abs(slope[right] - slope[left]) > rules.SLIDE_LEVEL:
        found, right, left = lrs[left], right - 1, left - 1
    return found


@pytest.mark.parametrize("seed", range(5))
def test_valley_and_slide_equal_their_slow_twins(seed):
    losses = rules.smoothed(curve(seed))
    kept = slice(10, len(losses) - 5)
    found = rules.suggestions(LRS, curve(seed))
    assert found["valley"] == slow_valley(LRS[kept], losses[kept])
    assert found["slide"] == slow_slide(LRS[kept], losses[kept])


def test_steep_is_the_steepest_in_log_rate_and_lightning_in_the_raw_one():
    losses = 1 / (1 + LRS / 0.01)  # symmetric in log rate around 0.01; steepest in the raw rate at 0
    assert rules._steep(LRS, losses) == pytest.approx(0.01, rel=0.2)
    assert rules._lightning(LRS, losses) == LRS[10]


def test_steep_does_not_depend_on_how_dense_the_points_are():
    dense = np.geomspace(1e-7, 10, 1000)
    for lrs in (LRS, dense):
        assert rules._steep(lrs, 1 / (1 + lrs / 0.01)) == pytest.approx(0.01, rel=0.2)


def test_the_test_ends_where_the_loss_explodes():
    losses = np.full(100, 2.0)
    losses[60:] = np.inf
    assert len(rules.smoothed(losses)) == 60
    losses[60:] = 1e4
    assert len(rules.smoothed(losses)) == 60


def test_a_constant_curve_smooths_to_itself():
    np.testing.assert_allclose(rules.smoothed(np.full(50, 2.0)), 2.0)


@pytest.mark.parametrize("length", [0, 1, 5, 12])
def test_too_little_of_a_curve_is_none_and_no_error(length):
    losses = np.full(100, np.inf)
    losses[:length] = 1.0
    assert all(value is None or value > 0 for value in rules.suggestions(LRS, losses).values())
