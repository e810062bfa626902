import dataclasses

import pytest

from surefoot.record.noise import QUANTITIES, Estimate, LayerNoise, Noise
from surefoot.steps.batch_size.judge import ShortRun, chosen
from surefoot.steps.batch_size.race import Race, decided, race_for, reached, rivals


def case(scale, seconds, size=64):
    same = {name: Estimate(value=scale, low=scale * 0.9, high=scale * 1.1) for name in QUANTITIES}
    noise = Noise(step=10, batch_size=size, groups=32, micro_batch_size=64, loss=1.0, batch_norm=False,
                  total=LayerNoise(name="total", parameters=1, **same), layers=())  # fmt: skip
    run = ShortRun(batch_size=size, steps=100, lr=0.1, first_loss=2.3, last_loss=1.0, diverged=False, noise=(noise,))
    return run, chosen(run, seconds)


def test_a_race_lasts_as_long_as_the_short_run_did():
    run, choice = case(1000.0, {64: [1.0], 256: [2.0], 1024: [4.0]})
    assert choice.batch_size == 1024
    race = race_for(run, choice, 1024)
    assert race.limit == 25
    assert rivals(run, choice) == [1024, 256]


@pytest.mark.parametrize(("scale", "expected"), [(1e9, 0.4), (1e-3, 0.1), (64.0, 0.1 * (1 / 1.25) / 0.5)])
def test_the_rate_follows_the_noise_from_linear_to_constant(scale, expected):
    run, choice = case(scale, {64: [1.0], 256: [1.0]})
    assert race_for(run, choice, 256).lr == pytest.approx(expected, rel=1e-3)


def test_a_race_that_is_won_confirms_and_one_that_is_lost_overrules():
    run, choice = case(1000.0, {64: [1.0], 256: [2.0], 1024: [4.0]})
    race = race_for(run, choice, 1024)
    size, (seen,) = decided(run, choice, [dataclasses.replace(race, reached=12)])
    assert (size, seen.verdict, seen.name) == (1024, "pass", "raced-1024")
    assert "in 48 s (12 steps), 64 at rate 0.1 in 1e+02 s (100 steps)" in seen.reason
    size, seen = decided(run, choice, [race, dataclasses.replace(race_for(run, choice, 256), reached=40)])
    assert size == 256
    assert [each.verdict for each in seen] == ["suspect", "suspect"]
    size, _ = decided(run, choice, [race, race_for(run, choice, 256)])
    assert size == 64, "nobody was quicker than the run that is known"


def test_the_second_best_is_raced_where_the_own_size_is_predicted_to_win():
    run, choice = case(1.0, {16: [0.99], 64: [1.0], 256: [3.0]})
    assert choice.batch_size == 64
    (rival,) = rivals(run, choice)
    assert rival == 16
    size, (seen,) = decided(run, choice, [race_for(run, choice, rival)])
    assert (size, seen.verdict) == (64, "pass")
    size, (seen,) = decided(run, choice, [dataclasses.replace(race_for(run, choice, rival), reached=5)])
    assert (size, seen.verdict) == (16, "suspect")


def test_without_another_size_there_is_no_race():
    run, choice = case(10.0, {64: [1.0]})
    assert rivals(run, choice) == []
    assert decided(run, choice, []) == (64, ())
    run, choice = case(10.0, {16: [1.0], 256: [1.0]})
    assert rivals(run, choice) == [], "the short run's own size was not timed"
    assert decided(run, choice, []) == (choice.batch_size, ())


def test_reached_is_by_the_mean_of_a_whole_window_and_never_by_what_is_not_finite():
    assert reached([1.0, 9.0, 9.0], 1.0, 2) is None
    assert reached([9.0, 0.0, 0.0], 1.0, 2) == 3
    assert reached([float("inf")] * 3, 1.0, 1) is None
    assert reached([], 1.0, 3) is None


def test_a_race_is_plain_data():
    assert dataclasses.asdict(Race(batch_size=8, lr=0.1, step_seconds=1.0, limit=5, reached=None))["reached"] is None
