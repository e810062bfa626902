"""The schedule, chosen by runs of the final length."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any

from surefoot.config import Recipe, Schedule, ScheduleKind
from surefoot.optim.plan import plan
from surefoot.record.decision import Decision
from surefoot.record.progress import Progress
from surefoot.record.trial import TrialResult
from surefoot.search import decide as judge
from surefoot.search.trials import trial_of, trying
from surefoot.search.work import Work
from surefoot.settings import from_dict

SCHEDULES: tuple[ScheduleKind, ...] = ("linear", "cosine", "wsd", "step")


RESERVED_FROM = 6.0
"""Final trainings that must be left for some of them to be kept for comparing schedules. Chosen by hand: half as many
again as that takes."""


def reserve(own: Work) -> float:
    """Return how many final trainings are kept back for comparing schedules: one for each, where there are plenty."""
    free = "schedule" not in own.search.fixed and own.base.schedule.kind != "preset"
    # A little more, since the runs before have whole steps.
    return len(SCHEDULES) + 0.1 if free and own.ledger.left >= RESERVED_FROM else 0.0


def choose_schedule(own: Work, recipe: Recipe) -> Generator[Progress, None, Recipe]:
    """Try the other shapes of the schedule at the final length with the chosen recipe, on the same batches."""
    if "schedule" in own.search.fixed or recipe.schedule.kind == "preset":
        return recipe
    shapes = [_shaped(recipe, kind, own.final_steps, own.task.data.examples) for kind in SCHEDULES]
    mine = [trial_of("schedule", recipe, _in_steps(recipe, own.final_steps), 0, 1.0)]
    others = [trial_of("schedule", shape, _in_steps(shape, own.final_steps), 0, 1.0)
              for shape in shapes if shape.schedule.kind != recipe.schedule.kind]  # fmt: skip
    known = [each for each in mine if each.key in own.journal.tried]
    if own.ledger.left < len(others) + len(mine) - len(known):
        own.left_out(f"other schedules than {recipe.schedule.kind}: the budget did not allow "
                     f"{len(others)} more runs of the final length")  # fmt: skip
        return recipe

    def make() -> Generator[Progress, None, tuple[Decision, list[TrialResult]]]:
        found = yield from trying(own.task, [*mine, *others], own.journal, own.engine)
        return judge.schedule(found, own.validation_examples), found

    decision = yield from own.booked(make)
    assert decision.value is not None
    schedule = from_dict(Schedule, decision.value["schedule"])
    return dataclasses.replace(recipe, schedule=schedule)


def _in_steps(recipe: Recipe, steps: int) -> Recipe:
    return dataclasses.replace(recipe, epochs=None, steps=steps)


def _shaped(recipe: Recipe, kind: ScheduleKind, steps: int, examples: int) -> Recipe:
    """Return the recipe with another shape, its warmup kept; step drops at a half and three quarters, as published
    schedules for CIFAR-10 do (He et al. 2015, arXiv 1512.03385, section 4.2: 32k and 48k of 64k iterations).
    """
    epochs = steps / (examples // plan(recipe, examples).batch_size)
    old = recipe.schedule
    more: dict[str, Any] = {"milestones_epochs": (epochs / 2, epochs * 3 / 4)} if kind == "step" else {}
    schedule = Schedule(kind=kind, warmup_epochs=old.warmup_epochs, warmup_start=old.warmup_start, **more)
    return dataclasses.replace(recipe, schedule=schedule)
