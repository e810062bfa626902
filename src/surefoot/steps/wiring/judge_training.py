"""Step 0, judged: what a moment's training shows, our own on copies and one call of the user's step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from surefoot.record.decision import Finding, fails, passes, suspect
from surefoot.steps.wiring.judge import listed

CLEAR = 4.5
"""z above which the targets depend on the inputs: one-sided 3e-6, and at most 36 looks are taken. Chosen by hand."""
LEAST_HELD_OUT = 60
"""Examples to test on, below which no dependence is no evidence. Chosen by hand."""
STALE = 1e-2
"""Relative change of an update by stale gradients that is more than rounding. Chosen by hand."""
UPHILL = 0.1
"""Cosine between update and gradient from which a step goes up. Weight decay and noise stay under it at the start of
a training: chosen by hand."""
DOUBLED = 0.5
"""How far from 2 the ratio of two updates may be to be worth telling. Chosen by hand."""


@dataclass(frozen=True)
class HeldOutTest:
    """What was trained until one test, since the test before, and what it showed.

    Attributes:
        planted: whether the targets were planted ones.
        steps: updates of each member until then.
        trained_examples: trained on, over all rates, repetitions counted.
        evaluated_examples: that outputs were computed for, over all rates.
        z: of the test, the largest over rates; -99 where no member could be asked.
    """

    planted: bool
    steps: int
    trained_examples: int
    evaluated_examples: int
    z: float


@dataclass(frozen=True)
class Dependence:
    """What short trainings showed of targets that were held out.

    Attributes:
        z: of the test, the largest over rates and looks: 0 is what shuffled targets give, in standard deviations.
        planted_z: the same for targets computed from the inputs, which this network should be able to learn. None where
            there were none: z is clear, or can be no evidence for want of examples to test on or to train on.
        accuracy: held-out share of right answers where z was largest; None for numbers.
        majority: held-out share of the most frequent class; None for numbers.
        examples, held_out: that were trained on, and tested on.
        steps: updates of the longest member.
        looks: the tests in order, those at planted targets last.
        seconds: that it took.
    """

    z: float
    planted_z: float | None
    accuracy: float | None
    majority: float | None
    examples: int
    held_out: int
    steps: int
    looks: tuple[HeldOutTest, ...]
    seconds: float


@dataclass(frozen=True)
class UserStepFacts:
    """What the user's step did.

    Attributes:
        problem: the error that it raised, in one line; then the rest says nothing.
        moved: length of the first update, over all trainable parameters.
        calls: after which they moved; None if never.
        still: trainable parameters with a gradient that was not zero, and that did not move.
        not_held: parameters with requires_grad that are in no group of the optimizer; None where none was given.
        lr: largest rate in the optimizer's groups; None where none was given.
        stale: relative change of the update when the gradients that the call before left are turned around and made
            three times as long as the gradient; 0 for a step that begins by clearing them.
        ratio: length of the second update over the first, from the same weights, with the gradients left in place.
        uphill: cosine between the update and the gradient of the loss; above 0 the loss rises.
        fresh: the optimizer had no velocity or other state, so that the update is the gradient's alone.
    """

    problem: str | None = None
    moved: float = math.nan
    calls: int | None = None
    still: tuple[str, ...] = ()
    not_held: tuple[str, ...] | None = None
    lr: float | None = None
    stale: float = 0.0
    ratio: float = 1.0
    uphill: float = math.nan
    fresh: bool = True


def judge_dependence(facts: Dependence) -> Finding:
    """Judge whether the targets depend on the inputs.

    No dependence is suspect only where this training would have seen one: it saw one that was planted. Where it did
    not, or where none could be planted, the finding says so and means nothing.
    """
    z = f"z = {facts.z:.1f} on {facts.held_out} examples held out after {facts.steps} steps on {facts.examples}"
    if facts.accuracy is not None and facts.majority is not None:
        z += f", accuracy {facts.accuracy:.1%}, largest class {facts.majority:.1%}"
    if facts.z >= CLEAR:
        return passes("dependence", f"the targets depend on the inputs: {z}")
    if facts.planted_z is None or facts.planted_z < CLEAR or facts.held_out < LEAST_HELD_OUT:
        if facts.held_out < LEAST_HELD_OUT:
            why = f"fewer than {LEAST_HELD_OUT} examples are no evidence"
        elif facts.planted_z is None:
            why = "too short a training for no dependence to be evidence, and none was planted beside it"
        else:
            why = f"nor did it learn labels planted in the same inputs, z = {facts.planted_z:.1f}"
        reason = "a moment's training cannot tell whether the targets depend on the inputs"
        return passes("dependence", f"{reason}: {z}; {why}")
    reason = (
        f"the labels do not depend on the inputs, as far as this model can see (shuffled, or joined wrongly?): {z}; "
        f"labels planted in the same inputs it learned, z = {facts.planted_z:.1f}"
    )
    return suspect("dependence", reason, "look at some inputs beside their labels, and at how the two were joined")


def not_asked(target: str, *, shows_outputs: bool) -> Finding:
    """Return the finding of targets whose dependence is not measured.

    >>> not_asked("tokens", shows_outputs=True).reason
    'whether targets depend on inputs is not measured of targets that are tokens'
    """
    of = f"targets that are {target}" if shows_outputs else "a loss_fn, which shows no outputs"
    return passes("dependence", f"whether targets depend on inputs is not measured of {of}")


def judge_user_step(facts: UserStepFacts) -> list[Finding]:
    """Judge what the step did: does it move the weights, downhill, and begin from fresh gradients.

    >>> judge_user_step(UserStepFacts(moved=0.1, calls=1, uphill=-1.0, stale=4.0, ratio=2.0))[0].reason
    'a second step moves 2.00 times as far as the first: gradients of the step before are added, zero_grad is missing'
    """
    if facts.problem is not None:
        reason = f"the step raised {facts.problem}"
        return [fails("own-step", reason, "mend the step: it is called as step(model, x, y)")]
    if facts.not_held:
        reason = f"the optimizer does not hold {listed(facts.not_held)}, so they never train"
        return [fails("own-step", reason, "make the optimizer from model.parameters(), after the model is complete")]
    if facts.calls is None and facts.lr == 0:
        advice = "give the rate of the first step of training"
        return [suspect("own-step", "the step moves nothing: the learning rate is 0", advice)]
    if facts.calls is None:
        reason = "the step does not move any trainable parameter of the model"
        advice = "make the optimizer from this model's parameters, and call optimizer.step()"
        return [fails("own-step", f"{reason}: the optimizer does not hold them, or no step", advice)]
    findings = []
    if not math.isfinite(facts.moved):
        findings.append(fails("own-step", "the step makes the weights not finite", "lower the learning rate"))
    if facts.still:
        reason = f"the step does not move {listed(facts.still)}, though they have a gradient"
        findings.append(fails("own-step", reason, "give them to the optimizer"))
    if facts.stale > STALE:
        reason = "a second step goes another way than from fresh ones"
        if abs(facts.ratio - 2) < DOUBLED:  # as plain SGD does; Adam and clipping hide the length
            reason = f"a second step moves {facts.ratio:.2f} times as far as the first"
        reason += ": gradients of the step before are added, zero_grad is missing"
        findings.append(fails("zero-grad", reason, "call optimizer.zero_grad() before backward()"))
    cosine = f"cosine {facts.uphill:+.2f}"
    if facts.fresh and facts.uphill > UPHILL:
        reason = f"the step goes up the loss: {cosine} between update and gradient, which should be near -1"
        findings.append(fails("loss-sign", reason, "the sign of the loss, or of the learning rate, is wrong"))
    if findings:
        return findings
    after = "" if facts.calls == 1 else f", after {facts.calls} calls"
    moves = f"your step moves the weights by {facts.moved:.3g}{after}"
    return [passes("own-step", f"{moves}, {cosine} to the gradient, from fresh ones")]
