"""The initial loss and its causes against numbers that follow from how the pair was made."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surefoot
from surefoot.steps.initial_loss.measure import initial_loss
from surefoot.steps.probe import probe_data


def classes(shares=(0.5, 0.3, 0.2), examples=400):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(len(shares)), [round(share * examples) for share in shares])
    return surefoot.load((rng.normal(size=(len(y), 4)).astype(np.float32), y), validation=0)


class Constant(nn.Module):
    """Gives the same outputs for every input."""

    def __init__(self, outputs):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(outputs))

    def forward(self, x):
        return self.bias + 0 * x[:, :1]


def seen(model, data, loss=None, **settings):
    return initial_loss(surefoot.task(data, model, loss=loss, precision="fp32", threads=1), **settings)


def test_outputs_that_are_all_alike_have_the_loss_of_chance_and_no_scale():
    found = seen(Constant([0.5, 0.5, 0.5]), classes())
    assert found.loss == pytest.approx(math.log(3), rel=1e-6)
    assert found.chance == pytest.approx(math.log(3), rel=1e-6)
    assert found.output_scale == pytest.approx(0, abs=1e-7)
    assert (found.classes, found.target_scale, found.standard_loss) == (3, None, True)


def test_the_best_answer_without_inputs_has_the_entropy_of_the_labels():
    found = seen(Constant([0.0, 0.0, 0.0]), classes((0.8, 0.1, 0.1), 1000))
    # The batches are some of the examples, and their shares are near those of all: 8 x 128 of 1,000 is all but a few.
    assert found.prior == pytest.approx(-(0.8 * math.log(0.8) + 0.2 * math.log(0.1)), rel=0.05)


def test_logits_that_are_too_large_show_in_the_scale_and_the_loss():
    torch.manual_seed(0)
    small = nn.Linear(4, 3)
    large = nn.Linear(4, 3)
    large.load_state_dict({name: 100 * value for name, value in small.state_dict().items()})
    one, hundred = seen(small, classes()), seen(large, classes())
    assert hundred.output_scale == pytest.approx(100 * one.output_scale, rel=1e-4)
    assert hundred.loss > 10 * one.loss


def test_a_penalty_is_half_the_decay_times_the_squared_weights():
    model = Constant([3.0, 4.0, 0.0])
    assert seen(model, classes(), weight_decay=0.1).penalty == pytest.approx(0.05 * 25)
    assert seen(model, classes(), weight_decay=0.0).penalty == 0


def test_inputs_off_by_a_factor_are_told_by_the_loss_with_standardised_ones():
    data = classes()
    batches = [(1000 * x, y) for x, y in zip(data.train.x.split(40), data.train.y.split(40), strict=True)]
    torch.manual_seed(0)
    found = seen(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)), probe_data(batches))
    assert found.input_scale > 300
    assert found.loss > 20
    assert found.standardised_loss < 2


def test_a_regression_has_the_variance_as_prior_and_the_mean_square_as_chance():
    rng = np.random.default_rng(0)
    data = surefoot.load((rng.normal(size=(128, 3)), 5 + rng.normal(size=128)), target="numbers", validation=0)
    found = seen(Constant([0.0]), data)
    y = data.train.y.float()
    assert found.chance == pytest.approx(float(y.square().mean()), rel=1e-3)
    assert found.prior == pytest.approx(float(y.var(correction=0)), rel=1e-3)
    assert (found.classes, found.output_scale) == (None, 0)


def test_a_loss_of_ones_own_that_sums_is_told_from_a_mean():
    found = seen(
        Constant([0.0, 0.0, 0.0]), classes(), loss=lambda outputs, y: F.cross_entropy(outputs, y, reduction="sum")
    )
    assert found.sums
    assert found.loss == pytest.approx(found.examples * math.log(3), rel=1e-5)
