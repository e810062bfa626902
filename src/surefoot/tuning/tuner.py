"""The seven steps as one loop: from a task to the recipe that its final training should follow, with the evidence.

The search is a generator, so whoever runs it owns the loop: it yields its progress, and may be dropped at any point.
What it has found lies in the journal, and the next search with the same journal goes on from there.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from surefoot.config import Recipe, Schedule, ScheduleKind
from surefoot.diagnose import choosing as judge
from surefoot.diagnose import search
from surefoot.models.build import Factory
from surefoot.record.decision import Decision
from surefoot.record.tried import Trial, Tried
from surefoot.settings import from_dict
from surefoot.sgd.plan import DEFAULT_EPOCHS, plan
from surefoot.training.population.engine import Engine
from surefoot.training.task import Loss, Task
from surefoot.tuning.budget import FINAL_SHARE, Budget, Ledger
from surefoot.tuning.find_lr import LrSearch, searching
from surefoot.tuning.initial_loss import check_initial_loss
from surefoot.tuning.journal import Journal
from surefoot.tuning.overfit import LRS, overfitting_sample
from surefoot.tuning.progress import Progress
from surefoot.tuning.step_time import StepTime, step_time
from surefoot.tuning.trials import trial_of, trying
from surefoot.tuning.wiring import check_wiring

SCHEDULES: tuple[ScheduleKind, ...] = ("linear", "cosine", "wsd", "step")
MOST_EPOCHS = 30.0
"""Of a final training whose length is free and whose recipe gives none: what the time allows, but not more. Chosen by
hand: enough for more than 90 % on CIFAR-10 (Jordan 2024, arXiv 2404.00498, section 3), and a start for others."""
OVERFIT_SHARE = 0.15
"""Step 2 is left out where it could cost more than this share of what the search may cost. Chosen by hand."""
BRACKET_SHARE = 0.2
"""Share of what is left that step 3 may cost. Chosen by hand."""
COARSE_SHARE = 0.45
"""Share of what is then left that the coarse grid may cost. Chosen by hand: about half to look around."""
WIDE, NARROW = 12, 5
"""Members of a coarse grid over rate, decay and momentum; of one over rates alone, where no more can be paid for."""
REFINED = 4
"""Members of a round of refinement: fewer do not enclose a best rate."""
LEAST_SHARE = 1 / 16
LEAST_STEPS = 10
"""Shorter runs say nothing of longer ones. Chosen by hand."""
MOST_ROUNDS = 6
SETTLED = 0.01
"""A round that lowers the expected log error by less than this was the last. Chosen by hand: 1 % of the errors."""
SEEDS = 3
"""Repetitions of the best recipes where they are close and it can be paid for."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for, and at what price.

    Attributes:
        budget: of time, or of examples.
        fixed: names of recipe settings that stay as the base recipe has them.
        force: go on after a step that fails.
    """

    budget: Budget
    fixed: frozenset[str] = frozenset()
    force: bool = False


@dataclass
class Found:
    """What a search came to.

    Attributes:
        recipe: chosen, with its length; None where a step failed.
        decisions: of all steps, in order.
        ledger: what it cost.
        unchecked: what the budget did not allow, a sentence each.
    """

    recipe: Recipe | None
    decisions: list[Decision]
    ledger: Ledger
    unchecked: list[str] = field(default_factory=list)

    @property
    def failed(self) -> Decision | None:
        """The first decision that fails, if there is one."""
        return next((each for each in self.decisions if each.verdict == "fail"), None)


@dataclass
class _Search:
    """What the steps share."""

    task: Task
    base: Recipe
    search: Search
    journal: Journal
    engine: Engine
    ledger: Ledger
    made: list[Decision] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether nothing may depend on a clock."""
        return self.search.budget.trainings is not None

    @property
    def validation_examples(self) -> int:
        assert self.task.data.validation is not None
        return len(self.task.data.validation)

    @property
    def final_steps(self) -> int:
        return plan(self.base, self.task.data.examples).steps

    def left_out(self, text: str) -> None:
        self.unchecked.append(text)

    def decision(
        self, make: Callable[[], Generator[Progress, None, Decision]], cost: Callable[[Decision], int]
    ) -> Generator[Progress, None, Decision]:
        """Recall the next decision, or make and keep it; and book what it cost."""
        kept = self.journal.recall()
        if kept is None:
            made = yield from make()
            evidence = {**made.evidence, "cost_examples": cost(made)}
            kept = self.journal.decide(dataclasses.replace(made, evidence=evidence))
        self.ledger.spend(kept.name, kept.evidence["cost_examples"], kept.seconds)
        self.made.append(kept)
        return kept

    def booked(
        self, make: Callable[[], Generator[Progress, None, tuple[Decision, list[Tried]]]]
    ) -> Generator[Progress, None, Decision]:
        """As `decision`, for one that is made from trials: their cost is counted, each trial once."""
        before = {each.trial.key for each in self.tried}
        found: list[Tried] = []

        def made() -> Generator[Progress, None, Decision]:
            began = time.perf_counter()
            decision, tried = yield from make()
            found.extend(tried)
            return dataclasses.replace(decision, seconds=max(time.perf_counter() - began, _seconds(tried)))

        def cost(_: Decision) -> int:
            new = {each.trial.key: each.examples for each in found if each.trial.key not in before}
            return sum(new.values())

        decision = yield from self.decision(made, cost)
        if not found:  # it was recalled: its trials lie in the journal
            keys = decision.evidence["members"]
            found = [self.journal.tried[key] for key in keys]
        self.tried += [each for each in found if each.trial.key not in before]
        return decision


