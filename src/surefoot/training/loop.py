"""The loop: `start` makes a state, `advance` moves it, `fit` goes to the end. Every training is this one.

The caller owns the `for`: the loop gives back rows and calls nobody. To stop early, stop asking.
"""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Sequence
from typing import Protocol

from surefoot.errors import ConfigError
from surefoot.optim.plan import Plan, plateau_factor
from surefoot.record.run import Outcome, Record, Row
from surefoot.seeds import StepSeeds
from surefoot.switches import usual_switches
from surefoot.training.alone import Alone
from surefoot.training.compiled import Compiled
from surefoot.training.computable import check_computable, try_groups
from surefoot.training.device import OnDevice, refusal
from surefoot.training.evaluate import evaluate_part
from surefoot.training.groups import check_weights
from surefoot.training.optimizer import check_rule, optimizer_for
from surefoot.training.state import State, Tally, named_tensors
from surefoot.training.step import Stretch
from surefoot.training.task import Task, check_label_smoothing

_LOSSES_PER_ROW = 100
"""Mini-batch losses kept in a row: enough for a scatter of the raw loss, under 2 kB. Chosen by hand."""


@usual_switches
def start(task: Task, plan: Plan) -> State:
    """Return the state before the first step, with a fresh copy of the task's model.

    Raises:
        ConfigError: the plan's schedule reads a validation loss and the data has no validation part; the model cannot
            train on a single example, and the plan has pieces of a batch that are one; the plan smooths labels, and
            the loss is not the built-in cross-entropy; its groups or its rule do not fit the model, or its rule not
            the task's optimizer; a batch is computed in pieces, and the loss of the whole is not the mean of theirs.

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
    check_weights(model, plan.recipe)  # which remembers the parameters that are trained: see `check_trained`
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
    (rows,) = advance_alike([(task, plan)], [state], until_step, _stepper(task, plan, state))
    if state.outcome is not None:
        state.stepper = None  # it holds the state, so both would wait for the collector of garbage, with their graphs
    return state, rows


def _stepper(task: Task, plan: Plan, state: State) -> Stepper:
    """Return what computes the updates of a run: the same as in the last call where that took long to be made."""
    if isinstance(state.stepper, OnDevice | Compiled) and state.stepper.is_of(task, plan, state):
        return state.stepper
    reason = refusal(task, state) if task.machine.device.type == "cuda" else ""
    if reason is not None:
        state.computed = f"loop; not on the device alone: {reason}" if reason else "loop"
        return Alone(task, plan, state)
    state.stepper = OnDevice(task, plan, state)
    return state.stepper


class Stepper(Protocol):
    """How updates are computed of runs that stand at one step: of one alone, or of K as one."""

    def run(self, stretches: Sequence[Stretch], seeds: StepSeeds) -> None:
        """Do the updates of some runs, in place, and note in their stretches what they saw.

        A run whose loss or gradient is not finite makes no further update, and stays as it was before that step. Where
        something is raised, the stretches say how many updates were done.

        Args:
            stretches: of those that go on, which begin at one step and are equally long; who was left out once does not
                come back.
            seeds: of the draws of a step, to be set before each.
        """
        ...

    def settle(self, run: int) -> None:
        """Bring the tensors of a run's state up to date."""
        ...


def advance_alike(
    runs: Sequence[tuple[Task, Plan]], states: Sequence[State], until_step: int, stepper: Stepper,
    going: Sequence[int] | None = None, rows: list[list[Row]] | None = None,
) -> list[list[Row]]:  # fmt: skip
    """Advance runs that stand at one step and have their rows at the same steps; change the states, return new rows.

    This is the loop: tally, rows and outcomes of one run and of K are made here, and nowhere else.

    Args:
        runs: task and plan of each, [K].
        states: theirs.
        until_step: as in `advance`.
        stepper: computes the updates, of these states.
        going: positions of those that are advanced; None is all.
        rows: to which the new rows of each are added, so that they are there where something is raised; None is new.
    """
    task, plan = runs[0]
    rows = [[] for _ in runs] if rows is None else rows
    last = min(until_step, plan.steps)
    asked = range(len(runs)) if going is None else going
    live = [i for i in asked if states[i].outcome is None]
    with StepSeeds(task.seed, "step", every=task.draws) as seeds, task.machine.computing():
        try:
            while live and (at := states[live[0]].step) < last:
                until, is_mark = _next_stop(plan, at, last)
                stretches = [Stretch(i, at, rates(runs[i][1], states[i], until), is_mark) for i in live]
                _do(runs, states, stretches, stepper, seeds)
                for stretch in stretches:
                    i = stretch.run
                    if stretch.failed:
                        stepper.settle(i)
                        states[i].outcome = diverged(stretch.losses[-1], states[i].step, stretch.rates[stretch.done])
                        continue
                    if runs[i][1].recipe.schedule.kind == "plateau" and states[i].step % plan.steps_per_epoch == 0:
                        stepper.settle(i)
                        _watch(runs[i][0], states[i])
                    if is_mark:
                        stepper.settle(i)
                        rows[i].append(_row(*runs[i], states[i], stretch))
                live = [stretch.run for stretch in stretches if not stretch.failed]
        finally:  # whoever catches what a step raised has states as they were before it
            for i in live:
                stepper.settle(i)
    for i in live:
        if states[i].step == plan.steps:
            states[i].outcome = _at_end(runs[i][0], plan, states[i])
    return rows


