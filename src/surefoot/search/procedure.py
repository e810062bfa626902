"""A search is a value: the next move is a function of what is asked for and of what has come of the moves so far.

    while not isinstance(move := next_move(request, journal.history), Done):
        ...  # carry it out, and keep in the journal what comes of it

`next_move` goes through the procedure from its beginning. Where the history has what a step came to, it takes that; at
the first step that it lacks, it stops and asks for it. So a search goes on by being asked again, here or elsewhere, and
invented histories test it in milliseconds.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from surefoot.config import Recipe, Schedule, ScheduleKind
from surefoot.errors import ConfigError
from surefoot.record.trial import Trial
from surefoot.search import decide
from surefoot.search.budget import Request
from surefoot.search.choose import Proposal, choose, propose
from surefoot.search.journal import History
from surefoot.search.moves import BracketRates, Check, CheckName, ChooseBatchSize, Done, Move, Standing, TimeStep, Train
from surefoot.search.space import trial_of
from surefoot.settings import from_dict

CHECK_SHARE: dict[CheckName, float] = {"wiring": 0.1, "initial-loss": 0.1, "overfit-sample": 0.15}
"""Shares of what is left that these steps may cost, in training examples. A step is left out where its smallest form
costs more; else it ends before it would. By hand: a quarter for step 0 took the rates of a search of two trainings a
fifth of their runs."""
BRACKET_SHARE, MOST_BRACKET_SHARE = 0.1, 0.2
"""Shares of what is left: step 3 is planned for the first, and may cost the second where the search is small or the
grid is widened. Chosen by hand: it only has to tell the coarse grid where to look."""
BRACKET_RUNS = 9
"""Runs of the shortest form of step 3: seven half decades, and about two more where the grid is widened."""
BATCH_SHARE = 0.15
"""Share of what is left that choosing the batch size may cost. Chosen by hand."""
_BATCH_STEPS = 200
"""Updates of the run along which noise is measured; measuring, timing and at most two races take as long each."""
LEAST_SHARE = 1 / 16
LEAST_STEPS = 10
"""Shorter runs say nothing of longer ones. Chosen by hand."""
LOWEST, HIGHEST = 16.0, 8.0
"""Runs of the first length, and of the longest, that what is left would pay for, were it spent on one of them alone."""
RUNGS_SHARE = 0.5
"""Share of what is left that goes to runs under the final length, where some of that can be paid for."""
MOST_TRIALS = 160
"""Of a search: the response is computed from all in a tenth of a second."""
MOST_AT_ONCE = 8
"""Runs of the final length that are chosen together at most."""
PER_ROUND = 4.0
"""Rounds in which what is left for runs of the final length is spent, if they are not too large."""
SCHEDULES: tuple[ScheduleKind, ...] = ("linear", "cosine", "wsd", "step")
RESERVED_FROM = 12.0
"""Final trainings that must be left for some of them to be kept for comparing schedules: a third of these, then."""
SETTLED = 0.002
"""The search ends where no run is expected to lower the log error of its answer by as much. Chosen by hand: 0.2 % of
the errors."""


def next_move(request: Request, history: History) -> Move | Done:
    """Return what is to be done next.

    Args:
        request: what is searched for.
        history: what has come of the moves so far; all that is missing is asked for again.

    Raises:
        ConfigError: the final training alone takes longer than the budget.
        CheckpointError: the history is not that of this request.
    """
    at: Standing | Move | Done = Standing(request, history)
    for step in (_timed, _checked, _bracketed, _batch_sized, _searched, _scheduled):
        at = step(at)
        if not isinstance(at, Standing):
            return at
    assert at.recipe is not None
    base = at.final.recipe
    return Done(dataclasses.replace(at.recipe, epochs=base.epochs, steps=base.steps), at.unchecked)


def _timed(at: Standing) -> Standing | Move:
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


def _checked(at: Standing) -> Standing | Move | Done:
    """Steps 0 to 2, as far as the budget allows."""
    words: dict[CheckName, str] = {
        "wiring": "step 0, wiring", "initial-loss": "step 1, initial loss",
        "overfit-sample": "step 2, overfitting a small sample",
    }  # fmt: skip
    for name, share in CHECK_SHARE.items():
        granted = max(0, int(share * at.ledger.left * at.final.examples))
        if at.request.check_examples[name] > granted:
            at = at.without(f"{words[name]}: too large a part of this budget; surefoot check does it")
            continue
        after = at.after(name)
        if after is None:
            return Check(name, at.final.recipe, granted)
        at = after
        if at.fails():
            return Done(None, at.unchecked)
        decision = at.decisions[-1]
        if name == "wiring" and decision.verdict != "fail" and "dependence" not in decision.evidence:
            at = at.without(
                f"{words[name]}, whether labels depend on inputs: too large a part of this budget; surefoot check "
                "does it"
            )  # fmt: skip
        if any(finding.name == "unfinished" for finding in decision.findings):
            at = at.without(f"{words[name]}: not decided within its part of this budget; surefoot check does it")
    return at


def _bracketed(at: Standing) -> Standing | Move | Done:
    """Step 3. It fails where no rate works."""
    after = _bracket(at)
    if isinstance(after, Standing) and after.passed > at.passed and after.decisions[-1].value is None:
        return after if at.request.terms.force else Done(None, after.unchecked)
    return after


def _bracket(at: Standing) -> Standing | Move:
    """Step 3, as thoroughly as can be paid for."""
    if "lr" in at.request.terms.fixed:
        return at.without("step 3, the bracket of learning rates: the rate is fixed")
    base = at.final.recipe
    left = at.ledger.left * at.final.examples / at.final.batch_size
    points, steps, seeds = bracket_size(BRACKET_SHARE * left, at.final.steps)
    if BRACKET_RUNS * steps > MOST_BRACKET_SHARE * left:
        return at.without(
            "step 3, the bracket of learning rates: too large a part of this budget; surefoot find-lr does it"
        )
    recipe = dataclasses.replace(base, schedule=Schedule(kind="constant"))
    return at.after("learning-rate") or BracketRates(recipe, points, steps, seeds, int(MOST_BRACKET_SHARE * left))


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


def _batch_sized(at: Standing) -> Standing | Move:
    """The batch size by predicted time to a loss, where time is the budget and it is free.

    It needs a rate that trains, so it comes after a first bracket, which is measured anew where the batch changes.
    """
    base, final = at.final.recipe, at.final
    if "batch_size" in at.request.terms.fixed:
        return at
    if at.request.exact:
        return at  # it is an axis of the space: each costs the same
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


@dataclass(frozen=True)
class Rung:
    """Runs of one length.

    Attributes:
        share: of the final length; count: how many.
    """

    share: float
    count: int


def rungs(budget: float, least: float) -> list[Rung]:
    """Return the lengths of runs that a search goes through, with how many of each: each twice as long as the one
    before, at the same price together (Jamieson & Talwalkar 2016, arXiv 1502.07943). What is left of the budget is for
    runs of the final length.

    Args:
        budget: in final trainings.
        least: shortest share of the final length.

    >>> [(rung.share, rung.count) for rung in rungs(2, 1 / 16)]
    [(0.125, 8), (0.25, 4)]
    """
    highest = max(least, min(1.0, budget / HIGHEST))
    lowest = max(least, min(highest, budget / LOWEST))
    shares = [lowest]
    while shares[-1] < highest - 1e-9:
        shares.append(min(highest, 2 * shares[-1]))
    short = [share for share in shares if share < 1]
    granted = budget * (RUNGS_SHARE if highest == 1 else 1.0)
    made, spent = list[Rung](), 0.0
    for number, share in enumerate(short, 1):
        count = max(1, int((granted * number / len(short) - spent) / share + 1e-9))
        if spent + count * share <= budget:
            made.append(Rung(share, count))
            spent += count * share
    return made


def _searched(at: Standing) -> Standing | Move | Done:
    """Steps 4 and 5: rounds of runs that grow longer, each with those recipes that promise most."""
    where, base, examples = at.space, at.final.recipe, at.request.validation_examples
    least = max(LEAST_SHARE, LEAST_STEPS / at.final.steps)
    reserved = _reserved(at)
    whole = at.ledger.left - reserved
    if whole < 2 * least or (where.fixed_rate and not where.axes):
        at = at.without("step 4, the coarse grid: nothing is free, or the budget does not allow two short runs")
        return dataclasses.replace(at, recipe=_untried(at))
    plan = [rung for rung in rungs(whole, least) if rung.share >= least]
    number = 0
    while True:
        name = "refine" if number else "coarse-grid"
        if number and at.comes_to("schedule"):
            break
        after = at.after(name)
        if after is None:
            share, count = _next_round(plan, number, at.ledger.left - reserved)
            count = min(count, MOST_TRIALS - len(at.results))
            proposed = propose(at.results, where, count, share, examples) if count > 0 else []
            if number and proposed and share == 1:
                proposed = [each for each in proposed if each.gain >= SETTLED]
            trials = _not_yet_made(at, name, proposed, share)
            if not trials:
                break
            results = at.came_to(trials)
            if results is None:
                return Train(name, tuple(trials))
            if not number:
                return at.conclude(decide.coarse(results, examples, _initial_loss(at)), results)
            earlier, now = (choose(each, where, examples) for each in (at.results, (*at.results, *at.new(results))))
            bracket = next((made for made in reversed(at.decisions) if made.name == "learning-rate"), None)
            return at.conclude(decide.refined(number, earlier, now, results, bracket), results)
        at, number = after, number + 1
        if at.fails():
            return Done(None, at.unchecked)
        if not any(result.finished for result in at.results):
            return dataclasses.replace(at, recipe=_untried(at))
    choice, longest = choose(at.results, where, examples), max(result.trial.share for result in at.results)
    if longest < 1:
        at = at.without(
            f"a run of the final length: the longest trial was {longest:.0%} of it, and the rate is extrapolated"
        )
    if not base.update_rule.decays and "weight_decay" not in at.request.terms.fixed:
        at = at.without(f"weight decay: that of {base.rule} is coupled to the gradients; adamw's is searched")
    for name in choice.open:
        at = at.without(f"other values of {name.replace('_', ' ')} than {getattr(choice.recipe, name)}")
    return dataclasses.replace(at, recipe=choice.recipe)


def _not_yet_made(at: Standing, name: str, proposed: Sequence[Proposal], share: float) -> list[Trial]:
    """Return the trials of these proposals, each a training that no earlier one was: else a round could cost nothing,
    and another follow it for ever. A recipe's digits are rounded, so two points may be one recipe; of complete runs it
    is done with the next seed, of shorter ones it is left out.
    """
    made = {result.trial.key for result in at.results}
    trials: list[Trial] = []
    for each in proposed:
        recipe = at.space.recipe(each.point, share)
        seeds = itertools.count(each.seed) if share == 1 else (each.seed,)
        candidates = (trial_of(name, at.final.recipe, recipe, seed, share) for seed in seeds)
        trial = next((one for one in candidates if one.key not in made), None)
        if trial is not None:
            made.add(trial.key)
            trials.append(trial)
    return trials


def _next_round(plan: list[Rung], number: int, left: float) -> tuple[float, int]:
    """Return how long the runs of a round are, as a share of the final one's, and how many; 0 ends the search."""
    if number < len(plan):
        rung = plan[number]
        return rung.share, min(rung.count, int(left / rung.share + 1e-9))
    if left >= 1:
        return 1.0, min(int(left + 1e-9), MOST_AT_ONCE, max(1, round(left / PER_ROUND)))
    return 1.0, 0


