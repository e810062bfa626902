"""The batch size chosen from invented noise and timings."""

import dataclasses
import math

import pytest

from surefoot.record.noise import QUANTITIES, Estimate, LayerNoise, Noise
from surefoot.rules import update_rule
from surefoot.steps.batch_size.judge import (
    Race,
    ShortRun,
    StepTime,
    answer,
    chosen,
    decided,
    judge,
    mean_progress,
    progress,
    race_for,
    reached,
    rivals,
)

ANY = Estimate(value=1.0, low=0.5, high=2.0)


def noise(scale, low=None, high=None, batch_norm=False):
    own = Estimate(value=scale, low=scale * 0.9 if low is None else low, high=scale * 1.1 if high is None else high)
    layer = LayerNoise(name="total", parameters=1, **(dict.fromkeys(QUANTITIES, ANY) | {"noise_scale": own}))
    return Noise(step=5, batch_size=64, groups=32, micro_batch_size=64, loss=1.0, batch_norm=batch_norm, total=layer,
                 layers=())  # fmt: skip


def run(*scales, batch_size=64, steps=100, **more):
    settings = {"lr": 0.1, "first_loss": 2.3, "last_loss": 1.0, "diverged": False} | more
    found = tuple(each if isinstance(each, Noise) else noise(each) for each in scales)
    return ShortRun(batch_size=batch_size, steps=steps, noise=found, **settings)


def seconds(overhead, each, sizes=(16, 64, 256, 1024)):
    """What a step takes: so much for itself and so much for an example, timed three times."""
    return [StepTime(size, tuple(t * (overhead + each * size) for t in (0.98, 1.0, 1.02))) for size in sizes]


def test_steps_follow_the_hyperbola_of_the_noise_scale():
    found = chosen(run(200.0), seconds(1.0, 0.0))
    minimum = 100 / (1 + 200 / 64)
    for each in found.predicted:
        assert each.steps.value == pytest.approx(minimum * (1 + 200 / each.batch_size))
        assert each.steps.low <= each.steps.value <= each.steps.high
        assert each.seconds.low < each.seconds.value < each.seconds.high
    assert found.noise_scale.value == pytest.approx(200)
    assert found.noise_scale.low == pytest.approx(180)
    assert found.noise_scale.high == pytest.approx(220)


def test_at_its_own_size_the_short_run_is_known_whatever_the_noise():
    own = next(each for each in chosen(run(noise(300.0, 10.0, math.inf)), seconds(1, 0.1)).predicted
               if each.batch_size == 64)  # fmt: skip
    assert own.steps.low == own.steps.value == own.steps.high == 100


def test_the_optimum_is_the_root_of_overhead_times_noise():
    """(1 + b/B)(a + c B) is least at B = sqrt(a b / c)."""
    sizes = [2**k for k in range(12)]
    for overhead, scale in ((16.0, 16.0), (64.0, 256.0), (1.0, 64.0)):
        found = chosen(run(scale), seconds(overhead, 1.0, sizes))
        assert found.batch_size == 2 ** round(math.log2(math.sqrt(overhead * scale)))


def test_a_noise_scale_of_a_changing_run_is_weighed_by_progress():
    """Parts with f = 1/2 and 1/4: S_min = S (f1 + f2) / 2, as if each part had been predicted alone."""
    found = chosen(run(64.0, 192.0), seconds(1, 0.01))
    assert found.progress.value == pytest.approx(3 / 8)
    assert found.noise_scale.value == pytest.approx(64 * (5 / 8) / (3 / 8))


def test_noise_that_hides_everything_favours_throughput_and_is_open():
    hidden = noise(math.inf, 1e4, math.inf)
    found = chosen(run(hidden), seconds(4.0, 1.0))
    assert found.noise_scale.value == math.inf
    assert found.batch_size == 1024
    assert math.isfinite(found.predicted[0].seconds.high)
    assert progress(Estimate(value=math.nan, low=0, high=math.inf), 64) == Estimate(value=0, low=0, high=1)


def test_many_points_narrow_the_interval():
    one, many = mean_progress(run(noise(64, 32, 128))), mean_progress(run(*[noise(64, 32, 128)] * 9))
    assert (many.high - many.low) == pytest.approx((one.high - one.low) / 3)


def named(run_, choice):
    return {finding.name: finding for finding in judge(run_, choice)}


def test_a_sound_run_is_found_sound():
    own = run(200.0, 220.0)
    choice = chosen(own, seconds(4, 1))
    assert {each.verdict for each in judge(own, choice)} == {"pass"}
    assert f"batch size {choice.batch_size}" in answer(own, choice)


def test_a_diverged_run_fails_without_a_choice():
    own = run(200.0, diverged=True)
    assert [(each.name, each.verdict) for each in judge(own, None)] == [("loss-drops", "fail")]


def test_a_run_that_does_not_train_is_suspect():
    own = run(200.0, last_loss=2.29)
    assert named(own, chosen(own, seconds(4, 1)))["loss-drops"].verdict == "suspect"


def test_an_open_interval_and_a_choice_that_hangs_on_it_are_said():
    own = run(noise(500.0, 5.0, math.inf))
    choice = chosen(own, seconds(1, 0.1, [2**k for k in range(13)]))
    found = named(own, choice)
    assert found["noise-known"].verdict == "suspect"
    assert "open" in found["noise-known"].reason
    assert found["choice-certain"].verdict == "suspect"
    assert "open]" in answer(own, choice)


