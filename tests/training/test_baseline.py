"""A trained model beside the simplest answers: which arrays are compared, in which unit, and where nothing is."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import surefoot
from surefoot.record.baseline import Baseline
from surefoot.training.baseline import baseline_of
from surefoot.training.make import task


def table(rows=300):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(rows, 4)).astype(np.float32)
    return x, 350_000 + 80_000 * x[:, 0]


def test_a_regression_is_compared_in_the_unit_of_its_targets(tmp_path):
    result = surefoot.train(table(), "linear", target="numbers", epochs=30, lr=0.05, batch_size=32, runs_dir=tmp_path)
    found = Baseline.from_dict(json.loads((result.folder / "result.json").read_text())["baseline"])
    assert found.part == "validation"
    assert found.prior == pytest.approx([350_000], rel=0.02)
    assert found.score > 0.95
    assert found.against[0].gain.is_better
    assert found.against[1].score > 0.99


def test_the_classes_are_those_of_the_training_part(tmp_path):
    result = surefoot.train("digits", "linear", epochs=2, lr=0.1, runs_dir=tmp_path)
    found = Baseline.from_dict(result.summary["baseline"])
    assert (found.part, found.examples, found.measure) == ("test", 359, "accuracy")
    assert [each.name for each in found.against] == ["constant"], "images have no linear model beside them"
    assert sum(found.prior.values()) == 1294
    assert found.score == result.summary["test_accuracy"]
    assert found.prior_loss == pytest.approx(np.log(10), rel=0.01)


def test_weighted_classes_are_compared_class_by_class(tmp_path):
    x, _ = table()
    y = (x[:, 0] > 1.2).astype(int)
    result = surefoot.train((x, y), "linear", epochs=5, lr=0.1, class_weights="balanced", runs_dir=tmp_path)
    found = Baseline.from_dict(result.summary["baseline"])
    assert found.measure == "balanced accuracy"
    assert found.against[0].score == 0.5


@pytest.mark.parametrize("outputs", [torch.full((21, 3), torch.nan), torch.zeros(21, 5)])
def test_what_is_not_finite_or_of_another_shape_is_not_compared(outputs):
    digits = surefoot.load("digits")
    work = task(digits, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    y = torch.zeros(21, dtype=torch.int64)
    assert baseline_of(work, "test", digits.test, [(outputs, y)]) is None
