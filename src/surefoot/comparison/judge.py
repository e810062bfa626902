"""What a comparison of rules decides and means: the best of the rates tried, the target, who reaches it first.

S seeds, P points along a run. A loss is infinite from where its run diverged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from surefoot.record.comparison import RateExample, RateKind, RateRun, RuleResult
from surefoot.record.decision import Finding

LIMITS = (1e-6, 1e3)
"""No rates are tried beyond: published recipes for SGD lie within 1e-4 to 1e1, single-example steps below. Chosen by
hand."""
HALF = 0.5
"""A rate that wins less than this share of the best rate's drop, below it, is shown as too small. Chosen by hand."""
NOTHING = 0.1
"""A rate above the best that wins less than this share of the best drop is shown as diverging: with ReLU the units die
and the loss stays finite, at chance. Chosen by hand."""
FEW_FOR_BATCH_NORM = 8
"""Batch norm loses accuracy in batches of fewer examples than this: Wu & He 2018, "Group normalization"
(arXiv 1803.08494), figure 1, where its error rises from 8 examples down."""


def best(trials: Sequence[RateRun]) -> int | None:
    """Return the position of the trial with the least loss at the end; None where all diverged.

    >>> runs = [RateRun(lr=lr, marks=(9,), losses=(loss,)) for lr, loss in ((0.1, 0.5), (1.0, 0.2), (10.0, math.inf))]
    >>> best(runs)
    1
    """
    scores = [trial.score for trial in trials]
    return int(np.argmin(scores)) if any(math.isfinite(score) for score in scores) else None


def beyond(trials: Sequence[RateRun], points_per_decade: int) -> list[float]:
    """Return the rates to try besides: a decade more on the side on which the best lies on the border; none if inside.

    Where all diverged, a decade below.

    Args:
        trials: by rising rate.
        points_per_decade: of the grid.

    >>> runs = [RateRun(lr=lr, marks=(9,), losses=(loss,)) for lr, loss in ((0.1, 0.5), (1.0, 0.2))]
    >>> [round(lr, 3) for lr in beyond(runs, 2)]
    [3.162, 10.0]
    """
    at = best(trials)
    steps = [10 ** (k / points_per_decade) for k in range(1, points_per_decade + 1)]
    if at is None or at == 0:
        more = [trials[0].lr / each for each in steps]
    elif at == len(trials) - 1:
        more = [trials[-1].lr * each for each in steps]
    else:
        return []
    return sorted(lr for lr in more if LIMITS[0] <= lr <= LIMITS[1])


def target_loss(losses: Sequence[Sequence[Sequence[float]]], initial: float) -> tuple[float | None, str]:
    """Return the loss that rules are timed to, and where it comes from, in one sentence.

    It is the least loss that all rules but the worst reach in every seed, so that one rule alone cannot set it out of
    reach of the others, nor make it meaningless.

    Args:
        losses: of each rule, [S][P].
        initial: the loss at the start.

    >>> target_loss([[[2.3, 0.1]], [[2.3, 0.4]], [[2.3, 1.9]]], 2.3)
    (0.4, 'the least loss that every rule but the worst reaches in every seed')
    """
    reached = sorted(max(min(run) for run in runs) for runs in losses)
    place = max(0, len(reached) - 2)
    value = reached[place]
    if not value < initial:
        return None, "no target: too few rules get below the initial loss"
    if len(reached) < 3:
        return value, "the least loss that the better rule reaches in every seed" if len(reached) == 2 else (
            "the least loss that the rule reaches in every seed"
        )
    return value, "the least loss that every rule but the worst reaches in every seed"


def steps_to(marks: Sequence[int], losses: Sequence[float], target: float) -> float | None:
    """Return after how many steps the loss first is at most the target; None where it never is.

    Between two points the logarithm of the loss is taken as linear in the step.

    >>> steps_to([0, 10, 20], [4.0, 2.0, 0.5], target=1.0)
    15.0
    """
    if losses[0] <= target:
        return float(marks[0])
    for (a, b), (high, low) in zip(pairwise(marks), pairwise(losses), strict=True):
        if low <= target:
            if low <= 0 or not math.isfinite(high):
                return float(b)
            return a + (b - a) * math.log(high / target) / math.log(high / low)
    return None


