"""How good predictions are: scores from a model's outputs and the targets, as plain data.

    scores = class_scores(logits, targets, ("cat", "dog"))      numbers: `record.number_scores`

All sums are in float64. What is undefined (the precision of a class that was never predicted) is None, not 0.

A finished run has those of its test part in `scores.json`, with the calibration and the worst mistakes: what a report
shows of the classifier, so that a report needs neither data, model nor torch.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from surefoot.errors import CheckpointError, DataError
from surefoot.record.intervals import wilson
from surefoot.record.number_scores import NumberScores, check_finite, number_scores
from surefoot.record.store import read_sealed

SCORES = "scores.json"
VERSION = 1
"""Of scores.json; raised when a field changes its meaning or goes."""
MISTAKES, _POINTS = 24, 2000
"""Most mistakes that are kept, what fits a screen, and most points of a regression. Chosen by hand."""
MATRIX_CLASSES = 200
"""Most classes whose confusion is written as a matrix; of more, the pairs that occur are. Chosen by hand."""
_ROWS_AT_ONCE = 1024
CALIBRATION_BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017, section 3."""


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class: TP, FP and FN counted as "this class against the others".

    Attributes:
        name: of the class.
        precision: TP / (TP + FP); None if it was never predicted.
        recall: TP / (TP + FN); None if no example has it.
        f1: 2 TP / (2 TP + FP + FN), the harmonic mean of the two; None if both are.
        support: examples of this class, TP + FN.
        predicted: examples predicted to be of it, TP + FP.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """What predicted classes are worth, over N examples of C classes.

    Attributes:
        of: what was scored, such as "digits, test part".
        examples: N.
        accuracy: share of examples whose largest output is their own class's.
        interval: its 95 % Wilson score interval, see `wilson`.
        top5: share of examples whose class is among their five largest outputs; None for C of 5 or less.
        loss: mean negative log-likelihood -ln p(y), in nats, with p = softmax(outputs).
        calibration_error: expected calibration error, see `calibration_error`.
        per_class: one score for each class, in the order of the classes.
        confusion_pairs: (true class, predicted class, examples) of every pair that occurs, rising.
    """

    of: str
    examples: int
    accuracy: float
    interval: tuple[float, float]
    top5: float | None
    loss: float
    calibration_error: float
    per_class: tuple[ClassScore, ...]
    confusion_pairs: tuple[tuple[int, int, int], ...]

    @property
    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """The confusion matrix, [C, C], row: true class, column: predicted class, entry: examples."""
        matrix = np.zeros((len(self.per_class), len(self.per_class)), np.int64)
        true, predicted, examples = np.array(self.confusion_pairs).T
        matrix[true, predicted] = examples
        return tuple(map(tuple, matrix.tolist()))

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON values: `confusion` as a matrix, or `confusion_pairs` of many classes."""
        plain = dataclasses.asdict(self)
        pairs = plain.pop("confusion_pairs")
        few = len(self.per_class) <= MATRIX_CLASSES
        plain |= {"confusion": self.confusion} if few else {"confusion_pairs": pairs}
        plain["accuracy_low"], plain["accuracy_high"] = plain.pop("interval")
        return plain


Scores = ClassScores | NumberScores
"""What `evaluate` returns: `ClassScores` of a model that classifies, `NumberScores` of one that does not."""


def class_scores(outputs: ArrayLike, targets: ArrayLike, classes: tuple[str, ...], of: str = "") -> ClassScores:
    """Return the scores of outputs for classes.

    Args:
        outputs: [N, C], logits or log-probabilities.
        targets: [N], the true classes, in 0 .. C-1.
        classes: the C names.
        of: what is scored.

    Raises:
        DataError: no examples, shapes that do not fit, a target that is no class, or an output that is not finite.

    >>> scores = class_scores([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], [0, 1, 1], ("cat", "dog"))
    >>> round(scores.accuracy, 4), scores.confusion
    (0.6667, ((1, 0), (1, 1)))
    >>> scores.per_class[1].precision, scores.per_class[1].recall
    (1.0, 0.5)
    """
    logits, y = _checked(outputs, targets, len(classes))
    n, c = logits.shape
    guessed, rank, log_true, log_guessed = by_example(logits, y)
    right = guessed == y
    hits, support, predicted = (np.bincount(each, minlength=c).tolist() for each in (y[right], y, guessed))
    codes, counts = np.unique(y * c + guessed, return_counts=True)
    return ClassScores(
        of=of,
        examples=n,
        accuracy=sum(hits) / n,
        interval=wilson(sum(hits), n),
        top5=float((rank < 5).mean()) if c > 5 else None,
        loss=float(-log_true.mean()),
        calibration_error=calibration_error(np.exp(log_guessed), right),
        per_class=tuple(map(_class_score, classes, hits, support, predicted)),
        confusion_pairs=tuple(map(tuple, np.stack([codes // c, codes % c, counts], axis=1).tolist())),
    )


def scored_classes(
    outputs: ArrayLike,
    targets: ArrayLike,
    classes: tuple[str, ...],
    *,
    of: str,
    name_of: Callable[[int], str],
    picture: Callable[[int], bytes | None],
) -> dict[str, Any]:
    """Return scores, calibration and the most confident mistakes of a classifier, as JSON values.

    Args:
        outputs: [N, C], logits.
        targets: [N], true classes.
        classes: the C names.
        of: what is scored.
        name_of: the name of example i.
        picture: the picture of example i as PNG, or None where it has none.

    Raises:
        DataError: as `class_scores`.

    >>> seen = scored_classes([[9.0, 0.0], [0.0, 1.0]], [1, 1], ("cat", "dog"), of="test",
    ...     name_of="row {}".format, picture=lambda i: None)
    >>> [(each["name"], each["true"], each["predicted"]) for each in seen["mistakes"]]
    [('row 0', 1, 0)]
    """
    scores = class_scores(outputs, targets, classes, of).to_dict()
    y = np.asarray(targets)
    guessed, _, log_true, log_guessed = by_example(np.asarray(outputs), y)
    confidence = np.exp(log_guessed)
    wrong = np.flatnonzero(guessed != y)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    mistakes = [
        {
            "name": name_of(int(i)),
            "true": int(y[i]),
            "predicted": int(guessed[i]),
            "probability": float(confidence[i]),
            "probability_of_true": probability_of_true,
            "png": None if (png := picture(int(i))) is None else base64.b64encode(png).decode(),
        }
        for i, probability_of_true in zip(worst, np.exp(log_true[worst]).tolist(), strict=True)
    ]
    calibration = _calibration(confidence, guessed == y)
    return {"version": VERSION, "kind": "classes", **scores, "calibration": calibration, "mistakes": mistakes}


def scored_numbers(outputs: ArrayLike, targets: ArrayLike, *, of: str) -> dict[str, Any]:
    """Return scores of a regression and pairs of target and prediction, evenly thinned, as JSON values.

    Raises:
        DataError: as `number_scores`.
    """
    y, f = np.asarray(targets, np.float64).reshape(-1), np.asarray(outputs, np.float64).reshape(-1)
    kept = np.unique(np.linspace(0, len(y) - 1, min(len(y), _POINTS)).round().astype(int))
    pairs = [[float(y[i]), float(f[i])] for i in kept]
    return {"version": VERSION, "kind": "numbers", **number_scores(outputs, targets, of).to_dict(), "pairs": pairs}


def read_scores(folder: Path) -> dict[str, Any] | None:
    """Return what scores.json holds; None where a run has none.

    Raises:
        CheckpointError: it is damaged.
    """
    if not (path := folder / SCORES).is_file():
        return None
    found = read_sealed(path)
    if found.get("version") != VERSION:
        raise CheckpointError(
            str(path), f"it must be scores of version {VERSION}", "train again, or remove it: the rest can be shown"
        )
    return found


def calibration_error(confidence: ArrayLike, right: ArrayLike) -> float:
    """Return the expected calibration error: how far confidence and accuracy lie apart, on average.

        sum_m |B_m| / N  |accuracy(B_m) - mean confidence(B_m)|,  B_m: confidence in ((m-1)/M, m/M], M = 15

    The estimate is biased upwards when bins hold few examples.

    Args:
        confidence: [N], probability of the predicted class.
        right: [N], whether the prediction was right.

    Reference: Guo et al. 2017, "On calibration of modern neural networks", equation 3.

    >>> round(calibration_error([0.9, 0.9, 0.9, 0.9], [True, True, True, False]), 4)
    0.15
    """
    p, hit = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    bins = _bin_of(p)
    gap = np.bincount(bins, weights=hit, minlength=1) - np.bincount(bins, weights=p, minlength=1)
    return float(np.abs(gap).sum() / len(p))


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln softmax over the last axis: z - max z - ln sum exp(z - max z), which cannot overflow."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _bin_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)


def _calibration(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Mean confidence and accuracy in bins of equal width, those that hold examples; see `calibration_error`."""
    bins = _bin_of(confidence)
    return [
        {
            "low": at / CALIBRATION_BINS,
            "high": (at + 1) / CALIBRATION_BINS,
            "examples": int((bins == at).sum()),
            "confidence": float(confidence[bins == at].mean()),
            "accuracy": float(right[bins == at].mean()),
        }
        for at in np.unique(bins).tolist()
    ]


