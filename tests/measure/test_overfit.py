"""What is known of a sample before training, and when training on it stops."""

import dataclasses
import math

import numpy as np
import pytest
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.measure.overfit import EPOCHS_AT_ONCE, SPENT, describe, learned, look_examples, overfitting, sample_task
from surefoot.record.decision import cost_in_examples
from surefoot.record.run import Row

EXAMPLES = 64


def whole(model, x=None, y=None, target="classes", loss=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 4)).astype(np.float32) if x is None else x
    y = np.arange(EXAMPLES) % 2 if y is None else y
    data = surefoot.load((x, y), validation=0, target=target)
    return surefoot.task(data, model, loss=loss, augment=(), precision="fp32", threads=1)


def mlp(*last, dropout=0.0):
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 2), *last)


def test_the_sample_is_its_own_validation_without_dropout_and_the_task_stays_as_it_was():
    task = whole(mlp(dropout=0.5))
    small = sample_task(task, 10)
    assert small.data.examples == 10
    assert small.data.validation is small.data.train
    assert [each.p for each in small.template.modules() if isinstance(each, nn.Dropout)] == [0.0]
    assert [each.p for each in task.template.modules() if isinstance(each, nn.Dropout)] == [0.5]
    known = {row.numpy().tobytes() for row in task.data.train.x}
    assert len({row.numpy().tobytes() for row in small.data.train.x} & known) == 10


def test_contradictions_are_named_and_bound_what_can_be_right():
    x = np.zeros((EXAMPLES, 4), dtype=np.float32)
    x[4:] = np.random.default_rng(0).normal(size=(EXAMPLES - 4, 4))
    found = describe(sample_task(whole(mlp(), x=x), EXAMPLES), 16)  # four equal inputs, two of each class
    assert len(found.contradictions) == 1
    assert len(found.contradictions[0]) == 4
    assert found.best_accuracy == pytest.approx((EXAMPLES - 2) / EXAMPLES)


def test_probabilities_and_noise_inside_are_seen_and_plain_logits_are_neither():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x):
            return self.net(nn.functional.dropout(x, 0.5, self.training))

    plain, soft, noisy = (
        describe(sample_task(whole(model), 32), 16) for model in (mlp(), mlp(nn.Softmax(dim=1)), Noisy())
    )
    assert (plain.probabilities, plain.functional_dropout) == (False, False)
    assert (soft.probabilities, soft.functional_dropout) == (True, False)
    assert (noisy.probabilities, noisy.functional_dropout) == (False, True)
    assert plain.parameters == 4 * 64 + 64 + 64 * 2 + 2
    assert plain.initial_loss == pytest.approx(math.log(2), abs=0.2)


def test_of_a_regression_the_variance_of_the_targets_is_known():
    y = np.random.default_rng(1).normal(3, 2, EXAMPLES).astype(np.float32)
    small = sample_task(whole(nn.Linear(4, 1), y=y, target="numbers"), 32)
    found = describe(small, 16)
    assert found.target_variance == pytest.approx(float(small.data.train.y.var(correction=0)), rel=1e-5)
    assert (found.best_accuracy, found.probabilities) == (None, False)


def test_training_stops_when_one_rate_has_learned_and_says_so_of_the_others():
    small = sample_task(whole(mlp()), 16)
    recipe = Recipe(batch_size=8, momentum=0.9, weight_decay=0.0)
    work, worth = overfitting(small, recipe, [1e-6, 0.1], 2000, None), 0
    while True:
        try:
            worth += next(work)
        except StopIteration as end:
            slow, quick = end.value
            break
    assert learned(quick.last, None)
    assert slow.outcome.kind == quick.outcome.kind == "interrupted"
    assert "faster" in slow.outcome.reason
    assert worth == slow.last.step + quick.last.step < 2 * 2000
    assert [row.step for row in quick.rows] == list(range(2, quick.last.step + 1, 2)), "a row for each pass of 2 steps"


@pytest.mark.parametrize("looks", [1, 2, 4])
def test_no_look_is_begun_that_costs_more_than_is_granted(looks):
    small = sample_task(whole(mlp()), 16)
    recipe = Recipe(batch_size=8, momentum=0.9, weight_decay=0.0)
    most = looks * look_examples(16, rates=2) + 1
    work = overfitting(small, recipe, [1e-6, 1e-7], 2000, None, most)
    while True:
        try:
            next(work)
        except StopIteration as end:
            records = end.value
            break
    assert [len(record.rows) for record in records] == [looks * EPOCHS_AT_ONCE] * 2
    assert {record.outcome.reason for record in records} == {SPENT}
    trained, evaluated = (8 * sum(x.outcome.step for x in records), 16 * sum(len(x.rows) for x in records))
    assert most - look_examples(16, rates=2) <= cost_in_examples(trained, evaluated) <= most


def test_learned_means_in_both_modes():
    row = Row(step=1, epoch=1.0, lr=0.1, examples=8, train_loss=0.1, train_accuracy=1.0, val_loss=0.1, val_accuracy=1.0,
              seconds=0.0, grad_norm=1.0, update_ratio=1e-3, losses=(), examples_per_second=100.0)  # fmt: skip
    assert learned(row, None)
    assert not learned(dataclasses.replace(row, val_accuracy=0.9), None)
    assert not learned(dataclasses.replace(row, train_accuracy=0.9), None)
    assert learned(row, 0.2)
    assert not learned(row, 0.05)
    assert not learned(dataclasses.replace(row, val_loss=0.3), 0.2)
