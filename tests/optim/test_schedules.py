"""The shape of each schedule, its edges, and what it refuses. Equality with PyTorch's: tests/laws/test_schedules.py."""

import math

import numpy as np
import pytest

from surefoot.errors import ConfigError
from surefoot.optim import schedules as s

EVERY = {
    "constant": s.constant(0.3),
    "step": s.step(0.3, [10, 20]),
    "cosine": s.cosine(0.3, 30),
    "linear": s.linear(0.3, 30),
    "polynomial": s.polynomial(0.3, 30, 3.0, 0.1),
    "exponential": s.exponential(0.3, 0.5, 10),
    "inverse_sqrt": s.inverse_sqrt(0.3, 5),
    "one_cycle": s.one_cycle(0.3, 30, 9),
    "wsd": s.wsd(0.3, 30, 10),
    "sgdr": s.sgdr(0.3, 4, 2),
    "warmup": s.warmup(s.cosine(0.3, 30), 5, 0.1, "multiply"),
    "join": s.join([s.constant(0.1), s.linear(0.3, 20)], [10], count="from-seam"),
    "held": s.held(s.linear(0.3, 30), 10),
}


@pytest.mark.parametrize("name", EVERY)
def test_an_array_of_steps_gives_what_each_step_gives(name):
    steps = np.arange(40)
    table = EVERY[name](steps)
    assert table.dtype == np.float64
    assert table.tolist() == [EVERY[name](int(t)) for t in steps]
    assert isinstance(EVERY[name](3), float)
    assert EVERY[name](steps.reshape(5, 8)).shape == (5, 8)


@pytest.mark.parametrize("name", EVERY)
def test_the_peak_is_a_factor_and_the_rate_never_exceeds_it(name):
    table = EVERY[name](np.arange(200))
    assert np.all(table >= 0)
    assert np.all(table <= 0.3 * (1 + 1e-12))


@pytest.mark.parametrize("name", ["cosine", "linear", "polynomial", "one_cycle", "wsd"])
def test_beyond_the_last_step_the_last_value_stays(name):
    assert EVERY[name](30) == EVERY[name](31) == EVERY[name](10_000)


def test_the_end_is_a_share_of_the_peak():
    for make in (s.cosine, s.linear, s.polynomial):
        assert make(2.0, 10, end=0.1)(10) == pytest.approx(0.2)
    assert s.wsd(2.0, 10, 5, end=0.1)(10) == pytest.approx(0.2)
    assert s.sgdr(2.0, 10, end=0.1)(10 - 1e-9) == pytest.approx(0.2)


def test_inverse_sqrt_after_a_warmup_of_its_timescale_is_the_curve_of_vaswani():
    curve = s.warmup(s.inverse_sqrt(1.0, 100), 100)
    t = np.arange(1, 1000)
    assert curve(t) == pytest.approx(np.minimum(t / 100, np.sqrt(100 / t)))


def test_restarts_with_equal_cycles_and_with_growing_ones():
    assert s.restarts(50, 1, 200) == (50, 100, 150)
    assert s.restarts(1, 2, 200) == (1, 3, 7, 15, 31, 63, 127)
    assert s.restarts(10, 1.5, 60) == (10, 25, 47.5)


def test_plateau_counts_only_losses_in_a_row():
    assert s.plateau([], 0.1, 0) == 1.0
    assert s.plateau([1.0, 1.0, 0.5, 0.5, 0.4], 0.1, 1) == 1.0
    assert s.plateau([1.0, 1.0, 1.0, 1.0, 1.0], 0.1, 1) == pytest.approx(0.01)
    assert s.plateau([math.nan] * 3, 0.1, 1) == pytest.approx(0.1)
    assert s.plateau([1.0, 1.0 - 5e-5], 0.1, 0) == pytest.approx(0.1), "an improvement below the threshold is none"


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: s.constant(0), "peak"),
        (lambda: s.step(1, []), "milestones"),
        (lambda: s.step(1, [2, 1]), "milestones"),
        (lambda: s.cosine(1, 0), "length"),
        (lambda: s.exponential(1, 0.5, 0), "length"),
        (lambda: s.inverse_sqrt(1, -1), "length"),
        (lambda: s.one_cycle(1, 10, 10), "peak"),
        (lambda: s.wsd(1, 10, 11), "decay"),
        (lambda: s.sgdr(1, 10, 0.5), "cycle"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused(make, word):
    with pytest.raises(ConfigError, match=word):
        make()


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