def _untried(at: Standing) -> Recipe:
    """Return the recipe that stands where nothing was tried: the middle of the bracket, all else as it was."""
    value, base, where = at.value_of("learning-rate"), at.final.recipe, at.space
    rate = (value["lr"] if value else base.lr) / base.update_rule.per_rate(base.rule_values)
    recipe = where.recipe(where.default._replace(rate=rate), 1.0)
    if value is None and "lr" in at.request.terms.given:
        recipe = dataclasses.replace(recipe, lr=base.lr)  # as it was given, to its last digit
    return recipe


def _initial_loss(at: Standing) -> float | None:
    """Return the loss before training, as step 3 or else step 1 saw it; None where neither ran."""
    evidence = {decision.name: decision.evidence for decision in at.decisions}
    if "learning-rate" in evidence:
        losses = evidence["learning-rate"]["initial_losses"]
        return sum(losses) / len(losses)
    return evidence["initial-loss"].get("loss") if "initial-loss" in evidence else None


def _reserved(at: Standing) -> float:
    """Return how many final trainings are kept back for comparing schedules: one for each, where there are plenty."""
    free = "schedule" not in at.request.terms.fixed and at.final.recipe.schedule.kind != "preset"
    # A little more, since the runs before have whole steps.
    return len(SCHEDULES) + 0.1 if free and at.ledger.left >= RESERVED_FROM else 0.0


