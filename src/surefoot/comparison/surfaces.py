"""A surface on which theory knows the answer, trained by the one loop: an ill-conditioned quadratic, also with noise.

The weights are a point w; example i has the loss f(w) + xi_i . w, where the noise xi_i sums to 0 over all examples. So
the full gradient is exactly that of f, and a batch of B has the noise of covariance Cov(xi) / B.

With eigenvalues mu <= lambda <= L of the Hessian and kappa = L / mu, the distance to the minimum falls per step by

* gradient descent: max |1 - lr lambda|; at the best rate 2 / (L + mu) by (kappa - 1) / (kappa + 1);
* heavy ball (momentum): at lr = 4 / (sqrt L + sqrt mu)^2 and beta = ((sqrt kappa - 1) / (sqrt kappa + 1))^2 by
  (sqrt kappa - 1) / (sqrt kappa + 1) (Polyak 1964, "Some methods of speeding up the convergence of iteration methods");
* Nesterov's form: at lr = 1 / L and beta = (sqrt kappa - 1) / (sqrt kappa + 1) by 1 - 1 / sqrt kappa, the double root
  of its characteristic polynomial at mu (Lessard, Recht & Packard 2016, arXiv 1408.3595, section 4).

With noise of covariance C diag in the eigenbasis, the loss of SGD at a constant rate settles at a floor of
sum_i lr C_ii / (2 B (2 - lr lambda_i)), the stationary variance of a first-order autoregression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from surefoot import seeds
from surefoot.config import Recipe
from surefoot.data.dataset import DataSet, Part, Source
from surefoot.record.comparison import SurfaceResult, SurfaceRun
from surefoot.steps.follow import rate_plan
from surefoot.training.loop import advance, start
from surefoot.training.make import task
from surefoot.training.task import Task

LEAST, MOST = 1.0, 30.0
"""Curvatures of the quadratic: kappa 30 tells the rules apart, and its valley can still be drawn. Chosen by hand."""
BEGIN = (-9.0, 1.5)
NOISY_STEPS = 500
GRID = 60
"""Points of a grid on each side. Chosen by hand."""
_FAR = 50.0
"""A path that is so far away has left every picture. Chosen by hand."""
_STEPS_AT_ONCE = 100
"""Between two looks whether a run has gone too far. Chosen by hand."""

Function = Callable[[Tensor], Tensor]
"""f: w [..., D] -> loss [...]."""


class Point(nn.Module):
    """A model whose weights are a point, and whose outputs [B] are the losses f(w) + x . w of noise x [B, D].

    It keeps where it was at each training step, so that a path needs one call of the loop and not one for each step.
    """

    def __init__(self, function: Function, begin: Sequence[float]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(begin, dtype=torch.float32))
        self.function = function
        self.path: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the loss of each example, [B]."""
        if self.training:
            self.path.append(self.w.detach().clone())
        return self.function(self.w) + x @ self.w


def quadratic(curvatures: Sequence[float]) -> Function:
    """Return f(w) = 1/2 sum lambda_i w_i^2, with its minimum at 0.

    >>> quadratic([1.0, 4.0])(torch.tensor([1.0, 1.0])).item()
    2.5
    """

    def function(w: Tensor) -> Tensor:
        return 0.5 * (w.square() * torch.tensor(curvatures, dtype=w.dtype)).sum(-1)

    return function


def surface_task(function: Function, begin: Sequence[float], noise: np.ndarray | None = None, seed: int = 0) -> Task:
    """Return the task of going down a surface.

    Args:
        function: f.
        begin: the first w, [D].
        noise: xi, [N, D]; its mean is taken away. None is one example without noise.
        seed: of the order of examples.

    >>> made = surface_task(quadratic([1.0]), [2.0])
    >>> made.data.examples, made.loss(made.template(made.data.train.x), None).item()
    (1, 2.0)
    """
    xi = np.zeros((1, len(begin))) if noise is None else noise - noise.mean(0)
    x = torch.from_numpy(xi.astype(np.float32))
    part = Part(x, torch.zeros(len(x)), Source())
    still = torch.zeros(len(begin)), torch.ones(len(begin))
    data = DataSet("surface", "numbers", part, None, None, None, *still, "surface", torch.zeros(()), torch.ones(()))
    point = Point(function, begin)
    return task(data, point, loss=lambda outputs, _: outputs, seed=seed, device="cpu", precision="fp32", threads=1)


def positions(made: Task, recipe: Recipe, steps: int, until: float = math.inf) -> np.ndarray:
    """Return w before the first step and after every step, [T + 1, D]; fewer where the run diverged or went too far.

    Args:
        made: from `surface_task`.
        recipe: its length and schedule are not used: the rate is constant.
        steps: T.
        until: stop soon after a coordinate is larger than this.
    """
    # Whole batches: a batch in pieces would be seen once for each piece.
    whole = replace(recipe, weight_decay=0.0, micro_batch_size=made.data.examples)
    table = replace(rate_plan(whole, made.data.examples, np.full(steps, recipe.lr)), row_steps=(steps,))
    state = start(made, table)
    model = state.model
    assert isinstance(model, Point)
    while state.outcome is None and float(model.w.detach().abs().max()) <= until:
        state, _ = advance(made, table, state, state.step + _STEPS_AT_ONCE)
    path = torch.stack([*model.path[: state.step], model.w.detach()]).double().numpy()
    far = np.flatnonzero(~(np.abs(path).max(axis=1) <= until))
    return path[: far[0] + 1] if len(far) else path


