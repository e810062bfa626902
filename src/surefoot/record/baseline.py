"""What the simplest answers get on the same examples: a result is worth what it gains over them.

    always the same   classes: the training part's most frequent one; numbers: the training part's mean
    a linear model    logistic or ridge regression on the training part, by scikit-learn, for tables

Differences are taken example by example, so that what every answer finds hard is in none of the intervals. They are
computed once, when a run ends, and lie in `result.json`.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from surefoot.record.intervals import Difference, factor_of_mean, of_mean, of_paired_shares, of_ratio
from surefoot.record.lines import plain

LINEAR_EXAMPLES = 20_000
"""Training examples that the linear model is fitted to at most, drawn with a fixed seed."""
LINEAR_NUMBERS = 4_000_000
"""Most numbers that it is fitted to, examples x features x classes: a second on two cores. Both chosen by hand; counts
and not a clock, so that the same run has the same baseline anywhere."""
LINEAR_FEATURES = 2000
"""Of wider tables there is none. Chosen by hand."""
_ITERATIONS = 100
"""Of the logistic regression: scikit-learn's own default."""
_PRIOR_CLASSES = 1000
"""Most classes whose shares are written. Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class Simple:
    """A simple answer beside the network's.

    Attributes:
        name: "constant" or "linear".
        words: what it answers, such as "always answering '0'".
        score: what it gets, in the baseline's measure.
        gain: of the network over it, in the same measure, paired by example.
    """

    name: str
    words: str
    score: float
    gain: Difference


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A network beside the simplest answers.

    Attributes:
        part: "test", or "validation" where there is no test part: choices were made on it.
        examples: N, of that part.
        measure: "accuracy"; "balanced accuracy", the mean recall of the classes, where training weighted them; "loss of
            a pixel", "token" or "label", mean -ln p of a target; or "R2": 1 - sum |y - f|^2 / sum |y - mean|^2 with the
            mean of the training part, each of several values in its unit.
        score: the network's.
        against: the simple answers, the constant one first.
        log_loss, prior_loss: of classes, mean -ln p(y) of the network, and of the classes' shares of the training part.
        log_loss_gain: the second less the first, paired by example; above 0 the network's probabilities know something.
        auc: of two classes, area under the ROC curve: 0.5 says that the outputs rank nothing.
        prior: number of training examples of each class by name, of up to 1,000 classes; or the training mean, [D].
    """

    part: str
    examples: int
    measure: str
    score: float
    against: tuple[Simple, ...]
    log_loss: float | None = None
    prior_loss: float | None = None
    log_loss_gain: Difference | None = None
    auc: Difference | None = None
    prior: Any = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Baseline:
        """Return what `to_dict` wrote."""
        against = (Simple(**{**each, "gain": Difference.from_dict(each["gain"])}) for each in values["against"])
        named = {name: Difference.from_dict(values[name]) for name in ("log_loss_gain", "auc") if values.get(name)}
        return cls(**{**values, "against": tuple(against), **named})


_ANSWERS = {
    "multilabel": ("label", "how often each is a yes in the training part"),
    "segmentation": ("pixel", "the share of each class in the training part"),
    "tokens": ("token", "how frequent each is in the training part"),
}
"""Of each kind of targets with several answers: what one is, and what the simplest model of it says."""


def answers_baseline(
    part: str, target: str, losses: ArrayLike, prior_losses: ArrayLike, counted: ArrayLike
) -> Baseline:  # fmt: skip
    """Return a model of pixels, tokens or labels beside one that knows their shares in the training part alone.

    What is compared is the mean -ln p: where most answers are no, or background, being right says little.

    Args:
        part: that is scored.
        target: kind of the targets.
        losses, prior_losses: [N], sums over the answers of each example, of the model and of the shares.
        counted: [N], answers of each example.

    >>> found = answers_baseline("test", "tokens", [4.0, 5.0, 3.0], [8.0, 9.0, 9.0], [4, 4, 4])
    >>> found.score, round(found.against[0].score, 3), found.against[0].gain.is_better
    (1.0, 2.167, True)
    """
    ours, simple = np.asarray(losses, np.float64), np.asarray(prior_losses, np.float64)
    gain, answers = of_ratio(simple - ours, counted), float(np.sum(counted))
    what, words = _ANSWERS[target]
    mean, of_shares = float(ours.sum() / answers), float(simple.sum() / answers)
    return Baseline(
        part=part, examples=len(ours), measure=f"loss of a {what}", score=mean,
        against=(Simple(name="constant", words=f"always answering {words}", score=of_shares, gain=gain),),
        log_loss=mean, prior_loss=of_shares, log_loss_gain=gain,
    )  # fmt: skip


