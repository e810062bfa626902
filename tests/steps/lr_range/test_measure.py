"""The losses under these rates are those of a loop written out by hand, on the same batches."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import bits
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.data.batches import epoch_order
from surefoot.steps.lr_range import measure as measuring
from surefoot.steps.lr_range.measure import LrSearch, measure, untrained_losses
from surefoot.steps.lr_range.range_test import ramp

EXAMPLES, BATCH, STEPS = 48, 16, 10


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
    x = (task.data.train.x - task.data.mean.float()) / task.data.std.float()
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


def measured(task, low, high, steps, seeds=1):
    """Return all losses by seed and rate, and what the last sign of life said."""
    work = measure(task, RECIPE, LrSearch(low=low, high=high, points_per_decade=1, steps=steps, seeds=seeds))
    last = None
    while True:
        try:
            last = next(work)
        except StopIteration as end:
            return end.value, last


def test_losses_at_constant_rates_are_those_of_pytorch_and_every_update_is_counted(task):
    before = [bits(each) for each in task.template.parameters()]
    found, last = measured(task, 1e-3, 1e-2, STEPS)
    for (seed, lr), losses in found.losses.items():
        assert seed == 0
        if np.isfinite(losses).all():
            np.testing.assert_allclose(losses, by_hand(task, [lr] * STEPS), rtol=1e-3)
    assert last.steps_done == last.steps_planned == len(found.losses) * STEPS
    assert [bits(each) for each in task.template.parameters()] == before


def test_a_ramp_takes_each_rate_for_one_update(task):
    lrs, losses = ramp(task, RECIPE, 1e-3, 1.0, STEPS)
    np.testing.assert_allclose(lrs, np.geomspace(1e-3, 1.0, STEPS))
    np.testing.assert_allclose(losses, by_hand(task, lrs), rtol=1e-4)


def test_untrained_losses_are_of_the_last_batches_of_the_run(task):
    still = by_hand(task, [0.0] * STEPS)
    np.testing.assert_allclose(untrained_losses(task, RECIPE, STEPS, 3), still[-3:], rtol=1e-5)


def test_a_run_longer_than_a_row_keeps_every_loss_and_one_that_diverges_ends_in_infinity(task, monkeypatch):
    monkeypatch.setattr("surefoot.steps.lr_range.measure.beyond", lambda *_: (1e38,) if len(_[0].lrs) < 3 else ())
    found, _ = measured(task, 0.001, 0.01, 230)
    good, bad = found.losses[0, 0.01], found.losses[0, 1e38]
    assert good.shape == (230,)
    assert np.isfinite(good).all()
    assert np.isinf(bad[-1])
    first = int(np.argmax(np.isinf(bad)))
    assert 0 < first < 230
    assert np.isinf(bad[first:]).all()


def test_members_that_do_not_fit_at_once_are_trained_in_turn(task, monkeypatch):
    together, _ = measured(task, 1e-3, 1e-1, STEPS, seeds=2)
    size = sum(each.numel() for each in task.template.parameters())
    monkeypatch.setattr(measuring, "MOST_NUMBERS", size)  # one at a time
    alone, last = measured(task, 1e-3, 1e-1, STEPS, seeds=2)
    assert last.steps_done == last.steps_planned
    assert alone.lrs == together.lrs
    for place, losses in together.losses.items():
        np.testing.assert_allclose(alone.losses[place], losses, rtol=1e-5)