def lacking(trials: Sequence[RateRun], initial: float) -> float | None:
    """Return one more rate to try, so that rates of all four kinds can be shown; None where nothing is lacking.

    Args:
        trials: of one rule, by rising rate.
        initial: the loss at the start.
    """
    found = {example.kind: example.lr for example in examples(trials, initial)}
    if "good" not in found:
        return None
    if "diverging" not in found and trials[-1].lr * 10 <= LIMITS[1]:
        return trials[-1].lr * 10
    if "too small" not in found and trials[0].lr / 10 >= LIMITS[0]:
        return trials[0].lr / 10
    if "too large" not in found and "diverging" in found:
        return math.sqrt(found["good"] * found["diverging"])
    return None


def examples(trials: Sequence[RateRun], initial: float) -> list[RateExample]:
    """Return a rate that is too small, the best, one that is too large and one that diverges, as far as tried.

    Too small: the largest rate below the best that wins less than half of the best drop. Diverging: the least rate
    above the best that wins less than a tenth of it, or nothing. Too large: the largest between the best and that.

    Args:
        trials: by rising rate.
        initial: the loss at the start.
    """
    at = best(trials)
    if at is None or not trials[at].score < initial:
        return []
    drops = [initial - trial.score for trial in trials]
    found: list[tuple[RateKind, RateRun]] = [("good", trials[at])]
    below = [i for i in range(at) if drops[i] < HALF * drops[at]]
    gone = next((i for i in range(at + 1, len(trials)) if not drops[i] >= NOTHING * drops[at]), len(trials))
    if below:
        found.insert(0, ("too small", trials[below[-1]]))
    if gone - 1 > at:
        found.append(("too large", trials[gone - 1]))
    if gone < len(trials):
        found.append(("diverging", trials[gone]))
    return [RateExample(kind=kind, lr=each.lr, marks=each.marks, losses=each.losses) for kind, each in found]


def judged(
    rules: Sequence[RuleResult], target: float | None, initial: float, *, batch_norm: bool = False
) -> tuple[Finding, ...]:
    """Return what the comparison means, in sentences with the numbers.

    Args:
        rules: what each did.
        target: the loss that they are timed to.
        initial: the loss at the start.
        batch_norm: whether the model normalises by the statistics of the batch.
    """
    found = [_cost(rules), _noise(rules), *_speed(rules, target), *_same_form(rules)]
    if batch_norm:
        found += _few_for_batch_norm(rules)
    found += [finding for rule in rules for finding in _health(rule, initial)]
    return tuple(finding for finding in found if finding is not None)


def _cost(rules: Sequence[RuleResult]) -> Finding | None:
    cheap, dear = (choose(rules, key=lambda rule: rule.step_seconds) for choose in (min, max))
    if len(rules) < 2 or cheap.batch_size == dear.batch_size:
        return None
    times = dear.step_seconds / cheap.step_seconds
    more = dear.batch_size / cheap.batch_size
    return Finding(
        name="cost-per-step",
        verdict="pass",
        reason=f"a step of {dear.name} ({dear.batch_size:,} examples) costs {times:.3g} times a step of {cheap.name} "
        f"({cheap.batch_size:,}): {1e3 * dear.step_seconds:.3g} against {1e3 * cheap.step_seconds:.3g} ms; for each "
        f"example it costs {more / times:.3g} times less",
    )


def _noise(rules: Sequence[RuleResult]) -> Finding | None:
    seen = [(rule, rule.direction) for rule in rules if rule.direction is not None]
    if len(seen) < 2:
        return None
    (calm, least), (noisy, most) = (choose(seen, key=lambda pair: pair[1].variance) for choose in (min, max))
    return Finding(
        name="noise-of-the-step",
        verdict="pass",
        reason=f"at the same weights the direction of {noisy.name} is the noisiest, with a variance of "
        f"{most.variance:.3g} times the squared gradient; that of {calm.name} the least, with {least.variance:.3g}",
    )


