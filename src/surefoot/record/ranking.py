"""How well outputs rank examples, and how well each class fares where some are rare: scores that accuracy hides.

The values are those of scikit-learn's `roc_auc_score` and `average_precision_score`, whose import takes a second and
loads pandas; what is added is how sure they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from surefoot.record.intervals import Z_95, Difference, student, wilson

RANKED_CLASSES = 100
"""Most classes that are ranked, one sort of all examples each. Chosen by hand."""


def ranked(z: NDArray[np.float64], y: NDArray[np.int64]) -> list[tuple[Difference | None, Difference | None]]:
    """Return area under the ROC curve and average precision of each class against the others, with 95 % intervals.

    None where a class has no examples, or no others.

    Args:
        z: [N, C], logits.
        y: [N], true classes.

    >>> (of_first, _), _ = ranked(np.array([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0], [1.0, 0.0]]), np.array([0, 1, 1, 0]))
    >>> of_first.value
    1.0
    """
    found = []
    for c in range(z.shape[1]):
        score = z[:, c] - _log_sum_exp(np.delete(z, c, axis=1))  # log odds, which do not end at 1 as probabilities do
        found.append(_ranking(score, y == c))
    return found


def ranked_labels(z: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[Difference | None, Difference | None]]:
    """Return the same of each label that an example has or has not.

    Args:
        z: [N, L], logits.
        y: [N, L], 0 or 1.

    >>> [(area, precision)] = ranked_labels(np.array([[2.0], [-1.0], [0.5]]), np.array([[1], [0], [1]]))
    >>> area.value, precision.value
    (1.0, 1.0)
    """
    return [_ranking(z[:, label], y[:, label] > 0.5) for label in range(z.shape[1])]


def over_classes(found: Sequence[Difference | None], support: Sequence[int]) -> Difference | None:
    """Return the score of the rarer of two classes, or the mean over more or over labels; of a mean no interval is
    known.

    Args:
        found: of each class; None where one has none.
        support: examples of each; empty for labels.
    """
    there = [each for each in found if each is not None]
    if not there:
        return None
    if len(support) == 2:
        return found[int(support[1] <= support[0])]
    return Difference(value=float(np.mean([each.value for each in there])), low=-math.inf, high=math.inf)


def _ranking(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[Difference | None, Difference | None]:
    if not 0 < positive.sum() < len(positive):
        return None, None
    area = float(_share_below(score[~positive], score[positive]).mean())  # Mann-Whitney's U, of its m n pairs
    return area_interval(area, score[positive], score[~positive]), of_precision(
        average_precision(score, positive), positive
    )


def average_precision(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the mean precision over the positive examples, those above each of them taken as found.

        AP = sum_k (R_k - R_(k-1)) P_k,  k over the distinct scores, from the highest down

    Args:
        score: [N], higher for what is more likely positive.
        positive: [N], of which at least one is.

    >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
    0.8333333333333333
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # examples of one score are found together
    hits = np.cumsum(positive[order])[last]
    return float((np.diff(hits, prepend=0) * hits / (last + 1)).sum() / hits[-1])


def area_interval(area: float, positive: NDArray[np.float64], negative: NDArray[np.float64]) -> Difference:
    """Return the area under the ROC curve with its interval: DeLong's variance and Student's t, on the logit's scale.

        var = var_i(P(s_i > s_j)) / m + var_j(P(s_i > s_j)) / n,  over m positive i and n negative j

    On that scale it never leaves [0, 1]. Where nothing is out of order the variance is 0 and says nothing: then, or
    where there is one example of a kind, the end is that of Wilson's interval for as many right of the rarer kind.

    Args:
        area: the estimate.
        positive, negative: scores of examples of the class, and of others.

    Reference: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44(3), 837-845; for the scale Pepe 2003, "The
    statistical evaluation of medical tests", section 5.2.4.
    """
    m, n = len(positive), len(negative)
    fewest = wilson(round(area * min(m, n)), min(m, n))
    if min(m, n) < 2 or not 0 < area < 1:
        return Difference(value=area, low=fewest[0], high=fewest[1])
    of_positive = _share_below(negative, positive)
    of_negative = 1 - _share_below(positive, negative)
    a, b = float(of_positive.var(ddof=1)) / m, float(of_negative.var(ddof=1)) / n
    # Few examples of a kind know little of their spread: Welch's degrees of freedom.
    degrees = (a + b) ** 2 / max(a * a / (m - 1) + b * b / (n - 1), 1e-300)
    return _on_logits(area, math.sqrt(a + b) / (area * (1 - area)), fewest, student(max(degrees, 1.0)))


def of_precision(precision: float, positive: NDArray[np.bool_]) -> Difference:
    """Return average precision with its interval on the logit's scale, as of a share of the positive examples.

        logit AP -+ 1.96 / sqrt(m AP (1 - AP)),  m positive examples

    Reference: Boyd, Eng & Page 2013, "Area under the precision-recall curve: point estimates and confidence intervals",
    ECML PKDD, section 3.
    """
    m = int(positive.sum())
    fewest = wilson(round(precision * m), m)
    if not 0 < precision < 1:
        return Difference(value=precision, low=fewest[0], high=fewest[1])
    return _on_logits(precision, 1 / math.sqrt(m * precision * (1 - precision)), fewest)


def balanced(recalls: Sequence[tuple[int, int]]) -> Difference:
    """Return the mean recall of the classes that occur, with its interval from Wilson's of each.

        low = B - sqrt(sum (r_c - l_c)^2) / C,  high likewise: the variances of independent shares add

    Args:
        recalls: right and all examples of each class that has some.

    Reference: Zou & Donner 2008, "Construction of confidence limits about effect measures", Statistics in Medicine
    27(10), 1693-1702.

    >>> found = balanced([(98, 100), (1, 4)])
    >>> round(found.value, 3), round(found.low, 2), round(found.high, 2)
    (0.615, 0.51, 0.84)
    """
    shares = np.array([right / n for right, n in recalls])
    ends = np.array([wilson(right, n) for right, n in recalls])
    value, count = float(shares.mean()), len(shares)
    low, high = (math.sqrt(float(((ends[:, side] - shares) ** 2).sum())) / count for side in (0, 1))
    return Difference(value=value, low=value - low, high=value + high)


def _share_below(of: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each score the share of other scores below it, those that equal it counted half."""
    ordered = np.sort(of)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / (2 * len(of))


def _on_logits(
    value: float, error: float, at_least: tuple[float, float], quantile: float = Z_95
) -> Difference:  # fmt: skip
    if error == 0:
        return Difference(value=value, low=min(value, at_least[0]), high=max(value, at_least[1]))
    middle = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(-min(max(middle + side * quantile * error, -700), 700))) for side in (-1, 1))
    return Difference(value=value, low=low, high=high)


def _log_sum_exp(z: NDArray[np.float64]) -> NDArray[np.float64]:
    top = z.max(1)
    return top + np.log(np.exp(z - top[:, None]).sum(1))
