"""Known surfaces as tasks: their gradients, their noise, and the paths of runs on them."""

import numpy as np
import pytest
import torch

from surefoot.comparison.surfaces import (
    SURFACES,
    contraction,
    noise_floor,
    positions,
    quadratic,
    surface_task,
)
from surefoot.config import Recipe
from surefoot.optim.update import reference_step


def rosenbrock(w):
    """Rosenbrock 1960: (1 - x)^2 + 100 (y - x^2)^2."""
    return (1 - w[..., 0]).square() + 100 * (w[..., 1] - w[..., 0].square()).square()


def test_a_path_is_that_of_the_reference_rule():
    task = surface_task(rosenbrock, (-1.2, 1.0))
    path = positions(task, Recipe(lr=1e-3, momentum=0.9, batch_size="full"), 20)
    w, velocity = [torch.tensor([-1.2, 1.0])], None
    for place in path[1:]:
        slope = torch.func.grad(rosenbrock)(w[0])
        w, velocity = reference_step(w, [slope], velocity, lr=1e-3, momentum=0.9)
        np.testing.assert_allclose(place, w[0].numpy(), rtol=1e-4, atol=1e-5)
    assert len(path) == 21


def test_noise_sums_to_nothing_so_the_full_gradient_is_exact():
    noise = np.random.default_rng(0).normal(size=(40, 2)) + 7
    recipe = Recipe(lr=0.1, momentum=0, batch_size="full")
    tasks = [surface_task(quadratic([1.0, 3.0]), (1.0, 1.0), each) for each in (None, noise)]
    exact, noisy = (positions(task, recipe, 5) for task in tasks)
    np.testing.assert_allclose(exact, noisy, atol=1e-5)


def test_a_run_that_goes_too_far_is_cut_there():
    path = positions(
        surface_task(quadratic([1.0]), (1.0,)), Recipe(lr=3.0, momentum=0, batch_size="full"), 300, until=50.0
    )
    assert np.abs(path[:-1]).max() <= 50 < np.abs(path[-1]).max()


def test_contraction_leaves_out_what_rounding_hides():
    distances = np.concatenate([0.5 ** np.arange(20), np.full(50, 0.5**20)])
    assert contraction(distances) == pytest.approx(0.5, rel=1e-6)


def test_the_floor_grows_with_rate_and_noise_and_falls_with_the_batch():
    assert noise_floor(0.2, 1, [1.0], [2.0]) == pytest.approx(2 * 0.2 / (2 * 1.8))
    assert noise_floor(0.2, 4, [1.0], [2.0]) == pytest.approx(noise_floor(0.2, 1, [1.0], [0.5]))


@pytest.mark.timeout(120)
def test_all_surfaces_are_shown_with_what_theory_says():
    found = {result.name: result for result in (surface() for surface in SURFACES)}
    assert list(found) == ["quadratic", "rates", "noise"]
    for run in found["quadratic"].runs:
        assert run.contraction == pytest.approx(run.theory, rel=0.05)
    ends = {run.name: run.losses[-1] for run in found["rates"].runs}
    assert ends["good"] < ends["too large"] < ends["too small"] < ends["diverging"]
    floors = {run.name: (np.mean(run.losses[-200:]), run.floor) for run in found["noise"].runs}
    for seen, floor in floors.values():
        assert (
            floor / 5 < seen < floor * 5
        )  # 200 steps of two directions, of which a few are independent: a sanity check
