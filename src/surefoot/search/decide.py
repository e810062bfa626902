"""The decisions of the search in words: what each step was given, what came of it, and what follows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from surefoot.config import Recipe
from surefoot.record.decision import Decision, Finding, worst
from surefoot.record.intervals import LEVEL, of_discordant, of_repeats, student
from surefoot.record.measures import ACCURACY, LOSS, RISES, metric_name, rises, value_text, words
from surefoot.record.trial import TrialResult
from surefoot.search.choose import Choice, paired_gain
from surefoot.search.response import errors
from surefoot.settings import to_dict

_HARM = 0.02
"""A loss that rises by more than this share harms. Chosen by hand: batches differ by less."""
_RUINED = 2.0
"""Times the loss before training from which a run has ruined the model. Chosen by hand."""
FULL_STEPS = 100
"""Updates of the short runs of step 3 where they can be paid for: "within ~100 iterations" is the procedure's word."""
_FAR = 3.0
"""A chosen rate that differs from that of step 3 by more than this factor is explained. Chosen by hand."""


def bracket_of_short_runs(decision: Decision) -> Decision:
    """Return step 3's decision as runs of fewer than 100 updates allow it, or a grid that could not be paid for as far
    as it should reach: no drop there proves nothing.

    A network may stand still for longer at its start. What such runs do show is which rates harm, so the bracket is the
    decade below the first of these.

    Args:
        decision: of `find_lr`.
    """
    evidence = decision.evidence
    if decision.value is not None or (evidence["steps"] >= FULL_STEPS and not evidence["cut"]):
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
                if evidence["steps"] < FULL_STEPS else "the loss drops at no rate as far as the budget reaches")
        + f"; up to {unharmed:.2g} they do no harm",
        advice="the coarse grid looks below that rate; a larger budget looks better",
    )  # fmt: skip
    low = unharmed / 10
    value = {"lr": math.sqrt(low * unharmed), "low": low, "high": unharmed,
             "low_interval": [low, unharmed], "high_interval": [unharmed, unharmed]}  # fmt: skip
    return dataclasses.replace(
        decision, verdict="suspect", reason=finding.reason, advice=finding.advice, value=value, findings=(finding,)
    )


def coarse(results: Sequence[TrialResult], validation_examples: int, initial_loss: float | None = None) -> Decision:
    """Return the decision of step 4: the best of the grid, whether it lies on the border, and whether it learned.

    Args:
        results: the members of the grid.
        validation_examples: on which they were judged.
        initial_loss: before training, where it was measured. A grid whose validation loss does not get under it is
            suspect and no failure, since a model that is trained already may begin at its best.
    """
    error = errors(results, validation_examples)
    finished = [each for each in results if each.finished]
    share = results[0].trial.share
    if not finished or not np.isfinite(error).any():
        what = "diverged" if not finished else f"have no number for {words(results[0].chosen_by or LOSS)}"
        finding = Finding(
            name="some-finish", verdict="fail",
            reason=f"all {len(results)} runs {what}, at rates from {_span(results)}",
            advice="give smaller rates, or look at the data and the initialisation",
        )  # fmt: skip
        return _decision(4, "coarse-grid", results, (finding,), finding.reason, None)
    best = results[int(error.argmin())]
    rates = sorted({each.trial.recipe.effective_lr for each in results})
    rate = best.trial.recipe.effective_lr
    border = len(rates) > 2 and rate in (rates[0], rates[-1])
    end = "highest" if rate == rates[-1] else "lowest"
    findings = (
        Finding(
            name="some-finish", verdict="pass",
            reason=f"{len(finished)} of {len(results)} runs of {share:.0%} of the final length finished",
        ),
        Finding(
            name="inside-the-grid", verdict="suspect" if border else "pass",
            reason=f"the best effective rate, {rate:.3g}, is {'the ' + end if border else 'inside'} of those tried",
            advice="the next round looks beyond it" if border else None,
        ),
    )  # fmt: skip
    if initial_loss is not None:
        findings += _learns(best, finished, initial_loss)
    failed = next((each.reason for each in findings if each.verdict == "fail"), None)
    reason = failed or f"best of {len(results)}: {_said(best)}, on the examples that it was chosen by"
    value = _values(best.trial.recipe)
    return _decision(4, "coarse-grid", results, findings, reason, value)


