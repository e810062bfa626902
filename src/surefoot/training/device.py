"""The updates of one run on a card: the host looks at nothing until a stretch is done, and a step is one CUDA graph.

Where a step's loss or gradient is not finite, a flag on the device makes this update and all later ones none. A step
takes nothing from the host but the seed of its draws, see `Tables`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn

from surefoot.data.batches import capture_refusal
from surefoot.optim.flagged import flagged_
from surefoot.optim.kernels import new_slots
from surefoot.optim.plan import Plan
from surefoot.optim.update import clip_, global_norm
from surefoot.seeds import StepSeeds
from surefoot.training.alone import in_pieces, out_of_memory, smaller
from surefoot.training.graph import captured, new_pool, new_stream, side_stream, tried
from surefoot.training.groups import asleep
from surefoot.training.state import State, has_extra_state, trainable
from surefoot.training.step import Gradient, Step, Stretch, Update
from surefoot.training.tables import STEPS, Tables
from surefoot.training.task import Task

STEPS_PER_REPLAY = 8
"""Steps in one graph, where a model draws nothing: one launch for all of them. Chosen by hand."""


def refusal(task: Task, state: State) -> str | None:
    """Return why the host has to look at each step of a run, in words; None where it has not to."""
    if state.optimizer is not None:
        return "the optimizer is the caller's"
    if task.draws:
        return "the model draws from NumPy's or Python's generators"
    if has_extra_state(state.model):
        return "the model has extra state"
    return capture_refusal(task.data, task.augment)


class OnDevice:
    """The updates of one run: a `Stepper` of the loop that reads back once a stretch.

    Attributes:
        task, plan, state: of the run.
        eager: why steps are not one graph, in words; empty where they are, or where nothing was tried yet.
    """

    def __init__(self, task: Task, plan: Plan, state: State) -> None:
        self.task, self.plan, self.state, self.eager = task, plan, state, ""
        self._device, self._unit = task.machine.device, task.loss_unit
        self._stream = new_stream(self._device)
        self._tables = Tables(task, plan)
        self._in_pieces(plan if state.micro_batch_size is None else in_pieces(plan, state.micro_batch_size))

    def run(self, stretches: Sequence[Stretch], seeds: StepSeeds) -> None:
        """Do the updates of one stretch, as `Stepper` says."""
        (stretch,) = stretches
        with side_stream(self._device, self._stream):
            while stretch.done < len(stretch.rates) and not stretch.failed:
                self._some(stretch, seeds)

    def is_of(self, task: Task, plan: Plan, state: State) -> bool:
        """Return whether this computes the updates of that run, whose parameters may have been exchanged meanwhile."""
        same = task is self.task and plan is self.plan and state is self.state
        parameters = list(trainable(state.model).values()) if same else []
        return same and list(map(id, parameters)) == list(map(id, self._step.parameters))

    def settle(self, run: int) -> None:
        """Do nothing: the state's tensors are those that steps change."""

    def _in_pieces(self, plan: Plan) -> None:
        """Look up all that does not change while batches are computed in pieces of one size."""
        self._step = Step(self.task, plan, self.state)
        self._events = {*self._step.thaws, *plan.turns}
        self._graphs: dict[int, Callable[[], None]] = {}
        self._of: list[int | None] = []
        self._still: list[str] = []
        self._draws = False

    def _some(self, stretch: Stretch, seeds: StepSeeds) -> None:
        """Do the next updates, as many as the tables hold, and read what they saw."""
        first = stretch.first + stretch.done
        rates, steps = stretch.rates[stretch.done : stretch.done + STEPS], 0
        last = stretch.first + len(stretch.rates) - 1 if stretch.measure_update else None
        update: Update | None = None
        self._tables.begin(first, rates)
        self._check_graphs(first)
        try:
            while steps < len(rates):
                at = first + steps
                self._tables.turn_to(at)
                if at == 0 or at == last or at in self._events or not self._captured(at, seeds):
                    update = self._eager(at, seeds, measure=at == last)
                    steps += 1
                    self._check_graphs(at + 1)
                else:
                    steps += self._replay(at, len(rates) - steps - (last is not None), seeds)
        finally:
            self._read(stretch, steps)
        if update is not None and not stretch.failed:
            stretch.update_ratio, stretch.layers = update.measured()

    def _replay(self, at: int, most: int, seeds: StepSeeds) -> int:
        """Replay a graph and return of how many steps it is, at most so many and none of the next epoch's."""
        if self._draws:
            seeds.at(at)
        per_epoch = self.plan.steps_per_epoch
        events = [place for place in self._events if place > at]
        left = min([at + most, (at // per_epoch + 1) * per_epoch, *events]) - at
        steps = max(size for size in self._graphs if size <= max(1, left))
        self._graphs[steps]()
        return steps

    def _read(self, stretch: Stretch, steps: int) -> None:
        losses, grad_norms, correct = self._tables.read(steps) if steps else ([], [], [])
        for loss, norm, right in zip(losses, grad_norms, correct, strict=True):
            stretch.losses.append(loss)
            stretch.grad_norms.append(norm)
            if stretch.failed:
                return
            stretch.correct += right

    def _eager(self, at: int, seeds: StepSeeds, *, measure: bool) -> Update | None:
        """Do one update operation by operation; in smaller pieces, with the draws of its start, if memory is short."""
        while True:
            seeds.at(at)
            former, before = _generators(self._device), [buffer.clone() for buffer in self._step.buffers]
            try:
                gradient, sizes = self._gradient(at)
            except BaseException as error:  # Ctrl-C too: nothing of the step is left
                self._step.put_back_(before)
                if not out_of_memory(error):
                    raise
                failed = error.with_traceback(None)  # whose frames hold the tensors that are too many
            else:
                self._draws |= _generators(self._device) != former
                return self._apply(at, gradient, sizes, before, measure=measure)
            self._in_pieces(smaller(self.task, self._step.plan, self.state, at, failed))

    def _body(self, at: int) -> None:
        """Do one update. But for whether weights begin to be trained with it, `at` plays no part."""
        before = [buffer.clone() for buffer in self._step.buffers]
        self._apply(at, *self._gradient(at), before, measure=False)

    def _gradient(self, at: int) -> tuple[Gradient, list[int]]:
        sizes, batches = self._tables.batches(self._step.pieces)
        return self._step.gradient_of(at, batches, sizes), sizes

    def _apply(
        self, at: int, gradient: Gradient, sizes: Sequence[int], before: Sequence[Tensor], *, measure: bool
    ) -> Update | None:
        """Move the weights, or put back the buffers, and note what was seen."""
        step, tables, recipe = self._step, self._tables, self.plan.recipe
        grads = [grad for grad in gradient.grads if grad is not None]
        norm, loss = global_norm(grads), _objective(gradient, sizes) * self._unit
        tables.ok.logical_and_(loss.isfinite() & norm.isfinite())
        skip = ~tables.ok
        update = Update(step, gradient.grads) if measure else None
        if recipe.clip_norm is not None:
            clip_(grads, norm, recipe.clip_norm)
        if not self.state.slots:
            self.state.slots = new_slots(recipe, step.weights)
        there = [i for i, grad in enumerate(gradient.grads) if grad is not None]
        for first in (True, False):
            places = [i for i in there if step.begins(i, at) is first]
            if places:
                self._move(places, [gradient.grads[i] for i in places], skip, first=first)
        with torch.no_grad():
            for buffer, value in zip(step.buffers, before, strict=True):
                buffer.copy_(torch.where(skip, value, buffer))
        step.average_flagged(tables.update[0] + 1, skip)
        right = [self.task.right(*pair).double() for pair in gradient.rights]
        correct = torch.stack(right).sum() if right else loss.new_zeros(())
        tables.note(loss, norm.double(), correct)
        return update

    def _move(self, places: Sequence[int], grads: list[Any], skip: Tensor, *, first: bool) -> None:
        step = self._step
        slots = {name: [tensors[i] for i in places] for name, tensors in self.state.slots.items()}
        weights, factors = [step.weights[i] for i in places], [step.factors[i] for i in places]
        with self.task.machine.updating(self.plan.recipe.update_rule):
            flagged_(self.plan.recipe, weights, grads, slots, self._tables.lr, factors, skip, first=first)

    def _changed(self) -> list[Tensor]:
        """Return the tensors that a step changes."""
        slots = [tensor for tensors in self.state.slots.values() for tensor in tensors]
        average = list((self.state.average or {}).values())
        return [*self._step.weights, *self._step.buffers, *slots, *average, *self._tables.changed]

    def _check_graphs(self, at: int) -> None:
        """Forget the graphs of other tensors, or of other weights, than are to be trained now."""
        still = asleep(self.state.model, self.plan, at) if self._step.thaws else []
        of = [self.plan.side_at(at), *(id(tensor) for tensor in self._changed())]
        if still != self._still or of != self._of:
            self._graphs, self._still, self._of = {}, still, of

    def _captured(self, at: int, seeds: StepSeeds) -> bool:
        """Return whether steps are graphs, after a trial where there was none."""
        if self._graphs or self.eager:
            return not self.eager
        models = [self.state.model, *(loss for loss in [self.task.loss] if isinstance(loss, nn.Module))]
        body, pool = partial(self._body, at), new_pool(self._device)  # a new one: what its last graph left is no pool
        graph = tried(body, self._changed, models, self._device, lambda i: seeds.at(at + i), pool)
        if isinstance(graph, str):
            self.eager, self.state.computed = graph, f"loop; not a graph: {graph}"
            return False
        self._graphs, self.state.computed = {1: graph}, "graph"
        if not self._draws:
            with suppress(RuntimeError):  # where memory is too small for so many: one step a launch
                self._graphs[STEPS_PER_REPLAY] = captured(partial(self._several, at), self._device, pool)
        return True

    def _several(self, at: int) -> None:
        for _ in range(STEPS_PER_REPLAY):
            self._body(at)


def _objective(gradient: Gradient, sizes: Sequence[int]) -> Tensor:
    """Return the mean loss of a batch, a float64 scalar: `Gradient.objective` on the device."""
    losses = torch.stack([loss.double() for loss in gradient.losses])
    if len(losses) == 1:
        return losses[0]
    shares = gradient.shares
    if isinstance(shares[0], Tensor):
        weights = torch.stack([share.double() for share in shares])
        return (losses * weights).sum() / weights.sum().clamp_min(1e-30)
    return reduce(torch.add, [loss * share for loss, share in zip(losses, shares, strict=True)]) / math.fsum(shares)


def _generators(device: torch.device) -> list[bytes]:
    """Return where torch's generators stand that a step on this device may draw from."""
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    return [state.numpy().tobytes() for state in states]
