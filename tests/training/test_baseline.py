"""A model stands beside the simplest answers on the part that is scored."""

import numpy as np
import pytest
import torch

import surefoot
from surefoot.data.dataset import Part
from surefoot.training.baseline import baseline_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3)).astype(np.float32)
CLASSES = (X[:, 0] > 0.5).astype(int)


def scored(target, y, outputs):
    data = surefoot.load((X, y), target=target, validation=0)
    work = surefoot.task(data, "linear")
    part = Part(data.train.x, data.train.y, data.train.source)
    return baseline_of(work, "validation", part, [(torch.as_tensor(outputs), data.train.y)])


def test_a_model_that_always_says_the_most_frequent_class_gains_nothing():
    found = scored("classes", CLASSES, np.tile([1.0, 0.0], (120, 1)).astype(np.float32))
    assert found.score == found.against[0].score == np.mean(CLASSES == 0)
    assert found.against[0].gain.value == 0
    assert [each.name for each in found.against] == ["constant", "linear"]
    assert found.against[1].score > 0.95


def test_right_answers_gain_on_the_constant():
    found = scored("classes", CLASSES, np.eye(2, dtype=np.float32)[CLASSES] * 9)
    assert found.score == 1
    assert found.against[0].gain.low > 0


def test_the_mean_has_an_r2_of_zero_and_a_line_fits_a_line():
    y = 1e6 * X[:, 0] + 3
    found = scored("numbers", y, np.full(120, y.mean()))
    assert found.score == pytest.approx(0, abs=1e-6)
    assert found.against[1].score > 0.99


def test_outputs_that_are_not_finite_or_not_one_for_each_class_have_no_baseline():
    assert scored("classes", CLASSES, np.full((120, 2), np.nan, np.float32)) is None
    assert scored("classes", CLASSES, np.zeros((120, 5), np.float32)) is None
