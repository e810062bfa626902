"""The loop: `start` makes a state, `advance` moves it, `fit` goes to the end. Every training is this one.

The caller owns the `for`: the loop gives back rows and calls nobody. To stop early, stop asking.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from surefoot.errors import ConfigError, is_out_of_memory
from surefoot.optim.plan import Plan, plateau_factor
from surefoot.record.run import Outcome, Record, Row
from surefoot.seeds import StepSeeds
from surefoot.switches import usual_switches
from surefoot.training.computable import check_computable, try_groups
from surefoot.training.evaluate import evaluate_part
from surefoot.training.optimizer import check_rule, optimizer_for
from surefoot.training.state import State, Tally, averaging_decay, named_tensors
from surefoot.training.step import Seen, step
from surefoot.training.task import Task, check_label_smoothing

_LOSSES_PER_ROW = 100
"""Mini-batch losses kept in a row: enough for a scatter of the raw loss, under 2 kB. Chosen by hand."""


@usual_switches
def start(task: Task, plan: Plan) -> State:
    """Return the state before the first step, with a fresh copy of the task's model.

    Raises:
        ConfigError: the plan's schedule reads a validation loss and the data has no validation part; the model cannot
            train on a single example, and the plan has pieces of a batch that are one; the plan smooths labels, and
            the loss is not the built-in cross-entropy; its groups do not fit the model, or its rule not the task's
            optimizer; a batch is computed in pieces, and the loss of the whole is not the mean of theirs.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> start(digits, surefoot.plan(surefoot.Recipe(epochs=1), digits.data.examples)).step
    0
    """
    check_label_smoothing(task, plan.recipe.label_smoothing)
    check_rule(task.optimizer, plan.recipe)
    if plan.recipe.schedule.kind == "plateau" and task.data.validation is None:
        raise ConfigError(
            "schedule plateau without validation data",
            "plateau reads the validation loss after every epoch",
            "set validation = 0.1, or choose another schedule",
        )
    check_computable(task, plan)
    if any(group.frozen_epochs for group in plan.recipe.groups):
        try_groups(task, plan)
    model = task.fresh_model(plan.recipe.groups)
    state = State(step=0, model=model, slots={}, average=None, tally=Tally(), val_losses=[], seconds=0.0, outcome=None)
    if task.optimizer is not None:
        state.optimizer = optimizer_for(task.optimizer, plan.recipe, model)
    if plan.recipe.ema_decay is not None:
        averaged = {name: value for name, value in named_tensors(model).items() if value.is_floating_point()}
        state.average = {name: value.clone() for name, value in averaged.items()}
    return state


@usual_switches
def advance(task: Task, plan: Plan, state: State, until_step: int) -> tuple[State, list[Row]]:
    """Train until `until_step` updates are done, or the run ends before, and return the state and the new rows.

    The given state is used up; go on with the one that comes back. What is computed does not depend on how
    the steps are divided into calls.

    Args:
        task, plan: of this run, the same in every call.
        state: from `start`, `advance` or a checkpoint.
        until_step: at most `plan.steps`.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> plan = surefoot.plan(surefoot.Recipe(epochs=1), digits.data.examples)
    >>> state, rows = advance(digits, plan, start(digits, plan), until_step=3)
    >>> state.step, rows  # the first row comes at the end of the epoch
    (3, [])
    """
    return state, advance_alike([(task, plan)], [state], until_step, _Alone(task, plan, state))[0]


class Stepper(Protocol):
    """How an update is computed of runs that stand at one step: of one alone, or of K as one."""

    def step(self, runs: Sequence[int], lrs: Sequence[float], *, measure_update: bool) -> list[Seen]:
        """Do the update of some runs, in place; one whose loss or gradient is not finite stays as it was.

        Args:
            runs: positions of those that go on; who was left out once does not come back.
            lrs: the learning rate of each.
            measure_update: as in `training.step.step`.
        """
        ...

    def settle(self, run: int) -> None:
        """Bring the tensors of a run's state up to date."""
        ...

    def shrink(self) -> bool:
        """Compute a batch in smaller pieces from now on, a step having run out of memory; False where nothing can."""
        ...


