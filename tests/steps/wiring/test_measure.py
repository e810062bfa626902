"""The numbers behind step 0, each where it is known what it must be."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from faults import Detached, Residual, SoftmaxInEvaluation, Tied, conv, digits, plain, seeded
from torch import nn

import surefoot
from surefoot.steps.wiring.measure import (
    are_probabilities,
    batch,
    compare_modes,
    loss_kind,
    reach_of_loss,
    step_downhill,
    watch_rectifiers,
)  # fmt: skip
from surefoot.training.make import task


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
    found = compare_modes(task(surefoot.load(raw_colours()), seeded(lambda: nn.Sequential(conv(), nn.Dropout(0.9)))))
    assert found.eval_loss == pytest.approx(found.train_loss, rel=0.05)


def raw_colours():
    x = np.random.default_rng(0).integers(0, 255, (60, 3, 16, 16)).astype(np.uint8)
    return x, np.arange(60) % 3


def test_probabilities_are_seen_in_the_mode_that_has_them():
    found = compare_modes(task(digits(), seeded(SoftmaxInEvaluation)))
    assert (found.train_probabilities, found.eval_probabilities) == (False, True)
    found = compare_modes(task(digits(), seeded(lambda: nn.Sequential(plain(), nn.LogSoftmax(1)))))
    assert (found.train_probabilities, found.train_log_probabilities) == (False, True)


@pytest.mark.parametrize(
    ("row", "expected"),
    [([0.25, 0.75], True), ([0.0, 1.0], True), ([1.5, -0.5], False), ([0.5, 0.75], False), ([-0.5, 0.25], False)],
)
def test_probabilities_are_neither_below_0_nor_sum_to_another_number_than_1(row, expected):
    assert are_probabilities(torch.tensor([[0.5, 0.5], row])) is expected


def test_a_small_step_lowers_the_loss_by_its_share():
    found = step_downhill(task(digits(), seeded(lambda: nn.Sequential(nn.Flatten(), nn.Dropout(), plain()))))
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

    assert min(step_downhill(task(digits(), seeded(Net))).changes) > 0


def reach(make):
    return reach_of_loss(task(digits(), seeded(make)))


def test_all_of_a_plain_network_is_reached():
    found = reach(plain)
    assert len(found.trainable) == 6
    assert found.absent == found.zero == found.frozen_after == ()


def test_a_detached_layer_gets_no_gradient():
    assert reach(Detached).absent == ("first.weight", "first.bias")


def test_an_unused_layer_gets_no_gradient():
    class Unused(nn.Sequential):
        def __init__(self):
            super().__init__(*plain())
            self.spare = nn.Linear(2, 2)

        def forward(self, x):
            for layer in list(self)[:-1]:
                x = layer(x)
            return x

    assert reach(Unused).absent == ("spare.weight", "spare.bias")


def test_a_layer_that_is_used_in_some_batches_only_is_reached():
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.extra, self.batches = plain(), nn.Linear(10, 10), 0

        def forward(self, x):
            self.batches += 1
            x = self.body(x)
            return x + self.extra(x) if self.batches % 2 == 0 else x

    assert reach(Skips).absent == ()


def test_branches_and_heads_that_start_at_zero_are_reached_after_some_updates():
    assert reach(Residual).zero == ()
    assert reach(Tied).zero == ()


def test_weights_that_all_start_at_zero_are_never_reached():
    def zeros():
        model = plain(activation=nn.Tanh)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        return model

    assert reach(zeros).zero == ("1.weight", "3.weight", "5.weight")


def test_frozen_layers_are_named_only_behind_trainable_ones():
    def frozen(*places):
        model = plain(depth=3)
        for place in places:
            model[place].requires_grad_(False)
        return model

    assert reach(lambda: frozen(1)).frozen_after == ()
    assert reach(lambda: frozen(1, 3)).frozen_after == ()
    found = reach(lambda: frozen(3))
    assert (found.frozen_after, found.frozen) == (("3.weight",), 2)
    assert 0 < found.frozen_share < 0.5


def test_scales_of_norms_and_fixed_positions_may_be_frozen():
    def model():
        made = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
        made[2].weight.requires_grad_(False)
        made.positions = nn.Parameter(torch.zeros(1, 4), requires_grad=False)
        return made

    found = reach(model)
    assert found.frozen_after == ()
    assert found.frozen == 2


class Rectified(nn.Module):
    """Two of eight units are below 0 for every input."""

    def __init__(self, relu):
        super().__init__()
        self.first, self.head, self.relu = nn.Linear(64, 8), nn.Linear(8, 10), relu
        with torch.no_grad():
            self.first.bias[2:4] = -100.0

    def forward(self, x):
        return self.head(self.relu(self.first(x.flatten(1))))


@pytest.mark.parametrize(
    "relu",
    [
        torch.relu, F.relu, nn.ReLU(), nn.ReLU(inplace=True), torch.Tensor.relu, torch.relu_, torch.Tensor.relu_,
        lambda x: x.relu(), lambda x: F.relu(x, inplace=True),
    ],
    ids=[
        "torch.relu", "F.relu", "ReLU", "ReLU in place", "Tensor.relu", "torch.relu_", "Tensor.relu_", "a method",
        "F.relu in place",
    ],
)  # fmt: skip
def test_each_way_to_write_a_relu_is_seen_once(relu):
    found, examples = watch_rectifiers(task(digits(), seeded(lambda: Rectified(relu))))
    assert [(each.units, each.dead) for each in found] == [(8, 2)]
    assert examples == 512


def test_other_activations_are_not_counted():
    assert watch_rectifiers(task(digits(), seeded(lambda: plain(activation=nn.LeakyReLU))))[0] == ()


def test_channels_of_images_and_units_of_sequences_are_told_apart():
    class Sequences(Rectified):
        def forward(self, x):
            rows = x.flatten(1)[:, None, :].expand(-1, 5, -1)  # [B, T, D]
            return self.head(self.relu(self.first(rows)).mean(1))

    class Channels(Rectified):
        def forward(self, x):
            maps = self.first(x.flatten(1))[:, :, None, None].expand(-1, -1, 3, 3)
            return self.head(self.relu(maps).mean((2, 3)))

    for kind in (Sequences, Channels):
        found, _ = watch_rectifiers(task(digits(), seeded(lambda kind=kind: kind(F.relu))))
        assert [(each.units, each.dead) for each in found] == [(8, 2)]
