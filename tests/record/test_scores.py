"""Scores equal scikit-learn's, and say None where scikit-learn would have to invent a number."""

import json
import math
import time
import tracemalloc

import numpy as np
import pytest
from sklearn import metrics

from surefoot.errors import DataError
from surefoot.record.scores import (
    MATRIX_CLASSES,
    class_scores,
    log_softmax,
    number_scores,
    scored_classes,
)


def planted(n=300, c=7, seed=0):
    """Logits that are right more often than not, for classes of unequal size."""
    draw = np.random.default_rng(seed)
    y = draw.choice(c, n, p=np.arange(1, c + 1) / (c * (c + 1) / 2))
    return draw.normal(size=(n, c)) + 1.5 * np.eye(c)[y], y, tuple(f"class {i}" for i in range(c))


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_classes_equal_scikit_learns(seed):
    logits, y, classes = planted(seed=seed)
    scores, guessed, p = class_scores(logits, y, classes), logits.argmax(1), np.exp(log_softmax(logits))
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(y, guessed), abs=0)
    assert scores.top5 == pytest.approx(metrics.top_k_accuracy_score(y, logits, k=5), abs=0)
    assert scores.loss == pytest.approx(metrics.log_loss(y, p, labels=range(7)), rel=1e-12)
    assert (np.array(scores.confusion) == metrics.confusion_matrix(y, guessed)).all()
    table = np.array(metrics.precision_recall_fscore_support(y, guessed, labels=range(7), zero_division=np.nan))
    ours = [[s.precision, s.recall, s.f1, s.support] for s in scores.per_class]
    np.testing.assert_allclose(np.array(ours).T, table, rtol=1e-14)
    assert [s.predicted for s in scores.per_class] == np.bincount(guessed, minlength=7).tolist()


def test_log_probabilities_serve_as_logits():
    logits, y, classes = planted()
    assert class_scores(log_softmax(logits), y, classes).loss == pytest.approx(class_scores(logits, y, classes).loss)


def test_large_logits_do_not_overflow():
    assert class_scores([[1e4, -1e4], [0.0, 0.0]], [1, 0], ("a", "b")).loss == pytest.approx(1e4 + math.log(2) / 2)


def test_a_class_that_is_absent_or_never_predicted_has_no_score_instead_of_zero():
    scores = class_scores([[1.0, 0, 0], [1.0, 0, 0]], [0, 1], ("a", "b", "c")).per_class
    assert (scores[1].precision, scores[1].recall, scores[1].f1) == (None, 0.0, 0.0)
    assert (scores[2].precision, scores[2].recall, scores[2].f1) == (None, None, None)


def test_top5_is_there_from_six_classes_on_and_breaks_ties_as_argmax_does():
    five, six = tuple("abcde"), tuple("abcdef")
    assert class_scores(np.zeros((1, 5)), [4], five).top5 is None
    tied = class_scores(np.zeros((6, 6)), np.arange(6), six)
    assert (tied.top5, tied.accuracy) == (5 / 6, 1 / 6)


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
def test_scores_of_numbers_equal_scikit_learns(shape):
    draw = np.random.default_rng(0)
    y = draw.normal(size=shape)
    f = y + 0.3 * draw.normal(size=shape)
    scores = number_scores(f, y)
    assert scores.mse == pytest.approx(metrics.mean_squared_error(y, f), rel=1e-12)
    assert scores.mae == pytest.approx(metrics.mean_absolute_error(y, f), rel=1e-12)
    assert scores.r2 == pytest.approx(metrics.r2_score(y, f), rel=1e-12)


def test_outputs_of_one_column_fit_targets_without_one():
    assert number_scores([[1.0], [2.0], [4.0]], [1.0, 2.0, 3.0]) == number_scores([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])


def test_r2_of_constant_targets_is_undefined():
    assert number_scores([1.0, 2.0], [3.0, 3.0]).r2 is None


@pytest.mark.parametrize(
    ("outputs", "targets", "word"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "at least 1"),
        (np.zeros((3, 3)), [0, 1, 1], "need outputs"),
        (np.zeros((3, 2)), [0, 1], "need outputs"),
        (np.zeros((2, 2)), [0, 2], "whole numbers in 0 .. 1"),
        (np.zeros((2, 2)), [-1, 1], "whole numbers"),
        (np.zeros((2, 2)), [0.0, 1.0], "whole numbers"),
        ([[0, math.nan], [0, 1]], [0, 1], "1 of 2 examples"),
    ],
)
def test_what_cannot_be_scored_is_refused(outputs, targets, word):
    with pytest.raises(DataError, match=word):
        class_scores(outputs, targets, ("a", "b"))


@pytest.mark.parametrize(("outputs", "targets"), [([], []), ([1.0, 2.0], [1.0]), ([math.inf], [1.0])])
def test_numbers_that_cannot_be_scored_are_refused(outputs, targets):
    with pytest.raises(DataError):
        number_scores(outputs, targets)


def test_scores_are_json():
    logits, y, classes = planted()
    plain = json.loads(json.dumps(class_scores(logits, y, classes).to_dict(), allow_nan=False))
    assert plain["accuracy_low"] < plain["accuracy"] < plain["accuracy_high"]
    assert set(json.loads(json.dumps(number_scores([1.0], [2.0]).to_dict()))) == {
        "tta",
        "of",
        "examples",
        "mse",
        "mae",
        "r2",
        "rmse",
        *(f"{score}_{end}" for score in ("rmse", "mae", "r2") for end in ("low", "high")),
    }


def test_of_many_classes_the_pairs_that_occur_are_written_and_they_are_the_matrix():
    n, c = 500, MATRIX_CLASSES + 1
    logits, y, classes = planted(n, c)
    scores = class_scores(logits, y, classes)
    plain = scores.to_dict()
    assert "confusion" not in plain
    assert sum(count for _, _, count in plain["confusion_pairs"]) == n
    assert (np.array(scores.confusion) == metrics.confusion_matrix(y, logits.argmax(1), labels=range(c))).all()
    few = class_scores(logits[:, :7], y % 7, classes[:7])
    assert "confusion_pairs" not in few.to_dict()
    assert np.array(few.to_dict()["confusion"]).shape == (7, 7)


def test_3000_classes_cost_memory_by_examples_and_not_by_pairs_of_classes():
    # A matrix of 3,000 x 3,000 Python numbers took 32 s and 1.1 GB; this takes 0.3 s, and is given 20 times that.
    n, c = 4000, 3000
    logits = np.random.default_rng(0).normal(size=(n, c)).astype(np.float32)
    y, classes = np.arange(n) % c, tuple(map(str, range(c)))
    tracemalloc.start()
    began = time.process_time()
    scores = scored_classes(logits, y, classes, of="test", name_of=str, picture=lambda i: None)
    text = json.dumps(scores, indent=2)
    spent, (_, most) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 20
    assert most < 200e6, "the logits are 48 MB; some rows of them are in float64"
    assert len(text) < 2e6
    assert json.loads(text)["examples"] == sum(count for _, _, count in scores["confusion_pairs"])
