"""One update: the gradient of a batch, and what the rule of `sgd.update` makes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surefoot.data.batches import batch_indices, fetch
from surefoot.sgd.plan import Plan
from surefoot.sgd.update import clip_, decays, global_norm, sgd_
from surefoot.training.state import State, trainable
from surefoot.training.task import Task


@dataclass(frozen=True)
class Seen:
    """What one step saw: mean loss, correct predictions, gradient norm before clipping, relative update."""

    loss: float
    correct: int
    grad_norm: float
    update_ratio: float | None

    @property
    def finite(self) -> bool:
        """Whether the loss and the gradient were finite. If not, no update was made."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def step(task: Task, plan: Plan, state: State, lr: float, *, measure_update: bool) -> Seen:
    """Do update number `state.step` in place, unless its loss or gradient is not finite.

    Args:
        task, plan, state: as in `advance`. `state.step` is not advanced here.
        lr: learning rate of this update.
        measure_update: also measure ||update|| / ||weights||, which costs a copy of the weights.
    """
    recipe = plan.recipe
    named = trainable(state.model)
    buffers = [buffer.clone() for buffer in state.model.buffers()]
    loss, correct, grads = gradient(task, plan, state)
    active = [
        (name, parameter, grad)
        for (name, parameter), grad in zip(named.items(), grads, strict=True)
        if grad is not None
    ]
    parameters = [parameter.data for _, parameter, _ in active]
    gradients = [grad for _, _, grad in active]
    norm = global_norm(gradients)
    grad_norm = float(norm)
    seen = Seen(loss, correct, grad_norm, None)
    if not seen.finite:
        for buffer, value in zip(state.model.buffers(), buffers, strict=True):
            buffer.copy_(value)  # batch norm has already put what it saw into its statistics
        return seen
    if recipe.clip_norm is not None:
        clip_(gradients, norm, recipe.clip_norm)
    before = [parameter.clone() for parameter in parameters] if measure_update else None
    kept = _velocity_of(state, [name for name, _, _ in active], list(named))
    velocity = sgd_(
        parameters,
        gradients,
        kept,
        lr=lr,
        momentum=recipe.momentum,
        momentum_form=recipe.momentum_form,
        dampening=recipe.dampening,
        weight_decay=recipe.weight_decay,
        weight_decay_form=recipe.weight_decay_form,
        decays=decays([(name, parameter) for name, parameter, _ in active], recipe.decay_on),
    )
    if velocity is not None and kept is None:
        state.velocity = _spread(velocity, [name for name, _, _ in active], named)
    ratio = None
    if before is not None:
        size = float(global_norm(before))
        moved = float(global_norm([a - b for a, b in zip(parameters, before, strict=True)]))
        ratio = moved / size if size > 0 else 0.0
    return Seen(loss, correct, grad_norm, ratio)


def gradient(task: Task, plan: Plan, state: State) -> tuple[float, int, list[Tensor | None]]:
    """Return mean loss, correct predictions and the gradient of batch number `state.step`.

    A batch larger than the recipe's `micro_batch_size` is accumulated from pieces of equal weight per example, so
    memory stays bounded and the result is the gradient of the whole batch. Batch norm sees one piece at a time.
    """
    recipe = plan.recipe
    epoch, indices = batch_indices(plan.examples, plan.batch_size, task.seed, state.step)
    pieces = np.array_split(indices, math.ceil(len(indices) / recipe.micro_batch_size))
    parameters = list(trainable(state.model).values())
    for parameter in parameters:
        parameter.grad = None
    total, correct = 0.0, 0
    for piece in pieces:
        x, y = fetch(task.data, task.data.train, piece, augment=task.augment, seed=task.seed, epoch=epoch)
        with task.machine.autocast():
            outputs = state.model(x)
        loss = task.mean_loss(outputs, y, recipe.label_smoothing)
        share = len(piece) / len(indices)
        (loss * share if share < 1 else loss).backward()
        total += float(loss.detach()) * share
        if task.classifies:
            correct += int((outputs.detach().argmax(1) == y).sum())
    grads = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return total, correct, grads


def _velocity_of(state: State, active: list[str], names: list[str]) -> list[Tensor] | None:
    if state.velocity is None:
        return None
    if len(active) == len(names):
        return state.velocity
    position = {name: i for i, name in enumerate(names)}
    return [state.velocity[position[name]] for name in active]


def _spread(velocity: list[Tensor], active: list[str], named: dict[str, torch.nn.Parameter]) -> list[Tensor]:
    """Give every trainable parameter a velocity; one that the model did not use in this step starts at zero."""
    given = dict(zip(active, velocity, strict=True))
    return [given[name] if name in given else torch.zeros_like(parameter.data) for name, parameter in named.items()]
