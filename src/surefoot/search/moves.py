"""A search is a value: the next move is a function of what is asked for and of what has come of the moves so far.

    while not isinstance(move := next_move(request, journal.history), Done):
        ...  # carry it out, and keep in the journal what comes of it

`next_move` goes through the procedure from its beginning. Where the history has what a step came to, it takes that; at
the first step that it lacks, it stops and asks for it. So a search goes on by being asked again, here or elsewhere, and
invented histories test it in milliseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from surefoot.config import Recipe, Schedule, ScheduleKind
from surefoot.errors import CheckpointError, ConfigError
from surefoot.optim.plan import plan
from surefoot.record.decision import Decision
from surefoot.record.trial import Trial, TrialResult
from surefoot.search import decide
from surefoot.search.budget import FinalRun, Ledger, Request, final_run
from surefoot.search.choose import Choice, choose, next_points, promising
from surefoot.search.journal import History
from surefoot.search.space import Space, coarse_grid, only_rates, space_around, trial_of, usual, without_momentum
from surefoot.settings import from_dict

BRACKET_SHARE = 0.1
"""Share of what is left that step 3 may cost. Chosen by hand: it only has to tell the coarse grid where to look."""
BRACKET_RUNS = 9
"""Runs of the shortest form of step 3: seven half decades, and about two more where the grid is widened."""
BATCH_SHARE = 0.15
"""Share of what is left that choosing the batch size may cost. Chosen by hand."""
_BATCH_STEPS = 200
"""Updates of the run along which noise is measured; measuring, timing and at most two races take as long each."""
COARSE_SHARE = 0.45
"""Share of what is then left that the coarse grid may cost. Chosen by hand: about half to look around."""
WIDE, NARROW = 12, 5
"""Members of a coarse grid over rate, decay and momentum; of one over rates alone, where no more can be paid for."""
TELLING_SHARE = 0.5
"""Shortest runs that say which weight decay or momentum is better. On digits with flipped labels runs of a quarter of
the length preferred a tenth of the decay that was best at the end, since nothing is learned by heart in so short a time
(docs/log.md, "Regret at two trainings, halved")."""
LEAST_SHARE = 1 / 16
LEAST_STEPS = 10
"""Shorter runs say nothing of longer ones. Chosen by hand."""
REFINED = 3
"""Members of a round of refinement: fewer do not enclose a best rate."""
MOST_ROUNDS = 6
SETTLED = 0.01
"""A round that lowers the expected log error by less than this was the last. Chosen by hand: 1 % of the errors."""
SEEDS = 3
"""Repetitions of the best recipes where they are close and it can be paid for."""
SCHEDULES: tuple[ScheduleKind, ...] = ("linear", "cosine", "wsd", "step")
RESERVED_FROM = 6.0
"""Final trainings that must be left for some of them to be kept for comparing schedules. Chosen by hand: half as many
again as that takes."""

CheckName = Literal["wiring", "initial-loss", "overfit-sample"]


@dataclass(frozen=True)
class TimeStep:
    """Time a training step of this recipe, for a budget in time."""

    recipe: Recipe


@dataclass(frozen=True)
class Check:
    """Do step 0, 1 or 2.

    Attributes:
        name: of its decision.
        recipe: to be trained with later.
        most_examples: that it may cost.
    """

    name: CheckName
    recipe: Recipe
    most_examples: int


@dataclass(frozen=True)
class BracketRates:
    """Do step 3: short runs of a recipe at constant rates.

    Attributes:
        recipe: all but its rate.
        points_per_decade, steps, seeds: rates per factor of 10, updates of each run, repetitions.
    """

    recipe: Recipe
    points_per_decade: int
    steps: int
    seeds: int


@dataclass(frozen=True)
class ChooseBatchSize:
    """Choose the batch size by predicted time to a loss.

    Attributes:
        recipe: with a rate that trains.
        probe_steps: updates of the run along which noise is measured.
    """

    recipe: Recipe
    probe_steps: int


@dataclass(frozen=True)
class Train:
    """Train those of these trials that the history lacks. Stage: the name of the decision that follows."""

    stage: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Conclude:
    """Keep a decision from trials that have ended. Its seconds are those of the trials."""

    decision: Decision


@dataclass(frozen=True)
class Done:
    """The end of a search.

    Attributes:
        recipe: chosen, with its length; None where a step failed.
        unchecked: what the budget did not allow, a sentence each.
    """

    recipe: Recipe | None
    unchecked: tuple[str, ...] = ()


Measurement = Check | BracketRates | ChooseBatchSize
"""Each comes to a decision."""
Move = TimeStep | Measurement | Train | Conclude


def next_move(request: Request, history: History) -> Move | Done:
    """Return what is to be done next.

    Args:
        request: what is searched for.
        history: what has come of the moves so far; all that is missing is asked for again.

    Raises:
        ConfigError: the final training alone takes longer than the budget.
        CheckpointError: the history is not that of this request.
    """
    at: _Point | Move | Done = _Point(request, history)
    for step in (_timed, _checked, _bracketed, _batch_sized, _explored, _refined, _scheduled):
        at = step(at)
        if not isinstance(at, _Point):
            return at
    assert at.recipe is not None
    return Done(dataclasses.replace(at.recipe, ema_decay=request.base.ema_decay), at.unchecked)


@dataclass(frozen=True)
class _Point:
    """A point of the procedure that the history has come to.

    Attributes:
        request, history: as given.
        passed: how many decisions of the history lie behind this point.
        results: of the trials until here, each once.
        unchecked: what was left out until here, a sentence each.
        recipe: chosen by step 5.
    """

    request: Request
    history: History
    passed: int = 0
    results: tuple[TrialResult, ...] = ()
    unchecked: tuple[str, ...] = ()
    recipe: Recipe | None = None

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        return self.history.decisions[: self.passed]

    @cached_property
    def final(self) -> FinalRun:
        return final_run(self.request, self.decisions, self.history.timings)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.request.terms.budget, self.final, self.decisions)

    @cached_property
    def space(self) -> Space:
        """The recipes around the bracket; where there is none, around the rates that the lecture tries."""
        value, fixed, base = self.value_of("learning-rate"), self.request.terms.fixed, self.final.recipe
        low, high = (value["low"], value["high"]) if value else (1e-3, 1e-1) if "lr" not in fixed else (base.lr,) * 2
        return space_around(base, self.final.steps, low, high, fixed)

    def value_of(self, name: str) -> dict[str, Any] | None:
        """Return the newest value that the step of this name chose; None where it chose none."""
        return next((decision.value for decision in reversed(self.decisions) if decision.name == name), None)

    def fails(self) -> bool:
        """Whether the last decision ends the search."""
        return self.decisions[-1].verdict == "fail" and not self.request.terms.force

    def after(self, name: str) -> _Point | None:
        """Return the point after the next decision, which must have this name; None where it is not made yet."""
        if self.passed == len(self.history.decisions):
            return None
        decision = self.history.decisions[self.passed]
        if decision.name != name:
            raise CheckpointError(
                f"decision {self.passed + 1} of the search is '{decision.name}', where it comes to '{name}'",
                "a search goes on with the decisions that it made", "restore them, or choose another name",
            )  # fmt: skip
        members = [self.history.results[key] for key in decision.evidence.get("members", ())]
        return dataclasses.replace(self, passed=self.passed + 1, results=(*self.results, *self.new(members)))

    def new(self, results: Sequence[TrialResult]) -> list[TrialResult]:
        """Return those results that no earlier step has come to."""
        earlier = {result.trial.key for result in self.results}
        return [result for result in results if result.trial.key not in earlier]

    def without(self, text: str) -> _Point:
        """Return the point after a step that the budget does not allow."""
        return dataclasses.replace(self, unchecked=(*self.unchecked, text))

    def came_to(self, trials: Sequence[Trial]) -> list[TrialResult] | None:
        """Return what came of these trials; None where one has not ended."""
        results = self.history.results
        if any(trial.key not in results for trial in trials):
            return None
        return [dataclasses.replace(results[trial.key], trial=trial) for trial in trials]

    def conclude(self, decision: Decision, results: Sequence[TrialResult]) -> Conclude:
        """Return that a decision from these results is to be kept, with what it cost: each trial is paid for once."""
        new = {result.trial.key: result for result in self.new(results)}.values()
        evidence = {**decision.evidence, "cost_examples": sum(result.examples for result in new)}
        seconds = sum(result.seconds for result in new)
        return Conclude(dataclasses.replace(decision, evidence=evidence, seconds=seconds))


def _timed(at: _Point) -> _Point | Move:
    """How long the final training takes; it must fit into a budget of time."""
    final, budget = at.final, at.request.terms.budget
    if final.seconds is None:
        return TimeStep(final.recipe)
    if budget.seconds is not None and final.seconds > budget.seconds:
        length = f"{final.steps / (at.request.examples // final.batch_size):.3g} epochs"
        raise ConfigError(
            f"budget = {budget} for a final training of {length} on {at.request.device}",
            f"that training alone takes about {final.seconds:.0f} s",
            "give a larger budget, fewer epochs or less data",
        )
    return at


_CHECKS: tuple[tuple[CheckName, str, float], ...] = (
    ("wiring", "step 0, wiring", 0.1),
    ("initial-loss", "step 1, initial loss", 1.0),
    ("overfit-sample", "step 2, overfitting a small sample", 0.15),
)
"""Steps 0 to 2: name, words, and the share of what is left that each may cost; it is left out where it takes more. By
hand: a quarter for step 0 took the rates of a search of two trainings a fifth of their runs."""


def _checked(at: _Point) -> _Point | Move | Done:
    """Steps 0 to 2, as far as the budget allows."""
    for name, words, share in _CHECKS:
        granted = share * at.ledger.left * at.final.examples
        if at.request.check_examples[name] > granted:
            at = at.without(f"{words}: too large a part of this budget; surefoot check does it")
            continue
        after = at.after(name)
        if after is None:
            return Check(name, at.final.recipe, int(granted))
        at = after
        if at.fails():
            return Done(None, at.unchecked)
    return at


def _bracketed(at: _Point) -> _Point | Move | Done:
    """Step 3. It fails where no rate works."""
    after = _bracket(at)
    if isinstance(after, _Point) and after.passed > at.passed and after.decisions[-1].value is None:
        return after if at.request.terms.force else Done(None, after.unchecked)
    return after


def _bracket(at: _Point) -> _Point | Move:
    """Step 3, as thoroughly as can be paid for."""
    if "lr" in at.request.terms.fixed:
        return at.without("step 3, the bracket of learning rates: the rate is fixed")
    base = at.final.recipe
    affordable = BRACKET_SHARE * at.ledger.left * at.final.examples / at.final.batch_size
    points, steps, seeds = bracket_size(affordable, at.final.steps)
    if BRACKET_RUNS * steps > 2 * affordable:
        return at.without(
            "step 3, the bracket of learning rates: too large a part of this budget; surefoot find-lr does it"
        )
    recipe = dataclasses.replace(base, schedule=Schedule(kind="constant"))
    return at.after("learning-rate") or BracketRates(recipe, points, steps, seeds)


def bracket_size(affordable_steps: float, final_steps: int) -> tuple[int, int, int]:
    """Return how thorough step 3 can be: rates per decade, updates of each run, repetitions.

    Args:
        affordable_steps: updates that it may cost.
        final_steps: of the final run; no short run is longer than an eighth of it.

    >>> bracket_size(5000, 10_000), bracket_size(300, 400)
    ((4, 100, 3), (2, 33, 1))
    """
    longest = max(10, min(decide.FULL_STEPS, final_steps // 8))
    for points, seeds, runs in ((4, 3, 31), (4, 1, 15), (3, 1, 12)):
        if affordable_steps >= runs * longest and longest == decide.FULL_STEPS:
            return points, longest, seeds
    return 2, max(10, min(longest, int(affordable_steps / BRACKET_RUNS))), 1


def _batch_sized(at: _Point) -> _Point | Move:
    """The batch size by predicted time to a loss, where time is the budget and it is free.

    It needs a rate that trains, so it comes after a first bracket, which is measured anew where the batch changes.
    """
    base, final = at.final.recipe, at.final
    if "batch_size" in at.request.terms.fixed:
        return at
    if at.request.exact:
        return at.without(f"the batch size: {base.batch_size} stands; only a budget in time has it chosen")
    assert final.seconds is not None
    value, step = at.value_of("learning-rate"), final.seconds / max(1, final.steps)
    if value is None or 5 * _BATCH_STEPS * step > BATCH_SHARE * at.ledger.left * final.seconds:
        return at.without(
            "the batch size: measuring the noise would take too large a part of this budget; "
            f"{base.batch_size} stands"
        )  # fmt: skip
    after = at.after("batch-size")
    if after is None:
        return ChooseBatchSize(dataclasses.replace(base, lr=value["low"]), _BATCH_STEPS)
    if after.final.recipe.batch_size == base.batch_size:
        return after
    return _bracket(after) if after.final.seconds is not None else TimeStep(after.final.recipe)


def _explored(at: _Point) -> _Point | Move | Done:
    """Step 4, a coarse grid of complete small runs.

    They cover rate, decay and momentum where the runs are long enough to tell decays apart, and else the rates alone.
    """
    where, granted = at.space, COARSE_SHARE * at.ledger.left
    least = max(LEAST_SHARE, LEAST_STEPS / at.final.steps)
    if granted < 2 * least or len(where.candidates) == 1:
        return at.without("step 4, the coarse grid: nothing is free, or the budget does not allow two short runs")
    after = at.after("coarse-grid")
    if after is not None:
        return Done(None, after.unchecked) if after.fails() else after
    wide = granted >= WIDE * max(2 * least, TELLING_SHARE)
    if not wide and not where.fixed_rate:
        where = only_rates(where)
    count = WIDE if wide else NARROW
    share = min(1.0, granted / count)
    if share < least:
        share, count = least, int(granted / least)
    count = max(2, min(int(granted / share + 1e-9), 4 * WIDE)) if share >= 1 else count
    base = at.final.recipe
    trials = [trial_of("coarse-grid", base, where.recipe(point, share), 0, share)
              for point in coarse_grid(where, count)]  # fmt: skip
    results = at.came_to(trials)
    if results is None:
        return Train("coarse-grid", tuple(trials))
    made = decide.coarse(results, at.request.validation_examples, _initial_loss(at))
    return at.conclude(made, results)


def _initial_loss(at: _Point) -> float | None:
    """Return the loss before training, as step 3 or else step 1 saw it; None where neither ran."""
    evidence = {decision.name: decision.evidence for decision in at.decisions}
    if "learning-rate" in evidence:
        losses = evidence["learning-rate"]["initial_losses"]
        return sum(losses) / len(losses)
    return evidence["initial-loss"].get("loss") if "initial-loss" in evidence else None


def _refined(at: _Point) -> _Point | Move:
    """Step 5, rounds of narrower grids and longer runs, as long as they can be paid for and change anything."""
    where, examples = at.space, at.request.validation_examples
    if not any(result.finished for result in at.results):
        return _with_recipe(at, _unsearched(at))
    choice = choose(at.results, where, examples)
    longest = max(result.trial.share for result in at.results)
    reserved = _reserved(at)
    for number in range(1, MOST_ROUNDS + 1):
        left = at.ledger.left - reserved
        share, count = _round_size(left, longest)
        trials = _round(at, choice, number, left, share, count) if count else []
        if not trials:
            break
        after = at.after("refine")
        if after is None:
            results = at.came_to(trials)
            if results is None:
                return Train("refine", tuple(trials))
            now = choose((*at.results, *results), where, examples)
            return at.conclude(decide.refined(number, choice, now, results), results)
        earlier, choice = choice, choose(after.results, where, examples)
        at, longest = after, max(longest, share)
        settled = earlier.error - choice.error < SETTLED and earlier.recipe == choice.recipe
        if share == 1.0 and number > 1 and settled:
            break
    if longest < 1:
        at = at.without(
            f"a run of the final length: the longest trial was {longest:.0%} of it, and the rate is extrapolated"
        )
    if choice.decay_open:
        at = at.without(f"other values of weight decay than {choice.recipe.weight_decay:g}")
    if choice.momentum_open:
        at = at.without(f"other values of momentum than {choice.recipe.momentum:g}")
    return _with_recipe(at, choice.recipe)


def _round_size(left: float, longest: float) -> tuple[float, int]:
    """Return how long the runs of the next round are, as a share of the final one's, and how many; 0 ends step 5.

    Args:
        left: final trainings that may be spent.
        longest: share of the longest trial so far.
    """
    if left <= 0:
        return 1.0, 0
    share = min(1.0, left / REFINED) if left < 2 * REFINED else 1.0
    count = max(0, int(left / share + 1e-9)) if share < 1 else min(max(REFINED, int(left / 2)), 8)
    return (longest, int(left / longest)) if share < longest or count < REFINED else (share, count)


def _round(at: _Point, choice: Choice, number: int, left: float, share: float, count: int) -> list[Trial]:
    """Return the trials of a round of step 5."""
    where, base, examples = at.space, at.final.recipe, at.request.validation_examples
    inside = without_momentum(where) if choice.momentum_open else where
    if share < TELLING_SHARE and not where.fixed_rate:
        inside = only_rates(where)
    points = next_points(at.results, inside, count, share, examples, number=number)
    trials = [trial_of("refine", base, where.recipe(point, share), 0, share) for point in points]
    if share == 1.0 and number > 1 and left >= 2 * SEEDS:  # the best ones again, to tell luck from worth
        best = promising(at.results, where, 2, examples)
        trials += [trial_of("refine", base, recipe, seed, 1.0) for recipe in best for seed in (1, 2)]
        trials = trials[: max(1, int(left))]
    return trials


def _unsearched(at: _Point) -> Recipe:
    """The recipe where no trial was made: the middle of the bracket, with everything else as it was."""
    value, base = at.value_of("learning-rate"), at.final.recipe
    return at.space.recipe(usual(at.space, (value["lr"] if value else base.lr) / (1 - base.momentum)), 1.0)


def _with_recipe(at: _Point, recipe: Recipe) -> _Point:
    """Return the point after step 5, its recipe's length as that of the base is given."""
    base = at.final.recipe
    return dataclasses.replace(at, recipe=dataclasses.replace(recipe, epochs=base.epochs, steps=base.steps))


