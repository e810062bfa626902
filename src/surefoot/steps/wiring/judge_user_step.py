"""The user's own training step, judged: does it move the weights, downhill, and begin from fresh gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

from surefoot.record.decision import Finding
from surefoot.steps.wiring.judge import STALE, listed

UPHILL = 0.1
"""Cosine between update and gradient from which a step goes up. Weight decay and noise stay under it at the start of
a training: chosen by hand."""

DOUBLED = 0.5
"""How far from 2 the ratio of two updates may be to be worth telling. Chosen by hand."""


def own_step(
    *,
    problem: str | None,
    moved: float,
    calls: int | None,
    still: Sequence[str],
    not_held: Sequence[str] | None,
    lr: float | None,
    stale: float,
    ratio: float,
    uphill: float,
    fresh: bool,
) -> list[Finding]:
    """Judge what the step did; the arguments are those of `steps.wiring.user_step.OwnStepSeen`.

    >>> known = dict(problem=None, moved=0.1, calls=1, still=(), not_held=(), lr=0.1, uphill=-1.0, fresh=True)
    >>> own_step(**known, stale=4.0, ratio=2.0)[0].reason
    'a second step moves 2.00 times as far as the first: gradients of the step before are added, zero_grad is missing'
    """
    if problem is not None:
        return [_failed("own-step", f"the step raised {problem}", "mend the step: it is called as step(model, x, y)")]
    if not_held:
        reason = f"the optimizer does not hold {listed(not_held)}, so they never train"
        return [_failed("own-step", reason, "make the optimizer from model.parameters(), after the model is complete")]
    if calls is None:
        return [_unmoved(lr)]
    found = []
    if not math.isfinite(moved):
        found.append(_failed("own-step", "the step makes the weights not finite", "lower the learning rate"))
    if still:
        found.append(_failed("own-step", f"the step does not move {listed(still)}, though they have a gradient",
                             "give them to the optimizer"))  # fmt: skip
    if stale > STALE:
        doubled = abs(ratio - 2) < DOUBLED  # as plain SGD does; Adam and clipping hide the length
        seen = f"moves {ratio:.2f} times as far as the first" if doubled else "goes another way than from fresh ones"
        reason = f"a second step {seen}: gradients of the step before are added, zero_grad is missing"
        found.append(_failed("zero-grad", reason, "call optimizer.zero_grad() before backward()"))
    if fresh and uphill > UPHILL:
        reason = f"the step goes up the loss: cosine {uphill:+.2f} between update and gradient, which should be near -1"
        found.append(_failed("loss-sign", reason, "the sign of the loss, or of the learning rate, is wrong"))
    if found:
        return found
    after = "" if calls == 1 else f", after {calls} calls"
    reason = f"your step moves the weights by {moved:.3g}{after}, cosine {uphill:+.2f} to the gradient, from fresh ones"
    return [Finding(name="own-step", verdict="pass", reason=reason)]


def _unmoved(lr: float | None) -> Finding:
    if lr == 0:
        return Finding(name="own-step", verdict="suspect", reason="the step moves nothing: the learning rate is 0",
                       advice="give the rate of the first step of training")  # fmt: skip
    reason = "the step does not move any trainable parameter of the model: the optimizer does not hold them, or no step"
    return _failed("own-step", reason, "make the optimizer from this model's parameters, and call optimizer.step()")


def _failed(name: str, reason: str, advice: str) -> Finding:
    return Finding(name=name, verdict="fail", reason=reason, advice=advice)
