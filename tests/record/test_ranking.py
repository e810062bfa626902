"""Values are scikit-learn's, intervals never leave [0, 1], and are those of a slow twin."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from surefoot.record.ranking import area_interval, average_precision, balanced, of_precision, ranked
from surefoot.record.scores import RANKED_CLASSES, class_scores


def planted(n=200, c=3, seed=0, shares=None):
    draw = np.random.default_rng(seed)
    y = draw.choice(c, n, p=shares)
    return draw.normal(size=(n, c)) + 1.2 * np.eye(c)[y], y


@pytest.mark.parametrize("c", [2, 5])
def test_the_values_are_scikit_learns(c):
    z, y = planted(c=c)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    scores = class_scores(z, y, tuple(map(str, range(c))))
    assert scores.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(y, z.argmax(1)))
    for i, each in enumerate(scores.per_class):
        assert each.auc.value == pytest.approx(roc_auc_score(y == i, p[:, i]))
        assert each.average_precision.value == pytest.approx(average_precision_score(y == i, p[:, i]))
        assert each.recall_interval[0] <= each.recall <= each.recall_interval[1]
    if c > 2:
        assert scores.auc.value == pytest.approx(roc_auc_score(y, p, multi_class="ovr"))


def test_of_two_classes_the_rarer_one_is_scored():
    z, y = planted(400, 2, shares=(0.95, 0.05))
    scores = class_scores(z, y, ("usual", "rare"))
    assert scores.average_precision == scores.per_class[1].average_precision
    assert scores.auc.low < scores.auc.value < scores.auc.high


def test_the_variance_of_the_area_is_that_of_all_pairs():
    z, y = planted(60, 2)
    score = z[:, 1] - z[:, 0]
    positive, negative = score[y == 1], score[y == 0]
    pairs = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
    area = pairs.mean()
    variance = pairs.mean(1).var(ddof=1) / len(positive) + pairs.mean(0).var(ddof=1) / len(negative)
    found = area_interval(float(area), positive, negative)
    logit = np.log([found.low / (1 - found.low), found.high / (1 - found.high)])
    assert (logit[1] - logit[0]) / 2 / 2 == pytest.approx(
        np.sqrt(variance) / (area * (1 - area)), rel=0.02
    )  # t is 2.00 with 58 degrees


@pytest.mark.parametrize("positives", [1, 2, 5])
def test_a_perfect_ranking_of_few_examples_is_not_sure(positives):
    z = np.array([[0.0, 5.0]] * positives + [[5.0, 0.0]] * 50)
    y = np.array([1] * positives + [0] * 50)
    (_, (area, precision)) = ranked(z, y)
    for each in (area, precision):
        assert each.value == 1
        assert each.low < 0.6
        assert each.high == 1
    assert 0 <= of_precision(0.3, y == 1).low < 0.3 < of_precision(0.3, y == 1).high <= 1


def test_what_cannot_be_told_apart_and_many_classes_have_no_ranking():
    z, _ = planted(20, 3)
    assert ranked(z, np.zeros(20, int)) == [(None, None)] * 3
    c = RANKED_CLASSES + 1
    scores = class_scores(np.zeros((5, c)), np.arange(5), tuple(map(str, range(c))))
    assert (scores.auc, scores.per_class[0].auc) == (None, None)


def test_saturated_outputs_still_rank():
    z = np.array([[0.0, 60.0], [0.0, 50.0], [0.0, 40.0], [0.0, -50.0]])  # softmax says 1.0 of three
    assert ranked(z, np.array([1, 1, 0, 0]))[1][0].value == 1.0


def test_a_class_that_is_never_right_pulls_the_balanced_accuracy_down():
    found = balanced([(980, 1000), (0, 20)])
    assert found.value == pytest.approx(0.49)
    assert found.low < 0.49 < found.high < 0.6


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("n", [2, 7, 300])
def test_average_precision_is_scikit_learns_with_ties_too(n, levels):
    draw = np.random.default_rng(n)
    for _ in range(20):
        score = draw.normal(size=n) if levels is None else draw.integers(0, levels, n).astype(float)
        positive = draw.random(n) < 0.3
        positive[0] = True
        assert average_precision(score, positive) == pytest.approx(average_precision_score(positive, score), abs=1e-12)