def _next_stop(plan: Plan, at: int, last: int) -> tuple[int, bool]:
    """Return up to which step runs go from `at` without the host looking at them, and whether they have a row there."""
    mark = bisect.bisect_right(plan.row_steps, at)
    until = min(last, plan.row_steps[mark]) if mark < len(plan.row_steps) else last
    if plan.recipe.schedule.kind == "plateau":
        until = min(until, (at // plan.steps_per_epoch + 1) * plan.steps_per_epoch)
    return until, mark < len(plan.row_steps) and until == plan.row_steps[mark]


def _do(
    runs: Sequence[tuple[Task, Plan]], states: Sequence[State], stretches: Sequence[Stretch], stepper: Stepper,
    seeds: StepSeeds,
) -> None:  # fmt: skip
    """Do a stretch of each, and note it in their states: also what was done before something was raised."""
    began = time.perf_counter()
    try:
        stepper.run(stretches, seeds)
    finally:
        seconds = (time.perf_counter() - began) / len(stretches)
        for stretch in stretches:
            _remember(*runs[stretch.run], states[stretch.run], stretch, seconds)


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
    return state, Record(rows=tuple(rows), outcome=state.outcome, computed=state.computed)


def rates(plan: Plan, state: State, until: int) -> list[float]:
    """Return the learning rates of the updates from `state.step`: the plan's, lowered by plateaus seen so far."""
    return (plan.lr[state.step : until] * plateau_factor(plan.recipe.schedule, state.val_losses)).tolist()


def _remember(task: Task, plan: Plan, state: State, stretch: Stretch, seconds: float) -> None:
    dense = task.data.target in ("segmentation", "tokens")  # whose batches may hold nothing that counts
    tally, done = state.tally, stretch.done
    state.step += done
    state.seconds += seconds
    for loss, grad_norm in zip(stretch.losses[:done], stretch.grad_norms[:done], strict=True):
        tally.loss += loss * plan.batch_size
        tally.grad_norm += grad_norm
        if dense and loss == 0 and grad_norm == 0:
            tally.empty += plan.batch_size
    tally.losses += stretch.losses[:done]
    tally.correct += stretch.correct
    tally.examples += done * plan.batch_size
    tally.seconds += seconds


def _watch(task: Task, state: State) -> None:
    """At the end of an epoch, note the validation loss that the plateau schedule reads; no other schedule does."""
    assert task.data.validation is not None  # `start` has seen to it
    began = time.perf_counter()
    state.val_losses.append(evaluate_part(task, state.model, state.weights, task.data.validation).loss)
    state.seconds += time.perf_counter() - began


def _row(task: Task, plan: Plan, state: State, stretch: Stretch) -> Row:
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
        lr=stretch.rates[-1],
        train_loss=tally.loss / tally.counted,
        train_accuracy=tally.correct / tally.counted if task.counts_right else None,
        val_loss=judged.loss if judged else None,
        val_accuracy=judged.accuracy if judged else None,
        grad_norm=tally.grad_norm / len(tally.losses),
        update_ratio=stretch.update_ratio if stretch.update_ratio is not None else math.nan,
        losses=tuple(tally.losses[:: math.ceil(len(tally.losses) / _LOSSES_PER_ROW)]),
        seconds=state.seconds,
        examples_per_second=tally.examples / tally.seconds if tally.seconds > 0 else 0.0,
        layers=stretch.layers,
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
