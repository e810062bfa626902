"""The numbers behind step 0, each where it is known what it must be."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from faults import SoftmaxInEvaluation, conv, digits, plain, raw_digits, seeded
from torch import nn

import surefoot
from surefoot.steps.initial_loss.measure import initial_loss
from surefoot.steps.wiring.measure import batch, descent, loss_kind, modes
from surefoot.training.task import task


def kind_of(loss, target="classes", y=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    y = np.arange(60) % 3 if y is None else y
    work = task(surefoot.load((x, y), target=target), "linear", loss=loss)
    x, y = batch(work)
    return loss_kind(work, work.template(x), y)


@pytest.mark.parametrize(
    ("loss", "cross_entropy", "log_likelihood", "sums", "reversed_"),
    [
        (None, True, False, False, False),
        (F.cross_entropy, True, False, False, False),
        (lambda o, y: F.cross_entropy(o, y, reduction="none"), True, False, False, False),
        (lambda o, y: F.cross_entropy(o, y, reduction="sum"), False, False, True, False),
        (lambda o, y: -F.cross_entropy(o, y), False, False, False, True),
        (lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1), False, False, False, False),
        (F.nll_loss, False, True, False, False),
        (F.multi_margin_loss, False, False, False, False),
        (lambda o, y: F.mse_loss(o.softmax(1), F.one_hot(y, 3).float()), False, False, False, False),
    ],
)
def test_what_a_loss_of_classes_is(loss, cross_entropy, log_likelihood, sums, reversed_):
    kind = kind_of(loss)
    assert (kind.cross_entropy, kind.log_likelihood, kind.sums) == (cross_entropy, log_likelihood, sums)
    assert (kind.right > kind.wrong) == reversed_


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (None, None),
        (lambda o, y: F.l1_loss(o[:, 0], y), None),
        (lambda o, y: F.poisson_nll_loss(o[:, 0], y), np.random.default_rng(1).poisson(3, 60)),
        (lambda o, y: F.binary_cross_entropy_with_logits(o[:, 0], y), np.arange(60) % 2),
        (lambda o, y: ((o[:, 0] - y).abs() + 1).log(), None),
    ],
)
def test_losses_of_numbers_fall_towards_the_targets_and_rise_when_they_are_negated(loss, y):
    y = np.random.default_rng(1).normal(size=60) if y is None else y
    kind = kind_of(loss, "numbers", y)
    assert kind.right < kind.wrong
    if loss is not None:
        negated = kind_of(lambda o, y: -loss(o, y), "numbers", y)
        assert negated.right > negated.wrong


def test_batches_are_distinct_until_the_epoch_ends():
    work = task(digits(), "linear")
    seen = torch.cat([batch(work, number)[0] for number in range(work.data.examples // 128)]).flatten(1)
    assert len(seen.unique(dim=0)) > 0.99 * len(seen)  # some digits are equal


def test_modes_agree_for_batch_norm_once_it_has_seen_batches_and_dropout_is_left_out():
    found = modes(task(surefoot.load(raw_colours()), seeded(lambda: nn.Sequential(conv(), nn.Dropout(0.9)))))
    assert found.eval_loss == pytest.approx(found.train_loss, rel=0.05)


def raw_colours():
    x = np.random.default_rng(0).integers(0, 255, (60, 3, 16, 16)).astype(np.uint8)
    return x, np.arange(60) % 3


def test_probabilities_are_seen_in_the_mode_that_has_them():
    found = modes(task(digits(), seeded(SoftmaxInEvaluation)))
    assert (found.train_probabilities, found.eval_probabilities) == (False, True)
    found = modes(task(digits(), seeded(lambda: nn.Sequential(plain(), nn.LogSoftmax(1)))))
    assert (found.train_probabilities, found.train_log_probabilities) == (False, True)


def test_a_small_step_lowers_the_loss_by_its_share():
    found = descent(task(digits(), seeded(lambda: nn.Sequential(nn.Flatten(), nn.Dropout(), plain()))))
    assert found.noise == 0
    assert found.changes[-1] == pytest.approx(-found.shares[-1] * found.loss, rel=0.05)


def test_a_gradient_of_the_wrong_sign_is_seen():
    class Reversed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return -grad

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = plain()

        def forward(self, x):
            return Reversed.apply(self.inner(x))

    assert min(descent(task(digits(), seeded(Net))).changes) > 0


def test_the_initial_loss_of_made_up_tasks_is_as_computed_by_hand():
    x, y = raw_digits()
    zero = nn.Linear(64, 10)
    nn.init.zeros_(zero.weight)
    zero.bias.data = torch.arange(10.0)
    found = initial_loss(task(surefoot.load((x, y), validation=0), zero), weight_decay=0.2)
    by_hand = float(F.cross_entropy(torch.arange(10.0).expand(1000, 10), y))
    assert found.loss == pytest.approx(by_hand, abs=4 * found.standard_error)
    assert found.output_scale == pytest.approx(math.sqrt(np.var(np.arange(10))))
    assert found.penalty == pytest.approx(0.1 * 285)
    assert found.prior < found.chance == pytest.approx(math.log(10))
