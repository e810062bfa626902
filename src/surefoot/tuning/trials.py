"""Training trials: as many as are alike at once, each kept as soon as it is done, the long ones saved on the way."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from surefoot.config import Recipe, Schedule
from surefoot.measure.pace import FIRST_STEPS, steps_at_once
from surefoot.record import store
from surefoot.record.run import Row
from surefoot.record.tried import Trial, Tried
from surefoot.sgd.plan import Plan, plan
from surefoot.training import checkpoint
from surefoot.training.loop import start
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many
from surefoot.training.population.member import Member
from surefoot.training.state import State
from surefoot.training.task import Task, reseeded
from surefoot.tuning.journal import Journal
from surefoot.tuning.progress import Progress

SAVE_SECONDS = 30.0
"""Trials that have been computed for so long since they were last saved are saved. Chosen by hand."""
AT_ONCE = 64
"""Trials trained at once at most: states take memory. Chosen by hand."""
_IN_EPOCHS = ("warmup_epochs", "milestones_epochs", "cycle_epochs", "decay_epochs", "peak_epochs")


def shrunk(schedule: Schedule, share: float) -> Schedule:
    """Return the schedule of a shorter run, a complete small one: all its lengths shrink with the run.

    Args:
        schedule: with the lengths of the final run.
        share: length of the short run as a share of the final one's.

    >>> shrunk(Schedule(kind="step", milestones_epochs=[5, 8]), 0.5).milestones_epochs
    (2.5, 4.0)
    """
    changes = {}
    for name in _IN_EPOCHS:
        value = getattr(schedule, name)
        if value:
            changes[name] = (
                tuple(_short(each * share) for each in value) if isinstance(value, tuple) else _short(value * share)
            )
    return dataclasses.replace(schedule, **changes)


def _short(epochs: float) -> float:
    """Return a length as a person would write it: 0.92 and not 0.9199999999999999."""
    return float(f"{epochs:.6g}")


def trial_of(stage: str, base: Recipe, recipe: Recipe, seed: int, share: float) -> Trial:
    """Return the trial of a recipe.

    Args:
        stage: that asks for it.
        base: has the final run's schedule.
        recipe: with the trial's length in steps.
        seed: number of the repetition.
        share: the trial's length as a share of the final run's.
    """
    schedule = shrunk(base.schedule, share)
    return Trial(stage=stage, recipe=dataclasses.replace(recipe, schedule=schedule), seed=seed, share=share)


def trying(
    task: Task, trials: Sequence[Trial], journal: Journal, engine: Engine
) -> Generator[Progress, None, list[Tried]]:
    """Train the trials that the journal does not have, and return all of them in order.

    Args:
        task: what is learned; repetition s of a trial has the task's seed + s.
        trials: to be trained, on all training data.
        journal: gets each trial as soon as it is done.
        engine: computes the steps.

    Yields:
        progress in updates, of those that are trained now.
    """
    missing = list({each.key: each for each in trials if each.key not in journal.tried}.values())
    planned = sum(each.recipe.steps or 0 for each in missing)
    done = 0
    tasks = {seed: reseeded(task, task.seed + seed) if seed else task for seed in {each.seed for each in missing}}
    # The short ones first: a search that is stopped has then kept most of them.
    missing.sort(key=lambda each: (each.recipe.steps or 0, each.recipe.batch_size))
    for length in sorted({each.recipe.steps or 0 for each in missing}):
        alike = [each for each in missing if each.recipe.steps == length]
        for first in range(0, len(alike), AT_ONCE):
            together = alike[first : first + AT_ONCE]
            for worth, alive in _together(tasks, together, journal, engine):
                done += worth
                yield Progress(done, planned, f"{len(alike)} runs of {length:,} steps", len(together), alive)
    return [dataclasses.replace(journal.tried[each.key], trial=each) for each in trials]


def _together(
    tasks: dict[int, Task], trials: Sequence[Trial], journal: Journal, engine: Engine
) -> Generator[tuple[int, int], None, None]:
    """Train trials of one length and keep them, yielding for each piece of work its updates and the trials alive."""
    members = [Member(tasks[each.seed], _plan(each, tasks[each.seed])) for each in trials]
    states = [_resumed(journal.folder, each, member) for each, member in zip(trials, members, strict=True)]
    rows: list[list[Row]] = [[] for _ in trials]
    spent, saved, last = 0.0, time.perf_counter(), members[0].plan.steps
    piece = steps_at_once(members)
    at_once = max(FIRST_STEPS, piece)
    while any(state.outcome is None for state in states):
        began, before = time.perf_counter(), sum(state.step for state in states)
        behind = min(state.step for state in states if state.outcome is None)
        states, new = advance_many(members, states, min(last, behind + at_once), engine)
        for own, more in zip(rows, new, strict=True):
            own += more
        spent += time.perf_counter() - began
        moved, at_once = sum(state.step for state in states) - before, piece
        due = time.perf_counter() - saved > SAVE_SECONDS
        try:
            yield moved, sum(state.outcome is None for state in states)
        except GeneratorExit:  # whoever runs the search stops it here
            due = True
            raise
        finally:
            if due and any(state.outcome is None for state in states):
                for each, member, state in zip(trials, members, states, strict=True):
                    _save(journal.folder, each, member, state)
                saved = time.perf_counter()
    share = spent / len(trials)
    journal.keep(
        _tried(each, member, state, own, share)
        for each, member, state, own in zip(trials, members, states, rows, strict=True)
    )
    if journal.folder is not None:
        for each in trials:
            shutil.rmtree(journal.folder / store.MEMBERS / each.key, ignore_errors=True)


def _plan(trial: Trial, task: Task) -> Plan:
    """The trial's plan with one row, at its end: nobody looks at the others, and each would validate."""
    made = plan(trial.recipe, task.data.examples)
    return dataclasses.replace(made, row_steps=(made.steps,))


def _resumed(folder: Path | None, trial: Trial, member: Member) -> State:
    if folder is not None and (folder / store.MEMBERS / trial.key).is_dir():
        state, _ = checkpoint.load_newest(folder / store.MEMBERS / trial.key, member.task)
        if state is not None:
            return state
    return start(member.task, member.plan)


def _save(folder: Path | None, trial: Trial, member: Member, state: State) -> None:
    if folder is None or state.outcome is not None or not state.is_finite(member.task.template):
        return
    own = folder / store.MEMBERS / trial.key
    own.mkdir(parents=True, exist_ok=True)
    checkpoint.save(own, member.task, state)


def _tried(trial: Trial, member: Member, state: State, rows: Sequence[Row], seconds: float) -> Tried:
    assert state.outcome is not None
    last = rows[-1] if rows and state.outcome.kind == "finished" else None
    return Tried(
        trial=trial,
        outcome=state.outcome.kind,
        examples=state.step * member.plan.batch_size,
        train_loss=last.train_loss if last else None,
        val_loss=last.val_loss if last else None,
        val_accuracy=last.val_accuracy if last else None,
        seconds=seconds,
    )