def _speed(rules: Sequence[RuleResult], target: float | None) -> list[Finding]:
    """Who reaches the target first, by steps, by examples and by seconds, and whom the seeds cannot tell from it."""
    if target is None or len(rules) < 2:
        return []
    found = []
    units = {
        "steps": lambda _: 1.0,
        "examples": lambda rule: float(rule.batch_size),
        "seconds": lambda r: r.step_seconds,
    }
    for unit, worth in units.items():
        costs = {
            rule.name: [steps * worth(rule) for steps in rule.steps_to_target if steps is not None]
            for rule in rules
            if None not in rule.steps_to_target
        }
        if not costs:
            continue
        first = min(costs, key=lambda name: sum(costs[name]) / len(costs[name]))
        tied = [name for name, own in costs.items() if name != first and min(own) <= max(costs[first])]
        mean = sum(costs[first]) / len(costs[first])
        found.append(
            Finding(
                name=f"first-in-{unit}",
                verdict="pass",
                reason=f"in {unit}, {first} reaches loss {target:.3g} first, after {mean:,.3g} {unit}"
                + (f"; the seeds do not tell it from {' and '.join(tied)}" if tied else ""),
            )
        )
    return found


def _same_form(rules: Sequence[RuleResult]) -> list[Finding]:
    """Two forms of momentum that are one while the rate is constant (`optim.update`)."""
    alike = [
        (a, b)
        for a in rules
        for b in rules
        if (a.settings["momentum_form"], b.settings["momentum_form"]) == ("pytorch", "sutskever")
        and a.momentum == b.momentum > 0
        and (a.lr, a.batch_size) == (b.lr, b.batch_size)
        and a.settings["schedule"] == b.settings["schedule"]
        and a.settings["schedule"]["kind"] == "constant"
        and not a.settings["schedule"].get("warmup_epochs")
    ]
    return [
        Finding(
            name="one-rule",
            verdict="pass",
            reason=f"{a.name} and {b.name} are the same rule while the rate is constant, up to rounding",
            advice="with a rate that changes they differ: add schedule=cosine to both",
        )
        for a, b in alike[:1]
    ]


def _few_for_batch_norm(rules: Sequence[RuleResult]) -> list[Finding]:
    few = [rule for rule in rules if rule.batch_size < FEW_FOR_BATCH_NORM]
    if not few:
        return []
    names = " and ".join(f"{rule.name} ({rule.batch_size})" for rule in few)
    return [
        Finding(
            name="batch-norm", verdict="suspect",
            reason=f"the model has batch norm, whose mean and variance come from the batch: {names} trains on noisy "
            "ones and is judged with their averages, so what it loses is not the rule's alone",
            advice="to see the rule alone take a model without batch norm, such as mlp",
        )
    ]  # fmt: skip


def _health(rule: RuleResult, initial: float) -> list[Finding]:
    lost = sum(not math.isfinite(loss) for loss in rule.final_losses)
    found = []
    at = best(rule.tried)
    if at is not None and at in (0, len(rule.tried) - 1):
        found.append(
            Finding(
                name="rate-inside", verdict="suspect",
                reason=f"the best rate of {rule.name}, {rule.lr:.2g}, is the {'least' if at == 0 else 'largest'} tried",
                advice="its runs may not be the best that it can do; look at the scale of inputs and loss",
            )
        )  # fmt: skip
    if lost or not max(rule.final_losses) < initial:
        what = f"diverged in {lost} of {len(rule.final_losses)} seeds" if lost else "ends above the initial loss"
        found.append(
            Finding(
                name="learns", verdict="suspect", reason=f"{rule.name} {what} at rate {rule.lr:.2g}",
                advice="try a lower rate" if rule.given else "its rate is at the edge: the search's one seed went well",
            )
        )  # fmt: skip
    return found
