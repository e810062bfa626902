"""The updates of one run, step by step: the host reads each loss before it moves the weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch

from surefoot.errors import ConfigError, is_out_of_memory
from surefoot.optim.plan import Plan
from surefoot.optim.update import clip_, global_norm
from surefoot.seeds import StepSeeds
from surefoot.training.computable import check_computable
from surefoot.training.state import State
from surefoot.training.step import Gradient, Step, Stretch, Update
from surefoot.training.task import Task

_MOST_BYTES = 2**20
"""Of outputs that wait to be counted: the cache of a core. Chosen by hand."""


class Alone:
    """The updates of one run: a `Stepper` of the loop.

    A batch that is too large for the memory is computed in pieces of half the size from then on.
    """

    def __init__(self, task: Task, plan: Plan, state: State) -> None:
        self.plan = plan if state.micro_batch_size is None else in_pieces(plan, state.micro_batch_size)
        self._step = Step(task, self.plan, state)

    def run(self, stretches: Sequence[Stretch], seeds: StepSeeds) -> None:
        """Do the updates of one stretch, as `Stepper` says."""
        (stretch,) = stretches
        rights = _Rights(self._step.task)
        last = len(stretch.rates) - 1
        try:
            for i, lr in enumerate(stretch.rates):
                self._one(stretch, rights, lr, seeds, measure=stretch.measure_update and i == last)
                if stretch.failed:
                    return
        finally:
            stretch.correct = rights.count()

    def settle(self, run: int) -> None:
        """Do nothing: all is up to date after every step."""

    def _one(self, stretch: Stretch, rights: _Rights, lr: float, seeds: StepSeeds, *, measure: bool) -> None:
        at = stretch.first + len(stretch.losses)
        before, found = self._gradient(at, seeds)
        step = self._step  # another one, if memory was too small
        grads = [grad for grad in found.grads if grad is not None]
        norm = global_norm(grads)
        loss, grad_norm = found.objective * step.task.loss_unit, float(norm)
        if math.isfinite(loss) and math.isfinite(grad_norm):
            update = Update(step, found.grads) if measure else None
            if self.plan.recipe.clip_norm is not None:
                clip_(grads, norm, self.plan.recipe.clip_norm)
            step.move(at, found.grads, lr)
            step.average(at)
            if update is not None:
                stretch.update_ratio, stretch.layers = update.measured()
            rights.add(found.rights)
        else:
            step.put_back_(before)
        stretch.losses.append(loss)
        stretch.grad_norms.append(grad_norm)

    def _gradient(self, at: int, seeds: StepSeeds) -> tuple[list[torch.Tensor], Gradient]:
        """Return the buffers from before and the gradient; in smaller pieces, with the draws of the step's start, if
        memory is too small.
        """
        while True:
            seeds.at(at)
            before = [buffer.clone() for buffer in self._step.buffers]
            try:
                return before, self._step.gradient(at)
            except BaseException as error:  # Ctrl-C too: nothing of the step is left
                self._step.put_back_(before)
                if not out_of_memory(error):
                    raise
                failed = error.with_traceback(None)  # whose frames hold the tensors that are too many
            self.plan = smaller(self._step.task, self.plan, self._step.state, at, failed)
            self._step = Step(self._step.task, self.plan, self._step.state)


class _Rights:
    """Counts the right answers of steps: of classes many steps at once, which takes less time than one by one."""

    def __init__(self, task: Task) -> None:
        self._task, self._total, self._bytes = task, 0.0, 0
        self._waiting: list[tuple[Any, Any]] = []

    def add(self, rights: Sequence[tuple[Any, Any]]) -> None:
        """Take in the pieces of one step."""
        if not self._task.classifies:  # a batch whose examples have several answers counts by the share that is right
            self._total += sum(float(self._task.right(outputs, y)) for outputs, y in rights)
            return
        self._waiting.extend(rights)
        self._bytes += sum(outputs.numel() * outputs.element_size() for outputs, _ in rights)
        if self._bytes > _MOST_BYTES:
            self.count()

    def count(self) -> float:
        """Return how many were right so far."""
        if self._waiting:
            outputs, y = (torch.cat(tensors) for tensors in zip(*self._waiting, strict=True))
            self._total += float(self._task.right(outputs, y))
            self._waiting, self._bytes = [], 0
        return self._total


def out_of_memory(error: BaseException) -> bool:
    """Return whether a step failed because memory was too small."""
    return isinstance(error, RuntimeError | MemoryError) and is_out_of_memory(error)


def smaller(task: Task, plan: Plan, state: State, at: int, failed: BaseException) -> Plan:
    """Return a plan with pieces of half the size, whose gradients add up to that of the batch, noted in the state.

    Args:
        task, plan, state: of the run.
        at: number of the update that ran out of memory.
        failed: what it raised, which is raised again where pieces are of one example.

    Raises:
        ConfigError: a batch cannot be computed in such pieces.
    """
    largest = math.ceil(plan.batch_size / math.ceil(plan.batch_size / plan.recipe.micro_batch_size))
    if largest == 1:
        raise failed
    halved = in_pieces(plan, largest // 2)
    if task.machine.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        check_computable(task, halved)
    except ConfigError as error:
        raise ConfigError(
            f"out of memory with {largest} examples at once, at step {at + 1}; {error.given}",
            error.allowed,
            "use a smaller batch_size, a smaller model or smaller inputs",
        ) from None
    state.micro_batch_size = halved.recipe.micro_batch_size
    return halved


def in_pieces(plan: Plan, micro_batch_size: int) -> Plan:
    """Return the plan with batches computed in pieces of at most so many examples."""
    return dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, micro_batch_size=micro_batch_size))
