"""How the error after training depends on the recipe and on the length of the run: a Gaussian process over trials.

A trial is a point (a, b, c, n) in decoupled coordinates, all logarithms: the effective rate, the total decay, the
memory of the rule, and the length. In them the best values move little against each other, and a bend in one is as
wide at 1e-3 as at 1. Short runs then say something of long ones, as far as the data shows: the model has a part that
does not change with the length and one that changes in proportion to its logarithm, so that a best rate which moves
from rung to rung goes on moving.

P points, Q candidates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surefoot.config import Recipe
from surefoot.record.measures import RISES, metric_name, number_of, rises
from surefoot.record.trial import TrialResult

LEAST_DECAY = 0.01
"""A smaller total decay counts as none: it takes 1 % of a weight over the whole run."""
CEILING = 1.5
"""A trial that is worse than the best of its length by this much, in units of log error, counts as no worse: how bad a
bad recipe is says nothing of where the best one lies, and a cliff is not a smooth thing. Chosen by hand: a factor of
4.5 in the error."""
_RATE_SCALES = (0.3, 0.5, 0.8)
"""Decades of the rate over which the error bends: the data chooses. Those of decay and memory are the rule's."""
_AMPLITUDES = (0.1, 0.25, 0.5, 1.0)
_NOISES = (0.015, 0.03, 0.06, 0.12, 0.25)
"""In units of log error; the data chooses. Two trials of a recipe differ by 2 to 25 %."""
_SHIFT = 0.1
"""Amplitude of what changes with the length, per doubling, as a share of the amplitude. Of 0.05 to 0.3, 0.05 and 0.1
lost least on five small tasks: with 0.3 the noise between two rungs that lie close was taken for a movement of the best
rate and carried on to the final length (docs/log.md, "Regret at two trainings, halved")."""
_LEVEL = 3.0
"""Standard deviation of the level of all errors: free."""
_GAIN = (-0.2, 0.15)
"""Mean and standard deviation of how the log error changes with each doubling of the length: longer runs of a good
recipe make fewer errors, by about a fifth. Without it a round of bad recipes would pass for a hard length. Chosen by
hand."""


def coordinates(recipe: Recipe, share: float = 1.0) -> tuple[float, float, float]:
    """Return a run in decoupled coordinates: log10 of the effective rate, of the total decay, and of 1 - momentum.

    The total decay is that of the final run: a short run with the same rate and weight decay has the same coordinates.

    The effective rate of SGD with momentum is lr (1 - dampening) / (1 - momentum), its step size once the velocity is
    in balance (Goh 2017, "Why momentum really works"). The total decay is that rate times weight decay times the number
    of steps (lr in place of the rate where weight decay is decoupled: Loshchilov & Hutter 2019, arXiv 1711.05101): by
    e to minus this would a weight shrink without gradients at the peak rate. It, and not weight decay, keeps its best
    value when length or rate changes (Wang & Aitchison 2024, arXiv 2405.13698, who show it for AdamW). Other rules say
    what these are for them (`surefoot.rules`).

    Args:
        recipe: with its length in steps.
        share: that length as a share of the final run's.

    >>> [round(value, 3) for value in coordinates(Recipe(lr=0.1, momentum=0.9, weight_decay=1e-3, steps=1000))]
    [0.0, 0.0, -1.0]
    """
    assert recipe.steps is not None
    each = recipe.lr / recipe.update_rule.per_shrink(recipe.rule_values) * recipe.decay
    decay = each * recipe.steps / share
    return math.log10(recipe.effective_lr), math.log10(max(decay, LEAST_DECAY)), math.log10(1 - recipe.memory)


def errors(results: Sequence[TrialResult], validation_examples: int) -> np.ndarray:
    """Return one number for each trial, [P], the lower the better; infinite where it diverged.

    For classes the mean of log loss and log error rate: the loss alone prefers timid models where training sets are
    learned by heart, and the rate alone is coarse with few validation examples (docs/log.md has the trials). An error
    rate of 0 counts as half an example. For a regression the log of the loss; the loss itself where it is not positive.
    Where one number was asked for, `choose_by`, that alone, see `_log_error`; infinite where it is not defined.

    Args:
        results: P trials.
        validation_examples: on which they were judged.
    """
    if len(results) and (by := results[0].chosen_by) is not None:
        return _log_error([number_of(each, by) if each.finished else None for each in results], by, validation_examples)
    losses = np.array([each.val_loss if each.finished and each.val_loss is not None else np.inf for each in results])
    finite = losses[np.isfinite(losses)]
    if len(finite) and finite.min() <= 0:
        return losses
    with np.errstate(divide="ignore"):
        error = np.log(np.maximum(losses, 1e-9))
    for i, each in enumerate(results):
        if each.finished and each.val_accuracy is not None:
            wrong = (1 - each.val_accuracy) * validation_examples
            error[i] = (error[i] + math.log((wrong + 0.5) / (validation_examples + 1))) / 2
    return error