def _seconds(tried: Sequence[Tried]) -> float:
    return sum(each.seconds for each in tried)


def tuning(
    task: Task,
    base: Recipe,
    search_: Search,
    journal: Journal,
    *,
    given: tuple[str | nn.Module | Factory, Any, Loss | None],
    engine: Engine | None = None,
) -> Generator[Progress, None, Found]:
    """Search for a recipe, a piece at a time, and return what was found.

    Args:
        task: what is learned; it needs a validation part.
        base: the recipe to start from. Its length is that of the final training, if it has one.
        search_: budget and what is fixed.
        journal: what is known from an earlier call, and where everything is kept.
        given: model, data and loss as the user gave them, for the steps before training.
        engine: computes the trials; None makes one.
    """
    own = _Search(task, base, search_, journal, engine or Engine(), Ledger(search_.budget))
    own.base = _sized(own)
    _measure_length(own)
    for step in (_check_before_training, _choose_rate_bracket):
        failed = yield from step(own, given)
        if failed and not search_.force:
            return Found(None, own.made, own.ledger, own.unchecked)
    where = _where(own)
    yield from _coarse(own, where)
    choice = yield from _refined(own, where)
    recipe = dataclasses.replace(choice.recipe, epochs=own.base.epochs, steps=own.base.steps)
    recipe = yield from _schedule(own, recipe)
    recipe = dataclasses.replace(recipe, ema_decay=base.ema_decay)
    return Found(recipe, own.made, own.ledger, own.unchecked)


def _sized(own: _Search) -> Recipe:
    """The base recipe with a batch that leaves enough updates in an epoch, and a length if it is not free."""
    base, examples = own.base, own.task.data.examples
    size = examples if base.batch_size == "full" else min(base.batch_size, examples)
    if "batch_size" not in own.search.fixed:
        size = judge.batch_size(size, examples)
    if base.epochs is None and base.steps is None and own.exact:
        base = dataclasses.replace(base, epochs=DEFAULT_EPOCHS)
    return dataclasses.replace(base, batch_size=size, ema_decay=None)


def _measure_length(own: _Search) -> None:
    """Fill in how long the final training is and takes; a free length takes a third of the time."""
    base, ledger = own.base, own.ledger
    free = base.epochs is None and base.steps is None
    timed = StepTime(0.0, 0.0)
    if not own.exact:
        timed = StepTime(**own.journal.timed("step", lambda: dataclasses.asdict(step_time(own.task, base))))
    if free:
        assert ledger.budget.seconds is not None
        an_epoch = timed.seconds(plan(dataclasses.replace(base, epochs=1.0), own.task.data.examples).steps, 1)
        epochs = ledger.budget.seconds * FINAL_SHARE / max(an_epoch, 1e-9)
        base = dataclasses.replace(base, epochs=float(max(1, min(MOST_EPOCHS, math.floor(epochs)))))
    own.base = base
    made = plan(base, own.task.data.examples)
    ledger.final_examples = made.steps * made.batch_size
    ledger.final_seconds = timed.seconds(made.steps, len(made.row_steps))
    ledger.seconds_per_example = timed.step_seconds / made.batch_size