@dataclass
class _Alone:
    """The update of one run."""

    task: Task
    plan: Plan
    state: State

    def __post_init__(self) -> None:
        if self.state.micro_batch_size is not None:
            self.plan = _in_pieces(self.plan, self.state.micro_batch_size)

    def step(self, runs: Sequence[int], lrs: Sequence[float], *, measure_update: bool) -> list[Seen]:
        seen = step(self.task, self.plan, self.state, lrs[0], measure_update=measure_update)
        decay = self.plan.recipe.ema_decay
        if seen.finite and decay is not None and self.state.average is not None:
            now = self.state.model.state_dict()
            for name, value in self.state.average.items():
                value.lerp_(now[name], 1 - averaging_decay(decay, self.state.step + 1))
        return [seen]

    def settle(self, run: int) -> None:
        """It is up to date after every step."""

    def shrink(self) -> bool:
        """Halve the pieces, whose gradients add up to that of the batch."""
        plan = self.plan
        largest = math.ceil(plan.batch_size / math.ceil(plan.batch_size / plan.recipe.micro_batch_size))
        if largest == 1:
            return False
        smaller = _in_pieces(plan, largest // 2)
        if self.task.machine.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            check_computable(self.task, smaller)
        except ConfigError as error:
            raise ConfigError(
                f"out of memory with {largest} examples at once, at step {self.state.step + 1}; {error.given}",
                error.allowed,
                "use a smaller batch_size, a smaller model or smaller inputs",
            ) from None
        self.plan, self.state.micro_batch_size = smaller, smaller.recipe.micro_batch_size
        return True


def _in_pieces(plan: Plan, micro_batch_size: int) -> Plan:
    return dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, micro_batch_size=micro_batch_size))


def _found(
    stepper: Stepper, live: Sequence[int], lrs: Sequence[float], seeds: StepSeeds, at: int, measure_update: bool
) -> list[Seen]:
    """Return what update number `at` saw; in smaller pieces, with the draws of its start, if memory is too small."""
    while True:
        seeds.at(at)
        try:
            return stepper.step(live, lrs, measure_update=measure_update)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = error.with_traceback(None)  # whose frames hold the tensors that are too many
        if not stepper.shrink():
            raise failed


def advance_alike(
    runs: Sequence[tuple[Task, Plan]], states: Sequence[State], until_step: int, stepper: Stepper,
    going: Sequence[int] | None = None,
) -> list[list[Row]]:  # fmt: skip
    """Advance runs that stand at one step and have their rows at the same steps; change the states, return new rows.

    This is the loop: tally, rows and outcomes of one run and of K are made here, and nowhere else.

    Args:
        runs: task and plan of each, [K].
        states: theirs.
        until_step: as in `advance`.
        stepper: computes the updates, of these states.
        going: positions of those that are advanced; None is all.
    """
    task, plan = runs[0]
    rows: list[list[Row]] = [[] for _ in runs]
    marks, last = set(plan.row_steps), min(until_step, plan.steps)
    asked = range(len(runs)) if going is None else going
    live = [i for i in asked if states[i].outcome is None]
    with StepSeeds(task.seed, "step", every=task.draws) as seeds, task.machine.computing():
        try:
            while live and (at := states[live[0]].step) < last:
                began = time.perf_counter()
                lrs = [rate(runs[i][1], states[i]) for i in live]
                found = _found(stepper, live, lrs, seeds, at, at + 1 in marks)
                done = [(i, lr, seen) for i, lr, seen in zip(live, lrs, found, strict=True) if seen.finite]
                for i, lr, seen in zip(live, lrs, found, strict=True):
                    if not seen.finite:
                        stepper.settle(i)
                        states[i].outcome = diverged(seen.loss, at, lr)
                for i, _, seen in done:
                    _remember(*runs[i], states[i], seen)
                    if runs[i][1].recipe.schedule.kind == "plateau" and states[i].step % plan.steps_per_epoch == 0:
                        stepper.settle(i)
                        _watch(runs[i][0], states[i])
                each = (time.perf_counter() - began) / len(live)
                for i, lr, seen in done:
                    states[i].seconds += each
                    states[i].tally.seconds += each
                    if at + 1 in marks:
                        stepper.settle(i)
                        rows[i].append(_row(*runs[i], states[i], seen, lr))
                live = [i for i, _, _ in done]
        finally:  # whoever catches what a step raised has states as they were before it
            for i in live:
                stepper.settle(i)
    for i in live:
        if states[i].step == plan.steps:
            states[i].outcome = _at_end(runs[i][0], plan, states[i])
    return rows


