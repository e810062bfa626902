"""Noise of real models: against the gradients of single examples, and on what has no such gradients."""

import pytest
import torch
from per_sample import exact_noise
from small import BatchNormDropoutNet, images
from torch import nn

import surefoot
from surefoot.steps.batch_size.noise import has_batch_norm, noise_of

DATA = surefoot.load("digits")


class Odd(nn.Module):
    """A parameter of its own beside a layer, one that the loss does not reach, and a frozen one."""

    def __init__(self, input_shape, outputs):
        super().__init__()
        self.head = nn.Linear(64, outputs)
        self.scale = nn.Parameter(torch.ones(()))
        self.unused = nn.Linear(2, 2)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x):
        return self.scale * self.head(x.flatten(1))


@pytest.mark.parametrize("model", ["linear", "mlp", Odd])
def test_the_estimate_holds_the_exact_value_in_its_interval(model):
    work = surefoot.task(DATA, model, threads=1, precision="fp32")
    net = work.fresh_model().train()
    seen, exact = noise_of(work, net, batch_size=128), exact_noise(work, net)
    assert [layer.name for layer in seen.layers] == [each.name for each in exact[1:]]
    for name in ("second_moment", "grad_norm_sq", "trace", "noise_scale"):
        estimate = getattr(seen.total, name)
        assert estimate.low <= getattr(exact[0], name) <= estimate.high, name


def test_parameters_out_of_reach_have_no_noise_and_frozen_ones_no_row():
    work = surefoot.task(DATA, Odd, threads=1)
    seen = {layer.name: layer for layer in noise_of(work, work.fresh_model(), batch_size=32, micro_batches=8).layers}
    assert set(seen) == {"head", "model", "unused"}
    assert seen["unused"].trace.value == 0
    assert seen["model"].parameters == 1


def test_batch_norm_dropout_and_augmentation_are_measured_and_change_nothing():
    work = surefoot.task(images(), BatchNormDropoutNet, augment=["flip", "crop:1"], threads=1)
    model = work.fresh_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = noise_of(work, model, batch_size=16, micro_batches=16, micro_batch_size=16)
    assert seen.batch_norm
    assert seen.total.trace.low > 0
    assert seen.examples == 256
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.eval()
    assert not has_batch_norm(model)
    assert not noise_of(work, model, batch_size=16, micro_batches=8).batch_norm


def test_augmentation_adds_to_the_variance():
    plain = surefoot.task(images(), "linear", threads=1)
    moved = surefoot.task(images(), "linear", augment=["crop:4"], threads=1)
    model = plain.fresh_model()
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    first, second = (noise_of(t, model, batch_size=16, micro_batches=64).total.grad_norm_sq for t in (plain, moved))
    assert first.value != second.value


def test_a_large_model_gets_fewer_and_larger_groups(monkeypatch):
    work = surefoot.task(DATA, "linear", threads=1)
    monkeypatch.setattr("surefoot.steps.batch_size.noise.MOST_NUMBERS", 650 * 8)
    seen = noise_of(work, work.fresh_model(), batch_size=32, micro_batches=32, micro_batch_size=8)
    assert (seen.groups, seen.micro_batch_size) == (8, 32)


@pytest.mark.parametrize("wrong", [{"micro_batches": 7}, {"batch_size": 0}, {"micro_batch_size": 0}])
def test_numbers_out_of_range_are_errors(wrong):
    work = surefoot.task(DATA, "linear", threads=1)
    with pytest.raises(surefoot.ConfigError, match="must be at least"):
        noise_of(work, work.fresh_model(), **{"batch_size": 32} | wrong)


def test_weights_that_are_not_finite_are_an_error_and_not_a_number():
    work = surefoot.task(DATA, "linear", threads=1)
    model = work.fresh_model()
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with pytest.raises(surefoot.ConfigError, match="not finite"):
        noise_of(work, model, batch_size=32)