@pytest.mark.parametrize(
    ("scales", "grows"),
    [
        ([(204, 100, 2300), (2020, 900, 9000), (527, 300, 1500), (334, 200, 800), (14200, 1500, math.inf)], False),
        ([(204, 150, 280), (2020, 1500, 3000), (527, 400, 700), (334, 250, 450), (14200, 9000, math.inf)], False),
        ([(100, 90, 110), (150, 130, 170), (140, 120, 160), (220, 200, 250)], True),
        ([(100, 90, 110)], False),
    ],
)
def test_noise_grows_where_its_intervals_show_it(scales, grows):
    own = run(*(noise(*scale) for scale in scales))
    reason = named(own, chosen(own, seconds(4, 1)))["noise-along"].reason
    assert ("it grows," in reason) == grows
    assert ("cannot be told" in reason) == (not grows and len(scales) > 1)


def test_growing_noise_and_batch_norm_are_notes():
    own = run(noise(50.0, batch_norm=True), noise(400.0, batch_norm=True))
    found = named(own, chosen(own, seconds(4, 1)))
    assert "larger batch" in found["noise-along"].reason
    assert "statistics" in found["batch-norm"].reason


def case(scale, times, size=64):
    own = run(scale, batch_size=size)
    return own, chosen(own, [StepTime(size, tuple(rounds)) for size, rounds in times.items()])


def test_a_race_lasts_as_long_as_the_short_run_did():
    own, choice = case(1000.0, {64: [1.0], 256: [2.0], 1024: [4.0]})
    assert choice.batch_size == 1024
    race = race_for(own, choice, 1024)
    assert race.limit == 25
    assert rivals(own, choice) == [1024, 256]


@pytest.mark.parametrize(("scale", "expected"), [(1e9, 0.4), (1e-3, 0.1), (64.0, 0.1 * (1 / 1.25) / 0.5)])
def test_the_rate_follows_the_noise_from_linear_to_constant(scale, expected):
    own, choice = case(scale, {64: [1.0], 256: [1.0]})
    assert race_for(own, choice, 256).lr == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("scale", "expected"), [(1e9, 0.2), (1e-3, 0.1)])
def test_the_rate_of_adam_follows_the_root_of_the_batch_where_noise_is_large(scale, expected):
    """Malladi et al. 2022: a batch four times as large has a rate twice as large."""
    own, choice = case(scale, {64: [1.0], 256: [1.0]})
    adam = dataclasses.replace(own, batch_exponent=update_rule("adamw").batch_exponent)
    assert race_for(adam, choice, 256).lr == pytest.approx(expected, rel=1e-3)


def test_a_race_that_is_won_confirms_and_one_that_is_lost_overrules():
    own, choice = case(1000.0, {64: [1.0], 256: [2.0], 1024: [4.0]})
    race = race_for(own, choice, 1024)
    size, (seen,) = decided(own, choice, [dataclasses.replace(race, reached=12)])
    assert (size, seen.verdict, seen.name) == (1024, "pass", "raced-1024")
    assert "in 48 s (12 steps), 64 at rate 0.1 in 1e+02 s (100 steps)" in seen.reason
    size, seen = decided(own, choice, [race, dataclasses.replace(race_for(own, choice, 256), reached=40)])
    assert size == 256
    assert [each.verdict for each in seen] == ["suspect", "suspect"]
    size, _ = decided(own, choice, [race, race_for(own, choice, 256)])
    assert size == 64, "nobody was quicker than the run that is known"


def test_the_second_best_is_raced_where_the_own_size_is_predicted_to_win():
    own, choice = case(1.0, {16: [0.99], 64: [1.0], 256: [3.0]})
    assert choice.batch_size == 64
    (rival,) = rivals(own, choice)
    assert rival == 16
    size, (seen,) = decided(own, choice, [race_for(own, choice, rival)])
    assert (size, seen.verdict) == (64, "pass")
    size, (seen,) = decided(own, choice, [dataclasses.replace(race_for(own, choice, rival), reached=5)])
    assert (size, seen.verdict) == (16, "suspect")


def test_without_another_size_there_is_no_race():
    own, choice = case(10.0, {64: [1.0]})
    assert rivals(own, choice) == []
    assert decided(own, choice, []) == (64, ())
    own, choice = case(10.0, {16: [1.0], 256: [1.0]})
    assert rivals(own, choice) == [], "the short run's own size was not timed"
    assert decided(own, choice, []) == (choice.batch_size, ())


def test_reached_is_by_the_mean_of_a_whole_window_and_never_by_what_is_not_finite():
    assert reached([1.0, 9.0, 9.0], 1.0, 2) is None
    assert reached([9.0, 0.0, 0.0], 1.0, 2) == 3
    assert reached([float("inf")] * 3, 1.0, 1) is None
    assert reached([], 1.0, 3) is None


def test_a_race_is_plain_data():
    assert dataclasses.asdict(Race(batch_size=8, lr=0.1, step_seconds=1.0, limit=5, reached=None))["reached"] is None
