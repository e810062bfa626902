"""Exact noise against a plain loop over examples, and what it refuses."""

import pytest
import torch
from per_sample import exact_noise
from small import BatchNormDropoutNet, image_arrays, images, number_arrays
from torch import nn

import surefoot


def looped(work, model):
    """Return E||g_i||^2 and ||grad F||^2 from one backward pass for each example."""
    from surefoot.data.batches import fetch

    grads = []
    for i in range(work.data.examples):
        x, y = fetch(work.data, work.data.train, torch.tensor([i]))
        found = torch.autograd.grad(work.mean_loss(model(x), y), list(model.parameters()))
        grads.append(torch.cat([grad.flatten() for grad in found]).double())
    all_ = torch.stack(grads)
    return float(all_.square().sum(1).mean()), float(all_.mean(0).square().sum())


@pytest.mark.parametrize("data", ["images", "numbers"])
def test_it_equals_a_loop_over_examples(data, monkeypatch):
    found = images(20) if data == "images" else surefoot.load(number_arrays(30), target="numbers", validation=0.1)
    work = surefoot.task(found, "mlp", threads=1, precision="fp32")
    model = work.fresh_model()
    second, squared = looped(work, model)
    monkeypatch.setattr("per_sample.AT_ONCE_NUMBERS", 7 * sum(p.numel() for p in model.parameters()))
    total, *layers = exact_noise(work, model)
    assert total.second_moment == pytest.approx(second, rel=1e-4)
    assert total.grad_norm_sq == pytest.approx(squared, rel=1e-4)
    assert total.trace == pytest.approx(second - squared, rel=1e-4)
    assert sum(layer.grad_norm_sq for layer in layers) == pytest.approx(total.grad_norm_sq)


def test_batch_norm_in_training_is_refused_and_in_evaluation_is_not():
    work = surefoot.task(images(20), BatchNormDropoutNet, threads=1)
    with pytest.raises(surefoot.ConfigError, match="batch norm"):
        exact_noise(work, work.fresh_model().train())
    assert exact_noise(work, work.fresh_model().eval())[0].trace > 0


def test_dropout_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 3))
    work = surefoot.task(surefoot.load(image_arrays(20)), model, threads=1)
    with pytest.raises(surefoot.ConfigError, match=r"torch\.func"):
        exact_noise(work, work.fresh_model().train())
