import math

import numpy as np
import pytest

from surefoot.record.task_scores import TaskScores, scores_by_class, share_of_answers


def test_the_share_is_over_all_answers_and_its_interval_over_examples():
    rng = np.random.default_rng(0)
    found = share_of_answers([3, 0], [4, 1])
    assert found.value == 0.6
    inside = 0
    for _ in range(200):  # of 40 examples with a share of their own, so that answers of one are alike
        counted = rng.integers(5, 30, 40)
        right = rng.binomial(counted, np.clip(rng.normal(0.7, 0.15, 40), 0, 1))
        found = share_of_answers(right, counted)
        inside += found.low <= 0.7 <= found.high
    assert inside >= 180  # of 190 that are expected, three of their deviations less
    assert math.isinf(share_of_answers([1], [2]).high)


def test_counts_become_precision_recall_and_f1_and_absent_classes_are_left_out():
    there = scores_by_class("abc", [2, 0, 0], [4, 0, 1], [3, 0, 0])
    assert [each.name for each in there] == ["a", "c"]
    assert (there[0].precision, there[0].recall, there[0].f1) == (pytest.approx(2 / 3), 0.5, pytest.approx(4 / 7))
    assert (there[1].precision, there[1].recall, there[1].f1) == (None, 0.0, 0.0)


def test_scores_are_json_values():
    scores = TaskScores(of="x", target="any", examples=2, answers=None, loss=float("nan"), accuracy=None)
    assert scores.to_dict()["loss"] is None


@pytest.mark.parametrize(("right", "value"), [([0, 0, 0], 0.0), ([4, 2, 6], 1.0), ([2, 1, 3], 0.5)])
def test_examples_that_are_all_alike_do_not_make_sure(right, value):
    found = share_of_answers(right, [4, 2, 6])
    assert found.value == value
    assert 0 <= found.low <= value <= found.high <= 1
    assert found.high - found.low > 0.4


def test_iou_follows_from_f1():
    first, last = scores_by_class(("a", "c"), [3, 0], [4, 0], [5, 2])
    assert first.iou == pytest.approx(3 / 6)
    assert (last.recall, last.precision, last.iou) == (None, 0.0, 0.0)
