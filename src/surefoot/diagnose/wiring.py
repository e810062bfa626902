"""Step 0, judged: from plain numbers of `measure` to findings. A threshold stands beside the reason for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from surefoot.record.decision import Finding

DEAD = 0.95
"""Share of a layer's units that are never active, from which nearly nothing passes: fail. Fresh plain networks of 20
layers had up to 0.62 of 128 units and 0.63 of 16 (10 networks, digits, 512 examples)."""
MOSTLY_DEAD = 0.85
"""The same, from which it is worth a look. Between 0.63, measured on healthy networks, and DEAD; chosen by hand."""
LEAST_UNITS = 8
"""Smaller layers can be dead by chance. Chosen by hand."""
CLEAR = 4.5
"""z of a dependence that is beyond doubt, as in `measure.dependence`."""
LEAST_HELD_OUT = 60
"""Examples to test on, below which no dependence is no evidence. Chosen by hand."""
FINE_TUNED = 0.5
"""Share of frozen weights from which freezing is a plan, as in fine-tuning, and not a slip. Chosen by hand."""
MODES_APART = 0.5
"""Relative difference of the losses in both modes that is worth a look (fault 19 of AUTOTRAINER's kind: over 50 %)."""
STALE = 1e-2
"""Relative change of an update by stale gradients that is more than rounding. Chosen by hand."""
_SHOWN = 4


def shapes(
    *,
    batch: int,
    input_shape: Sequence[int],
    outputs: Sequence[int] | None,
    targets: Sequence[int],
    labels: tuple[int, int] | None,
    classes: int,
    problem: str | None,
    refused: str | None = None,
    own_loss: bool = False,
) -> list[Finding]:
    """Judge whether model, data and labels fit each other.

    Args:
        batch, input_shape, outputs, targets, labels, classes, problem: as in `measure.wiring.Fit`.
        refused: why `surefoot.load` refuses the labels; None where it does not.
        own_loss: the loss is the user's, so outputs may have any shape.

    >>> known = dict(batch=4, input_shape=(8,), outputs=(4, 10), targets=(4,), classes=10, problem=None)
    >>> print(shapes(**known, labels=(1, 10))[-1].reason)
    labels run from 1 to 10, but the model's outputs from 0 to 9: labels are off by one
    """
    if outputs is None:
        reason = f"the model cannot take a batch of shape {(batch, *input_shape)}: {problem}"
        return [_fail("shapes", reason, "make the model for this shape, or change the inputs' shape")]
    if labels is None or (own_loss and (len(outputs) != 2 or outputs[1] == 1)):
        return [_number_shapes(tuple(outputs), tuple(targets), own_loss)]
    if len(outputs) != 2 or outputs[0] != batch:
        return [_fail("shapes", f"the model's outputs have shape {tuple(outputs)} for {batch} examples of {classes} "
                      "classes", f"return one logit per class, ({batch}, C)")]  # fmt: skip
    fits = Finding(name="shapes", verdict="pass", reason=f"{tuple(outputs)} outputs for a batch of {batch}")
    return [fits, _labels(labels, outputs[1], classes, refused)]


def _number_shapes(outputs: tuple[int, ...], targets: tuple[int, ...], own_loss: bool) -> Finding:
    if own_loss or math.prod(outputs) == math.prod(targets):
        return Finding(name="shapes", verdict="pass", reason=f"outputs {outputs} for targets {targets}")
    reason = f"the model's outputs have shape {outputs}, the targets {targets}"
    return _fail("shapes", reason, "give the model one output per target")


def _labels(labels: tuple[int, int], outputs: int, classes: int, refused: str | None) -> Finding:
    low, high = labels
    runs = f"labels run from {low} to {high}"
    if low < 0:
        return _fail("labels", f"{runs}: labels below 0 are no classes", "number the classes from 0")
    if high >= outputs:
        off = low >= 1 and high == outputs
        reason = f"{runs}, but the model's outputs from 0 to {outputs - 1}"
        advice = "subtract 1 from the labels" if off else f"give the model {high + 1} outputs, or mend the labels"
        return _fail("labels", reason + (": labels are off by one" if off else ""), advice)
    if low >= 1:
        reason = f"{runs} and class 0 never occurs: labels may be off by one; the model has {outputs} outputs"
        advice = f"subtract {low} from the labels, and give the model {high - low + 1} outputs"
        if refused is not None:
            return _fail("labels", reason, advice)
        return Finding(name="labels", verdict="suspect", reason=reason, advice=advice)
    if outputs > high + 1:
        reason = f"the model has {outputs} outputs, but {runs}"
        advice = f"give the model {high + 1} outputs, unless labels up to {outputs - 1} are still to come"
        return Finding(name="labels", verdict="suspect", reason=reason, advice=advice)
    return Finding(name="labels", verdict="pass", reason=f"{runs}, {classes} classes occur, {outputs} outputs")


def loss_and_outputs(
    *,
    cross_entropy: bool,
    log_likelihood: bool,
    binary: bool,
    right: float,
    wrong: float,
    train_loss: float,
    eval_loss: float,
    train_probabilities: bool,
    eval_probabilities: bool,
    train_log_probabilities: bool,
    ends_in_sigmoid: bool,
    classes: int | None,
) -> list[Finding]:
    """Judge whether the outputs are what the loss takes, whether it has the right sign, and whether modes agree.

    The arguments are those of `measure.wiring.LossKind` and `Modes`; `classes` is C, or None for numbers.
    """
    if binary and ends_in_sigmoid:
        reason = "a sigmoid comes before a loss that applies it again: where it is right it cannot go under 0.313"
        found = [_fail("outputs", reason, "return the logits: take the sigmoid out of the model")]
    else:
        found = [_outputs(cross_entropy, log_likelihood, train_probabilities, eval_probabilities,
                          train_log_probabilities, classes or 2)]  # fmt: skip
    seen = f"{right:.4g} for outputs that are right, {wrong:.4g} for outputs that are wrong"
    if right > wrong + 1e-4 * max(abs(right), abs(wrong)):
        found.append(_fail("loss-sign", f"the loss has the wrong sign: {seen}", "minimise its negative"))
    elif math.isfinite(right) and math.isfinite(wrong):
        found.append(Finding(name="loss-sign", verdict="pass", reason=f"the loss is {seen}"))
    found.append(_modes(train_loss, eval_loss))
    return found


def _outputs(
    cross_entropy: bool, log_likelihood: bool, train: bool, evaluated: bool, logs: bool, classes: int
) -> Finding:
    floor = math.log(math.e + classes - 1) - 1
    if cross_entropy and train:
        reason = (
            "the outputs are probabilities, so softmax comes before cross-entropy, which applies it again: "
            f"the loss cannot go under ln(e + {classes - 1}) - 1 = {floor:.3f}"
        )
        return _fail("outputs", reason, "return the logits: take the softmax out of the model")
    if cross_entropy and evaluated:
        reason = "the outputs are logits in training mode and probabilities in evaluation mode: validation loss is off"
        return Finding(name="outputs", verdict="suspect", reason=reason, advice="return the logits in both modes")
    if log_likelihood and not logs:
        reason = "the loss takes log-probabilities, but the outputs' exponentials do not sum to 1"
        return _fail("outputs", reason, "use cross_entropy, or end the model with log_softmax")
    return Finding(name="outputs", verdict="pass", reason="the outputs are what the loss takes")


def _modes(train_loss: float, eval_loss: float) -> Finding:
    reason = f"loss {train_loss:.4g} in training mode without dropout, {eval_loss:.4g} in evaluation mode"
    if not (math.isfinite(train_loss) and math.isfinite(eval_loss)):
        return _fail("finite", f"the loss is not finite: {reason}", "look for a division or a logarithm of 0")
    apart = abs(train_loss - eval_loss) > MODES_APART * max(abs(train_loss), abs(eval_loss)) + 0.1
    advice = "look for what the model does only in one mode, and at batch norm on small batches" if apart else None
    return Finding(name="modes", verdict="suspect" if apart else "pass", reason=reason, advice=advice)


def gradients(
    *,
    trainable: Sequence[str],
    absent: Sequence[str],
    zero: Sequence[str],
    frozen_after: Sequence[str],
    frozen_share: float,
    frozen: int,
    dead_layer: bool = False,
) -> list[Finding]:
    """Judge which parameters the loss reaches; the arguments are those of `measure.gradients.Reach`.

    Args:
        dead_layer: all ReLUs of some layer are dead, which explains gradients of zero.
    """
    found = []
    if absent:
        reason = f"{listed(absent)} of {len(trainable)} trainable parameters: the loss never reaches them"
        advice = "look for detach, no_grad, .item() or .data on the way, or remove what is not used"
        found.append(_fail("gradients", f"no gradient for {reason}: detached or unused", advice))
    if zero:
        cause = ": all ReLUs behind them are dead" if dead_layer else ""
        advice = "see dead-relus" if dead_layer else "look for weights that start alike or at zero, or saturation"
        found.append(
            _fail("gradients", f"a gradient of exactly zero for {listed(zero)}, in every batch{cause}", advice)
        )
    if frozen_after and frozen_share < FINE_TUNED:
        reason = f"{listed(frozen_after)} frozen (requires_grad is False) behind layers that train"
        found.append(Finding(name="frozen", verdict="suspect", reason=reason, advice="unfreeze it, if it should train"))
    if not found:
        note = f"; {frozen} more are frozen" if frozen else ""
        reason = f"each of {len(trainable)} trainable parameters gets a gradient{note}"
        found.append(Finding(name="gradients", verdict="pass", reason=reason))
    return found


def dead_relus(layers: Sequence[tuple[int, int]], examples: int) -> Finding:
    """Judge ReLUs that are zero on every example.

    Args:
        layers: (units, dead) of each ReLU, in the order of the forward pass.
        examples: that were seen.

    >>> dead_relus([(128, 3), (128, 70)], 512).verdict, dead_relus([(128, 128)], 512).verdict
    ('pass', 'fail')
    """
    judged = [(dead / units, number) for number, (units, dead) in enumerate(layers, 1) if units >= LEAST_UNITS]
    worst, number = max(judged, default=(0.0, 0))
    if not layers:
        return Finding(name="dead-relus", verdict="pass", reason="no ReLU was seen")
    where = f"ReLU {number} of {len(layers)}"
    reason = f"{worst:.0%} of the units of {where} are zero on all of {examples} examples" if number else "few units"
    advice = "look at biases and weights before it: raise the biases to 0, and initialise as He et al. 2015"
    if worst >= DEAD:
        return _fail("dead-relus", f"dead ReLUs: {reason}", advice)
    suspect = worst >= MOSTLY_DEAD
    return Finding(name="dead-relus", verdict="suspect" if suspect else "pass",
                   reason=f"{'' if suspect else 'at most '}{reason}", advice=advice if suspect else None)  # fmt: skip


def descent(
    *, loss: float, noise: float, grad_norm: float, changes: Sequence[float], shares: Sequence[float]
) -> Finding:
    """Judge whether a small step along the negative gradient lowers the loss of the same batch.

    The arguments are those of `measure.wiring.Descent`.
    """
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        reason = f"loss {loss:.4g}, length of the gradient {grad_norm:.4g}"
        return _fail("descent", f"not finite: {reason}", "look for a division, a root or a logarithm of 0")
    if not changes:
        return Finding(name="descent", verdict="pass", reason="the gradient is zero: there is no step to try")
    expected = shares[-1] * max(abs(loss), 1e-3)
    if noise > expected / 2:
        reason = f"the loss is random: two values at one place differ by {noise:.3g}, so a step cannot be judged"
        return Finding(name="descent", verdict="pass", reason=reason)
    best = min(changes)
    if best < 0:
        return Finding(name="descent", verdict="pass", reason=f"a step along -g changes the loss by {best:+.3g}")
    reason = f"no step along -g lowers the loss of {loss:.4g}: the smallest changes it by {changes[-1]:+.3g}"
    advice = "look for a function with a gradient of its own, a detached part, or weights changed in the forward pass"
    if changes[-1] > 0.1 * expected:
        return _fail("descent", reason, advice)
    return Finding(name="descent", verdict="suspect", reason=reason, advice=advice)


def dependence(
    *,
    z: float,
    planted_z: float | None,
    accuracy: float | None,
    majority: float | None,
    examples: int,
    held_out: int,
    steps: int,
) -> Finding:
    """Judge whether the targets depend on the inputs; the arguments are those of `measure.dependence.Dependence`.

    No dependence is suspect only where this training would have seen one: it saw one that was planted. Where it did
    not, or where none could be planted, the finding says so and means nothing.
    """
    share = "" if accuracy is None or majority is None else f", accuracy {accuracy:.1%}, largest class {majority:.1%}"
    seen = f"z = {z:.1f} on {held_out} examples held out after {steps} steps on {examples}{share}"
    if z >= CLEAR:
        return Finding(name="dependence", verdict="pass", reason=f"the targets depend on the inputs: {seen}")
    if planted_z is None or planted_z < CLEAR or held_out < LEAST_HELD_OUT:
        if held_out < LEAST_HELD_OUT:
            why = f"fewer than {LEAST_HELD_OUT} examples are no evidence"
        elif planted_z is None:
            why = "too short a training for no dependence to be evidence, and none was planted beside it"
        else:
            why = f"nor did it learn labels planted in the same inputs, z = {planted_z:.1f}"
        reason = f"a moment's training cannot tell whether the targets depend on the inputs: {seen}; {why}"
        return Finding(name="dependence", verdict="pass", reason=reason)
    reason = (
        f"the labels do not depend on the inputs, as far as this model can see (shuffled, or joined wrongly?): {seen}; "
        f"labels planted in the same inputs it learned, z = {planted_z:.1f}"
    )
    return Finding(name="dependence", verdict="suspect", reason=reason,
                   advice="look at some inputs beside their labels, and at how the two were joined")  # fmt: skip


def listed(names: Sequence[str]) -> str:
    """Return the first names and how many more there are.

    >>> listed(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _fail(name: str, reason: str, advice: str) -> Finding:
    return Finding(name=name, verdict="fail", reason=reason, advice=advice)
