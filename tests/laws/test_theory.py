"""The law of theory: our update rules, in our loop, do on known problems what theory says that they do.

Contraction is the factor per step on the distance to the minimum, the geometric mean over the later half of a run.
Gradient descent is exact there: one mode is left, so the tolerance is that of float32. Momentum at its best settings
has a double root, whose error falls as (1 + c t) rho^t: over the later half of T steps the measured factor lies above
rho by a factor of at most about 2^(2 / T), and does not lie below it.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian

import surefoot
from surefoot.comparison.runs import part_of
from surefoot.comparison.surfaces import (
    best_settings,
    contraction,
    noise_floor,
    positions,
    quadratic,
    surface_task,
)
from surefoot.config import Recipe, Schedule
from surefoot.training.loop import advance, start
from surefoot.training.step import gradient

KAPPAS = (4.0, 25.0, 100.0)


def path_on_quadratic(recipe: Recipe, kappa: float, steps: int) -> np.ndarray:
    curvatures = np.geomspace(1.0, kappa, 5).tolist()
    return positions(surface_task(quadratic(curvatures), [1.0] * 5), recipe, steps)


@pytest.mark.parametrize("kappa", KAPPAS)
def test_gradient_descent_contracts_a_quadratic_by_theory(kappa):
    recipe, theory = best_settings(1.0, kappa)["gradient descent"]
    assert theory == pytest.approx((kappa - 1) / (kappa + 1))
    steps = math.ceil(math.log(1e-4) / math.log(theory))
    measured = contraction(np.linalg.norm(path_on_quadratic(recipe, kappa, steps), axis=1))
    # The modes between the ends die out: at kappa 4 they are still 1e-3 of the rest halfway.
    assert measured == pytest.approx(theory, rel=1e-3)


@pytest.mark.parametrize("kappa", KAPPAS)
@pytest.mark.parametrize(("rule", "theory"), [
    ("momentum", lambda root: (root - 1) / (root + 1)), ("nesterov", lambda root: 1 - 1 / root)
])  # fmt: skip
def test_momentum_contracts_a_quadratic_by_theory(rule, theory, kappa):
    recipe, factor = best_settings(1.0, kappa)[rule]
    assert factor == pytest.approx(theory(math.sqrt(kappa)))
    steps = math.ceil(math.log(1e-6) / math.log(factor))
    measured = contraction(np.linalg.norm(path_on_quadratic(recipe, kappa, steps), axis=1))
    # Complex roots make the error swing about its envelope, which the ends of the half are anywhere on: 2 % below.
    assert 0.98 * factor <= measured <= factor * 2 ** (2.5 / (steps / 2))


def test_momentum_is_ahead_of_gradient_descent_by_the_root_of_kappa():
    kappa = 25.0
    best = best_settings(1.0, kappa)
    steps = {}
    for rule in ("gradient descent", "momentum"):
        distances = np.linalg.norm(path_on_quadratic(best[rule][0], kappa, 150), axis=1)
        steps[rule] = int(np.argmax(distances < 1e-4 * distances[0]))
    gain = steps["gradient descent"] / steps["momentum"]
    # ln(1e-4) over each contraction, and up to half as many steps more for what momentum needs to settle.
    wanted = math.log(best["momentum"][1]) / math.log(best["gradient descent"][1])
    assert wanted / 1.6 <= gain <= wanted * 1.05


@pytest.mark.parametrize(("share", "converges"), [(0.98, True), (1.02, False)])
def test_gradient_descent_diverges_above_two_over_the_largest_curvature(share, converges):
    path = path_on_quadratic(Recipe(lr=share * 2 / 25, momentum=0, batch_size="full"), 25.0, 200)
    assert bool(np.abs(path[-1]).max() < 1) is converges


def test_two_forms_of_momentum_are_one_at_a_constant_rate():
    made = Recipe(lr=0.05, momentum=0.9, batch_size="full")
    a, b = (path_on_quadratic(replace(made, momentum_form=form), 10.0, 100) for form in ("pytorch", "sutskever"))
    np.testing.assert_allclose(a, b, atol=1e-5)


def regularised() -> tuple[surefoot.Task, Recipe]:
    """Return softmax regression on 60 examples of 3 features, with an L2 penalty that makes it strongly convex."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    y = (x @ rng.normal(size=(3, 3)) + rng.normal(size=(60, 3))).argmax(1)
    data = surefoot.load((x, y), validation=0)
    recipe = Recipe(batch_size="full", momentum=0.0, weight_decay=0.05, schedule=Schedule(kind="constant"))
    return surefoot.task(data, "linear", precision="fp32", threads=1), recipe


def curvatures_at_the_optimum(task: surefoot.Task, decay: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the optimum by Newton's method in float64, and the eigenvalues of the Hessian there: no code of ours."""
    x = ((task.data.train.x - task.data.mean) / task.data.std).double()
    x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)

    def objective(w):
        logits = x @ w.reshape(3, 4).T
        return torch.nn.functional.cross_entropy(logits, task.data.train.y) + decay / 2 * w.square().sum()

    w = torch.zeros(12, dtype=torch.float64)
    for _ in range(20):
        slope = torch.func.grad(objective)(w)
        w = w - torch.linalg.solve(hessian(objective, w), slope)
    return w, torch.linalg.eigvalsh(hessian(objective, w))