def _check_before_training(own: _Search, given: Any) -> Generator[Progress, None, bool]:
    """Steps 0, 1 and 2; return whether one of them fails."""
    model, data, loss = given
    place = own.task.machine
    where: dict[str, Any] = {
        "seed": own.task.seed, "device": str(place.device), "precision": place.precision, "threads": place.threads
    }  # fmt: skip

    def wiring() -> Generator[Progress, None, Decision]:
        yield Progress(0, 1, "step 0: wiring")
        return check_wiring(model, data, loss, **where)

    def initial() -> Generator[Progress, None, Decision]:
        yield Progress(0, 1, "step 1: initial loss")
        return check_initial_loss(model, data, loss, weight_decay=own.base.weight_decay, **where)

    decision = yield from own.decision(wiring, judge.wiring_examples)
    if decision.verdict == "fail" and not own.search.force:
        return True
    decision = yield from own.decision(initial, judge.initial_loss_examples)
    if decision.verdict == "fail" and not own.search.force:
        return True
    return (yield from _overfit(own))


def _overfit(own: _Search) -> Generator[Progress, None, bool]:
    batches, size, most = 8, 16, 800
    worst = len(LRS) * most * size / max(1, own.ledger.final_examples)
    if worst > OVERFIT_SHARE * own.ledger.left:
        most = int(OVERFIT_SHARE * own.ledger.left * own.ledger.final_examples / (len(LRS) * size))
    if most < 150:
        own.left_out("step 2, overfitting a small sample: it could take too large a part of this budget; "
                     "surefoot check does it")  # fmt: skip
        return False
    decision = yield from own.decision(
        lambda: overfitting_sample(own.task, batches=batches, max_steps=most), judge.overfit_examples
    )
    return decision.verdict == "fail"


def _choose_rate_bracket(own: _Search, given: Any) -> Generator[Progress, None, bool]:
    """Step 3, as thorough as can be paid for; return whether no rate works."""
    if "lr" in own.search.fixed:
        own.left_out("step 3, the bracket of learning rates: the rate is fixed")
        return False
    size = plan(own.base, own.task.data.examples).batch_size
    affordable = BRACKET_SHARE * own.ledger.left * own.ledger.final_examples / size
    settings = judge.bracket_size(affordable, own.final_steps)
    wanted = LrSearch(
        low=1e-4 if settings.points_per_decade > 2 else 1e-3, high=1e-1 if settings.points_per_decade > 2 else 1.0,
        points_per_decade=settings.points_per_decade, steps=settings.steps, seeds=settings.seeds,
        range_test=settings.seeds > 1,
    )  # fmt: skip
    recipe = dataclasses.replace(own.base, schedule=Schedule(kind="constant"))
    decision = yield from own.decision(
        lambda: searching(own.task, recipe, wanted), lambda made: judge.bracket_examples(made)
    )
    return decision.value is None


def _where(own: _Search) -> search.Space:
    """The space of recipes around the bracket; where there is none, around the rates that the lecture tries."""
    value = next((each.value for each in own.made if each.name == "learning-rate"), None)
    low, high = (value["low"], value["high"]) if value else (own.base.lr, own.base.lr)
    if not value and "lr" not in own.search.fixed:
        low, high = 1e-3, 1e-1
    return search.space(own.base, own.final_steps, low, high, own.search.fixed)


