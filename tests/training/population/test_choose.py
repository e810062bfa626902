import math

import pytest

from surefoot.training.population.choose import (
    LOOP,
    TRIAL_SHARE,
    Trial,
    Way,
    fastest,
    gain,
    judged,
    next_way,
    setup_seconds,
)

FORKS, STACKED = Way("loop", processes=2), Way("stacked", 8)
COMPILED = Way("compiled", 4, 2)
EVERY = [FORKS, STACKED, COMPILED]


def chosen(step_seconds, steps, members=8, images=False, ways=EVERY, lost=0.0, more=()):
    return next_way(ways, [Trial(LOOP, 0.0, step_seconds), *more], members, steps, lost, images=images)


def test_nothing_is_tried_where_little_is_left():
    assert chosen(1e-3, steps=50) is None


def test_what_may_be_fastest_is_tried_first_if_it_can_be_paid_for():
    assert chosen(1e-3, steps=1000) == STACKED  # 8 s: compiling would take longer
    assert chosen(1e-3, steps=100_000) == COMPILED
    assert chosen(1e-3, steps=1000, images=True, ways=[FORKS]) == FORKS


def test_what_could_not_be_clearly_faster_than_the_best_is_left():
    good = Trial(COMPILED, 0.1, 1e-4)
    assert chosen(1e-3, steps=100_000, ways=[FORKS, STACKED], more=[good]) is None


def test_losses_add_up_to_a_share_of_the_loops_time():
    assert chosen(1e-3, steps=1000, ways=[FORKS]) == FORKS
    assert chosen(1e-3, steps=1000, ways=[FORKS], lost=TRIAL_SHARE * 8) is None


def test_what_a_first_stack_loads_is_risked_only_where_there_is_much_to_do():
    loop = [Trial(LOOP, 0.0, 1e-3)]
    assert next_way([STACKED], loop, 8, 1000, 0.0, images=False, loaded=True) == STACKED
    assert next_way([STACKED], loop, 8, 1000, 0.0, images=False, loaded=False) is None
    assert next_way([STACKED], loop, 8, 10_000, 0.0, images=False, loaded=False) == STACKED


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("seconds", [0.5, 2, 5, 20, 100, 1000])
def test_if_every_trial_is_as_bad_as_was_risked_the_law_still_holds(seconds, images):
    """Every way turns out no faster than the loop: trials and setting up then lose at most 5 % of its time, without
    compiling, which is bounded by a third."""
    step, members = 1e-3, 8
    steps = round(seconds / step / members)
    trials, lost, ways = [Trial(LOOP, 0.0, step)], 0.0, [FORKS, STACKED]
    while (way := next_way(ways, trials, members, steps, lost, images=images)) is not None:
        lost += setup_seconds(way) + 2 * step * members
        trials.append(Trial(way, 0.0, step))
        ways.remove(way)
    assert lost <= TRIAL_SHARE * seconds


def test_a_call_and_a_step_are_told_apart():
    trial = judged(FORKS, [(1, 0.30), (11, 0.50)], members=4)
    assert trial.step_seconds == pytest.approx(0.5 / 11 / 2 / 4)  # the slope, 0.02, is under half of the mean
    trial = judged(FORKS, [(1, 0.05), (21, 0.45)], members=4)
    assert trial.step_seconds == pytest.approx(0.02 / 4)
    assert trial.call_seconds == pytest.approx(0.03)


def test_a_slower_second_call_is_no_negative_cost():
    trial = judged(LOOP, [(1, 5.0), (3, 3.0)], members=1)
    assert trial.step_seconds > 0
    assert trial.call_seconds >= 0


def test_the_fastest_depends_on_how_much_is_left():
    trials = [Trial(LOOP, 0.0, 1.0), Trial(FORKS, 10.0, 0.5)]
    assert fastest(trials, 10).way == LOOP
    assert fastest(trials, 100).way == FORKS
    assert fastest([], 10).step_seconds == math.inf


def test_processes_multiply_what_a_form_gains():
    assert gain(FORKS, images=True) == 2
    assert gain(STACKED, images=True, slow_groups=True) < 1 < gain(STACKED, images=True)
    assert gain(COMPILED, images=False) == 2 * gain(Way("compiled", 4), images=False)
