"""One update: the gradient of a batch, and what the recipe's rule makes of it."""
# The kernels torch._foreach_* are what torch.optim is built on; they have no public name.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surefoot.data.batches import batch_indices
from surefoot.data.loader import Loader
from surefoot.optim.kernels import alike, move_, new_slots, update_
from surefoot.optim.plan import Plan
from surefoot.optim.update import global_norm
from surefoot.training.groups import asleep, check_trained, factors_of, sleeping, thaw, thaws
from surefoot.training.optimizer import stepped
from surefoot.training.state import State, averaging_decay, named_tensors, trainable
from surefoot.training.task import Task


@dataclass
class Stretch:
    """Updates of one run that follow each other: what they are to do, and what they saw.

    Attributes:
        run: position of the run among those of its stepper.
        first: number of the first update, from 0.
        rates: the learning rate of each update.
        measure_update: whether the last one measures ||update|| / ||weights||, which takes a copy of the weights.
        losses: of the steps so far, means over their batches, in the unit of the targets. If the last of them or of
            `grad_norms` is not finite, that step made no update and is the last of its run.
        grad_norms: likewise, before clipping.
        correct: predictions of the updates done, see `Task.right`.
        update_ratio: of the last, if it was measured.
        layers: gradient norm and relative update of each layer, as in `Row.layers`, likewise.
    """

    run: int
    first: int
    rates: Sequence[float]
    measure_update: bool = False
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    correct: float = 0
    update_ratio: float | None = None
    layers: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the loss or the gradient of the last step was not finite."""
        return bool(self.losses) and not (math.isfinite(self.losses[-1]) and math.isfinite(self.grad_norms[-1]))

    @property
    def done(self) -> int:
        """Updates done."""
        return len(self.losses) - self.failed


@dataclass(frozen=True)
class Gradient:
    """What a batch gave, in the pieces in which it was computed; nothing is read back from the device.

    Attributes:
        losses: the objective of each piece, scalars.
        shares: what each counts: its share of the examples, or over how many its loss is the mean.
        rights: (outputs, targets) of each piece; none where no answer is right or wrong.
        grads: of each trained parameter, None where the batch did not use it.
    """

    losses: list[Tensor]
    shares: list[Any]
    rights: list[tuple[Any, Any]]
    grads: list[Tensor | None]

    @property
    def objective(self) -> float:
        """The mean loss of the batch."""
        if len(self.losses) == 1:
            return float(self.losses[0])
        shares = [float(share) for share in self.shares]
        return sum(float(loss) * share for loss, share in zip(self.losses, shares, strict=True)) / (sum(shares) or 1)


class Step:
    """The update of one run, with all that is the same in each step looked up once.

    Args:
        task, plan, state: of the run. Weights, buffers and the rule's state change in place; `state.step` does not.
    """

    def __init__(self, task: Task, plan: Plan, state: State) -> None:
        self.task, self.plan, self.state = task, plan, state
        named = trainable(state.model)
        self.names, self.parameters = list(named), list(named.values())
        self.weights = [parameter.data for parameter in self.parameters]
        self.loader = Loader(task.data, task.augment, task.seed)
        # A module may put another tensor in the place of a buffer at any time: so its table is what stays.
        self._tables = [module._buffers for module in state.model.modules()]
        factors = factors_of(state.model, plan.recipe)
        check_trained(self.names, list(factors), state.step)
        self.factors = list(factors.values())
        self.thaws = list(thaws(state.model, plan).values()) if thaw(plan.recipe.groups) else []
        self.pieces = math.ceil(plan.batch_size / plan.recipe.micro_batch_size)
        self._places: list[Any] | None = None
        self._groups: list[Any] | None = None
        self._groups_of: Any = None
        self._half = task.machine.precision == "bf16"

    @property
    def buffers(self) -> list[Tensor]:
        """The model's buffers, as they are now."""
        return [buffer for table in self._tables for buffer in table.values() if buffer is not None]

    def put_back_(self, buffers: Sequence[Tensor]) -> None:
        """Give the model the values that its buffers had, in which batch norm has put what it saw; drop gradients."""
        with torch.no_grad():
            for buffer, value in zip(self.buffers, buffers, strict=True):
                buffer.copy_(value)
        for parameter in self.state.model.parameters():
            parameter.grad = None

    def gradient(self, at: int) -> Gradient:
        """Return the gradient of batch number `at`.

        A batch larger than the recipe's `micro_batch_size` is accumulated from pieces, so memory stays bounded and the
        result is the gradient of the whole batch: pieces weigh by their examples, or by what their loss counts, which
        is known when all are computed. Batch norm sees one piece at a time.
        """
        epoch, indices = batch_indices(self.plan.examples, self.plan.batch_size, self.task.seed, at)
        pieces = np.array_split(indices, self.pieces) if self.pieces > 1 else [indices]
        batches = (self.loader.batch(rows, epoch, self.plan.side_at(at)) for rows in pieces)
        return self.gradient_of(at, batches, list(map(len, pieces)))

    def gradient_of(self, at: int, batches: Iterable[tuple[Any, Any]], sizes: Sequence[int]) -> Gradient:
        """Return the gradient of a batch in pieces.

        Args:
            at: number of the update.
            batches: inputs and targets of each piece, taken one by one.
            sizes: their examples.
        """
        still = asleep(self.state.model, self.plan, at) if self.thaws else ()
        with sleeping(self.state.model, still) if still else nullcontext():
            return self._gradient(batches, sizes)

    def _gradient(self, batches: Iterable[tuple[Any, Any]], sizes: Sequence[int]) -> Gradient:
        task, model, smoothing = self.task, self.state.model, self.plan.recipe.label_smoothing
        for parameter in self.parameters:
            parameter.grad = None
        gradient, alone, count = Gradient([], [], [], []), len(sizes) == 1, None
        for size, (x, y) in zip(sizes, batches, strict=True):
            with task.machine.autocast() if self._half else nullcontext():
                outputs = task.outputs(model, x, y)
            loss, count = task.training_loss(outputs, y, smoothing)
            share = 1.0 if alone else size / sum(sizes) if count is None else count.detach().float()
            (loss if alone else loss * share).backward()
            gradient.losses.append(loss.detach())
            gradient.shares.append(share)
            if task.counts_right:
                gradient.rights.append((outputs.detach(), y))
        gradient.grads.extend(parameter.grad for parameter in self.parameters)
        if count is not None and not alone:
            counted = torch.stack(gradient.shares).sum().clamp_min(1e-30)
            torch._foreach_div_([grad for grad in gradient.grads if grad is not None], counted)
        for parameter in self.parameters:
            parameter.grad = None
        return gradient

    def average(self, at: int) -> None:
        """Move the average, where one is kept, towards the weights after update number `at`; see `averaging_decay`."""
        average, decay = self.state.average, self.plan.recipe.ema_decay
        if average and decay is not None:
            now, share = self._now(average), 1 - averaging_decay(decay, at + 1)
            torch._foreach_lerp_(list(average.values()), now, share)

    def _now(self, names: Iterable[str]) -> list[Tensor]:
        """Return weights and buffers by the names that `state_dict` has for them."""
        if self._places is None:
            model = self.state.model
            tables = {
                f"{prefix}.{name}" if prefix else name: (table, name)
                for prefix, module in model.named_modules(remove_duplicate=False)
                for table in (module._parameters, module._buffers) for name in table
            }  # fmt: skip
            self._places = [tables.get(name) for name in names]
        if None in self._places:  # a module names its tensors otherwise
            values = named_tensors(self.state.model)
            return [values[name] for name in names]
        return [table[name].data for table, name in self._places]

    def average_flagged(self, updates: Tensor, skip: Tensor) -> None:
        """Do the same without the host: after so many updates, a scalar, unless `skip`, a bool scalar, holds."""
        average, decay = self.state.average, self.plan.recipe.ema_decay
        if average and decay is not None:
            now, averages = self._now(average), list(average.values())
            share = 1 - ((1 + updates) / (10 + updates)).double().clamp_max(decay)
            moves = torch._foreach_sub(now, averages)
            torch._foreach_mul_(moves, torch.where(skip, torch.zeros_like(share), share).to(moves[0].dtype))
            torch._foreach_add_(averages, moves)

    def begins(self, place: int, at: int) -> bool:
        """Return whether a parameter begins to be trained with update number `at`."""
        return (self.thaws[place] if self.thaws else 0) == at

    def move(self, at: int, grads: Sequence[Tensor | None], lr: Any) -> None:
        """Do update number `at` by the recipe's rule, or by the task's optimizer. Parameters without a gradient stay.

        Args:
            at: its number, from 0.
            grads: of each trained parameter; they may be used up.
            lr: the learning rate.
        """
        state, recipe = self.state, self.plan.recipe
        if state.optimizer is not None:
            pairs = zip(self.parameters, grads, strict=True)
            stepped(state.optimizer, {parameter: grad for parameter, grad in pairs if grad is not None}, lr)
            return
        if not state.slots:  # that of a parameter which the model did not use in its first step starts at zero
            state.slots = new_slots(recipe, self.weights)
        with self.task.machine.updating(recipe.update_rule):
            if at != 0 and at not in self.thaws and all(grad is not None for grad in grads):
                self._move_all(grads, lr)
                return
            there = [i for i, grad in enumerate(grads) if grad is not None]
            for first in (True, False):
                places = [i for i in there if self.begins(i, at) is first]
                if places:
                    self._move(places, [grads[i] for i in places], lr, first)

    @torch.no_grad()
    def _move_all(self, grads: Sequence[Any], lr: float) -> None:
        """Do an update of all parameters, none of them its first: what `update_` does, with its lists made once."""
        slots, rule = self.state.slots, self.plan.recipe.update_rule
        if self._groups is None or self._groups_of is not slots:
            values = self.plan.recipe.rule_values
            self._groups_of, self._groups = slots, [
                (
                    places, factor.lr, {**values, "weight_decay": values["weight_decay"] * factor.weight_decay},
                    [self.weights[i] for i in places],
                    {name: [tensors[i] for i in places] for name, tensors in slots.items()},
                )
                for places, factor in alike(self.factors, values["weight_decay"] != 0)
            ]  # fmt: skip
        for places, factor, values, weights, of_some in self._groups:
            of_weights = list(grads) if len(places) == len(grads) else [grads[i] for i in places]
            move_(rule, values, weights, of_weights, of_some, lr * factor, False)

    def _move(self, places: Sequence[int], grads: list[Any], lr: Any, first: bool) -> None:
        slots = self.state.slots
        weights, factors = [self.weights[i] for i in places], [self.factors[i] for i in places]
        of_some = {} if first else {name: [tensors[i] for i in places] for name, tensors in slots.items()}
        for name, tensors in update_(self.plan.recipe, weights, grads, of_some, lr, factors).items():
            for i, value in zip(places, tensors, strict=True):
                slots[name][i] = value


