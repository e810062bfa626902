"""The losses under given rates are those of a loop written out by hand, on the same batches."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import bits
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.data.batches import epoch_order
from surefoot.errors import ConfigError
from surefoot.steps import rates

EXAMPLES, BATCH, STEPS = 48, 16, 7


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(EXAMPLES, 4)).astype(np.float32), np.arange(EXAMPLES) % 3
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    data = surefoot.load({"train": (x, y), "validation": (x[:9], y[:9])})
    return surefoot.task(data, model, precision="fp32", threads=1)


def by_hand(task, lrs):
    """Plain SGD with momentum 0.9 over the task's own order of examples, after PyTorch."""
    model = task.fresh_model().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    order = np.concatenate([epoch_order(EXAMPLES, task.seed, epoch) for epoch in range(10)])
    x = (task.data.train.x - task.data.mean) / task.data.std
    seen = []
    for step, lr in enumerate(lrs):
        rows = order[step * BATCH : (step + 1) * BATCH]
        optimizer.param_groups[0]["lr"] = lr
        loss = F.cross_entropy(model(x[rows]), task.data.train.y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    return np.array(seen)


RECIPE = Recipe(batch_size=BATCH, momentum=0.9, weight_decay=0.0)


def finished(work):
    worth = 0
    while True:
        try:
            worth += next(work)
        except StopIteration as end:
            return worth, end.value


def test_constant_rates_are_those_of_pytorch_and_every_update_is_counted(task):
    before = [bits(each) for each in task.template.parameters()]
    worth, found = finished(rates.constant_rates(task, RECIPE, [0.01, 0.3], STEPS))
    assert worth == 2 * STEPS
    for lr, losses in zip([0.01, 0.3], found, strict=True):
        np.testing.assert_allclose(losses, by_hand(task, [lr] * STEPS), rtol=1e-4)
    assert [bits(each) for each in task.template.parameters()] == before


def test_a_ramp_takes_each_rate_for_one_update(task):
    lrs, losses = rates.ramp(task, RECIPE, 1e-3, 1.0, STEPS)
    np.testing.assert_allclose(lrs, np.geomspace(1e-3, 1.0, STEPS))
    np.testing.assert_allclose(losses, by_hand(task, lrs), rtol=1e-4)


def test_untrained_losses_are_of_the_last_batches_of_the_run(task):
    still = by_hand(task, [0.0] * STEPS)
    np.testing.assert_allclose(rates.untrained_losses(task, RECIPE, STEPS, 3), still[-3:], rtol=1e-5)


def test_a_run_longer_than_a_row_keeps_every_loss_and_one_that_diverges_ends_in_infinity(task):
    _, (good, bad) = finished(rates.constant_rates(task, RECIPE, [0.01, 1e38], 230))
    assert good.shape == (230,)
    assert np.isfinite(good).all()
    assert np.isinf(bad[-1])
    first = int(np.argmax(np.isinf(bad)))
    assert 0 < first < 230
    assert np.isinf(bad[first:]).all()


def test_members_that_do_not_fit_at_once_are_trained_in_turn(task, monkeypatch):
    _, together = finished(rates.constant_rates(task, RECIPE, [0.01, 0.1, 0.3], STEPS))
    size = sum(each.numel() for each in task.template.parameters())
    monkeypatch.setattr(rates, "MOST_NUMBERS", size)  # one at a time
    worth, alone = finished(rates.constant_rates(task, RECIPE, [0.01, 0.1, 0.3], STEPS))
    assert worth == 3 * STEPS
    np.testing.assert_allclose(alone, together, rtol=1e-5)


def test_a_table_of_rates_must_fit_the_data_and_validation_is_left_out(task):
    with pytest.raises(ConfigError, match="batch_size"):
        rates.rate_plan(Recipe(batch_size=EXAMPLES + 1), EXAMPLES, np.full(3, 0.1))
    bare = rates.without_validation(task)
    assert bare.data.validation is None
    assert task.data.validation is not None