def _learns(best: TrialResult, finished: Sequence[TrialResult], initial_loss: float) -> tuple[Finding, ...]:
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
    number: int, earlier: Choice, now: Choice, results: Sequence[TrialResult], bracket: Decision | None = None
) -> Decision:  # fmt: skip
    """Return the decision of a round of step 5: what is chosen now, with its interval, and how that has moved.

    Args:
        number: of the round, from 1.
        earlier, now: the choice without and with this round.
        results: the members of this round.
        bracket: of step 3, whose rate may be another.
    """
    recipe = now.recipe
    moved = math.log10(recipe.lr / earlier.recipe.lr)
    shares = sorted({each.trial.share for each in results})
    findings = [
        Finding(
            name="rate-with-length", verdict="pass",
            reason=f"the best rate for the final length is {recipe.lr:.3g}; before this round it was "
            f"{earlier.recipe.lr:.3g} ({moved:+.2f} decades)",
        ),
        Finding(
            name="inside-the-grid", verdict="suspect" if now.at_border else "pass",
            reason=f"the chosen rate {'is at the end of' if now.at_border else 'lies inside'} those that were tried",
            advice="widen the bracket: give --low or --high to surefoot find-lr, then fix the rate with --lr"
            if now.at_border else None,
        ),
        Finding(
            name="alike", verdict="pass",
            reason=f"rates from {now.lr_low:.3g} to {now.lr_high:.3g} cannot be told from it, and "
            f"{now.alike_count} recipes of the grid in all{_tied(now)}",
        ),
        *_beside_bracket(recipe, bracket, results),
    ]  # fmt: skip
    diverged = [each for each in results if not each.finished]
    if diverged:
        lowest = min(each.trial.recipe.lr for each in diverged)
        findings.append(
            Finding(name="stability", verdict="pass",
                    reason=f"{len(diverged)} of {len(results)} runs diverged, from rate {lowest:.3g} on")
        )  # fmt: skip
    lengths = " and ".join(f"{share:.0%}" for share in shares)
    reason = (
        f"lr {recipe.lr:.3g} [{now.lr_low:.3g}, {now.lr_high:.3g}], weight decay {recipe.weight_decay:g}, "
        f"{recipe.update_rule.memory} {recipe.memory:g}, batch {recipe.batch_size}, after {len(results)} runs of "
        f"{lengths} of the final length"
    )
    value = {
        **_values(recipe), "lr_low": now.lr_low, "lr_high": now.lr_high,
        "alike": [_values(each) for each in now.alike], "log_error": now.error, "log_error_sd": now.spread,
    }  # fmt: skip
    return _decision(5, "refine", results, tuple(findings), reason, value, round=number)


def _tied(now: Choice) -> str:
    """Return which other momenta, decays and batches cannot be told from the chosen ones, and why these were taken."""
    words = []
    memory = now.recipe.update_rule.memory
    for name, of in (
        (memory, "momenta" if memory == "momentum" else memory), ("weight_decay", "weight decays"),
        ("batch_size", "batch sizes"),
    ):  # fmt: skip
        values = sorted({getattr(recipe, name) for recipe in now.alike})
        if len(values) > 1:
            words.append(f"{of} from {values[0]:.2g} to {values[-1]:.2g}")
    taken = "; the lowest expected error was taken"
    return f", with {' and '.join(words)} among them{taken}" if words else ""