def contraction(distances: np.ndarray) -> float:
    """Return the factor per step by which a distance falls: its geometric mean over the second half of what is seen.

    The first half holds what rules with momentum take to settle. What rounding hides (below 1e-6 of the start, in
    float32) is left out.

    Args:
        distances: to the minimum, after each step, [n].

    >>> round(contraction(0.9 ** np.arange(50)), 6)
    0.9
    """
    hidden = distances < 1e-6 * distances[0]
    visible = distances[: np.argmax(hidden)] if hidden.any() else distances
    half = len(visible) // 2
    return float((visible[-1] / visible[half]) ** (1 / (len(visible) - 1 - half)))


def best_settings(least: float, most: float) -> dict[str, tuple[Recipe, float]]:
    """Return, by rule, the best constant settings for curvatures from `least` to `most`, and their contraction in
    theory. The formulas stand at the top of this file.

    Args:
        least, most: mu and L, above 0.

    >>> {name: round(factor, 3) for name, (_, factor) in best_settings(1.0, 100.0).items()}
    {'gradient descent': 0.98, 'momentum': 0.818, 'nesterov': 0.9}
    """
    kappa = most / least
    root = math.sqrt(kappa)
    fraction = (root - 1) / (root + 1)
    heavy = 4 / (math.sqrt(most) + math.sqrt(least)) ** 2
    nesterov = Recipe(lr=1 / most, momentum=fraction, momentum_form="nesterov", batch_size="full")
    return {
        "gradient descent": (Recipe(lr=2 / (most + least), momentum=0, batch_size="full"), (kappa - 1) / (kappa + 1)),
        "momentum": (Recipe(lr=heavy, momentum=fraction**2, batch_size="full"), fraction),
        "nesterov": (nesterov, 1 - 1 / root),
    }


def noise_floor(lr: float, batch_size: int, curvatures: Sequence[float], variances: Sequence[float]) -> float:
    """Return the mean loss at which SGD without momentum settles on a quadratic. The formula stands at the top.

    Args:
        lr: constant rate, below 2 / L.
        batch_size: B.
        curvatures: lambda_i.
        variances: C_ii, of one example's gradient along each eigenvector.

    >>> noise_floor(1.0, 1, [1.0], [2.0])
    1.0
    """
    pairs = zip(curvatures, variances, strict=True)
    return sum(lr * c / (2 * batch_size * (2 - lr * curvature)) for curvature, c in pairs)


_QUADRATIC = quadratic([LEAST, MOST])


def best_rules() -> SurfaceResult:
    """Return gradient descent, momentum and Nesterov at the settings that theory calls best, on the quadratic."""
    runs = []
    for name, (recipe, theory) in best_settings(LEAST, MOST).items():
        path = positions(surface_task(_QUADRATIC, BEGIN), recipe, 60)
        measured = contraction(np.linalg.norm(path, axis=1))
        runs.append(_run(name, recipe, path, contraction=measured, theory=theory))
    return _result(
        "quadratic", f"a quadratic of curvatures {LEAST:g} and {MOST:g}, each rule at its best settings", runs
    )


def rates() -> SurfaceResult:
    """Return gradient descent at a rate that is too small, the best, one that is too large, and one that diverges."""
    names = {"too small": 0.05, "good": 2 * MOST / (LEAST + MOST) / 2, "too large": 0.985, "diverging": 1.03}
    runs = []
    for name, share in names.items():
        recipe = Recipe(lr=share * 2 / MOST, momentum=0, batch_size="full")
        theory = max(abs(1 - recipe.lr * curvature) for curvature in (LEAST, MOST))
        path = positions(surface_task(_QUADRATIC, BEGIN), recipe, 60, until=_FAR)
        runs.append(_run(name, recipe, path, theory=theory))
    return _result("rates", f"gradient descent diverges above lr = 2 / L = {2 / MOST:.3g}", runs)


def noisy() -> SurfaceResult:
    """Return SGD with batches of 1 and 16, and at a quarter of the rate, on the quadratic with noisy gradients."""
    deviation = 4.0
    noise = seeds.generator(0, "surface-noise").normal(size=(4096, 2)) * deviation
    variances = noise.var(axis=0)
    runs = []
    for name, lr, batch_size in (("SGD, B = 1", 0.04, 1), ("B = 16", 0.04, 16), ("B = 1, lr / 4", 0.01, 1)):
        recipe = Recipe(lr=lr, momentum=0, batch_size=batch_size)
        path = positions(surface_task(_QUADRATIC, BEGIN, noise), recipe, NOISY_STEPS)
        floor = noise_floor(lr, batch_size, [LEAST, MOST], variances.tolist())
        runs.append(_run(name, recipe, path, floor=floor))
    return _result("noise", "with noisy gradients the loss settles at a floor of about lr / B times a constant", runs)


SURFACES = (best_rules, rates, noisy)
"""What is shown of them, in this order; about 3 s on one core."""


def _run(name: str, recipe: Recipe, path: np.ndarray, **more: float) -> SurfaceRun:
    points = tuple((x, y) for x, y in path.tolist())
    losses = tuple(_QUADRATIC(torch.from_numpy(path)).tolist())
    return SurfaceRun(name=name, lr=recipe.lr, momentum=recipe.momentum or 0.0, path=points, losses=losses, **more)


def _result(name: str, text: str, runs: Sequence[SurfaceRun]) -> SurfaceResult:
    x, y = np.linspace(-11, 4, GRID), np.linspace(-4, 4, GRID)
    losses = _QUADRATIC(torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1)))
    return SurfaceResult(
        name=name, text=text, minimum=(0.0, 0.0), x=tuple(x.tolist()), y=tuple(y.tolist()),
        losses=tuple(tuple(row) for row in losses.tolist()), runs=tuple(runs),
    )  # fmt: skip