def class_baseline(
    part: str, right: ArrayLike, log_true: ArrayLike, y: ArrayLike, prior: Mapping[str, int],
    linear: NDArray[Any] | None = None, fitted_to: int = 0, *, auc: Difference | None = None, weighted: bool = False,
) -> Baseline:  # fmt: skip
    """Return what always the same class, and a linear model, get beside a classifier.

    Args:
        part: that is scored.
        right: [N], whether the network is right.
        log_true: [N], its ln p(y).
        y: [N], the true classes.
        prior: training examples of each class, by name in the order of the classes.
        linear: [N], the classes that a linear model answers.
        fitted_to: training examples that this was fitted to.
        auc: of two classes.
        weighted: whether training weighted the classes, so that each counts alike here too.

    >>> y = np.array([0] * 98 + [1] * 2)
    >>> found = class_baseline("test", y == 0, np.log(np.where(y == 0, 0.98, 0.02)), y, {"no": 980, "yes": 20})
    >>> found.against[0].words, found.against[0].score, found.against[0].gain.is_better
    ("always answering 'no'", 0.98, False)
    """
    truth, ours = np.asarray(y), np.asarray(right, bool)
    counts = np.array(list(prior.values()), np.float64)
    most = int(counts.argmax())
    groups = [np.flatnonzero(truth == c) for c in np.unique(truth)] if weighted else [np.arange(len(truth))]
    answers = {"constant": (f"always answering {list(prior)[most]!r}", truth == most)}
    if linear is not None:
        like = " that weighs them too" if weighted else ""
        answers["linear"] = (f"a logistic regression{like} on {fitted_to:,} examples", linear == truth)
    against = [
        Simple(name=name, words=words, score=_share(right, groups), gain=_gain(ours, right, groups))
        for name, (words, right) in answers.items()
    ]
    shares = (counts + 1) / (counts.sum() + len(counts))  # Laplace's: a class that training lacks is not impossible
    of_prior = -np.log(shares)[truth]
    of_network = -np.asarray(log_true, np.float64)
    return Baseline(
        part=part, examples=len(truth), measure="balanced accuracy" if weighted else "accuracy",
        score=_share(ours, groups), against=tuple(against), auc=auc,
        log_loss=float(of_network.mean()), prior_loss=float(of_prior.mean()),
        log_loss_gain=of_mean(of_prior - of_network),
        prior=dict(prior) if len(prior) <= _PRIOR_CLASSES else None,
    )  # fmt: skip


def number_baseline(
    part: str, outputs: ArrayLike, y: ArrayLike, mean: ArrayLike, linear: NDArray[Any] | None = None,
    fitted_to: int = 0,
) -> Baseline | None:  # fmt: skip
    """Return what always the training mean, and a linear model, get beside a regression; None where nothing varies.

    Args:
        part: that is scored.
        outputs, y: [N] or [N, D], in the unit of the targets.
        mean: [D], of the training part.
        linear: [N, D], what a linear model answers.
        fitted_to: training examples that this was fitted to.

    >>> y = np.arange(20.0)
    >>> found = number_baseline("test", 9.5 + np.cos(y), y, [9.5])
    >>> abs(found.score) < 0.1, found.against[0].score, found.against[0].gain.is_better
    (True, 0.0, False)
    """
    truth = np.asarray(y, np.float64)
    truth = truth.reshape(len(truth), -1)
    centre = np.asarray(mean, np.float64).reshape(1, -1)
    spread = ((truth - centre) ** 2).mean(0)
    varies = spread > 0
    if not varies.any():
        return None

    def errors(answers: ArrayLike) -> NDArray[np.float64]:
        off = np.broadcast_to(np.asarray(answers, np.float64).reshape(-1, truth.shape[1]), truth.shape) - truth
        return (off[:, varies] ** 2 / spread[varies]).mean(1)

    ours, constant = errors(outputs), errors(centre)
    words = f"the training mean{f' of {centre[0, 0]:.6g}' if centre.shape[1] == 1 else ''}"
    against = [Simple(name="constant", words=f"always answering {words}", score=0.0, gain=_explained(ours, constant))]
    if linear is not None:
        theirs = errors(linear)
        against.append(Simple(
            name="linear", words=f"a ridge regression on {fitted_to:,} examples", score=float(1 - theirs.mean()),
            gain=of_mean(theirs - ours),
        ))  # fmt: skip
    return Baseline(
        part=part, examples=len(truth), measure="R2", score=float(1 - ours.mean()), against=tuple(against),
        prior=centre[0].tolist() if centre.shape[1] <= _PRIOR_CLASSES else None,
    )  # fmt: skip


