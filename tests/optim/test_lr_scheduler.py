"""Schedules and presets as PyTorch's schedulers: the rates, resuming, and other optimizers' groups."""

import warnings

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


def exponential(opt):
    return torch.optim.lr_scheduler.ExponentialLR(opt, 0.9)


@pytest.mark.parametrize("change", ["another scheduler", "by hand"])
def test_a_rate_that_something_else_changed_is_said(change):
    opt = optimizer(1.0)
    scheduler = lr_scheduler(opt, s.linear(1.0, 10), 10)
    other = exponential(opt)
    opt.step()
    if change == "by hand":
        opt.param_groups[0]["lr"] = 0.3
    else:
        other.step()
    with pytest.warns(UserWarning, match="something else changed it"):
        scheduler.step()


def test_schedulers_that_take_turns_are_not_warned_of():
    opt = optimizer(1.0)
    parts = [torch.optim.lr_scheduler.ConstantLR(opt, 0.5, 3), lr_scheduler(opt, s.linear(1.0, 10), 10)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The epoch parameter", UserWarning)  # PyTorch's own, of its own call
        turns = torch.optim.lr_scheduler.SequentialLR(opt, parts, milestones=[3])
        rates = walk(opt, turns, 6)[:, 0]
    assert rates == pytest.approx([0.5, 0.5, 0.5, 1.0, 0.9, 0.8])


def test_a_rate_as_a_tensor_and_a_restored_optimizer_are_not_warned_of():
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=torch.tensor(0.3))
    assert walk(opt, lr_scheduler(opt, s.cosine(1.0, 5), 5), 5)[4, 0] > 0


@pytest.mark.parametrize(
    "other",
    [lambda: (s.cosine(1.0, 20), 20), lambda: (s.linear(1.0, 40), 40), lambda: (s.linear(1.0, 20, end=0.1), 20)],
)
def test_a_state_of_another_schedule_is_refused(other):
    opt = optimizer(0.7)
    scheduler = lr_scheduler(opt, s.linear(1.0, 20), 20)
    walk(opt, scheduler, 5)
    with pytest.raises(ConfigError, match="state of another scheduler, at step 5"):
        lr_scheduler(optimizer(0.7), *other()).load_state_dict(scheduler.state_dict())
    with pytest.raises(ConfigError, match="number of groups"):
        lr_scheduler(optimizer(0.7, 0.1), s.linear(1.0, 20), 20).load_state_dict(scheduler.state_dict())


def test_a_state_of_an_older_version_is_taken():
    scheduler = lr_scheduler(optimizer(0.7), s.linear(1.0, 20), 20)
    state = scheduler.state_dict()
    del state["multipliers"]
    lr_scheduler(optimizer(0.7), s.linear(1.0, 20), 20).load_state_dict(state)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_rate_that_is_not_finite_is_refused(value):
    for make in (
        s.constant, lambda peak: s.step(peak, [3]), lambda peak: s.cosine(peak, 9), lambda peak: s.linear(peak, 9),
        lambda peak: s.exponential(peak, 0.9, 3), lambda peak: s.inverse_sqrt(peak, 3),
        lambda peak: s.one_cycle(peak, 9, 3), lambda peak: s.wsd(peak, 9, 3), lambda peak: s.sgdr(peak, 3),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="peak must be finite"):
            make(value)
    with pytest.raises(ConfigError, match="a peak must be finite"):
        lr_scheduler(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=value), s.linear(1.0, 9), 9)
    opt = optimizer(1.0)
    scheduler = lr_scheduler(opt, lambda step: value if step == 2 else 1.0)
    with pytest.raises(ConfigError, match="at step 2: a rate must be finite"):
        walk(opt, scheduler, 5)