def _scheduled(at: Standing) -> Standing | Move:
    """The other shapes of the schedule at the final length with the chosen recipe, on the same batches."""
    recipe = at.recipe
    assert recipe is not None
    present = recipe.schedule.kind
    if "schedule" in at.request.terms.fixed or present == "preset":
        return at
    epochs = at.final.steps / (at.request.examples // at.final.batch_size)
    others = [_shaped(recipe, kind, epochs) for kind in SCHEDULES if kind != present]
    trials = [trial_of("schedule", shape, shape, 0, 1.0) for shape in (recipe, *others)]
    present_is_new = trials[0].key not in {result.trial.key for result in at.results}
    if not decide.seed_noise(at.results, at.request.validation_examples)[1]:
        # Without repetitions no difference can be shown.
        again = [trial_of("schedule", recipe, recipe, seed, 1.0) for seed in (1, 2)]
        trials += again[: max(0, int(at.ledger.left) - len(others) - present_is_new)]
    if at.ledger.left < len(others) + present_is_new:
        return at.without(
            f"other schedules than {present}: the budget did not allow {len(others)} more runs of the final length"
        )
    after = at.after("schedule")
    if after is None:
        results = at.came_to(trials)
        if results is None:
            return Train("schedule", tuple(trials))
        return at.conclude(decide.schedule(results, at.request.validation_examples, at.results), results)
    value = after.decisions[-1].value
    assert value is not None
    chosen = dataclasses.replace(recipe, schedule=from_dict(Schedule, value["schedule"]))
    return dataclasses.replace(after, recipe=chosen)


def _shaped(recipe: Recipe, kind: ScheduleKind, epochs: float) -> Recipe:
    """Return the recipe with another shape, its warmup kept; step drops at a half and three quarters, as published
    schedules for CIFAR-10 do (He et al. 2015, arXiv 1512.03385, section 4.2: 32k and 48k of 64k iterations).
    """
    old = recipe.schedule
    more: dict[str, Any] = {"milestones_epochs": (epochs / 2, epochs * 3 / 4)} if kind == "step" else {}
    schedule = Schedule(kind=kind, warmup_epochs=old.warmup_epochs, warmup_start=old.warmup_start, **more)
    return dataclasses.replace(recipe, schedule=schedule)
