"""The noise of a rule's steps: planted covariances come back, and momentum averages as theory says."""

import numpy as np
import pytest
import small
import torch

import surefoot
from surefoot.comparison.direction import (
    cosines,
    gradients_at,
    noise_of,
    settling_steps,
    shadow,
    steps_of,
)
from surefoot.comparison.runs import flat
from surefoot.config import Recipe
from surefoot.record.progress import Progress, finished

NOW = Progress(0, 0)
SIGNAL, DEVIATION, SIZE = 2.0, 0.5, 20


def planted(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return independent noisy gradients [n, 20], and their mean."""
    rng = np.random.default_rng(0)
    full = torch.zeros(SIZE)
    full[0] = SIGNAL
    return full + torch.from_numpy(rng.normal(size=(count, SIZE)).astype(np.float32)) * DEVIATION, full


BETA = 0.8
AVERAGED = (1 - BETA) / (1 + BETA)


@pytest.mark.parametrize(
    ("recipe", "factor"),
    [
        (Recipe(momentum=0), 1.0),
        (Recipe(momentum=BETA), AVERAGED),
        (Recipe(momentum=BETA, momentum_form="sutskever"), AVERAGED),
        (Recipe(momentum=BETA, momentum_form="nesterov"), AVERAGED * (1 + 2 * BETA - 2 * BETA**3)),
        (Recipe(momentum=BETA, dampening=BETA), AVERAGED),
    ],
    ids=["plain", "pytorch", "sutskever", "nesterov", "dampened"],
)
def test_a_planted_variance_comes_back(recipe, factor):
    gradients, full = planted(3000)
    seen = noise_of(recipe, gradients, full)
    # 3,000 steps, of which (1 - beta) / (1 + beta) are independent, times 20 directions: standard error of 1.7 %.
    assert seen.variance == pytest.approx(factor * SIZE * DEVIATION**2 / SIGNAL**2, rel=0.07)
    assert seen.samples == 3000 - settling_steps(recipe)


def test_the_steps_of_an_average_point_more_along_the_gradient():
    gradients, full = planted(500)
    plain, heavy = (noise_of(Recipe(momentum=momentum), gradients, full) for momentum in (0, 0.9))
    assert heavy.cosine > plain.cosine > 0
    assert plain.cosine == pytest.approx(float(cosines(gradients, full).mean()))


def test_gradients_that_are_all_the_same_have_no_noise():
    full = torch.ones(5)
    seen = noise_of(Recipe(momentum=0.9), full.repeat(2, 1), full)
    assert (seen.variance, seen.cosine) == (0.0, pytest.approx(1.0))


def test_too_few_steps_or_no_signal_say_nothing():
    gradients, full = planted(50)
    assert noise_of(Recipe(momentum=0.9), gradients, full) is None
    assert noise_of(Recipe(momentum=0), gradients, torch.zeros(SIZE)) is None


def test_clipped_gradients_are_shorter():
    gradients, _ = planted(10)
    steps = steps_of(Recipe(momentum=0, clip_norm=1.0), gradients)
    assert float(steps.norm(dim=1).max()) <= 1 + 1e-6


def test_gradients_are_those_of_the_batches_and_the_full_one_is_their_mean():
    task = surefoot.task(small.images(60), "linear", precision="fp32", threads=1)
    weights = flat(task.template) + 0.01
    recipe = Recipe(batch_size=10)
    gradients = finished(gradients_at(task, recipe, weights, 6, NOW))
    full, again = finished(gradients_at(task, Recipe(batch_size="full"), weights, 6, NOW))
    torch.testing.assert_close(gradients.mean(0), full, atol=1e-6, rtol=1e-4)  # six batches are one epoch
    torch.testing.assert_close(full, again)


def test_the_shadow_has_the_full_gradient_at_one_and_the_noise_across():
    gradients, full = planted(200)
    points = shadow([gradients, full[None]], full)
    torch.testing.assert_close(points[1], torch.tensor([[1.0, 0.0]], dtype=torch.float64), atol=1e-6, rtol=0)
    assert float(points[0][:, 1].std()) >= 0.9 * DEVIATION / SIGNAL
