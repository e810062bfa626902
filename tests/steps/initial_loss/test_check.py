"""`check_initial_loss`: numbers that can be computed by hand, the cause of an excess, and settings at the door."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from faults import plain, raw_digits, seeded
from kinds import KINDS, module
from torch import nn

import surefoot
from surefoot.errors import ConfigError
from surefoot.steps.initial_loss.check import measure
from surefoot.steps.probe import probe_data


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


def facts(model, data, loss=None, **settings):
    return measure(surefoot.task(data, model, loss=loss, precision="fp32", threads=1), **settings)


def test_outputs_that_are_all_alike_have_the_loss_of_chance_and_no_scale():
    found = facts(Constant([0.5, 0.5, 0.5]), classes())
    assert found.loss == pytest.approx(math.log(3), rel=1e-6)
    assert found.chance == pytest.approx(math.log(3), rel=1e-6)
    assert found.output_scale == pytest.approx(0, abs=1e-7)
    assert (found.classes, found.target_scale, found.standard_loss) == (3, None, True)


def test_the_best_answer_without_inputs_has_the_entropy_of_the_labels():
    found = facts(Constant([0.0, 0.0, 0.0]), classes((0.8, 0.1, 0.1), 1000))
    # The batches are some of the examples, and their shares are near those of all: 8 x 128 of 1,000 is all but a few.
    assert found.prior == pytest.approx(-(0.8 * math.log(0.8) + 0.2 * math.log(0.1)), rel=0.05)


def test_logits_that_are_too_large_show_in_the_scale_and_the_loss():
    torch.manual_seed(0)
    small = nn.Linear(4, 3)
    large = nn.Linear(4, 3)
    large.load_state_dict({name: 100 * value for name, value in small.state_dict().items()})
    one, hundred = facts(small, classes()), facts(large, classes())
    assert hundred.output_scale == pytest.approx(100 * one.output_scale, rel=1e-4)
    assert hundred.loss > 10 * one.loss


def test_a_penalty_is_half_the_decay_times_the_squared_weights():
    model = Constant([3.0, 4.0, 0.0])
    assert facts(model, classes(), weight_decay=0.1).penalty == pytest.approx(0.05 * 25)
    assert facts(model, classes(), weight_decay=0.0).penalty == 0


def test_inputs_off_by_a_factor_are_told_by_the_loss_with_standardised_ones():
    data = classes()
    batches = [(1000 * x, y) for x, y in zip(data.train.x.split(40), data.train.y.split(40), strict=True)]
    torch.manual_seed(0)
    found = facts(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)), probe_data(batches))
    assert found.input_scale > 300
    assert found.loss > 20
    assert found.standardised_loss < 2


def test_a_regression_has_the_variance_as_prior_and_the_mean_square_as_chance():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(128, 3)), 5 + rng.normal(size=128)
    found = facts(Constant([0.0]), data := surefoot.load((x, y), target="numbers", validation=0))
    assert found.chance == pytest.approx(found.prior, rel=1e-5)  # outputs of zero are the mean
    assert found.prior == pytest.approx(float(data.train.y.var(correction=0)), rel=1e-5)
    plain = surefoot.load((x, y), target="numbers", validation=0, standardise_targets=False)
    found = facts(Constant([0.0]), plain)
    y = data.train.y.float()
    assert found.chance == pytest.approx(float(y.square().mean()), rel=1e-3)
    assert found.prior == pytest.approx(float(y.var(correction=0)), rel=1e-3)
    assert (found.classes, found.output_scale) == (None, 0)


def test_a_loss_of_ones_own_that_sums_is_told_from_a_mean():
    found = facts(
        Constant([0.0, 0.0, 0.0]), classes(), loss=lambda outputs, y: F.cross_entropy(outputs, y, reduction="sum")
    )
    assert found.sums
    assert found.loss == pytest.approx(found.examples * math.log(3), rel=1e-5)


def test_loss_scale_and_penalty_are_as_computed_by_hand():
    x, y = raw_digits()
    zero = nn.Linear(64, 10)
    nn.init.zeros_(zero.weight)
    zero.bias.data = torch.arange(10.0)
    found = measure(surefoot.task(surefoot.load((x, y), validation=0), zero), weight_decay=0.2)
    by_hand = float(F.cross_entropy(torch.arange(10.0).expand(1000, 10), y))
    assert found.loss == pytest.approx(by_hand, abs=4 * found.standard_error)
    assert found.output_scale == pytest.approx(math.sqrt(np.var(np.arange(10))))
    assert found.penalty == pytest.approx(0.1 * 285)
    assert found.prior < found.chance == pytest.approx(math.log(10))


@pytest.mark.parametrize(("most", "batches"), [(None, 8), (5000, 8), (640, 5), (0, 2)])
def test_it_takes_as_many_batches_as_are_paid_for_and_two_at_least(most, batches):
    decision = surefoot.check_initial_loss("mlp", "digits", most_examples=most)
    assert decision.evidence["evaluated_examples"] == 3 * batches * 128
    assert decision.passed
    with pytest.raises(ConfigError, match="most_examples"):
        surefoot.check_initial_loss("mlp", "digits", most_examples=-1)
    with pytest.raises(ConfigError, match="most_examples"):
        surefoot.check_wiring("mlp", "digits", most_examples=-1)


@pytest.mark.parametrize(
    ("name", "chance", "classes"),
    [("dict", math.log(3), 3), ("segmentation", math.log(3), 3), ("tokens", math.log(11), 11),
     ("sum and count", math.log(11), 11), ("multilabel", math.log(2), 2)],
)  # fmt: skip
def test_chance_of_each_kind_is_ln_c_over_the_targets_that_count(name, chance, classes):
    kind = KINDS[name]
    decision = surefoot.check_initial_loss(module(kind), kind.data, precision="fp32", **kind.more)
    assert decision.value["chance"] == pytest.approx(chance, abs=1e-5)
    assert decision.evidence["classes"] == classes
    zero = module(kind)
    head = [each for each in zero.modules() if isinstance(each, nn.Linear | nn.Conv2d)][-1]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    decision = surefoot.check_initial_loss(zero, kind.data, precision="fp32", **kind.more)
    assert decision.value["loss"] == pytest.approx(chance, abs=1e-5)


@pytest.mark.parametrize("name", ["mapping and loss_fn", "several heads"])
def test_of_a_loss_that_shows_no_outputs_chance_is_not_known_and_no_failure(name):
    kind = KINDS[name]
    decision = surefoot.check_initial_loss(module(kind), kind.data, precision="fp32", **kind.more)
    assert decision.passed
    assert "no chance to compare" in decision.findings[0].reason


def test_the_shares_of_tokens_in_the_bias_are_below_chance_and_sound():
    ids = np.random.default_rng(0).choice(5, (60, 8), p=[0.8, 0.05, 0.05, 0.05, 0.05])
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([0.8, 0.05, 0.05, 0.05, 0.05]).log())
    decision = surefoot.check_initial_loss(model, (ids[:, :-1], ids[:, 1:]))
    assert decision.passed
    assert "the classes' shares are in the bias" in decision.findings[0].reason