def _reserved(at: _Point) -> float:
    """Return how many final trainings are kept back for comparing schedules: one for each, where there are plenty."""
    free = "schedule" not in at.request.terms.fixed and at.final.recipe.schedule.kind != "preset"
    # A little more, since the runs before have whole steps.
    return len(SCHEDULES) + 0.1 if free and at.ledger.left >= RESERVED_FROM else 0.0


def _scheduled(at: _Point) -> _Point | Move:
    """The other shapes of the schedule at the final length with the chosen recipe, on the same batches."""
    recipe, steps = at.recipe, at.final.steps
    assert recipe is not None
    if "schedule" in at.request.terms.fixed or recipe.schedule.kind == "preset":
        return at
    shapes = [_shaped(recipe, kind, steps, at.request.examples)
              for kind in SCHEDULES if kind != recipe.schedule.kind]  # fmt: skip
    trials = [trial_of("schedule", shape, dataclasses.replace(shape, epochs=None, steps=steps), 0, 1.0)
              for shape in (recipe, *shapes)]  # fmt: skip
    present_is_new = trials[0].key not in {result.trial.key for result in at.results}
    if at.ledger.left < len(shapes) + present_is_new:
        return at.without(
            f"other schedules than {recipe.schedule.kind}: the budget did not allow "
            f"{len(shapes)} more runs of the final length"
        )
    after = at.after("schedule")
    if after is None:
        results = at.came_to(trials)
        if results is None:
            return Train("schedule", tuple(trials))
        return at.conclude(decide.schedule(results, at.request.validation_examples), results)
    value = after.decisions[-1].value
    assert value is not None
    chosen = dataclasses.replace(recipe, schedule=from_dict(Schedule, value["schedule"]))
    return dataclasses.replace(after, recipe=chosen)


def _shaped(recipe: Recipe, kind: ScheduleKind, steps: int, examples: int) -> Recipe:
    """Return the recipe with another shape, its warmup kept; step drops at a half and three quarters, as published
    schedules for CIFAR-10 do (He et al. 2015, arXiv 1512.03385, section 4.2: 32k and 48k of 64k iterations).
    """
    epochs = steps / (examples // plan(recipe, examples).batch_size)
    old = recipe.schedule
    more: dict[str, Any] = {"milestones_epochs": (epochs / 2, epochs * 3 / 4)} if kind == "step" else {}
    schedule = Schedule(kind=kind, warmup_epochs=old.warmup_epochs, warmup_start=old.warmup_start, **more)
    return dataclasses.replace(recipe, schedule=schedule)