def _log_error(found: Sequence[float | None], choice: str, examples: int) -> np.ndarray:
    """Return the logarithm of what is to be small, [P]: of a number that falls that number, of a share what it lacks to
    1, at least half an example; of one of which nothing is known, as it may be below 0, the number itself, or minus it.
    """
    values = np.array([math.nan if each is None else each for each in found])
    there = values[np.isfinite(values)]
    if not rises(choice):
        errors = values if len(there) and there.min() <= 0 else np.log(np.maximum(values, 1e-9))
    elif metric_name(choice) in RISES or not len(there) or (there.min() >= 0 and there.max() <= 1):
        errors = np.log(np.maximum(((1 - values) * examples + 0.5) / (examples + 1), 1e-9))
    else:
        errors = -values
    return np.where(np.isfinite(values), errors, np.inf)


def points(results: Sequence[TrialResult]) -> np.ndarray:
    """Return the trials' coordinates and the log2 of their length as a share of the final one, [P, 4]."""
    trials = [each.trial for each in results]
    at = [[*coordinates(each.recipe, each.share), math.log2(each.share)] for each in trials]
    return np.array(at).reshape(-1, 4)


@dataclass(frozen=True)
class Response:
    """What P trials say of the error at other recipes.

    Attributes:
        at: where the trials were, [P, 4].
        error: theirs, clipped, [P].
        others: scales of decay and memory, in decades.
        scale: of the rate, in decades; amplitude and noise: in units of log error. The likeliest of a few.
    """

    at: np.ndarray
    error: np.ndarray
    others: tuple[float, float]
    scale: float
    amplitude: float
    noise: float

    def predict(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean [Q] and covariance [Q, Q] of the error at candidates [Q, 4], noise not included.

        Rasmussen & Williams 2006, "Gaussian processes for machine learning", algorithm 2.1.
        """
        lower = np.linalg.cholesky(self._kernel(self.at, self.at) + self.noise**2 * np.eye(len(self.at)))
        cross = np.linalg.solve(lower, self._kernel(self.at, at))
        mean = self._center(at) + cross.T @ np.linalg.solve(lower, self.error - self._center(self.at))
        return mean, self._kernel(at, at) - cross.T @ cross

    def log_likelihood(self) -> float:
        """Return the log marginal likelihood of the trials; Rasmussen & Williams 2006, equation 2.30."""
        centered = self.error - self._center(self.at)
        lower = np.linalg.cholesky(self._kernel(self.at, self.at) + self.noise**2 * np.eye(len(self.at)))
        whitened = np.linalg.solve(lower, centered)
        return float(-0.5 * whitened @ whitened - np.log(np.diag(lower)).sum())

    def _center(self, at: np.ndarray) -> np.ndarray:
        """The mean error of the trials, moved along the length by what runs usually gain."""
        return (self.error - _GAIN[0] * self.at[:, 3]).mean() + _GAIN[0] * at[:, 3]

    def _kernel(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        apart = left[:, None, :3] - right[None, :, :3]
        bend = np.exp(-0.5 * ((apart / np.array([self.scale, *self.others])) ** 2).sum(axis=2))
        lengths = left[:, None, 3] * right[None, :, 3]
        shape = self.amplitude**2 * bend * (1 + _SHIFT**2 * lengths)
        return shape + _LEVEL**2 + _GAIN[1] ** 2 * lengths


def fitted(results: Sequence[TrialResult], validation_examples: int) -> Response:
    """Return what the trials say.

    Args:
        results: at least one that finished.
        validation_examples: on which they were judged.
    """
    at, error = points(results), errors(results, validation_examples)
    for length in np.unique(at[:, 3]):
        same = at[:, 3] == length
        least = error[same].min()
        level = least if np.isfinite(least) else error[np.isfinite(error)].max()
        error[same] = np.minimum(error[same], level + CEILING)
    rule = results[0].trial.recipe.update_rule
    choices = itertools.product(_RATE_SCALES, _AMPLITUDES, _NOISES)
    made = [Response(at, error, (rule.decay_scale, rule.memory_scale), *choice) for choice in choices]
    return max(made, key=Response.log_likelihood)
