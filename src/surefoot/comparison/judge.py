"""What a comparison of rules decides and means: the best of the rates tried, the target, who reaches it first.

S seeds, P points along a run. A loss is infinite from where its run diverged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from statistics import median_high

import numpy as np

from surefoot.record.comparison import RateRun, RuleResult
from surefoot.record.decision import Finding
from surefoot.record.intervals import is_less

LIMITS = (1e-6, 1e3)
"""No rates are tried beyond: published recipes for SGD lie within 1e-4 to 1e1, single-example steps below. Chosen by
hand."""
FEW_FOR_BATCH_NORM = 8
"""Batch norm loses accuracy in batches of fewer examples than this: Wu & He 2018, "Group normalization"
(arXiv 1803.08494), figure 1, where its error rises from 8 examples down."""


def best(runs: Sequence[RateRun]) -> int | None:
    """Return the position of the run with the least loss at the end; None where all diverged.

    >>> runs = [RateRun(lr=lr, marks=(9,), losses=(loss,)) for lr, loss in ((0.1, 0.5), (1.0, 0.2), (10.0, math.inf))]
    >>> best(runs)
    1
    """
    scores = [run.score for run in runs]
    return int(np.argmin(scores)) if any(math.isfinite(score) for score in scores) else None


def beyond(runs: Sequence[RateRun], points_per_decade: int) -> list[float]:
    """Return the rates to try besides: a decade more on the side on which the best lies on the border; none if inside.

    Where all diverged, a decade below.

    Args:
        runs: by rising rate.
        points_per_decade: of the grid.

    >>> runs = [RateRun(lr=lr, marks=(9,), losses=(loss,)) for lr, loss in ((0.1, 0.5), (1.0, 0.2))]
    >>> [round(lr, 3) for lr in beyond(runs, 2)]
    [3.162, 10.0]
    """
    at = best(runs)
    steps = [10 ** (k / points_per_decade) for k in range(1, points_per_decade + 1)]
    if at is None or at == 0:
        more = [runs[0].lr / factor for factor in steps]
    elif at == len(runs) - 1:
        more = [runs[-1].lr * factor for factor in steps]
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
    value = reached[max(0, len(reached) - 2)]
    if not value < initial:
        return None, "no target: too few rules get below the initial loss"
    who = {1: "the rule", 2: "the better rule"}.get(len(reached), "every rule but the worst")
    return value, f"the least loss that {who} reaches in every seed"


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


def judge(
    rules: Sequence[RuleResult], target: float | None, initial: float, *, batch_norm: bool = False
) -> tuple[Finding, ...]:
    """Return what the comparison means, in sentences with the numbers.

    Args:
        rules: what each did.
        target: the loss that they are timed to.
        initial: the loss at the start.
        batch_norm: whether the model normalises by the statistics of the batch.
    """
    few = _few_for_batch_norm(rules) if batch_norm else ()
    health = (finding for rule in rules for finding in _health(rule, initial))
    return (*_cost(rules), *_noise(rules), *_speed(rules, target), *_same_form(rules), *few, *health)


def _cost(rules: Sequence[RuleResult]) -> Iterator[Finding]:
    cheap, dear = (choose(rules, key=lambda rule: rule.step_seconds) for choose in (min, max))
    if len(rules) < 2 or cheap.batch_size == dear.batch_size:
        return
    times = dear.step_seconds / cheap.step_seconds
    more = dear.batch_size / cheap.batch_size
    yield Finding(
        name="cost-per-step", verdict="pass",
        reason=f"a step of {dear.name} ({dear.batch_size:,} examples) costs {times:.3g} times a step of {cheap.name} "
        f"({cheap.batch_size:,}): {1e3 * dear.step_seconds:.3g} against {1e3 * cheap.step_seconds:.3g} ms; for each "
        f"example it costs {more / times:.3g} times less",
    )  # fmt: skip


def _noise(rules: Sequence[RuleResult]) -> Iterator[Finding]:
    noises = [(rule, rule.direction) for rule in rules if rule.direction is not None]
    if len(noises) < 2:
        return
    (calm, least), (noisy, most) = (choose(noises, key=lambda pair: pair[1].variance) for choose in (min, max))
    yield Finding(
        name="noise-of-the-step", verdict="pass",
        reason=f"at the same weights the direction of {noisy.name} is the noisiest, with a variance of "
        f"{most.variance:.3g} times the squared gradient; that of {calm.name} the least, with {least.variance:.3g}",
    )  # fmt: skip


def _speed(rules: Sequence[RuleResult], target: float | None) -> Iterator[Finding]:
    """Who reaches the target first, by steps, by examples and by seconds, and whom the seeds cannot tell from it."""
    if target is None or len(rules) < 2:
        return
    worth = {
        "steps": lambda _: 1.0, "examples": lambda rule: float(rule.batch_size),
        "seconds": lambda rule: rule.step_seconds,
    }  # fmt: skip
    for unit, of_a_step in worth.items():
        costs = {
            rule.name: [steps * of_a_step(rule) for steps in rule.steps_to_target if steps is not None]
            for rule in rules
            if None not in rule.steps_to_target
        }
        if not costs:
            continue
        medians = {name: median_high(seeds) for name, seeds in costs.items()}  # as the table has them
        first = min(medians, key=lambda name: medians[name])
        tied = [name for name, seeds in costs.items() if name != first and not is_less(costs[first], seeds)]
        yield Finding(
            name=f"first-in-{unit}", verdict="pass",
            reason=f"in {unit}, {first} reaches loss {target:.3g} first, "
            f"after {medians[first]:,.4g} {unit} in the median"
            + (f"; the seeds do not tell it from {' and '.join(tied)}" if tied else ""),
        )  # fmt: skip


def _same_form(rules: Sequence[RuleResult]) -> Iterator[Finding]:
    """Two forms of momentum that are one while the rate is constant (`optim.update`)."""
    for a, b in product(rules, rules):
        if (
            (a.settings.get("momentum_form"), b.settings.get("momentum_form")) == ("pytorch", "sutskever")
            and a.momentum == b.momentum > 0
            and (a.lr, a.batch_size) == (b.lr, b.batch_size)
            and a.settings["schedule"] == b.settings["schedule"]
            and a.settings["schedule"]["kind"] == "constant"
            and not a.settings["schedule"].get("warmup_epochs")
        ):
            yield Finding(
                name="one-rule", verdict="pass",
                reason=f"{a.name} and {b.name} are the same rule while the rate is constant, up to rounding",
                advice="with a rate that changes they differ: add schedule=cosine to both",
            )  # fmt: skip
            return


def _few_for_batch_norm(rules: Sequence[RuleResult]) -> Iterator[Finding]:
    few = [rule for rule in rules if rule.batch_size < FEW_FOR_BATCH_NORM]
    if few:
        names = " and ".join(f"{rule.name} ({rule.batch_size})" for rule in few)
        yield Finding(
            name="batch-norm", verdict="suspect",
            reason=f"the model has batch norm, whose mean and variance come from the batch: {names} trains on noisy "
            "ones and is judged with their averages, so what it loses is not the rule's alone",
            advice="to see the rule alone take a model without batch norm, such as mlp",
        )  # fmt: skip


def _health(rule: RuleResult, initial: float) -> Iterator[Finding]:
    at = best(rule.tried)
    if at is not None and at in (0, len(rule.tried) - 1):
        yield Finding(
            name="rate-inside", verdict="suspect",
            reason=f"the best rate of {rule.name}, {rule.lr:.2g}, is the {'least' if at == 0 else 'largest'} tried",
            advice="its runs may not be the best that it can do; look at the scale of inputs and loss",
        )  # fmt: skip
    lost = sum(not math.isfinite(loss) for loss in rule.final_losses)
    if lost or not max(rule.final_losses) < initial:
        what = f"diverged in {lost} of {len(rule.final_losses)} seeds" if lost else "ends above the initial loss"
        yield Finding(
            name="learns", verdict="suspect", reason=f"{rule.name} {what} at rate {rule.lr:.2g}",
            advice="try a lower rate" if rule.given else "its rate is at the edge: the search's one seed went well",
        )  # fmt: skip
