import numpy as np
import pytest
import torch
from small import images, number_arrays
from torch import nn

import surefoot
from surefoot.data.batches import fetch
from surefoot.errors import ConfigError
from surefoot.training.task import task

X, Y = number_arrays()


@pytest.mark.parametrize(
    ("name", "target", "says"),
    [
        ("mse", "classes", "mse is for numbers"),
        ("cross-entropy", "numbers", "cross-entropy is for classes"),
        ("bce", "classes", "3 classes"),
        ("bce", "numbers", "bce takes targets from 0 to 1"),
        ("hubber", "numbers", "Did you mean 'huber'"),
        (3, "numbers", "loss = 3"),
    ],
)
def test_a_loss_by_name_is_for_its_targets(name, target, says):
    data = surefoot.load((X, Y), target="numbers") if target == "numbers" else images()
    with pytest.raises(ConfigError, match=says):
        task(data, "linear", loss=name)


def test_two_classes_have_one_cross_entropy_by_either_name():
    data = surefoot.load((X, (Y > 0).astype(int)))
    both = [task(data, "linear", loss=name) for name in ("cross-entropy", "bce")]
    logits, classes = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2
    torch.testing.assert_close(*(work.mean_loss(logits, classes) for work in both))


def test_targets_that_float32_cannot_tell_apart_need_a_shipped_loss():
    data = surefoot.load((X, 1.7e9 + Y.astype(np.float64)), target="numbers")
    assert data.train.y.dtype == torch.float64
    with pytest.raises(ConfigError, match="mse, mae or huber"):
        task(data, "linear", loss=nn.L1Loss())
    _, targets = fetch(task(data, "linear").data, data.train, np.arange(len(data.train)))
    assert float(targets.std(correction=0)) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("mse", lambda error: error**2),
        ("mae", np.abs),
        ("huber", lambda error: np.where(np.abs(error) < 1, 0.5 * error**2, np.abs(error) - 0.5)),
    ],
)
def test_a_loss_by_name_is_the_one_of_that_name(name, formula):
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(60, 2)), 1e5 + 3e4 * draw.normal(size=60)
    work = surefoot.task(surefoot.load((x, y), target="numbers", validation=0), "linear", loss=name)
    outputs, targets = torch.from_numpy(3 * draw.normal(size=(2, 40))).float()
    error = (outputs - targets).double().numpy()
    assert float(work.objective(outputs[:, None], targets)) == pytest.approx(formula(error).mean(), rel=1e-5)