def _coarse(own: _Search, where: search.Space) -> Generator[Progress, None, None]:
    """Step 4: complete small runs over the whole space."""
    granted = COARSE_SHARE * own.ledger.left
    least = max(LEAST_SHARE, LEAST_STEPS / own.final_steps)
    everything = len(where.candidates) > 1
    if granted < 2 * least or not everything:
        own.left_out("step 4, the coarse grid: nothing is free, or the budget does not allow two short runs")
        return
    wide = granted >= WIDE * 2 * least
    if not wide:
        where = search.only_rates(where)
    count = WIDE if wide else NARROW
    share = min(1.0, granted / count)
    if share < least:
        share, count = least, int(granted / least)
    count = max(2, min(int(granted / share + 1e-9), 4 * WIDE)) if share >= 1 else count
    points = search.coarse_grid(where, count)
    trials = [_trial(own, where, "coarse-grid", point, share) for point in points]

    def make() -> Generator[Progress, None, tuple[Decision, list[Tried]]]:
        found = yield from trying(own.task, trials, own.journal, own.engine)
        return judge.coarse(found, own.validation_examples, own.base.batch_size), found

    yield from own.booked(make)


def _refined(own: _Search, where: search.Space) -> Generator[Progress, None, search.Choice]:
    """Step 5, and 7: rounds of narrower and longer runs, as long as they can be paid for and change anything."""
    if not any(each.finished for each in own.tried):
        return _unsearched(own, where)
    choice = search.choose(own.tried, where, own.validation_examples)
    longest = max(each.trial.share for each in own.tried)
    for number in range(1, MOST_ROUNDS + 1):
        left = own.ledger.left
        share = min(1.0, left / REFINED) if left < 2 * REFINED else 1.0
        count = max(0, int(left / share + 1e-9)) if share < 1 else min(max(REFINED, int(left / 2)), 8)
        if share < longest or count < REFINED:
            share, count = longest, int(left / longest)
        if count < 1:
            break
        inside = search.without_momentum(where) if choice.momentum_open else where
        points = search.next_points(own.tried, inside, count, share, own.validation_examples, number=number)
        trials = [_trial(own, where, "refine", point, share) for point in points]
        if share == 1.0 and number > 1 and left >= 2 * SEEDS:  # the best ones again, to tell luck from worth
            best = search.promising(own.tried, where, 2, own.validation_examples)
            trials += [trial_of("refine", own.base, recipe, seed, 1.0) for recipe in best for seed in (1, 2)]
            trials = trials[: max(1, int(left))]
        if not trials:
            break
        before = choice

        def make(trials: Any = trials, number: int = number, before: Any = before) -> Any:
            found = yield from trying(own.task, trials, own.journal, own.engine)
            now = search.choose([*own.tried, *found], where, own.validation_examples)
            return judge.refined(number, before, now, found, own.tried, own.validation_examples), found

        yield from own.booked(make)
        choice = search.choose(own.tried, where, own.validation_examples)
        longest = max(longest, share)
        if share == 1.0 and number > 1 and before.error - choice.error < SETTLED and before.recipe == choice.recipe:
            break
    if longest < 1:
        own.left_out(
            f"a run of the final length: the longest trial was {longest:.0%} of it, and the rate is extrapolated"
        )
    if choice.decay_open or choice.momentum_open:
        kept = {"weight decay": (choice.decay_open, choice.recipe.weight_decay),
                "momentum": (choice.momentum_open, choice.recipe.momentum)}  # fmt: skip
        for name, (is_open, value) in kept.items():
            if is_open:
                own.left_out(f"other values of {name} than {value:g}")
    return choice


def _unsearched(own: _Search, where: search.Space) -> search.Choice:
    """The choice where no trial was made: the middle of the bracket, with everything else as it was."""
    value = next((each.value for each in own.made if each.name == "learning-rate"), None)
    lr = value["lr"] if value else own.base.lr
    point = search.usual(where, lr / (1 - own.base.momentum))
    recipe = where.recipe(point, 1.0)
    low, high = (value["low"], value["high"]) if value else (lr, lr)
    return search.Choice(point, recipe, math.nan, math.nan, low, high, (recipe,), False, True, True)


def _trial(own: _Search, where: search.Space, stage: str, point: search.Point, share: float) -> Trial:
    return trial_of(stage, own.base, where.recipe(point, share), 0, share)


def _schedule(own: _Search, recipe: Recipe) -> Generator[Progress, None, Recipe]:
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

    def make() -> Generator[Progress, None, tuple[Decision, list[Tried]]]:
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
