"""Trials that nobody trained: deciders are tested on them in milliseconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from surefoot.config import Recipe
from surefoot.record.trial import Trial, TrialResult
from surefoot.search.response import coordinates

STEPS = 1000


def trial(lr: float, share: float = 1.0, *, decay: float = 1.0, momentum: float = 0.9, seed: int = 0) -> Trial:
    """Return the trial of a rate with the weight decay that has this total over the final length."""
    steps = round(STEPS * share)
    weight_decay = decay * (1 - momentum) / (lr * STEPS)
    recipe = Recipe(lr=lr, momentum=momentum, weight_decay=weight_decay, steps=steps)
    return Trial(stage="coarse-grid", recipe=recipe, seed=seed, share=share)


def came_to(trial: Trial, log_error: float) -> TrialResult:
    """Return the trial with a loss and an error rate that have this logarithm; it diverged where that is infinite."""
    good = math.isfinite(log_error)
    error = math.exp(log_error) if good else None
    return TrialResult(
        trial=trial, outcome="finished" if good else "diverged", examples=128 * (trial.recipe.steps or 0),
        train_loss=error, val_loss=error, val_accuracy=None, seconds=1.0,
    )  # fmt: skip


def valley(best: float, *, shift: float = 0.0, cliff: float = 0.6, noise: float = 0.0) -> Callable[[Trial], float]:
    """Return a log error with its least value at effective rate `best` for the final length, which falls by 0.2 per
    doubling; the best rate moves by `shift` decades per doubling; from `cliff` decades above it runs diverge.
    """
    rng = np.random.default_rng(0)

    def error(each: Trial) -> float:
        n = math.log2(each.share)
        apart = coordinates(each.recipe, each.share)[0] - math.log10(best) - shift * n
        if apart > cliff:
            return math.inf
        return -2.0 - 0.2 * n + 1.2 * apart**2 + noise * float(rng.normal())

    return error


def outcomes(trials: Iterable[Trial], error: Callable[[Trial], float]) -> list[TrialResult]:
    """Return what came of trials in an invented world."""
    return [came_to(each, error(each)) for each in trials]