def _beside_bracket(recipe: Recipe, bracket: Decision | None, results: Sequence[TrialResult]) -> list[Finding]:
    """Return why the chosen rate is another than that of step 3, where it is far from it."""
    if bracket is None or bracket.value is None:
        return []
    suggested, momentum = bracket.value["lr"], bracket.evidence.get("momentum")
    if 1 / _FAR <= recipe.lr / suggested <= _FAR:
        return []
    tried = [each for each in results if 1 / _FAR < each.trial.recipe.lr / suggested < _FAR]
    came = ""
    if tried:
        near = min(tried, key=lambda each: abs(math.log(each.trial.recipe.lr / suggested)))
        end = f"ended at a validation loss of {near.val_loss:.3g}" if near.finished else "diverged"
        came = f"; the complete run at {near.trial.recipe.lr:.3g} {end}"
    other = ""
    if momentum is not None and recipe.momentum is not None and momentum != recipe.momentum:
        steps = suggested / (1 - momentum), recipe.lr / (1 - recipe.momentum)
        other = (
            f", with momentum {momentum:g} where {recipe.momentum:g} is chosen (lr / (1 - momentum), the step in "
            f"balance, is {steps[0]:.3g} and {steps[1]:.3g})"
        )
    return [Finding(
        name="beside-step-3", verdict="pass",
        reason=f"step 3 suggested {suggested:.3g}, this is {recipe.lr:.3g}: that one drops the training loss well "
        f"within {bracket.evidence.get('steps', FULL_STEPS)} updates{other}; this one ends complete runs with their "
        f"schedule at the least validation error{came}",
    )]  # fmt: skip


def schedule(
    results: Sequence[TrialResult], validation_examples: int, earlier: Sequence[TrialResult] = ()
) -> Decision:  # fmt: skip
    """Return the decision about the schedule: another one only where it is shown to be better on the same batches.

    It is shown where two things are: the validation part has enough examples (the interval of the difference in right
    answers excludes 0, as if no example were wrong under both), and the difference in log error is more than repeated
    runs of one recipe differ by (Student's t, shared among the schedules that are compared). Without repeated runs
    nothing is known of the latter.

    Args:
        results: runs of the final length that differ in their schedule alone, the present one first; and perhaps other
            seeds of this one.
        validation_examples: on which they were judged.
        earlier: other trials; of those of the final length the repeated ones say how much seeds differ.
    """
    present, *rest = results
    others = [each for each in rest if each.trial.recipe.schedule.kind != present.trial.recipe.schedule.kind]
    log_errors = errors(results, validation_examples)
    stays = present.trial.recipe.schedule.kind
    gains = {each.trial.recipe.schedule.kind: paired_gain([each], [present], validation_examples) for each in others}
    spread, degrees = seed_noise((*earlier, *results), validation_examples)
    needed = student(degrees, 1 - (1 - LEVEL) / max(1, len(others))) * math.sqrt(2) * spread if degrees else math.inf
    shown = {
        each.trial.recipe.schedule.kind: each for each in others
        if gains[each.trial.recipe.schedule.kind] > needed and examples_show(each, present, validation_examples)
    }  # fmt: skip
    kind = max(shown, key=lambda name: gains[name]) if shown else stays
    chosen = shown.get(kind, present)
    words = ", ".join(
        f"{name} cannot be compared" if math.isnan(value) else f"{name} {100 * (math.exp(-value) - 1):+.0f} %"
        for name, value in gains.items()
    )
    classes = present.val_accuracy is not None and present.chosen_by in (None, ACCURACY)
    counted = _counted(results, validation_examples) if classes else ""
    measure = _measure(present)
    finding = Finding(
        name="schedule", verdict="pass",
        reason=f"{measure} against {stays}, at the final length and on the same batches: {words}{counted}",
    )  # fmt: skip
    if shown:
        reason = f"{kind} is better than {stays}"
    else:
        why = f"seeds differ by {100 * (math.exp(spread) - 1):.0f} %" if degrees else "none was run with several seeds"
        reason = (
            f"{stays} stays, as it was there first: no other schedule is shown to be better, since {why} and the "
            f"validation part has {validation_examples:,} examples"
        )
    value = {"schedule": to_dict(chosen.trial.recipe.schedule), "kind": chosen.trial.recipe.schedule.kind}
    drawn = {each.trial.key: float(math.exp(error)) for each, error in zip(results, log_errors, strict=True)}
    return _decision(5, "schedule", results, (finding,), f"{reason} ({words})", value, errors=drawn, measure=measure)


def seed_noise(results: Sequence[TrialResult], validation_examples: int) -> tuple[float, int]:
    """Return what runs of one recipe of the final length differ by in log error, over seeds, and degrees of freedom."""
    groups: dict[str, list[float]] = {}
    whole = {each.trial.key: each for each in results if each.finished and each.trial.share == 1}
    for each, error in zip(whole.values(), errors(list(whole.values()), validation_examples), strict=True):
        groups.setdefault(repr(each.trial.recipe), []).append(float(error))
    return of_repeats(list(groups.values()))


