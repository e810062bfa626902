import numpy as np
import pytest
import torch
from torch import nn

from surefoot.config import Recipe, Schedule
from surefoot.optim.plan import plan
from surefoot.report.pytorch_code import pytorch_code

SCHEDULES = [
    Schedule(kind="constant"),
    Schedule(kind="linear"),
    Schedule(kind="linear", warmup_epochs=2.0, warmup_start=0.2),
    Schedule(kind="cosine"),
    Schedule(kind="cosine", warmup_epochs=1.0),
    Schedule(kind="wsd"),
    Schedule(kind="wsd", decay_epochs=3.0, warmup_epochs=1.0),
    Schedule(kind="step", milestones_epochs=(4.0, 7.0)),
    Schedule(kind="step", milestones_epochs=(4.0, 7.0), factor=0.3, warmup_epochs=1.0),
]


def rates_of(code, model, steps):
    seen = []
    data = [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))] * steps
    step = torch.optim.SGD.step

    def noted(self, *more, **others):
        seen.append(self.param_groups[0]["lr"])
        return step(self, *more, **others)

    torch.optim.SGD.step = noted
    try:
        exec(compile(code, "plain", "exec"), {"model": model, "batches": data})
    finally:
        torch.optim.SGD.step = step
    return np.array(seen)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: f"{each.kind}-{each.warmup_epochs:g}")
def test_the_code_follows_the_plan(schedule):
    made = plan(Recipe(lr=0.3, epochs=10, batch_size=4, schedule=schedule), examples=48)
    code = pytorch_code(made.recipe, made.steps, made.steps_per_epoch)
    assert rates_of(code, nn.Linear(3, 2), made.steps) == pytest.approx(made.lr, rel=1e-12, abs=1e-12)


def test_the_optimizer_has_the_recipes_settings():
    recipe = Recipe(
        lr=0.2, momentum=0.8, momentum_form="nesterov", weight_decay=1e-3, decay_on="weights", clip_norm=1.0
    )
    scope = {"model": nn.Linear(3, 2), "batches": []}
    exec(compile(pytorch_code(recipe, 10, 5), "plain", "exec"), scope)
    decayed, free = scope["optimizer"].param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (1e-3, 0)
    assert (decayed["nesterov"], decayed["momentum"], free["momentum"]) == (True, 0.8, 0.8)
    assert len(decayed["params"]) == len(free["params"]) == 1


def test_a_form_that_pytorch_lacks_is_taken_from_here():
    scope = {"model": nn.Linear(3, 2), "batches": []}
    exec(compile(pytorch_code(Recipe(weight_decay_form="decoupled"), 10, 5), "plain", "exec"), scope)
    assert type(scope["optimizer"]).__module__.startswith("surefoot")


def test_another_schedule_is_named_and_not_faked():
    assert "surefoot.lr_scheduler" in pytorch_code(Recipe(schedule=Schedule(kind="sgdr")), 10, 5)
