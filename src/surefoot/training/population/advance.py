"""`advance` for a stack: the steps, tallies, rows and outcomes of one member's run, computed for K at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surefoot.record.run import Row
from surefoot.seeds import StepSeeds
from surefoot.sgd.plan import Plan, plateau_factor
from surefoot.sgd.stacked import stacked_
from surefoot.training.loop import diverged, outcome_at_end, row_after, watch_plateau
from surefoot.training.population.member import Member
from surefoot.training.population.stack import Seen, Stack, norms
from surefoot.training.state import State

StepFn = Callable[[Stack, int, Tensor], Seen]
"""(stack, step, lr [K]) -> what was seen. It moves the members whose numbers are finite, and no other."""


@dataclass(frozen=True)
class _Segment:
    """Steps without a look between them: what each saw and the rates, all [S, K]; the last relative update, [K]."""

    loss: np.ndarray
    correct: np.ndarray
    grad_norm: np.ndarray
    lr: np.ndarray
    ratio: np.ndarray | None
    seconds: float


def advance_stack(
    members: Sequence[Member], states: Sequence[State], until_step: int, step: StepFn, *, compact: bool = True
) -> list[list[Row]]:
    """Advance members that `groups` found alike, changing their states, and return the new rows of each.

    Args:
        members: [K].
        states: theirs, all at one step, none ended.
        until_step: as in `advance`.
        step: how a step is computed.
        compact: whether the others go on without a member that has diverged; else it stays, masked.
    """
    rows: list[list[Row]] = [[] for _ in members]
    plan, task = members[0].plan, members[0].task
    last = min(until_step, plan.steps)
    stack = Stack(members, states)
    owners = list(range(len(members)))  # of the stack's rows
    with StepSeeds(task.seed, "step") as seeds, task.machine.computing(), torch.no_grad():
        while (live := [i for i in owners if states[i].outcome is None]) and states[live[0]].step < last:
            end = min(last, _next_mark(plan, states[live[0]].step))
            segment = _run(stack, [states[i] for i in owners], end, seeds, step)
            for row, i in enumerate(owners):
                if states[i].outcome is None:
                    _remember(members[i], states[i], stack, row, segment, len(live))
            live = [i for i in owners if states[i].outcome is None]
            for i in live:
                _look(members[i], states[i], stack, owners.index(i), segment, rows[i], at_last=end == last)
            if compact and 0 < len(live) < len(owners):
                stack.keep([owners.index(i) for i in live])
                owners = live
    return rows


def _next_mark(plan: Plan, step: int) -> int:
    """Return the next step after which somebody looks: a row, or an epoch's end where the plateau schedule reads."""
    mark = next(mark for mark in plan.row_steps if mark > step)
    if plan.recipe.schedule.kind == "plateau":
        mark = min(mark, (step // plan.steps_per_epoch + 1) * plan.steps_per_epoch)
    return mark


def _run(stack: Stack, states: Sequence[State], end: int, seeds: StepSeeds, step: StepFn) -> _Segment:
    """Do the steps until `end`, or until a member that was alive shows numbers that are not finite."""
    began = time.perf_counter()
    alive = torch.tensor([state.outcome is None for state in states], device=stack.device)
    first = next(state.step for state in states if state.outcome is None)
    rates = [rate_table(member.plan, state, first, end) for member, state in zip(stack.members, states, strict=True)]
    table = np.stack(rates, axis=1)
    rates_ = torch.from_numpy(table.astype(np.float32)).to(stack.device)
    seen: list[Seen] = []
    ratio: np.ndarray | None = None
    for t in range(first, end):
        seeds.at(t)
        before = [value.clone() for value in stack.weights.values()] if t + 1 == end else None
        seen.append(step(stack, t, rates_[t - first]))
        stack.average_()
        if before is not None:
            ratio = _ratios(stack, before)
        if not bool((seen[-1].finite | ~alive).all()):
            break

    def column(name: str) -> np.ndarray:
        return torch.stack([getattr(each, name) for each in seen]).double().cpu().numpy()

    elapsed = time.perf_counter() - began
    return _Segment(column("loss"), column("correct"), column("grad_norm"), table[: len(seen)], ratio, elapsed)


def rate_table(plan: Plan, state: State, first: int, end: int) -> np.ndarray:
    """Return the learning rates of updates first .. end - 1, float64 [S]; between them no plateau is judged."""
    return plan.lr[first:end] * plateau_factor(plan.recipe.schedule, state.val_losses)


def _ratios(stack: Stack, before: Sequence[Tensor]) -> np.ndarray:
    moved = norms([now - then for now, then in zip(stack.weights.values(), before, strict=True)])
    size = norms(before)
    return torch.where(size > 0, moved / size, torch.zeros_like(size)).double().cpu().numpy()


def _remember(member: Member, state: State, stack: Stack, row: int, segment: _Segment, members: int) -> None:
    """Tally a segment, and end the run of a member whose last numbers were not finite."""
    done = len(segment.loss)
    last = (segment.loss[-1, row], segment.grad_norm[-1, row])
    good = done if np.isfinite(last).all() else done - 1
    tally, batch = state.tally, member.plan.batch_size
    losses = segment.loss[:good, row]
    tally.loss += float(losses.sum()) * batch
    tally.correct += int(segment.correct[:good, row].sum())
    tally.examples += batch * good
    tally.grad_norm += float(segment.grad_norm[:good, row].sum())
    tally.losses += losses.tolist()
    tally.seconds += segment.seconds / members
    state.seconds += segment.seconds / members
    state.step += good
    if good < done:
        stack.scatter(row, state)
        state.outcome = diverged(float(last[0]), state.step, float(segment.lr[-1, row]))


def _look(
    member: Member, state: State, stack: Stack, row: int, segment: _Segment, rows: list[Row], *, at_last: bool
) -> None:
    """Bring the state up to date where somebody looks at it: a plateau's judge, a row, the caller, the end."""
    task, plan = member.task, member.plan
    marked = state.step in plan.row_steps
    judged = plan.recipe.schedule.kind == "plateau" and state.step % plan.steps_per_epoch == 0
    if not (marked or judged or at_last):
        return
    stack.scatter(row, state)
    watch_plateau(task, plan, state)
    if marked:
        ratio = None if segment.ratio is None else float(segment.ratio[row])
        rows.append(row_after(task, plan, state, ratio, float(segment.lr[-1, row])))
    if state.step == plan.steps:
        state.outcome = outcome_at_end(task, plan, state)


def eager_step(stack: Stack, step: int, lr: Tensor) -> Seen:
    """Compute one step operation by operation: convolutions grouped, linear layers as batched products."""
    buffers = {name: value.clone() for name, value in stack.buffers.items()}
    seen, grads = stack.gradient(step)
    finite = seen.finite
    dead = [] if bool(finite.all()) else (~finite).nonzero()[:, 0].tolist()
    moving = [*stack.weights.values(), *(stack.velocity or [])]
    kept = [value[dead].clone() for value in moving] if dead else []
    if stack.clip is not None:
        scale = torch.clamp(stack.clip / seen.grad_norm, max=1.0)
        for grad in grads.values():
            grad.mul_(scale.view(-1, *[1] * (grad.dim() - 1)))
    stacked_(list(stack.weights.values()), list(grads.values()), stack.velocity, stack.rule_at(step, lr), stack.decays)
    for value, former in zip(moving, kept, strict=False):
        value[dead] = former
    for name, value in stack.buffers.items() if dead else ():
        value[dead] = buffers[name][dead]
    return seen
