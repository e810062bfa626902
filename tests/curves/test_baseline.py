"""Findings beside the simplest answers, on invented results."""

import numpy as np
import pytest

from surefoot.curves.baseline import beside_baseline
from surefoot.record.baseline import Baseline, class_baseline, number_baseline
from surefoot.record.intervals import Difference

PRIOR = {"no": 980, "yes": 20}


def classified(right, y, p_true=0.9, linear=None, prior=PRIOR):
    y = np.asarray(y)
    p = np.broadcast_to(p_true, y.shape)
    return class_baseline("test", right, np.log(p), y, prior, None if linear is None else np.asarray(linear), 500)


def names(found: Baseline, *, linear_model=False):
    return [(each.name, each.verdict) for each in beside_baseline(found, linear_model=linear_model)]


def test_two_percent_of_positives_and_noise_are_no_better_than_always_no():
    y = np.array([0] * 196 + [1] * 4)
    found = classified(y == 0, y, np.where(y == 0, 0.98, 0.02))
    (said,) = beside_baseline(found)
    assert (said.name, said.verdict) == ("no-better-than-constant", "suspect")
    assert "98.0% of the 200 examples of the test part are right, which is no better than always answering 'no'" in (
        said.reason
    )
    assert "surefoot check" in (said.advice or "")


def test_probabilities_that_know_something_are_told_apart_from_noise():
    y = np.array([0] * 190 + [1] * 10)
    found = classified(y == 0, y, np.where(y == 0, 0.99, 0.4))
    (said,) = beside_baseline(found)
    assert said.name == "no-better-than-constant"
    assert "the probabilities do say something" in said.reason
    assert "balanced" in (said.advice or "")


def test_a_ranking_that_is_sure_is_said_beside_an_accuracy_that_is_none():
    y = np.array([0] * 291 + [1] * 9)
    auc = Difference(value=0.92, low=0.76, high=0.97)
    found = class_baseline("test", y == 0, np.log(np.full(300, 0.9)), y, PRIOR, auc=auc)
    (said,) = beside_baseline(found)
    assert "do say something, by an AUC of 0.92 [0.76, 0.97]" in said.reason
    none = Difference(value=0.6, low=0.4, high=0.8)
    chance = class_baseline("test", y == 0, np.log(np.full(300, 0.9)), y, PRIOR, auc=none)
    assert "AUC" not in beside_baseline(chance)[0].reason


def test_where_classes_were_weighted_each_counts_alike():
    y = np.array([0] * 291 + [1] * 9)
    right = np.array([True] * 269 + [False] * 22 + [True] * 8 + [False])
    (plain,) = beside_baseline(class_baseline("test", right, np.zeros(300), y, PRIOR))
    assert plain.name == "no-better-than-constant"
    (said,) = beside_baseline(class_baseline("test", right, np.zeros(300), y, PRIOR, weighted=True))
    assert said.name == "baseline"
    assert "balanced accuracy is 90.7% on the 300 examples" in said.reason
    assert "gets 50.0%" in said.reason


def test_what_few_examples_cannot_show_is_said_to_be_so():
    y = np.array([0, 0, 0, 1, 1, 1])
    (said,) = beside_baseline(classified(np.tile(y == y, 4), np.tile(y, 4), prior={"no": 10, "yes": 9}))
    assert (said.name, said.verdict) == ("baseline", "pass")
    (said,) = beside_baseline(classified(y == y, y, prior={"no": 10, "yes": 9}))
    assert "cannot be told from always answering 'no' (50.0%)" in said.reason


def test_a_regression_below_the_mean_is_not_sound():
    draw = np.random.default_rng(0)
    y = draw.normal(size=200)
    found = number_baseline("validation", 0.4 * draw.normal(size=200), y, [0.0])
    assert found is not None
    assert found.score < 0
    (said,) = beside_baseline(found)
    assert (said.name, said.verdict) == ("no-better-than-constant", "suspect")
    assert f"R2 is {found.score:.4f} on" in said.reason
    assert "counted from the training mean" in said.reason  # that of `evaluate` counts from the mean of its examples
    assert "validation part (there is no test part; choices may have been made on it)" in said.reason


@pytest.mark.parametrize(
    ("wrong", "of_linear", "expected"),
    [
        (40, 4, ("linear-is-better", "suspect")),
        (10, 10, ("linear-as-good", "pass")),
        (4, 40, None),
    ],
)
def test_a_linear_model_is_better_as_good_or_worse(wrong, of_linear, expected):
    y = np.arange(400) % 2
    right = np.arange(400) >= wrong
    linear = np.where(np.arange(400) >= 400 - of_linear, 1 - y, y)
    found = classified(right, y, linear=linear, prior={"no": 50, "yes": 50})
    said = names(found)
    assert said[0] == ("baseline", "pass")
    assert said[1:] == ([] if expected is None else [expected])


def test_a_linear_network_need_not_beat_a_linear_model():
    y = np.arange(400) % 2
    found = classified(y == y, y, linear=y, prior={"no": 50, "yes": 50})
    assert names(found, linear_model=True) == [("baseline", "pass")]
    assert names(found)[1] == ("linear-as-good", "pass")
