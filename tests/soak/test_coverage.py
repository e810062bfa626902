"""The simulation of coverage tells an interval that holds from one that does not, and is the same each time."""

import numpy as np
from coverage import findings, holds, intervals, shares

from surefoot.record.intervals import Difference, of_mean


def test_a_right_interval_holds_and_two_standard_errors_of_three_values_do_not():
    def students(draw):
        return holds(of_mean(draw.normal(size=3)), 0.0)

    def two(draw):
        x = draw.normal(size=3)
        half = 2 * x.std(ddof=1) / np.sqrt(3)
        return holds((x.mean() - half, x.mean() + half), 0.0)

    found = shares(iter([("right", students), ("wrong", two)]), 2000, seed=0)
    assert 0.93 < found["right"] < 0.97
    assert found["wrong"] < 0.9  # 81.6 % by the law of t with two degrees of freedom


def test_every_case_runs_and_is_the_same_each_time():
    for cases in (intervals, findings):
        first, again = (shares(cases(), 2, seed=1) for _ in range(2))
        assert first == again
        assert len(first) > 20
        assert all(0 <= share <= 1 for share in first.values())


def test_an_interval_holds_its_ends():
    assert holds(Difference(value=0.5, low=0.0, high=1.0), 1.0)
    assert not holds((0.0, 0.5), 0.51)
