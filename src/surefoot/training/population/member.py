"""A member is a task and a plan; members that are alike can be computed as one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from surefoot.data.batches import fetch
from surefoot.models.extra_state import has_extra_state, named_tensors
from surefoot.optim.plan import Plan
from surefoot.training.state import State
from surefoot.training.task import Task


@dataclass(frozen=True)
class Member:
    """One of K: a task and the plan that it is trained by.

    Members of one task see the same batches, which makes them a paired comparison; `reseeded` makes a task with other
    initial weights, and with the same batches or its own.

    Attributes:
        task: what is learned.
        plan: the recipe, tabulated.
    """

    task: Task
    plan: Plan


def groups(members: Sequence[Member], states: Sequence[State]) -> list[list[int]]:
    """Return the positions of the members that can be computed as one, a list for each group.

    Alike are: data, model, loss, augmentation and machine; batch size, length and rows; the form of the rule; the step
    at which they stand. Free for each member are lr, momentum, dampening, weight decay, schedule, label smoothing,
    clipping, and the seed, unless the model draws random numbers: these come from one generator for each seed.
    A model with extra state shares its steps with no other: the state is one module's.
    """
    found: dict[Hashable, list[int]] = {}
    random: dict[int, bool] = {}
    for i, (member, state) in enumerate(zip(members, states, strict=True)):
        task, plan, recipe = member.task, member.plan, member.plan.recipe
        if id(task) not in random:
            random[id(task)] = _draws(task)
        key = (
            id(task.data.train.x), id(task.data.train.y), id(task.loss), id(task.augment), task.machine,
            _structure(task), task.seed if random[id(task)] else None, i if has_extra_state(task.template) else None,
            plan.examples, plan.steps, plan.row_steps, plan.batch_size,
            recipe.micro_batch_size, recipe.momentum_form, recipe.weight_decay_form, recipe.decay_on,
            recipe.ema_decay is None, recipe.schedule.kind == "plateau", state.step, state.outcome is None,
        )  # fmt: skip
        found.setdefault(key, []).append(i)
    return list(found.values())


def _structure(task: Task) -> Hashable:
    """What two models must share to be stacked: what they were built from, and every tensor's name, shape and need."""
    origin = task.model if isinstance(task.model, str) else id(task.template if task.model is None else task.model)
    tensors = tuple((name, tuple(value.shape)) for name, value in named_tensors(task.template).items())
    return origin, tensors, tuple(parameter.requires_grad for parameter in task.template.parameters())


def _draws(task: Task) -> bool:
    """Return whether the model in training draws from torch's generator, as dropout does."""
    rows = torch.arange(min(2, task.data.examples)).numpy()
    x, _ = fetch(task.data, task.data.train, rows, seed=task.seed)
    model = task.fresh_model().train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        try:
            model(x)
        except ValueError:  # batch norm with a single example; whether the plan can train at all is `start`'s to say
            return True
        return not bool((torch.get_rng_state() == before).all())
