"""`gradient_noise` takes anybody's module and data, and leaves them as they are."""

import pytest
import torch
from small import bits, images
from torch import nn

import surefoot
from surefoot.data.batches import fetch


def test_it_measures_a_module_at_its_own_weights_and_touches_nothing():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)).eval()
    before = {name: bits(value) for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    seen = surefoot.gradient_noise(model, images(), batch_size=20, micro_batches=8, micro_batch_size=8, threads=1)
    assert seen.batch_norm, "it is measured in training mode"
    assert [layer.name for layer in seen.layers] == ["1", "2", "4"]
    assert {name: bits(value) for name, value in model.state_dict().items()} == before
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        model[4].weight.mul_(3)
    other = surefoot.gradient_noise(model, images(), batch_size=20, micro_batches=8, micro_batch_size=8, threads=1)
    assert other.total.trace.value > seen.total.trace.value


def test_a_loader_and_a_loss_of_ones_own_are_taken():
    x, y = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    seen = surefoot.gradient_noise(nn.Linear(5, 2), loader, nn.CrossEntropyLoss(), micro_batches=8, micro_batch_size=4)
    assert seen.total.parameters == 12
    assert seen.loss > 0


def test_it_agrees_with_the_exact_gradient_of_the_whole_training_part():
    work = surefoot.task(surefoot.load("digits"), "linear", threads=1)
    model = work.fresh_model()
    x, y = fetch(work.data, work.data.train, torch.arange(work.data.examples))
    grads = torch.autograd.grad(work.mean_loss(model(x), y), list(model.parameters()))
    squared = float(sum(grad.square().sum() for grad in grads))
    found = surefoot.gradient_noise(model, "digits", threads=1).total.grad_norm_sq
    assert found.low < squared < found.high


@pytest.mark.parametrize("wrong", [{"micro_batches": 3}, {"micro_batch_size": 0}])
def test_numbers_out_of_range_are_errors(wrong):
    with pytest.raises(surefoot.ConfigError):
        surefoot.gradient_noise("linear", "digits", **wrong)