def distances_on_softmax(recipe: Recipe, optimum: torch.Tensor, task: surefoot.Task, steps: int) -> np.ndarray:
    plan = surefoot.plan(replace(recipe, steps=steps), task.data.examples)
    state, found = start(task, plan), []
    for step in range(1, steps + 1):
        state, _ = advance(task, plan, state, step)
        head = state.model.head
        now = torch.cat([head.weight.detach(), head.bias.detach()[:, None]], dim=1).double().reshape(-1)
        found.append(float((now - optimum).norm()))
    return np.array(found)


def test_gradient_descent_contracts_softmax_regression_by_its_hessian():
    task, recipe = regularised()
    optimum, values = curvatures_at_the_optimum(task, recipe.weight_decay)
    least, most = float(values[0]), float(values[-1])
    best, theory = best_settings(least, most)["gradient descent"]
    # Down to 1e-5 of the start, above the rounding of float32 and near enough that the Hessian is that of the optimum.
    steps = math.ceil(math.log(1e-5) / math.log(theory))
    measured = contraction(distances_on_softmax(replace(recipe, lr=best.lr), optimum, task, steps))
    # The modes between the ends fall faster; what is left of them halfway makes the mean factor lower by up to 2 %.
    assert 0.98 * theory <= measured <= 1.002 * theory


def test_momentum_contracts_softmax_regression_by_the_root_of_kappa():
    task, recipe = regularised()
    optimum, values = curvatures_at_the_optimum(task, recipe.weight_decay)
    best, theory = best_settings(float(values[0]), float(values[-1]))["momentum"]
    steps = math.ceil(math.log(1e-5) / math.log(theory))
    distances = distances_on_softmax(replace(recipe, lr=best.lr, momentum=best.momentum), optimum, task, steps)
    # As on quadratics; and farther out the Hessian is another, so the settings are not the best all the way.
    assert 0.95 * theory <= contraction(distances) <= theory * 2 ** (2.5 / (steps / 2)) * 1.02


# Noise


@pytest.fixture(scope="module")
def settled():
    """The mean loss at which SGD settles, and that of theory, for three rates and batches.

    100 directions at once: each settles by itself, so 150 steps of 100 directions, of which about lr steps in 1 / lr
    are independent, give a standard error of sqrt(2 / (100 * 150 lr)), 3 % at the least rate. Batches are drawn without
    replacement, whose sum over an epoch is 0; an epoch of 2,048 / B steps is long against the 1 / lr steps that count,
    so that the floor is lower by about B / (2,048 lr), at most 2 %.
    """
    noise = np.random.default_rng(1).normal(size=(2048, 100))
    variances = noise.var(axis=0).tolist()
    found = {}
    for lr, batch_size in ((0.2, 1), (0.4, 1), (0.2, 4)):
        recipe = Recipe(lr=lr, momentum=0.0, batch_size=batch_size)
        path = positions(surface_task(quadratic([1.0] * 100), [0.0] * 100, noise), recipe, 190)[40:]
        measured = float((0.5 * path**2).sum(axis=1).mean())
        found[lr, batch_size] = measured, noise_floor(lr, batch_size, [1.0] * 100, variances)
    return found


def test_sgd_settles_at_the_floor_of_theory(settled):
    for measured, theory in settled.values():
        assert measured == pytest.approx(theory, rel=0.12)  # four standard errors


def test_the_floor_is_proportional_to_the_rate_and_to_one_over_the_batch(settled):
    rate = settled[0.4, 1][0] / settled[0.2, 1][0]
    batch = settled[0.2, 4][0] / settled[0.2, 1][0]
    # lr / (2 - lr) is proportional to lr for small rates: 2 becomes 2 * 1.8 / 1.6. Ratios of two means: 5 % each.
    assert rate == pytest.approx(2 * 1.8 / 1.6, rel=0.16)
    assert batch == pytest.approx(1 / 4, rel=0.16)


@pytest.fixture(scope="module")
def softmax_on_digits():
    """Softmax regression on 320 digits, and the gradient of each example at the initial weights."""
    digits = surefoot.load("digits")
    few = replace(digits, train=part_of(digits, digits.train, 320, "few"))
    task = surefoot.task(few, "linear", precision="fp32", threads=1)
    return task, torch.stack(gradients(task, 1, 320))


@pytest.mark.parametrize("batch_size", [4, 16, 32])
def test_the_variance_of_a_mini_batch_gradient_falls_as_one_over_its_size(softmax_on_digits, batch_size):
    task, each = softmax_on_digits
    examples = task.data.examples
    variance = float((each - each.mean(0)).square().sum()) / (examples - 1)
    batches = torch.stack(gradients(task, batch_size, examples // batch_size))
    full = each.mean(0)
    measured = float((batches - full).square().sum(1).mean())
    # Of a finite population, without replacement (Cochran 1977, "Sampling techniques", theorem 2.2).
    wanted = variance / batch_size * (examples - batch_size) / examples
    # Squared norms over some dozen directions: a relative error of about sqrt(2 / (12 n)), 13 % for 10 batches of 32.
    assert measured == pytest.approx(wanted, rel=3 * math.sqrt(2 / (12 * len(batches))))


def gradients(task: surefoot.Task, batch_size: int, count: int) -> list[torch.Tensor]:
    """Return the gradients of the first batches at the initial weights, as the loop computes them."""
    plan = surefoot.plan(Recipe(batch_size=batch_size, epochs=1), task.data.examples)
    state, found = start(task, plan), []
    for step in range(count):
        state.step = step
        _, _, grads = gradient(task, plan, state)
        found.append(torch.cat([g.reshape(-1) for g in grads if g is not None]).double())
    return found
