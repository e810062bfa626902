"""A member is a task and a plan; members that are alike can be computed as one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import nn

from surefoot.data.batches import fetch
from surefoot.optim.plan import Plan
from surefoot.training.state import has_extra_state, named_tensors
from surefoot.training.task import Task

_drawing: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


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


def groups(members: Sequence[Member]) -> dict[Hashable, list[int]]:
    """Return the positions of the members that can be computed as one, a list for each kind.

    Alike are: data, model, loss, augmentation and machine; batch size, length and rows; the rule, its forms and groups.
    Free for each member are the numbers that the rule reads, schedule, label smoothing, clipping, and the seed, unless
    the model draws random numbers: these come from one generator for each seed. A model with extra state shares its
    steps with no other: the state is one module's.
    """
    found: dict[Hashable, list[int]] = {}
    for i, member in enumerate(members):
        task, plan, recipe = member.task, member.plan, member.plan.recipe
        kind = (
            id(task.data.train.x), id(task.data.train.y), id(task.loss), task.loss_name, id(task.class_weights),
            id(task.forward), id(task.loss_fn),
            id(task.augment), id(task.optimizer), task.machine, id(task.data.target_std),
            _structure(task), task.seed if task.draws or draws(task) else None,
            i if has_extra_state(task.template) else None,
            plan.examples, plan.steps, plan.row_steps, plan.batch_size,
            recipe.micro_batch_size, recipe.rule, tuple(recipe.update_rule.words(recipe.rule_values).items()),
            recipe.decay_on, recipe.groups, recipe.progressive_resizing,
            recipe.ema_decay is None, recipe.schedule.kind == "plateau",
        )  # fmt: skip
        found.setdefault(kind, []).append(i)
    return found


def _structure(task: Task) -> Hashable:
    """What two models must share to be stacked: what they were built from, and every tensor's name, shape and need."""
    origin = task.model if isinstance(task.model, str) else id(task.template if task.model is None else task.model)
    tensors = tuple((name, tuple(value.shape)) for name, value in named_tensors(task.template).items())
    return origin, tensors, tuple(parameter.requires_grad for parameter in task.template.parameters())


def draws(task: Task) -> bool:
    """Return whether the model in training, or its loss, draws from torch's generators, as dropout does."""
    if task.template not in _drawing:
        rows = torch.arange(min(2, task.data.examples)).numpy()
        x, y = fetch(task.data, task.data.train, rows, seed=task.seed)
        model = task.fresh_model()
        cards = [task.machine.device] if task.machine.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cards), torch.no_grad():
            before = torch.get_rng_state(), *map(torch.cuda.get_rng_state, cards)
            try:
                task.training_loss(task.outputs(model, x, y), y)
                after = torch.get_rng_state(), *map(torch.cuda.get_rng_state, cards)
                drawn = not all(map(torch.equal, before, after))
            except ValueError:  # batch norm with one example; whether the plan can train at all is `start`'s to say
                drawn = True
        _drawing[task.template] = drawn
    return _drawing[task.template]