def by_example(logits: NDArray[Any], y: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    """Return the predicted class of each example, [N], the number of outputs that are larger than its true class's, and
    ln p of both classes, the true one's first. Some rows at a time, so that float64 does not take memory N x C.
    """
    pieces: list[tuple[NDArray[Any], ...]] = []
    for at in range(0, len(y), _ROWS_AT_ONCE):
        rows, target = np.asarray(logits[at : at + _ROWS_AT_ONCE], np.float64), y[at : at + _ROWS_AT_ONCE]
        every, guessed, log_p = np.arange(len(target)), rows.argmax(1), log_softmax(rows)
        true = rows[every, target][:, None]
        # Of equal outputs the first counts as the larger, as in argmax.
        rank = ((rows > true) | ((rows == true) & (np.arange(rows.shape[1]) < target[:, None]))).sum(1)
        pieces.append((guessed, rank, log_p[every, target], log_p[every, guessed]))
    return tuple(np.concatenate(column) for column in zip(*pieces, strict=True))


def _class_score(name: str, hits: int, support: int, predicted: int) -> ClassScore:
    return ClassScore(
        name=name,
        precision=hits / predicted if predicted else None,
        recall=hits / support if support else None,
        f1=2 * hits / (support + predicted) if support + predicted else None,
        support=support,
        predicted=predicted,
    )


def _checked(outputs: ArrayLike, targets: ArrayLike, c: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    logits, y = np.asarray(outputs), np.asarray(targets)
    if logits.ndim != 2 or logits.shape[1] != c or y.shape != logits.shape[:1] or len(y) == 0:
        raise DataError(
            f"outputs of shape {logits.shape} and targets of shape {y.shape}",
            f"scores of {c} classes need outputs [N, {c}] and targets [N], N at least 1",
            "give outputs and targets of the same examples",
        )
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= c:
        raise DataError(
            f"targets {y.dtype} from {y.min()} to {y.max()}",
            f"targets must be whole numbers in 0 .. {c - 1}",
            "give the number of each example's class",
        )
    check_finite(logits)
    return logits, y.astype(np.int64)
