import math

import numpy as np
import pytest
from invented import came_to, outcomes, trial, valley

from surefoot.config import Recipe
from surefoot.record.trial import Trial, TrialResult
from surefoot.rules import update_rule
from surefoot.search.choose import response_of
from surefoot.search.response import CEILING, coordinates, errors
from surefoot.search.space import DRIFT, space_around

RATES = np.geomspace(0.003, 0.3, 9)
WHERE = space_around(Recipe(), 1000, None, frozenset())


def fitted(results, examples):
    return response_of(results, WHERE, examples)


def points(results):
    return WHERE.at([each.trial for each in results])


def test_the_effective_rate_is_the_step_of_a_velocity_in_balance():
    """A constant gradient of 1 moves the weight by lr (1 - dampening) / (1 - momentum) each step in the end."""
    import torch

    from surefoot.optim.optimizer import SGD

    for momentum, dampening in ((0.9, 0.0), (0.9, 0.5), (0.0, 0.0)):
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = SGD([weight], lr=0.1, momentum=momentum, dampening=dampening)
        for _ in range(400):
            before = float(weight.detach())
            weight.grad = torch.ones(1, dtype=torch.float64)
            optimizer.step()
        recipe = Recipe(lr=0.1, momentum=momentum, dampening=dampening, steps=10)
        assert before - float(weight.detach()) == pytest.approx(10 ** coordinates(recipe)[0], rel=1e-9)


def test_the_total_decay_is_the_shrinking_of_a_weight_without_gradients():
    """Small decays: the weight ends at exp(-total) of itself, up to (lr wd)^2 terms and the velocity's start."""
    import torch

    from surefoot.optim.optimizer import SGD

    recipe = Recipe(lr=0.01, momentum=0.9, weight_decay=0.01, steps=2000)
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = SGD([weight], lr=0.01, momentum=0.9, weight_decay=0.01)
    for _ in range(2000):
        weight.grad = torch.zeros(1, dtype=torch.float64)
        optimizer.step()
    assert -math.log(float(weight.detach())) == pytest.approx(10 ** coordinates(recipe)[1], rel=0.02)


def test_the_scales_of_decay_and_memory_are_the_rule_s():
    """On maps of AdamW beta2 hardly matters: a trial at 0.95 says of 0.999 almost what one at 0.999 would."""
    for rule, memory, other in (("sgd", 0.9, 0.0), ("adamw", 0.999, 0.95)):
        name, where = update_rule(rule).memory, space_around(Recipe(rule=rule), 100, None, frozenset())
        results = [
            TrialResult(
                trial=Trial(stage="a", recipe=Recipe(rule=rule, lr=lr, steps=100, **{name: memory}), seed=0, share=1.0),
                outcome="finished", examples=1, train_loss=1.0, val_loss=loss, val_accuracy=None, seconds=0,
            )
            for lr, loss in ((0.001, 1.0), (0.01, 0.5), (0.1, 1.0))
        ]  # fmt: skip
        response = response_of(results, where, 100)
        assert where.prior.scale[1:].tolist() == [update_rule(rule).memory_scale, update_rule(rule).decay_scale]
        at = where.at([results[1].trial]).repeat(2, axis=0)
        at[1, 1] = math.log10(1 - other)
        _, covariance = response.predict(at)
        apart = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        assert (apart < 0.3 * response.amplitude**2) == (rule == "adamw"), rule


def test_errors_mean_loss_and_error_rate_in_logarithms():
    one = TrialResult(
        trial=trial(0.1), outcome="finished", examples=1, train_loss=1.0, val_loss=0.5, val_accuracy=0.9, seconds=0
    )
    assert errors([one], 99)[0] == pytest.approx((math.log(0.5) + math.log(10.4 / 100)) / 2)
    lost = came_to(trial(0.1), math.inf)
    assert errors([one, lost], 99)[1] == math.inf


def test_losses_of_any_sign_are_taken_as_they_are():
    tried = [
        TrialResult(
            trial=trial(0.1), outcome="finished", examples=1, train_loss=0, val_loss=loss, val_accuracy=None, seconds=0
        )
        for loss in (-3.0, 2.0)
    ]
    assert errors(tried, 10).tolist() == [-3.0, 2.0]


def test_the_response_passes_near_what_was_seen_and_is_unsure_far_away():
    tried = outcomes([trial(lr) for lr in RATES], valley(0.3, cliff=9))
    response = fitted(tried, 1000)
    mean, covariance = response.predict(points(tried))
    finished = np.array([each.finished for each in tried])
    seen = errors(tried, 1000)
    near = finished
    assert np.abs(mean - seen)[near].max() < 0.12
    _, wide = response.predict(np.array([[3.0, -1.0, 0.0, 0.0]]))
    assert wide[0, 0] > 4 * np.diag(covariance)[finished].max()


def test_a_run_that_diverged_is_as_bad_as_the_ceiling_of_its_length():
    tried = outcomes([trial(lr, share) for share in (0.25, 1.0) for lr in RATES], valley(0.1))
    response = fitted(tried, 1000)
    for share in (0.25, 1.0):
        own = np.array([each.trial.share == share for each in tried])
        assert response.error[own].max() == pytest.approx(response.error[own].min() + CEILING)


@pytest.mark.parametrize("shift", [-0.2, -0.1, 0.0])
def test_a_best_rate_that_moves_with_the_length_goes_on_moving(shift):
    """Short runs of 1/16 to 1/4 of the length: two doublings beyond, the best rate is found within a factor of 1.8."""
    shares = (1 / 16, 1 / 8, 1 / 4)
    tried = outcomes([trial(lr, share) for share in shares for lr in RATES], valley(0.3, shift=shift, cliff=9))
    rates = np.linspace(-1.5, 0.5, 81)
    mean, _ = fitted(tried, 1000).predict(np.array([[rate, -1.0, 0.0, 0.0] for rate in rates]))
    assert rates[mean.argmin()] == pytest.approx(math.log10(0.3), abs=0.25)


def test_noise_is_told_from_shape():
    quiet = outcomes([trial(lr) for lr in RATES], valley(0.1, cliff=9))
    noisy = outcomes([trial(lr, seed=s) for lr in RATES for s in range(3)], valley(0.1, cliff=9, noise=0.2))
    assert fitted(quiet, 1000).noise < 0.1 < fitted(noisy, 1000).noise


def test_points_know_their_length():
    tried = outcomes([trial(0.1, 0.25)], lambda each: 0.0)
    assert isinstance(tried[0].trial, Trial)
    assert points(tried)[0].tolist() == pytest.approx([2 * DRIFT, -1.0, 0.0, -2.0])
