"""One update: the gradient of a batch, and what the recipe's rule makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.data.batches import batch_indices, fetch
from surefoot.optim.kernels import new_slots, update_
from surefoot.optim.plan import Plan
from surefoot.optim.update import clip_, global_norm
from surefoot.training.groups import asleep, factors_of, sleeping, thaws
from surefoot.training.optimizer import stepped
from surefoot.training.state import State, trainable
from surefoot.training.task import Task


@dataclass(frozen=True)
class Seen:
    """What one step saw.

    Attributes:
        loss: mean over the batch, in the unit of the targets.
        correct: predictions of it, see `Task.right`.
        grad_norm: before clipping.
        update_ratio: ||update|| / ||weights||, if it was measured.
        layers: gradient norm and relative update of each layer, as in `Row.layers`, if they were measured.
    """

    loss: float
    correct: float
    grad_norm: float
    update_ratio: float | None
    layers: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Whether the loss and the gradient were finite. If not, no update was made."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def step(task: Task, plan: Plan, state: State, lr: float, *, measure_update: bool) -> Seen:
    """Do update number `state.step` in place, unless its loss or gradient is not finite.

    Args:
        task, plan, state: as in `advance`. `state.step` is not advanced here.
        lr: learning rate of this update.
        measure_update: also measure ||update|| / ||weights||, of all and of each layer: a copy of the weights.
    """
    recipe = plan.recipe
    named = trainable(state.model)
    buffers = [buffer.clone() for buffer in state.model.buffers()]
    try:
        objective, correct, grads = gradient(task, plan, state)
    except (RuntimeError, MemoryError):  # as where memory is too small: nothing of the step is left
        _take_back(state.model, buffers)
        raise
    loss = objective * task.loss_unit
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
        _take_back(state.model, buffers)
        return seen
    of_layers = _norms(gradients) if measure_update else []
    if recipe.clip_norm is not None:
        clip_(gradients, norm, recipe.clip_norm)
    before = [parameter.clone() for parameter in parameters] if measure_update else None
    _move(plan, state, {i: grad for i, grad in enumerate(grads) if grad is not None}, lr)
    if before is None:
        return seen
    size = float(global_norm(before))
    updates = [a - b for a, b in zip(parameters, before, strict=True)]
    ratio = float(global_norm(updates)) / size if size > 0 else 0.0
    return Seen(loss, correct, grad_norm, ratio, _layers([name for name, _, _ in active], of_layers, updates, before))


def _take_back(model: nn.Module, buffers: Sequence[Tensor]) -> None:
    """Give a model its buffers back, in which batch norm has put what it saw, and drop its gradients."""
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(value)
    for parameter in model.parameters():
        parameter.grad = None


def _move(plan: Plan, state: State, grads: Mapping[int, Tensor], lr: float) -> None:
    """Update by the recipe's rule the parameters that have a gradient, by their places in the order of the slots."""
    recipe, model = plan.recipe, state.model
    if state.optimizer is not None:
        named = list(trainable(model).values())
        stepped(state.optimizer, {named[i]: grad for i, grad in grads.items()}, lr)
        return
    parameters = [parameter.data for parameter in trainable(model).values()]
    factors = list(factors_of(model, recipe).values())
    began = list(thaws(model, plan).values())
    if not state.slots:  # that of a parameter which the model did not use in its first step starts at zero
        state.slots = new_slots(recipe, parameters)
    for first in (True, False):
        places = [i for i in grads if (began[i] == state.step) is first]
        if places:
            of_some = {} if first else {name: [each[i] for i in places] for name, each in state.slots.items()}
            slots = update_(
                recipe, [parameters[i] for i in places], [grads[i] for i in places], of_some, lr,
                [factors[i] for i in places],
            )  # fmt: skip
            for name, each in slots.items():
                for i, value in zip(places, each, strict=True):
                    state.slots[name][i] = value


def gradient(task: Task, plan: Plan, state: State) -> tuple[float, float, list[Tensor | None]]:
    """Return the objective, correct predictions and the gradient of batch number `state.step`.

    A batch larger than the recipe's `micro_batch_size` is accumulated from pieces, so memory stays bounded and the
    result is the gradient of the whole batch: pieces weigh by their examples, or by what their loss counts, which is
    known when all are computed. Batch norm sees one piece at a time.
    """
    recipe = plan.recipe
    epoch, indices = batch_indices(plan.examples, plan.batch_size, task.seed, state.step)
    pieces = np.array_split(indices, math.ceil(len(indices) / recipe.micro_batch_size))
    parameters = list(trainable(state.model).values())
    for parameter in parameters:
        parameter.grad = None
    total, correct, counts, count = 0.0, 0.0, 0.0, None
    side = plan.side_at(state.step)
    with sleeping(state.model, asleep(state.model, plan, state.step)):
        for piece in pieces:
            x, y = fetch(task.data, task.data.train, piece, augment=task.augment, seed=task.seed, epoch=epoch, side=side)
            with task.machine.autocast():
                outputs = task.outputs(state.model, x, y)
            loss, count = task.training_loss(outputs, y, recipe.label_smoothing)
            share = len(piece) / len(indices) if count is None or len(pieces) == 1 else float(count)
            (loss * share if share != 1 else loss).backward()
            total += float(loss.detach()) * share
            counts += share
            correct += float(task.right(outputs, y)) if task.counts_right else 0
    grads = [parameter.grad for parameter in parameters]
    if count is not None and len(pieces) > 1:
        total /= counts or 1
        for grad in grads:
            if grad is not None:
                grad.div_(counts or 1)
    for parameter in parameters:
        parameter.grad = None
    return total, correct, grads


def _layers(
    names: Sequence[str], grad_norms: Sequence[float], updates: list[Tensor], before: list[Tensor]
) -> dict[str, tuple[float, float]]:
    """Return gradient norm and relative update of each weight of at least two dimensions; see `Row.layers`."""
    each = zip(names, grad_norms, _norms(updates), _norms(before), before, strict=True)
    return {
        name.removesuffix(".weight"): (grad_norm, move / size if size > 0 else math.nan)
        for name, grad_norm, move, size, weights in each
        if weights.dim() > 1
    }


def _norms(tensors: list[Tensor]) -> list[float]:
    """Return the L2 norm of each; together, since on a card each number that is read waits for all work before it."""
    return torch.stack([each.norm().double() for each in tensors]).tolist() if tensors else []