class Update:
    """What an update does to the weights of a run: its size against theirs, of all and of each layer.

    Args:
        step: of the run, before it moves the weights.
        grads: the gradients, before they are clipped.
    """

    def __init__(self, step: Step, grads: Sequence[Tensor | None]) -> None:
        there = [i for i, grad in enumerate(grads) if grad is not None]
        self._names, self._after = [step.names[i] for i in there], [step.weights[i] for i in there]
        self._before = [weights.clone() for weights in self._after]
        self._grad_norms = _norms([grad for grad in grads if grad is not None])

    def measured(self) -> tuple[float, dict[str, tuple[float, float]]]:
        """Return, after the move, ||update|| / ||weights||, and what `Row.layers` has."""
        size = float(global_norm(self._before))
        updates = [after - before for after, before in zip(self._after, self._before, strict=True)]
        ratio = float(global_norm(updates)) / size if size > 0 else 0.0
        rows = zip(self._names, self._before, self._grad_norms, _norms(updates), _norms(self._before), strict=True)
        layers = {
            name.removesuffix(".weight"): (grad_norm, move / norm if norm > 0 else math.nan)
            for name, weights, grad_norm, move, norm in rows if weights.dim() > 1
        }  # fmt: skip
        return ratio, layers


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    """Return the L2 norm of each; together, since on a card each number that is read waits for all work before it."""
    return torch.stack([tensor.norm().double() for tensor in tensors]).tolist() if tensors else []


def gradient(task: Task, plan: Plan, state: State) -> tuple[float, float, list[Tensor | None]]:
    """Return the objective, the correct predictions and the gradient of batch number `state.step`: see `Step`."""
    found = Step(task, plan, state).gradient(state.step)
    return found.objective, sum(float(task.right(*pair)) for pair in found.rights), found.grads