def examples_show(new: TrialResult, old: TrialResult, validation_examples: int) -> bool:
    """Return whether the validation part has enough examples to show that one answers more of them right.

    Which examples each has wrong is not kept. That none is wrong under both is what shows least.
    """
    if not (new.finished and old.finished):
        return new.finished
    shares = new.val_accuracy, old.val_accuracy
    if shares[0] is None or shares[1] is None or new.chosen_by not in (None, ACCURACY):
        return True  # a loss, or a number whose interval is not known: seeds alone say
    ours, theirs = round((1 - shares[0]) * validation_examples), round((1 - shares[1]) * validation_examples)
    return of_discordant(theirs, ours, validation_examples).is_better


def _measure(result: TrialResult) -> str:
    """Return what is compared between trials, the less the better."""
    by = result.chosen_by
    if by is None:
        both = result.val_accuracy is not None
        return "geometric mean of validation loss and error rate" if both else "validation loss"
    if by == ACCURACY:
        return "validation error rate"
    name = metric_name(by)
    return "validation loss" if by == LOSS else f"1 - {name}" if rises(by) and name in RISES else name


def _counted(results: Sequence[TrialResult], validation_examples: int) -> str:
    right = [
        f"{each.trial.recipe.schedule.kind} {round(each.val_accuracy * validation_examples):,}"
        for each in results if each.val_accuracy is not None and each.trial.seed == results[0].trial.seed
    ]  # fmt: skip
    return f"; right of {validation_examples:,}: {', '.join(right)}"


def never_searched(kind: str, augment: Sequence[str]) -> list[str]:
    """Return what no search of ours tries, and what it might gain, a sentence each.

    Args:
        kind: of the data, "images" or "numbers".
        augment: of the run.
    """
    rest = "label smoothing, averaged weights (ema_decay) and other models: a point or two each, at best"
    if kind == "images" and not augment:
        gain = (
            "augmentation: there is none; flips and crops of photographs often gain more than all that was searched "
            "(5 to 6 points on 240 photos): --augment flip --augment crop:4"
        )
        return [gain, rest]
    return [rest]


_CLAIMS = {
    "coarse-grid": "a good recipe lies inside the coarse grid",
    "refine": "the chosen recipe is the best for the final length, as far as could be measured",
    "schedule": "the shape of the schedule is the best of four",
}


def _decision(
    step: int, name: str, results: Sequence[TrialResult], findings: tuple[Finding, ...], reason: str, value: Any,
    **evidence: Any,
) -> Decision:  # fmt: skip
    verdict = worst(findings)
    first = next((each for each in findings if each.verdict == verdict and each.advice), None)
    return Decision(
        step=step, name=name, claim=_CLAIMS[name], verdict=verdict, reason=reason,
        advice=first.advice if first else None, value=value, findings=findings,
        evidence={"members": [each.trial.key for each in results], **evidence},
    )  # fmt: skip


def _values(recipe: Recipe) -> dict[str, Any]:
    memory = recipe.update_rule.memory
    return {
        "lr": recipe.lr,
        "weight_decay": recipe.weight_decay,
        memory: recipe.memory,
        "batch_size": recipe.batch_size,
    }


def _said(best: TrialResult) -> str:
    recipe = best.trial.recipe
    accuracy = f"{best.val_accuracy:.2%} validation accuracy, " if best.val_accuracy is not None else ""
    if best.chosen_by not in (None, LOSS, ACCURACY):
        name = metric_name(best.chosen_by)
        accuracy = f"{name} {value_text(name, best.metrics.get(name))}, {accuracy}"
    return (
        f"lr {recipe.lr:.3g}, weight decay {recipe.weight_decay:g}, {recipe.update_rule.memory} {recipe.memory:g}: "
        f"{accuracy}"
        f"loss {best.val_loss:.4g}"
    )


def _span(results: Sequence[TrialResult]) -> str:
    rates = [each.trial.recipe.lr for each in results]
    return f"{min(rates):.3g} to {max(rates):.3g}"
