"""The batch size chosen from invented noise and timings."""

import math

import pytest

from surefoot.record.noise import QUANTITIES, Estimate, LayerNoise, Noise
from surefoot.steps.batch_size.judge import ShortRun, answer, chosen, judged, mean_progress, progress

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
    return {size: [t * (overhead + each * size) for t in (0.98, 1.0, 1.02)] for size in sizes}


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
    return {finding.name: finding for finding in judged(run_, choice)}


def test_a_sound_run_is_found_sound():
    own = run(200.0, 220.0)
    choice = chosen(own, seconds(4, 1))
    assert {each.verdict for each in judged(own, choice)} == {"pass"}
    assert f"batch size {choice.batch_size}" in answer(own, choice)


def test_a_diverged_run_fails_without_a_choice():
    own = run(200.0, diverged=True)
    assert [(each.name, each.verdict) for each in judged(own, None)] == [("loss-drops", "fail")]


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


def test_growing_noise_and_batch_norm_are_notes():
    own = run(noise(50.0, batch_norm=True), noise(400.0, batch_norm=True))
    found = named(own, chosen(own, seconds(4, 1)))
    assert "larger batch" in found["noise-along"].reason
    assert "statistics" in found["batch-norm"].reason