def _explained(ours: NDArray[np.float64], constant: NDArray[np.float64]) -> Difference:
    """Return R2 = 1 - mean ours / mean constant with its interval; both means are estimates (the delta method)."""
    ratio = float(ours.mean() / constant.mean())
    factor = factor_of_mean((ours - ratio * constant) / constant.mean() + ratio, ratio)
    if factor is None:
        return Difference(value=1 - ratio, low=-math.inf, high=1.0)
    return Difference(value=1 - ratio, low=1 - ratio * factor, high=1 - ratio / factor)


def linear_answers(
    x: NDArray[Any], y: NDArray[Any], others: NDArray[Any], classes: int | None, *, weighted: bool = False
) -> tuple[NDArray[Any], int] | None:
    """Return what a linear model answers on other examples, and the number of training examples it was fitted to.

    Inputs are brought to mean 0 and deviation 1. Logistic regression with C = 1, or ridge regression with alpha = 1,
    scikit-learn's defaults. None where the inputs are no table, are too wide, or hold what is not finite.

    Args:
        x: training inputs, [N, D].
        y: their classes, [N], or numbers, [N] or [N, K].
        others: [M, D].
        classes: C; None of numbers.
        weighted: whether classes weigh alike.

    >>> x = np.linspace(-1, 1, 100)[:, None]
    >>> linear_answers(x, (x[:, 0] > 0).astype(int), np.array([[-0.5], [0.5]]), 2)
    (array([0, 1]), 100)
    """
    if x.ndim != 2 or others.ndim != 2 or not 0 < x.shape[1] <= LINEAR_FEATURES or len(x) < 2:
        return None
    most = min(LINEAR_EXAMPLES, LINEAR_NUMBERS // (x.shape[1] * (classes or 1)))
    if most < min(len(x), 10 * (classes or 1)):
        return None
    if len(x) > most:
        rows = np.sort(np.random.Generator(np.random.Philox(0)).permutation(len(x))[:most])
        x, y = x[rows], y[rows]
    x, rows = x[:], max(1, LINEAR_NUMBERS // x.shape[1])
    pieces = [slice(at, at + rows) for at in range(0, len(others), rows)]  # they may lie on disk
    if not (np.isfinite(x).all() and all(np.isfinite(others[each]).all() for each in pieces)) or (
        classes is not None and len(np.unique(y)) < 2
    ):
        return None
    from sklearn.exceptions import ConvergenceWarning  # a second to import, and only tables need it
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = (
        Ridge()
        if classes is None
        else LogisticRegression(max_iter=_ITERATIONS, class_weight="balanced" if weighted else None)
    )
    model = make_pipeline(StandardScaler(), fitted)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x.astype(np.float64), y)
        answers = np.concatenate([model.predict(others[each].astype(np.float64)) for each in pieces])
    return (answers, len(x)) if np.isfinite(answers).all() else None


def _share(right: NDArray[np.bool_], groups: Sequence[NDArray[np.int64]]) -> float:
    return float(np.mean([right[group].mean() for group in groups]))


def _gain(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], groups: Sequence[NDArray[np.int64]]) -> Difference:
    """Return the mean over groups of the paired differences; their variances add (Zou & Donner 2008)."""
    each = [of_paired_shares(ours[group], theirs[group]) for group in groups]
    value = sum(gain.value for gain in each) / len(each)
    low, high = (
        math.sqrt(sum((getattr(gain, end) - gain.value) ** 2 for gain in each)) / len(each) for end in ("low", "high")
    )
    return Difference(value=value, low=value - low, high=value + high)
