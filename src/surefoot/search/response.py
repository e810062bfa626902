"""How the error after training depends on the recipe and on the length of the run: a Gaussian process over trials.

A trial is a point of D coordinates and a length (`search.space`), all logarithms, in which the best values move little
against each other, and a bend in one is as wide at 1e-3 as at 1. The model is a sum of three:

   a bowl around where the best is expected, as high as the errors spread;
   slopes whose size is how unsure that place is, so that few trials move the bowl, one of them by the length;
   a smooth function that is neither, and is forgotten slowly from one length to another

Far from what is expected the bowl is as high as a useless recipe and no higher, so that trials there can outweigh it:
no prior is a wall.

P points, Q candidates.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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
RATE_SCALE = 0.5
"""Decades of the rate over which the error bends, as expected; of the two others of `_RATE_SCALES` times it one is
taken where trials say so."""
_RATE_SCALES = (0.6, 1.0, 1.6)
_AMPLITUDES = (0.1, 0.2, 0.4, 0.8)
"""Of the smooth function, in units of log error; trials choose."""
_NOISES = (0.015, 0.03, 0.06, 0.12, 0.25)
"""In units of log error; trials choose. Two trials of a recipe differ by 2 to 25 %."""
_EXPECTED, _DEVIATION = (0.3, 0.04), 0.7
"""Amplitude and noise as they are expected, and the standard deviation of their logarithms: without, five short runs
that are alike by chance chose the least of both, and were believed. Amplitudes of 0.2 to 0.5 came to the same answers
on `benchmarks/outside.py`, half of the deviation to worse ones."""
_BOWL = 0.2
"""Height of the bowl one scale from its middle, as a share of the amplitude: 0.1 lost 0.1 to 0.8 points more on
`benchmarks/outside.py`, up to 0.4 did no better (docs/log.md, "Right at any budget")."""
_RIM = 4.0
"""Scales from its middle at which the bowl ends, where it is three amplitudes high. Chosen by hand."""
_FORGETS = 16.0
"""Doublings of the length over which what a run says of another is forgotten: 4 and 8 lost more, 32 the same (there).
A trend that goes on beyond the longest runs, which was here before, carried the noise of two rungs on."""
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


@dataclass(frozen=True)
class Prior:
    """Where the best recipe is expected, D coordinates.

    Attributes:
        center: of the bowl, [D]; sd: how unsure each of its coordinates is, [D].
        scale: over which the error bends, [D]. The first is the rate's, of which the data chooses a multiple.
        drift_sd: how unsure it is per doubling of the length, [D].
    """

    center: np.ndarray
    sd: np.ndarray
    scale: np.ndarray
    drift_sd: np.ndarray


@dataclass(frozen=True)
class Response:
    """What P trials say of the error at other recipes.

    Attributes:
        at: where the trials were, and log2 of their length as a share of the final one's, [P, D + 1].
        error: theirs, clipped, [P].
        prior: as expected before any.
        bends: the scale of the rate as a multiple of the prior's.
        amplitude, noise: in units of log error. The likeliest of a few, as `bends`.
        counted: variance of each error that the examples make on which it was counted, [P].
    """

    at: np.ndarray
    error: np.ndarray
    prior: Prior
    bends: float
    amplitude: float
    noise: float
    counted: np.ndarray

    def predict(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean [Q] and covariance [Q, Q] of the error at candidates [Q, D + 1], noise not included.

        Rasmussen & Williams 2006, "Gaussian processes for machine learning", algorithm 2.1.
        """
        mean, cross = self.half(at)
        return mean, self.kernel(at, at) - cross.T @ cross

    def half(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean [Q], and the matrix V [P, Q] with which the covariance is k(at, at) - V^T V."""
        cross = np.linalg.solve(self._lower, self.kernel(self.at, at))
        rest = np.linalg.solve(self._lower, self.error - self._expected(self.at) - self._level)
        return self._expected(at) + self._level + cross.T @ rest, cross

    def kernel(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the covariance of what is not expected, [L, R]."""
        one, other = self._scaled(left), self._scaled(right)
        apart = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
        lengths = np.abs(left[:, None, -1] - right[None, :, -1])
        bend = np.exp(-0.5 * np.maximum(apart, 0.0) - lengths / _FORGETS)
        capped = self._capped(one), self._capped(other)
        slopes = (capped[0] * self._unsure**2) @ capped[1].T
        slopes += (capped[0] * left[:, -1:] * self._drifts**2) @ (capped[1] * right[:, -1:]).T
        shape = bend + slopes
        return self.amplitude**2 * shape + self.common(left, right)

    def common(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the covariance of what all recipes share: the level, and what a length adds to it, [L, R]."""
        return _LEVEL**2 + _GAIN[1] ** 2 * left[:, None, -1] * right[None, :, -1]

    def variance(self, at: np.ndarray) -> np.ndarray:
        """Return the diagonal of `kernel(at, at)`, [Q]."""
        scaled = self._capped(self._scaled(at))
        slope = ((scaled * self._unsure) ** 2).sum(axis=1) + ((self._drifts * scaled * at[:, -1:]) ** 2).sum(axis=1)
        return self.amplitude**2 * (1 + slope) + _LEVEL**2 + _GAIN[1] ** 2 * at[:, -1] ** 2

    def bowl(self, at: np.ndarray) -> np.ndarray:
        """Return how high the bowl is there, as a share of the amplitude, [Q]."""
        return _BOWL * (self._capped(self._scaled(at)) ** 2).sum(axis=1)

    def _scaled(self, at: np.ndarray) -> np.ndarray:
        return (at[:, :-1] - self.prior.center) / self._scale

    def _capped(self, scaled: np.ndarray) -> np.ndarray:
        return np.clip(scaled, -_RIM, _RIM)

    @property
    def _unsure(self) -> np.ndarray:
        """Standard deviations of the slopes: a bowl a (z - d)^2 whose middle is unsure has the slope -2 a d."""
        return 2 * _BOWL * self.prior.sd / self._scale

    @property
    def _scale(self) -> np.ndarray:
        return self.prior.scale * np.array([self.bends, *[1.0] * (len(self.prior.scale) - 1)])

    @property
    def _drifts(self) -> np.ndarray:
        """The same of how the middle moves with each doubling of the length."""
        return 2 * _BOWL * self.prior.drift_sd / self._scale

    @cached_property
    def _lower(self) -> np.ndarray:
        noise = np.diag(self.noise**2 + self.counted)
        return np.linalg.cholesky(self.kernel(self.at, self.at) + noise)

    def _expected(self, at: np.ndarray) -> np.ndarray:
        """The bowl, and what runs gain with their length."""
        return self.amplitude * self.bowl(at) + _GAIN[0] * at[:, -1]

    @cached_property
    def _level(self) -> float:
        return float((self.error - self._expected(self.at)).mean()) if len(self.error) else 0.0


def fitted(at: np.ndarray, error: np.ndarray, prior: Prior, counted: np.ndarray | None = None) -> Response:
    """Return what trials say.

    Args:
        at: where they were, [P, D + 1].
        error: theirs, [P], infinite where one diverged; at least one is finite.
        prior: what is expected.
        counted: as in `Response`; 0 if left out.
    """
    error = error.copy()
    for length in np.unique(at[:, -1]):
        same = at[:, -1] == length
        least = error[same].min()
        level = least if np.isfinite(least) else error[np.isfinite(error)].max()
        error[same] = np.minimum(error[same], level + CEILING)
    counted = np.zeros(len(error)) if counted is None else counted
    made = []
    for bends in _RATE_SCALES:  # the shape is the same for all amplitudes and noises
        one = Response(at, error, prior, bends, 1.0, 0.0, counted)
        shape = one.kernel(at, at) - one.common(at, at)
        pairs = np.array(list(itertools.product(_AMPLITUDES, _NOISES)))
        kernels = pairs[:, :1, None] ** 2 * shape + one.common(at, at)
        kernels[:, np.arange(len(at)), np.arange(len(at))] += pairs[:, 1:] ** 2 + counted
        lower = np.linalg.cholesky(kernels)
        rest = error - _GAIN[0] * at[:, -1] - pairs[:, :1] * one.bowl(at)
        whitened = np.linalg.solve(lower, (rest - rest.mean(axis=1, keepdims=True))[:, :, None])[:, :, 0]
        diagonals = np.diagonal(lower, axis1=1, axis2=2)
        likelihoods = -0.5 * (whitened**2).sum(axis=1) - np.log(diagonals).sum(axis=1)
        likelihoods -= 0.5 * (((np.log(pairs) - np.log(_EXPECTED)) / _DEVIATION) ** 2).sum(axis=1)
        likelihoods -= 0.5 * (math.log(bends) / _DEVIATION) ** 2
        best = int(likelihoods.argmax())
        amplitude, noise = map(float, pairs[best])
        made.append((float(likelihoods[best]), -bends, dataclasses.replace(one, amplitude=amplitude, noise=noise)))
    return max(made, key=lambda each: each[:2])[2]


def unfitted(prior: Prior) -> Response:
    """Return what is expected before any trial."""
    nothing = np.zeros((0, len(prior.center) + 1))
    return Response(nothing, np.zeros(0), prior, 1.0, _AMPLITUDES[2], _NOISES[2], np.zeros(0))
