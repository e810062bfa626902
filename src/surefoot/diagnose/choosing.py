"""The decisions of the search in words: what each step was given, what came of it, and what follows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from surefoot.config import Recipe
from surefoot.diagnose.response import errors
from surefoot.diagnose.search import Choice, paired_gain
from surefoot.record.decision import Decision, Finding, worst
from surefoot.record.tried import Tried
from surefoot.settings import to_dict

LEAST_STEPS_PER_EPOCH = 20
LEAST_BATCH = 16
"""A default batch is halved until an epoch has 20 updates, but not under 16 examples: with fewer updates small sets are
not learned in ten epochs. Chosen by hand; `surefoot noise` measures instead."""
BRACKET_RUNS = 9
"""Runs of the shortest form of step 3: seven half decades, and about two more where the grid is widened."""
_HARM = 0.02
"""A loss that rises by more than this share harms. Chosen by hand: batches differ by less."""
_RUINED = 2.0
"""Times the loss before training from which a run has ruined the model. Chosen by hand."""
_FULL_STEPS = 100
"""Updates of the short runs of step 3 where they can be paid for: "within ~100 iterations" is the procedure's word."""
CLEAR = 1.0
"""Another schedule is chosen if its log error is lower by more than this many times the noise of a difference."""
SCHEDULE_NOISE = 0.05
"""What two runs of one recipe differ by in log error without any cause: 5 % of the errors. Chosen by hand."""


def batch_size(wanted: int, examples: int) -> int:
    """Return the batch size for a training part of this size where nobody has measured or fixed one.

    >>> batch_size(128, 50_000), batch_size(128, 1294), batch_size(128, 100)
    (128, 64, 16)
    """
    size = wanted
    while size > LEAST_BATCH and examples // size < LEAST_STEPS_PER_EPOCH:
        size //= 2
    return max(1, min(size, examples))


def bracket_of_short_runs(decision: Decision) -> Decision:
    """Return step 3's decision as runs of fewer than 100 updates allow it, or a grid that could not be paid for as far
    as it should reach: no drop there proves nothing.

    A network may stand still for longer at its start. What such runs do show is which rates harm, so the bracket is the
    decade below the first of these.

    Args:
        decision: of `find_lr`.
    """
    evidence = decision.evidence
    if decision.value is not None or (evidence["steps"] >= _FULL_STEPS and not evidence["cut"]):
        return decision
    initial = sum(evidence["initial_losses"]) / len(evidence["initial_losses"])
    unharmed = 0.0
    for rate in evidence["rates"]:
        final = [math.inf if each is None else each for each in rate["final_losses"]]
        if sum(final) / len(final) > initial + _HARM * abs(initial):
            break
        unharmed = rate["lr"]
    if not unharmed:
        return decision
    finding = Finding(
        name="loss-drops", verdict="suspect",
        reason=(f"{evidence['steps']} updates are too few for the loss to drop at any rate"
                if evidence["steps"] < _FULL_STEPS else "the loss drops at no rate as far as the budget reaches")
        + f"; up to {unharmed:.2g} they do no harm",
        advice="the coarse grid looks below that rate; a larger budget looks better",
    )  # fmt: skip
    low = unharmed / 10
    value = {"lr": math.sqrt(low * unharmed), "low": low, "high": unharmed,
             "low_interval": [low, unharmed], "high_interval": [unharmed, unharmed]}  # fmt: skip
    return dataclasses.replace(
        decision, verdict="suspect", reason=finding.reason, advice=finding.advice, value=value, findings=(finding,)
    )


@dataclass(frozen=True)
class BracketSize:
    """How thorough step 3 is: rates per decade, updates of each run, repetitions."""

    points_per_decade: int
    steps: int
    seeds: int


