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
from surefoot.record.baseline import Baseline
from surefoot.record.calibration import calibration, calibration_error
from surefoot.record.intervals import Difference, wilson
from surefoot.record.lines import plain as finite
from surefoot.record.number_scores import NumberScores, check_finite, number_scores
from surefoot.record.ranking import RANKED_CLASSES, balanced, over_classes, ranked
from surefoot.record.store import read_sealed
from surefoot.record.test_time import TestTimeScores

SCORES = "scores.json"
VERSION = 1
"""Of scores.json; raised when a field changes its meaning or goes."""
MISTAKES, _POINTS = 24, 2000
"""Most mistakes that are kept, what fits a screen, and most points of a regression. Chosen by hand."""
MATRIX_CLASSES = 200
"""Most classes whose confusion is written as a matrix; of more, the pairs that occur are. Chosen by hand."""
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class: TP, FP and FN counted as "this class against the others".

    Attributes:
        name: of the class.
        precision: TP / (TP + FP); None if it was never predicted.
        recall: TP / (TP + FN); None if no example has it.
        recall_interval: its 95 % Wilson score interval.
        f1: 2 TP / (2 TP + FP + FN), the harmonic mean of the two; None if both are.
        support: examples of this class, TP + FN.
        predicted: examples predicted to be of it, TP + FP.
        auc: area under the ROC curve of this class against the others, and 95 % interval; see `ranking`. None where
            there is nothing to tell apart, and of more than 100 classes.
        average_precision: likewise, area under the curve of precision over recall.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int
    recall_interval: tuple[float, float] | None = None
    auc: Difference | None = None
    average_precision: Difference | None = None

    @property
    def iou(self) -> float | None:
        """Intersection over union of what is of the class and what was predicted so: F1 / (2 - F1)."""
        return None if self.f1 is None else self.f1 / (2 - self.f1)


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
        balanced_accuracy: mean recall of the classes that occur, and 95 % interval: what accuracy would be if all were
            as frequent.
        auc, average_precision: mean over the classes that have one; of two classes, of the rarer one, with interval.
        calibration_error: expected calibration error, see `calibration_error`.
        baseline: what the simplest answers get on the same examples; None where nobody knows the training part.
        tta: the same with test-time augmentation, where it was asked for.
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
    balanced_accuracy: Difference
    auc: Difference | None
    average_precision: Difference | None
    baseline: Baseline | None = None
    tta: TestTimeScores | None = None

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
        return finite(plain)


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
    rankings = ranked(np.asarray(logits, np.float64), y) if c <= RANKED_CLASSES else [(None, None)] * c
    codes, counts = np.unique(y * c + guessed, return_counts=True)
    return ClassScores(
        of=of,
        examples=n,
        accuracy=sum(hits) / n,
        interval=wilson(sum(hits), n),
        top5=float((rank < 5).mean()) if c > 5 else None,
        loss=float(-log_true.mean()),
        calibration_error=calibration_error(np.exp(log_guessed), right),
        per_class=tuple(map(_class_score, classes, hits, support, predicted, rankings)),
        balanced_accuracy=balanced([(right, of) for right, of in zip(hits, support, strict=True) if of]),
        auc=over_classes([area for area, _ in rankings], support),
        average_precision=over_classes([precision for _, precision in rankings], support),
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
    del scores["baseline"]  # in the result
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
    bins = calibration(confidence, guessed == y)
    return {"version": VERSION, "kind": "classes", **scores, "calibration": bins, "mistakes": mistakes}


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


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln softmax over the last axis: z - max z - ln sum exp(z - max z), which cannot overflow."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


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


def _class_score(
    name: str, hits: int, support: int, predicted: int, ranking: tuple[Difference | None, Difference | None]
) -> ClassScore:  # fmt: skip
    return ClassScore(
        name=name,
        precision=hits / predicted if predicted else None,
        recall=hits / support if support else None,
        f1=2 * hits / (support + predicted) if support + predicted else None,
        support=support,
        predicted=predicted,
        recall_interval=wilson(hits, support) if support else None,
        auc=ranking[0],
        average_precision=ranking[1],
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
