"""The two measures that the signs are read by; each sign on a curve is in test_read."""

import math

import numpy as np
import pytest
from scipy.stats import linregress

from surefoot.curves.read import initial
from surefoot.record.intervals import slope_of, student
from surefoot.record.run import Row


def row(losses):
    return Row(
        step=1, epoch=1, examples=1, lr=0.1, train_loss=5.0, train_accuracy=None, val_loss=None, val_accuracy=None,
        grad_norm=1.0, update_ratio=1e-3, losses=losses, seconds=1, examples_per_second=1,
    )  # fmt: skip


@pytest.mark.parametrize("at", [None, np.log([3.0, 5.0, 6.0, 9.0, 20.0])])
def test_slope_and_its_interval_are_those_of_least_squares(at):
    values = np.array([2.0, 1.5, 1.4, 0.9, 0.7])
    found = linregress(np.arange(5) if at is None else at, values)
    assert slope_of(values, at) == pytest.approx((found.slope, student(3) * found.stderr))


def test_two_points_have_no_slope_that_is_sure():
    assert slope_of(np.array([2.0, 1.0])) == (0.0, math.inf)


def test_a_run_begins_at_its_first_batches_that_are_finite():
    assert initial([row((3.0, math.inf, 1.0, 9.0))]) == 2.0
    assert initial([row((math.nan, math.inf))]) == 5.0
