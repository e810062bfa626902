"""How good answers are where an example has several, as pixels, tokens and labels, or where only its loss is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from surefoot.record.intervals import Difference, of_ratio, wilson
from surefoot.record.lines import plain
from surefoot.record.scores import ClassScore
from surefoot.record.test_time import TestTimeScores


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """What answers are worth, over N examples with several answers each.

    Attributes:
        of: what was scored, such as "masks.npz, test part".
        target: what targets are: multilabel, segmentation, tokens; or any, of which the loss is known alone.
        examples: N.
        answers: how many pixels, positions or labels counted; None where only the loss is known.
        loss: the mean loss, as the run's rows have it.
        accuracy: share of the answers that are right, and 95 % interval over examples; None where none can be.
        per_class: one score for each label, or for each class that occurs or was predicted.
        metrics: others by name; means are over the classes or labels, each counting alike.
        loss_by_position: of tokens, mean -ln p of each position, [T]; NaN where none counts. Empty of others.
        tta: the same with test-time augmentation, where it was asked for.
    """

    of: str
    target: str
    examples: int
    answers: int | None
    loss: float
    accuracy: Difference | None
    per_class: tuple[ClassScore, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    loss_by_position: tuple[float, ...] = ()
    tta: TestTimeScores | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON values."""
        return plain(dataclasses.asdict(self))


def share_of_answers(right: ArrayLike, counted: ArrayLike) -> Difference:
    """Return the share of answers that are right, over all examples, with its 95 % interval.

        sum r_i / sum n_i,  +- t sqrt(N / (N - 1) sum (r_i - share n_i)^2) / sum n_i

    Examples are independent, their answers are not: so the interval is that of a ratio of means over examples (Cochran
    1977, "Sampling Techniques", section 2.11).

    Args:
        right: [N], answers of each example that are right.
        counted: [N], answers of each example.

    >>> found = share_of_answers([1, 2, 4], [2, 4, 4])
    >>> found.value, found.low < 0.7 < found.high
    (0.7, True)
    """
    found = of_ratio(right, counted)
    if math.isinf(found.high):
        return found
    if found.low == found.high:  # alike in all examples, which is not to be sure
        n = len(np.asarray(counted))
        low, high = wilson(round(found.value * n), n)
        return Difference(value=found.value, low=min(low, found.value), high=max(high, found.value))
    return Difference(value=found.value, low=max(0.0, found.low), high=min(1.0, found.high))


def scores_by_class(
    names: Sequence[str],
    hits: ArrayLike,
    support: ArrayLike,
    predicted: ArrayLike,
    rankings: Sequence[tuple[Difference | None, Difference | None]] | None = None,
) -> tuple[ClassScore, ...]:
    """Return the score of each class from its counts; of classes that neither occur nor were predicted none.

    Args:
        names: of the C classes.
        hits, support, predicted: [C], answers that are of it and were predicted so; that are; that were.
        rankings: area under the ROC curve and average precision of each label; None where these are not known.

    >>> [round(each.f1, 2) for each in scores_by_class(("cat", "dog"), [1, 2], [2, 2], [1, 3])]
    [0.67, 0.8]
    """
    found = []
    counts = (np.asarray(each, np.int64).tolist() for each in (hits, support, predicted))
    ranked = rankings if rankings is not None else [(None, None)] * len(names)
    for name, hit, there, said, (area, precision) in zip(names, *counts, ranked, strict=True):
        if there or said:
            found.append(
                ClassScore(
                    name=name,
                    precision=hit / said if said else None,
                    recall=hit / there if there else None,
                    f1=2 * hit / (there + said),
                    support=there,
                    predicted=said,
                    auc=area,
                    average_precision=precision,
                )
            )
    return tuple(found)
