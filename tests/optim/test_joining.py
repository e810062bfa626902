"""Schedules made of schedules: each seam by hand, pieces in a row, stairs."""

import numpy as np
import pytest

from surefoot.errors import ConfigError
from surefoot.optim import schedules as s


@pytest.mark.parametrize(
    ("seam", "before", "at"),
    [("shift", 1.0, 1.0), ("jump", 1.0, 0.8), ("meet", 0.8, 0.8), ("multiply", 0.8, 0.8)],
)
def test_each_seam_of_warmup_by_hand(seam, before, at):
    ramp = s.warmup(s.linear(1.0, 50), 10, 0.5, seam)
    assert ramp(0) == 0.5
    assert ramp(10 - 1e-9) == pytest.approx(before)
    assert ramp(10) == pytest.approx(at)
    assert ramp(20) == pytest.approx(0.8 if seam == "shift" else 0.6)
    half = {"shift": 0.75, "jump": 0.75, "meet": 0.65, "multiply": 0.75 * 0.9}[seam]
    assert ramp(5) == pytest.approx(half)


def test_warmup_of_no_steps_is_the_schedule_itself():
    curve = s.cosine(1.0, 10)
    assert s.warmup(curve, 0) is curve


@pytest.mark.parametrize(("count", "after"), [("from-seam", [1.0, 0.9]), ("from-start", [0.7, 0.6])])
def test_a_joined_piece_counts_as_it_is_told(count, after):
    joined = s.join([s.constant(0.1), s.linear(1.0, 10)], [3], count=count)
    assert joined(np.arange(5)) == pytest.approx([0.1, 0.1, 0.1, *after])


def test_stairs_are_the_curve_at_the_start_of_each_stair():
    curve = s.cosine(1.0, 12)
    t = np.arange(12)
    assert s.held(curve, 4)(t) == pytest.approx(curve(t // 4 * 4))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: s.warmup(s.constant(1), -1), "length"),
        (lambda: s.join([s.constant(1)], [3], count="from-seam"), "seams"),
        (lambda: s.join([s.constant(1)] * 3, [3, 2], count="from-seam"), "seams"),
        (lambda: s.held(s.constant(1), 0), "length"),
    ],
)
def test_what_cannot_be_joined_is_refused(make, word):
    with pytest.raises(ConfigError, match=word):
        make()
