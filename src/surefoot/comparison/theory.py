"""The known surfaces as a comparison shows them: rules at theory's best, rates side by side, noise, and Rosenbrock."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import torch

from surefoot import seeds
from surefoot.comparison.surfaces import (
    Function,
    best_settings,
    contraction,
    noise_floor,
    positions,
    quadratic,
    rosenbrock,
    surface_task,
)
from surefoot.config import Recipe
from surefoot.record.comparison import SurfaceResult, SurfaceRun

LEAST, MOST = 1.0, 30.0
"""Curvatures of the quadratic: kappa 30 tells the rules apart, and its valley can still be drawn. Chosen by hand."""
BEGIN = (-9.0, 1.5)
ROSENBROCK_BEGIN = (-1.2, 1.0)
"""Rosenbrock's own start (1960)."""
ROSENBROCK_STEPS = 500
ROSENBROCK_RATES = {"gradient descent": 1.78e-3, "momentum": 3.16e-3, "nesterov": 1e-3}
"""The best of nine rates from 1e-4 to 1e-2 for each rule, by the loss after 1,000 steps (docs/log.md, 2026-11-24)."""
NOISY_STEPS = 500
GRID = 60
"""Points of a grid on each side. Chosen by hand."""
_FAR = 50.0
"""A path that is so far away has left every picture. Chosen by hand."""


def known_surfaces() -> Generator[int, None, tuple[SurfaceResult, ...]]:
    """Return the results on all known surfaces; about 3 s on one core.

    Yields:
        1 for each surface.
    """
    found = []
    for make in (best_rules, rates, noisy, valley):
        yield 1
        found.append(make())
    return tuple(found)


def best_rules() -> SurfaceResult:
    """Return gradient descent, momentum and Nesterov at the settings that theory calls best, on the quadratic."""
    runs = []
    for name, (recipe, theory) in best_settings(LEAST, MOST).items():
        path = positions(surface_task(quadratic([LEAST, MOST]), BEGIN), recipe, 60)
        measured = contraction(np.linalg.norm(path, axis=1))
        runs.append(_run(name, recipe, path, quadratic([LEAST, MOST]), contraction=measured, theory=theory))
    return _result(
        "quadratic", f"a quadratic of curvatures {LEAST:g} and {MOST:g}, each rule at its best settings", runs
    )


def rates() -> SurfaceResult:
    """Return gradient descent at a rate that is too small, the best, one that is too large, and one that diverges."""
    names = {"too small": 0.05, "good": 2 * MOST / (LEAST + MOST) / 2, "too large": 0.985, "diverging": 1.03}
    runs = []
    for name, share in names.items():
        recipe = Recipe(lr=share * 2 / MOST, momentum=0, batch_size="full")
        theory = max(abs(1 - recipe.lr * each) for each in (LEAST, MOST))
        path = positions(surface_task(quadratic([LEAST, MOST]), BEGIN), recipe, 60, until=_FAR)
        runs.append(_run(name, recipe, path, quadratic([LEAST, MOST]), theory=theory))
    return _result("rates", f"gradient descent diverges above lr = 2 / L = {2 / MOST:.3g}", runs)


def noisy() -> SurfaceResult:
    """Return SGD with batches of 1 and 16, and at a quarter of the rate, on the quadratic with noisy gradients."""
    deviation = 4.0
    noise = seeds.generator(0, "surface-noise").normal(size=(4096, 2)) * deviation
    variances = noise.var(axis=0)
    runs = []
    for name, lr, batch_size in (("SGD, B = 1", 0.04, 1), ("B = 16", 0.04, 16), ("B = 1, lr / 4", 0.01, 1)):
        recipe = Recipe(lr=lr, momentum=0, batch_size=batch_size)
        path = positions(surface_task(quadratic([LEAST, MOST]), BEGIN, noise), recipe, NOISY_STEPS)
        floor = noise_floor(lr, batch_size, [LEAST, MOST], variances.tolist())
        runs.append(_run(name, recipe, path, quadratic([LEAST, MOST]), floor=floor))
    return _result("noise", "with noisy gradients the loss settles at a floor of about lr / B times a constant", runs)


def valley() -> SurfaceResult:
    """Return the rules on Rosenbrock's valley, each at its best rate."""
    rules = {
        "gradient descent": Recipe(momentum=0, batch_size="full"),
        "momentum": Recipe(momentum=0.9, batch_size="full"),
        "nesterov": Recipe(momentum=0.9, momentum_form="nesterov", batch_size="full"),
    }
    runs = []
    for name, recipe in rules.items():
        own = replace(recipe, lr=ROSENBROCK_RATES[name])
        path = positions(surface_task(rosenbrock, ROSENBROCK_BEGIN), own, ROSENBROCK_STEPS, until=_FAR)
        runs.append(_run(name, own, path, rosenbrock))
    text = f"Rosenbrock's valley, {ROSENBROCK_STEPS} steps, each rule at its best rate"
    return _result("rosenbrock", text, runs, rosenbrock, (1.0, 1.0), ((-1.8, 1.8), (-0.8, 2.2)))


def _run(name: str, recipe: Recipe, path: np.ndarray, function: Function, **more: float) -> SurfaceRun:
    points = [(float(x), float(y)) for x, y in path]
    losses = function(torch.from_numpy(path)).tolist()
    return SurfaceRun(
        name=name, lr=recipe.lr, momentum=recipe.momentum, path=tuple(points), losses=tuple(losses), **more
    )


def _result(
    name: str, text: str, runs: Sequence[SurfaceRun], function: Function | None = None,
    minimum: tuple[float, float] = (0.0, 0.0), extent: Sequence[tuple[float, float]] = ((-11, 4), (-4, 4)),
) -> SurfaceResult:  # fmt: skip
    x, y = (np.linspace(low, high, GRID) for low, high in extent)
    points = torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1))
    losses = (function or quadratic([LEAST, MOST]))(points)
    return SurfaceResult(
        name=name, text=text, minimum=minimum, x=tuple(x.tolist()), y=tuple(y.tolist()),
        losses=tuple(tuple(row) for row in losses.tolist()), runs=tuple(runs),
    )  # fmt: skip
