"""`check_initial_loss`: numbers that can be computed by hand, the cause of an excess, and settings at the door."""

import math

import pytest
import torch
from faults import plain, seeded
from torch import nn

import surefoot
from surefoot.errors import ConfigError


def test_chance_is_ln_c_and_weight_decay_adds_half_its_squared_length():
    model = seeded(plain)
    decision = surefoot.check_initial_loss(model, "digits", weight_decay=0.1)
    assert decision.value["chance"] == pytest.approx(math.log(10), abs=1e-5)
    squared = sum(float(each.detach().square().sum()) for each in model.parameters())
    assert decision.value["with_weight_decay"] - decision.value["loss"] == pytest.approx(0.05 * squared, rel=1e-5)
    assert decision.value["with_weight_decay"] > decision.value["loss"]
    assert decision.claim.endswith("2.303 for 10 classes")
    assert decision.step == 1


def test_small_logits_start_at_chance_plus_half_their_variance():
    """E loss = ln C + s^2 / 2 up to terms of fourth order, for logits that are independent of the labels."""
    torch.manual_seed(0)
    x, y = torch.randn(4000, 10), torch.arange(4000) % 10
    model = nn.Linear(10, 10)
    with torch.no_grad():
        model.weight.copy_(0.3 * torch.eye(10))
        model.bias.zero_()
    decision = surefoot.check_initial_loss(model, [(x[:2000], y[:2000]), (x[2000:], y[2000:])])
    excess = decision.value["loss"] - decision.value["chance"]
    assert excess == pytest.approx(0.3**2 / 2 * 0.9, abs=3 * decision.evidence["standard_error"] + 0.005)


def test_what_does_not_fit_has_no_value_and_fails():
    decision = surefoot.check_initial_loss(seeded(lambda: plain(outputs=7)), "digits")
    assert (decision.verdict, decision.value) == ("fail", None)


@pytest.mark.parametrize("weight_decay", [-1.0, math.nan])
def test_a_weight_decay_below_0_is_refused(weight_decay):
    with pytest.raises(ConfigError, match="weight_decay"):
        surefoot.check_initial_loss("mlp", "digits", weight_decay=weight_decay)


@pytest.mark.parametrize(("most", "batches"), [(None, 8), (5000, 8), (640, 5), (0, 2)])
def test_it_takes_as_many_batches_as_are_paid_for_and_two_at_least(most, batches):
    decision = surefoot.check_initial_loss("mlp", "digits", most_examples=most)
    assert decision.evidence["evaluated_examples"] == 3 * batches * 128
    assert decision.passed
    with pytest.raises(ConfigError, match="most_examples"):
        surefoot.check_initial_loss("mlp", "digits", most_examples=-1)
    with pytest.raises(ConfigError, match="most_examples"):
        surefoot.check_wiring("mlp", "digits", most_examples=-1)