@usual_switches
def fit(task: Task, plan: Plan) -> tuple[State, Record]:
    """Train from the start to the end and return the last state and the record.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> state, record = fit(digits, surefoot.plan(surefoot.Recipe(lr=0.1, epochs=3), digits.data.examples))
    >>> record.outcome.kind, record.last.val_accuracy > 0.8
    ('finished', True)
    """
    state, rows = advance(task, plan, start(task, plan), plan.steps)
    assert state.outcome is not None
    return state, Record(rows=tuple(rows), outcome=state.outcome)


def rate(plan: Plan, state: State) -> float:
    """Return the learning rate of update number `state.step`: the plan's, lowered by plateaus seen so far."""
    return float(plan.lr[state.step]) * plateau_factor(plan.recipe.schedule, state.val_losses)


def _remember(task: Task, plan: Plan, state: State, seen: Seen) -> None:
    dense = task.data.target in ("segmentation", "tokens")  # whose batches may hold nothing that counts
    tally = state.tally
    state.step += 1
    tally.loss += seen.loss * plan.batch_size
    tally.correct += seen.correct
    tally.examples += plan.batch_size
    if dense and seen.loss == 0 and seen.grad_norm == 0:
        tally.empty += plan.batch_size
    tally.grad_norm += seen.grad_norm
    tally.losses.append(seen.loss)


def _watch(task: Task, state: State) -> None:
    """At the end of an epoch, note the validation loss that the plateau schedule reads; no other schedule does."""
    assert task.data.validation is not None  # `start` has seen to it
    state.val_losses.append(evaluate_part(task, state.model, state.weights, task.data.validation).loss)


def _row(task: Task, plan: Plan, state: State, seen: Seen, lr: float) -> Row:
    """Return the row of the step that was just done, and begin a new tally; validates, which takes time."""
    began = time.perf_counter()
    validation = task.data.validation
    judged = (
        evaluate_part(task, state.model, state.weights, validation, metrics=True) if validation is not None else None
    )
    state.seconds += time.perf_counter() - began
    tally, state.tally = state.tally, Tally()
    return Row(
        step=state.step,
        epoch=state.step / plan.steps_per_epoch,
        examples=state.step * plan.batch_size,
        lr=lr,
        train_loss=tally.loss / tally.counted,
        train_accuracy=tally.correct / tally.counted if task.counts_right else None,
        val_loss=judged.loss if judged else None,
        val_accuracy=judged.accuracy if judged else None,
        grad_norm=tally.grad_norm / len(tally.losses),
        update_ratio=seen.update_ratio if seen.update_ratio is not None else math.nan,
        losses=tuple(tally.losses[:: math.ceil(len(tally.losses) / _LOSSES_PER_ROW)]),
        seconds=state.seconds,
        examples_per_second=tally.examples / tally.seconds if tally.seconds > 0 else 0.0,
        layers=seen.layers,
        metrics=judged.metrics if judged else {},
    )


def _at_end(task: Task, plan: Plan, state: State) -> Outcome:
    """Return the outcome of a run whose steps are all done: finished, or diverged by its very last step."""
    if not state.is_finite(task.template):
        reason = f"the weights were no longer finite after the last step, {plan.steps}"
        return Outcome(kind="diverged", step=state.step, reason=reason)
    return Outcome(kind="finished", step=state.step, reason=f"all {plan.steps} steps were done")


def diverged(loss: float, step: int, lr: float) -> Outcome:
    """Return the outcome of a run whose loss or, if that is finite, gradient was not finite after `step` updates."""
    what = "the loss" if not math.isfinite(loss) else "the gradient"
    return Outcome(
        kind="diverged",
        step=step,
        reason=f"{what} was no longer finite at step {step + 1}, at learning rate {lr:.4g}; "
        f"the weights are those before that step",
    )
