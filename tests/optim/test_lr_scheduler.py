"""Schedules and presets as PyTorch's schedulers: the rates, resuming, and other optimizers' groups."""

import numpy as np
import pytest
import torch

from surefoot.errors import ConfigError
from surefoot.optim import schedules as s
from surefoot.optim.optimizer import lr_scheduler
from surefoot.optim.presets import preset


def optimizer(*rates):
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def walk(opt, scheduler, steps):
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in opt.param_groups])
        opt.step()
        scheduler.step()
    return np.asarray(rates)


def test_each_group_is_its_own_rate_times_the_schedule():
    opt = optimizer(0.5, 2.0)
    rates = walk(opt, lr_scheduler(opt, s.cosine(1.0, 20), 20), 20)
    expected = s.cosine(1.0, 20)(np.arange(20))
    assert rates == pytest.approx(np.outer(expected, [0.5, 2.0]))


@pytest.mark.parametrize("given", ["bert", preset("bert")])
def test_a_preset_gives_its_shape_over_the_run_s_steps(given):
    opt = optimizer(0.3)
    rates = walk(opt, lr_scheduler(opt, given, 200), 200)[:, 0]
    assert rates == pytest.approx(preset("bert").rescaled(200)[0].schedule(0.3)(np.arange(200)))


def test_a_preset_without_steps_keeps_its_own_length():
    opt = optimizer(preset("airbench94").peak_lr)
    rates = walk(opt, lr_scheduler(opt, "airbench94"), 476)[:, 0]
    assert rates == pytest.approx(preset("airbench94").lr(np.arange(476)))


def test_after_the_last_step_the_rate_stays():
    opt = optimizer(1.0)
    rates = walk(opt, lr_scheduler(opt, s.sgdr(1.0, 4), 6), 12)[:, 0]
    assert rates[6:].tolist() == [rates[5]] * 6


@pytest.mark.parametrize("cut", [0, 1, 7, 19])
def test_resuming_from_the_state_gives_the_same_rates(cut):
    opt = optimizer(0.7)
    whole = walk(opt, lr_scheduler(opt, s.sgdr(1.0, 3, 2), 20), 20)
    first = optimizer(0.7)
    scheduler = lr_scheduler(first, s.sgdr(1.0, 3, 2), 20)
    before = walk(first, scheduler, cut)
    second = optimizer(0.7)
    other = lr_scheduler(second, s.sgdr(1.0, 3, 2), 20)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(scheduler.state_dict())
    after = walk(second, other, 20 - cut)
    assert [*before.flatten(), *after.flatten()] == whole.flatten().tolist()
    assert all(isinstance(value, int | float | bool | list | None) for value in scheduler.state_dict().values())


def test_it_drives_any_pytorch_optimizer():
    opt = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    assert walk(opt, lr_scheduler(opt, "gpt", 100), 100).max() == pytest.approx(1e-3)


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="steps = 0"):
        lr_scheduler(optimizer(1.0), s.constant(1.0), 0)
    with pytest.raises(ConfigError, match="preset = 'none'"):
        lr_scheduler(optimizer(1.0), "none", 10)
