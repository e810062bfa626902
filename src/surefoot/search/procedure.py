"""A search is a value: the next move is a function of what is asked for and of what has come of the moves so far.

    while not isinstance(move := next_move(request, journal.history), Done):
        ...  # carry it out, and keep in the journal what comes of it

`next_move` goes through the procedure from its beginning. Where the history has what a step came to, it takes that; at
the first step that it lacks, it stops and asks for it. So a search goes on by being asked again, here or elsewhere, and
invented histories test it in milliseconds.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from surefoot.config import Recipe, Schedule, ScheduleKind
from surefoot.errors import ConfigError
from surefoot.record.trial import Trial
from surefoot.search import decide
from surefoot.search.budget import Request
from surefoot.search.choose import Choice, choose, next_points, promising
from surefoot.search.journal import History
from surefoot.search.moves import BracketRates, Check, CheckName, ChooseBatchSize, Done, Move, Standing, TimeStep, Train
from surefoot.search.space import coarse_grid, only_rates, trial_of, usual, without_momentum
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
    for step in (_timed, _checked, _bracketed, _batch_sized, _explored, _refined, _scheduled):
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


def _explored(at: Standing) -> Standing | Move | Done:
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


def _initial_loss(at: Standing) -> float | None:
    """Return the loss before training, as step 3 or else step 1 saw it; None where neither ran."""
    evidence = {decision.name: decision.evidence for decision in at.decisions}
    if "learning-rate" in evidence:
        losses = evidence["learning-rate"]["initial_losses"]
        return sum(losses) / len(losses)
    return evidence["initial-loss"].get("loss") if "initial-loss" in evidence else None


def _refined(at: Standing) -> Standing | Move:
    """Step 5, rounds of narrower grids and longer runs, as long as they can be paid for and change anything."""
    where, examples = at.space, at.request.validation_examples
    if not any(result.finished for result in at.results):  # the middle of the bracket, all else as it was
        value, base = at.value_of("learning-rate"), at.final.recipe
        rate = (value["lr"] if value else base.lr) / base.update_rule.per_rate(base.rule_values)
        recipe = where.recipe(usual(where, rate), 1.0)
        if value is None and "lr" in at.request.terms.given:
            recipe = dataclasses.replace(recipe, lr=base.lr)  # as it was given, to its last digit
        return dataclasses.replace(at, recipe=recipe)
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
            bracket = next((made for made in reversed(at.decisions) if made.name == "learning-rate"), None)
            return at.conclude(decide.refined(number, choice, now, results, bracket), results)
        earlier, choice = choice, choose(after.results, where, examples)
        at, longest = after, max(longest, share)
        settled = earlier.error - choice.error < SETTLED and earlier.recipe == choice.recipe
        if share == 1.0 and number > 1 and settled:
            break
    if longest < 1:
        at = at.without(
            f"a run of the final length: the longest trial was {longest:.0%} of it, and the rate is extrapolated"
        )
    if not at.final.recipe.update_rule.decays and "weight_decay" not in at.request.terms.fixed:
        at = at.without(
            f"weight decay: that of {at.final.recipe.rule} is coupled to the gradients; adamw's is searched"
        )
    if choice.decay_open:
        at = at.without(f"other values of weight decay than {choice.recipe.weight_decay:g}")
    if choice.momentum_open:
        at = at.without(f"other values of {choice.recipe.update_rule.memory} than {choice.recipe.memory:g}")
    return dataclasses.replace(at, recipe=choice.recipe)


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


def _round(at: Standing, choice: Choice, number: int, left: float, share: float, count: int) -> list[Trial]:
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