def bracket_size(affordable_steps: float, final_steps: int) -> BracketSize:
    """Return how thorough step 3 can be.

    Args:
        affordable_steps: updates that it may cost.
        final_steps: of the final run; no short run is longer than an eighth of it.

    >>> bracket_size(5000, 10_000), bracket_size(300, 400)
    (BracketSize(points_per_decade=4, steps=100, seeds=3), BracketSize(points_per_decade=2, steps=33, seeds=1))
    """
    longest = max(10, min(_FULL_STEPS, final_steps // 8))
    for points, seeds, runs in ((4, 3, 31), (4, 1, 15), (3, 1, 12)):
        if affordable_steps >= runs * longest and longest == _FULL_STEPS:
            return BracketSize(points, longest, seeds)
    return BracketSize(2, max(10, min(longest, int(affordable_steps / BRACKET_RUNS))), 1)


def coarse(tried: Sequence[Tried], validation_examples: int, batch: Any, initial_loss: float | None = None) -> Decision:
    """Return the decision of step 4: the best of the grid, whether it lies on the border, and whether it learned.

    Args:
        tried: the members of the grid.
        validation_examples: on which they were judged.
        batch: examples per update, for the record.
        initial_loss: before training, where it is known. A grid whose validation loss does not get under it is
            suspect and no failure, since a model that is trained already may begin at its best.
    """
    found = errors(tried, validation_examples)
    finished = [each for each in tried if each.finished]
    share = tried[0].trial.share
    if not finished:
        finding = Finding(
            name="some-finish", verdict="fail",
            reason=f"all {len(tried)} runs diverged, at rates from {_span(tried)}",
            advice="give smaller rates, or look at the data and the initialisation",
        )  # fmt: skip
        return _decision(4, "coarse-grid", tried, (finding,), finding.reason, None)
    best = tried[int(found.argmin())]
    rates = sorted({each.trial.recipe.lr / (1 - each.trial.recipe.momentum) for each in tried})
    own = best.trial.recipe.lr / (1 - best.trial.recipe.momentum)
    border = len(rates) > 2 and own in (rates[0], rates[-1])
    end = "highest" if own == rates[-1] else "lowest"
    findings = (
        Finding(
            name="some-finish", verdict="pass",
            reason=f"{len(finished)} of {len(tried)} runs of {share:.0%} of the final length finished",
        ),
        Finding(
            name="inside-the-grid", verdict="suspect" if border else "pass",
            reason=f"the best effective rate, {own:.3g}, is {'the ' + end if border else 'inside'} of those tried",
            advice="the next round looks beyond it" if border else None,
        ),
    )  # fmt: skip
    if initial_loss is not None:
        findings += _learns(best, finished, initial_loss)
    failed = next((each.reason for each in findings if each.verdict == "fail"), None)
    reason = failed or f"best of {len(tried)}: {_said(best)}"
    return _decision(4, "coarse-grid", tried, findings, reason, {**_values(best.trial.recipe), "batch_size": batch})


def _learns(best: Tried, finished: Sequence[Tried], initial_loss: float) -> tuple[Finding, ...]:
    assert best.val_loss is not None
    least = min(each.train_loss for each in finished if each.train_loss is not None)
    if least > _RUINED * initial_loss > 0:
        return (
            Finding(
                name="learns", verdict="fail",
                reason=f"every run ends with a training loss of {least:.3g} or more, and began at {initial_loss:.3g}",
                advice="give smaller rates, or look at the data and the initialisation",
            ),
        )  # fmt: skip
    if best.val_loss <= (1 - _HARM) * initial_loss:
        return ()
    return (
        Finding(
            name="learns", verdict="suspect",
            reason=f"no run has a validation loss clearly under {initial_loss:.4g}, that before training: the best of "
            f"{best.trial.recipe.steps} updates has {best.val_loss:.4g}",
            advice="a longer budget trains longer; if that changes nothing, surefoot check says whether data and "
            "labels belong together",
        ),
    )  # fmt: skip


def refined(
    number: int, before: Choice, now: Choice, tried: Sequence[Tried], earlier: Sequence[Tried],
    validation_examples: int,
) -> Decision:  # fmt: skip
    """Return the decision of a round of step 5: what is chosen now, with its interval, and how that has moved.

    Args:
        number: of the round, from 1.
        before, now: the choice without and with this round.
        tried: the members of this round; earlier: those before it.
        validation_examples: on which they were judged.
    """
    own = now.recipe
    moved = math.log10(own.lr / before.recipe.lr)
    shares = sorted({each.trial.share for each in tried})
    findings = [
        Finding(
            name="rate-with-length", verdict="pass",
            reason=f"the best rate for the final length is {own.lr:.3g}; before this round it was "
            f"{before.recipe.lr:.3g} ({moved:+.2f} decades)",
        ),
        Finding(
            name="inside-the-grid", verdict="suspect" if now.at_border else "pass",
            reason=f"the chosen rate {'is the last' if now.at_border else 'lies inside those'} that were tried",
            advice="widen the bracket: give --low or --high to surefoot find-lr, then fix the rate with --lr"
            if now.at_border else None,
        ),
        Finding(
            name="alike", verdict="pass",
            reason=f"rates from {now.lr_low:.3g} to {now.lr_high:.3g} cannot be told from it, and "
            f"{len(now.alike)} recipes of the grid in all",
        ),
    ]  # fmt: skip
    diverged = [each for each in tried if not each.finished]
    if diverged:
        lowest = min(each.trial.recipe.lr for each in diverged)
        findings.append(
            Finding(name="stability", verdict="pass",
                    reason=f"{len(diverged)} of {len(tried)} runs diverged, from rate {lowest:.3g} on")
        )  # fmt: skip
    lengths = " and ".join(f"{share:.0%}" for share in shares)
    reason = (
        f"lr {own.lr:.3g} [{now.lr_low:.3g}, {now.lr_high:.3g}], weight decay {own.weight_decay:g}, momentum "
        f"{own.momentum:g}, after {len(tried)} runs of {lengths} of the final length"
    )
    value = {
        **_values(own), "lr_low": now.lr_low, "lr_high": now.lr_high,
        "alike": [_values(each) for each in now.alike], "log_error": now.error, "log_error_sd": now.spread,
    }  # fmt: skip
    made = _decision(5, "refine", tried, tuple(findings), reason, value)
    made.evidence["round"] = number
    return made


def schedule(tried: Sequence[Tried], validation_examples: int) -> Decision:
    """Return the decision about the schedule: another one only where it is clearly better on the same batches.

    Args:
        tried: runs of the final length that differ in their schedule alone, the present one first.
        validation_examples: on which they were judged.
    """
    mine, *others = tried
    gains = {other.trial.recipe.schedule.kind: paired_gain([other], [mine], validation_examples) for other in others}
    kind, gain = max(gains.items(), key=lambda item: item[1])
    better = gain > CLEAR * math.sqrt(2) * SCHEDULE_NOISE
    own = mine.trial.recipe.schedule.kind
    chosen = next(each for each in tried if each.trial.recipe.schedule.kind == (kind if better else own))
    words = ", ".join(f"{name} {100 * (math.exp(-value) - 1):+.0f} %" for name, value in gains.items())
    finding = Finding(
        name="schedule", verdict="pass",
        reason=f"errors against {own}, at the final length and on the same batches: {words}",
    )  # fmt: skip
    reason = f"{kind} is better than {own}" if better else f"{own} stays: no other schedule is clearly better"
    value = {"schedule": to_dict(chosen.trial.recipe.schedule), "kind": chosen.trial.recipe.schedule.kind}
    return _decision(5, "schedule", tried, (finding,), f"{reason} ({words})", value)


_CLAIMS = {
    "coarse-grid": "a good recipe lies inside the coarse grid",
    "refine": "the chosen recipe is the best for the final length, as far as could be measured",
    "schedule": "the shape of the schedule is the best of four",
}


def _decision(
    step: int, name: str, tried: Sequence[Tried], findings: tuple[Finding, ...], reason: str, value: Any
) -> Decision:
    verdict = worst(findings)
    first = next((each for each in findings if each.verdict == verdict and each.advice), None)
    return Decision(
        step=step, name=name, claim=_CLAIMS[name], verdict=verdict, reason=reason,
        advice=first.advice if first else None, value=value, findings=findings,
        evidence={"members": [each.trial.key for each in tried]},
    )  # fmt: skip


def _values(recipe: Recipe) -> dict[str, Any]:
    return {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "momentum": recipe.momentum}


def _said(best: Tried) -> str:
    recipe = best.trial.recipe
    accuracy = f"{best.val_accuracy:.2%} validation accuracy, " if best.val_accuracy is not None else ""
    return (
        f"lr {recipe.lr:.3g}, weight decay {recipe.weight_decay:g}, momentum {recipe.momentum:g}: {accuracy}"
        f"loss {best.val_loss:.4g}"
    )


def _span(tried: Sequence[Tried]) -> str:
    rates = [each.trial.recipe.lr for each in tried]
    return f"{min(rates):.3g} to {max(rates):.3g}"
