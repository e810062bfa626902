"""Step 0, judged: the facts about an untrained copy, and what they mean. A threshold stands beside its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from surefoot.record.decision import Finding, fails, passes, suspect

DEAD = 0.95
"""Share of a layer's units that are never active, from which nearly nothing passes: fail. Fresh plain networks of 20
layers had up to 0.62 of 128 units and 0.63 of 16 (10 networks, digits, 512 examples)."""
MOSTLY_DEAD = 0.85
"""The same, from which it is worth a look. Between 0.63, measured on healthy networks, and DEAD; chosen by hand."""
LEAST_UNITS = 8
"""Smaller layers can be dead by chance. Chosen by hand."""
FINE_TUNED = 0.5
"""Share of frozen weights from which freezing is a plan, as in fine-tuning, and not a slip. Chosen by hand."""
MODES_APART = 0.5
"""Relative difference of the losses in both modes that is worth a look (fault 19 of AUTOTRAINER's kind: over 50 %)."""
_SHOWN = 4


@dataclass(frozen=True)
class Fit:
    """Whether a batch goes through the model, and what labels it must answer.

    Attributes:
        batch: examples in it.
        input_shape: of one example.
        outputs: shape of what came out; None where nothing or no tensor came out, and then `problem` says why.
        targets: shape of the batch's targets.
        labels: least and largest label in the training part; None for numbers.
        classes: labels that occur.
        problem: the model's own words.
    """

    batch: int
    input_shape: tuple[int, ...]
    outputs: tuple[int, ...] | None
    targets: tuple[int, ...]
    labels: tuple[int, int] | None
    classes: int
    problem: str | None = None


@dataclass(frozen=True)
class LossKind:
    """What the loss is in fact, from its values on made-up outputs.

    Attributes:
        cross_entropy: it takes logits and is the cross-entropy.
        log_likelihood: it takes log-probabilities and is the negative log-likelihood.
        binary: it takes one logit for each target of 0 or 1 and is the cross-entropy of two classes.
        sums: it adds up over the batch where it should average.
        right, wrong: its value where the outputs speak for the targets, and where they speak against them.
    """

    cross_entropy: bool
    log_likelihood: bool
    binary: bool
    sums: bool
    right: float
    wrong: float


@dataclass(frozen=True)
class Modes:
    """One batch in training mode without dropout, and in evaluation mode after batch norm has averaged some batches.

    Attributes:
        train_loss, eval_loss: mean losses, the same examples in both.
        train_probabilities, eval_probabilities: every row of the outputs is at least 0 and sums to 1.
        train_log_probabilities: the exponentials of every row sum to 1.
        ends_in_sigmoid: the last thing that computes the outputs is a sigmoid. Outputs between 0 and 1 would not say
            so: those of a fresh network may all lie there by chance.
    """

    train_loss: float
    eval_loss: float
    train_probabilities: bool
    eval_probabilities: bool
    train_log_probabilities: bool
    ends_in_sigmoid: bool


@dataclass(frozen=True)
class Reach:
    """How the loss reaches the parameters.

    Attributes:
        trainable: names of the parameters with requires_grad, in order.
        absent: those of them that got no gradient in any batch.
        zero: those weights (of two dimensions or more) whose gradient was exactly zero in every batch, also after a few
            updates.
        frozen_after: frozen weights of linear and convolutional layers that come after a trainable one.
        frozen_share: share of all weights, by count, that is frozen.
        frozen: number of frozen parameters.
        batches: whose gradients were taken.
    """

    trainable: tuple[str, ...]
    absent: tuple[str, ...]
    zero: tuple[str, ...]
    frozen_after: tuple[str, ...]
    frozen_share: float
    frozen: int
    batches: int


@dataclass(frozen=True)
class Rectifier:
    """One place where a ReLU is applied: its units, and those of them that are never active."""

    units: int
    dead: int


@dataclass(frozen=True)
class Descent:
    """What a small step along the negative gradient does to the loss of the same batch.

    Attributes:
        loss: before it.
        noise: how far two values of it at the same weights lie apart.
        grad_norm: length of the gradient over all parameters.
        changes: of the loss, one for each step size; empty where there is no gradient to step along.
        shares: those step sizes, as the share of the loss that a linear loss would lose.
    """

    loss: float
    noise: float
    grad_norm: float
    changes: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Facts:
    """What is measured on an untrained copy of a model that takes its data.

    Attributes:
        classes: C; None for numbers.
        loss, modes, reach, descent: see there.
        rectifiers: in the order of the forward pass.
        examples: on which the rectifiers were watched.
        trained_examples: whose gradients were taken, repetitions counted.
        evaluated_examples: for which only outputs were computed.
    """

    classes: int | None
    loss: LossKind
    modes: Modes
    reach: Reach
    rectifiers: tuple[Rectifier, ...]
    examples: int
    descent: Descent
    trained_examples: int
    evaluated_examples: int


def judge(facts: Facts) -> list[Finding]:
    """Judge whether outputs are what the loss takes, its sign, both modes, gradients, ReLUs, and a step downhill."""
    return [
        _outputs(facts),
        *_loss_sign(facts.loss),
        _modes(facts.modes),
        *_gradients(facts),
        _rectifiers(facts),
        _descent(facts.descent),
    ]


def judge_fit(fit: Fit, refused: str | None = None, *, custom_loss: bool = False) -> list[Finding]:
    """Judge whether model, data and labels fit each other.

    Args:
        fit: the facts.
        refused: why `surefoot.load` refuses the labels; None where it does not.
        custom_loss: the loss is the user's, so outputs may have any shape.

    >>> fit = Fit(batch=4, input_shape=(8,), outputs=(4, 10), targets=(4,), labels=(1, 10), classes=10)
    >>> print(judge_fit(fit)[-1].reason)
    labels run from 1 to 10, but the model's outputs from 0 to 9: labels are off by one
    """
    shape, targets = fit.outputs, fit.targets
    if shape is None:
        reason = f"the model cannot take a batch of shape {(fit.batch, *fit.input_shape)}: {fit.problem}"
        return [fails("shapes", reason, "make the model for this shape, or change the inputs' shape")]
    if fit.labels is None or (custom_loss and (len(shape) != 2 or shape[1] == 1)):
        if custom_loss or math.prod(shape) == math.prod(targets):
            return [passes("shapes", f"outputs {shape} for targets {targets}")]
        reason = f"the model's outputs have shape {shape}, the targets {targets}"
        return [fails("shapes", reason, "give the model one output per target")]
    if len(shape) != 2 or shape[0] != fit.batch:
        reason = f"the model's outputs have shape {shape} for {fit.batch} examples of {fit.classes} classes"
        return [fails("shapes", reason, f"return one logit per class, ({fit.batch}, C)")]
    fits = passes("shapes", f"{shape} outputs for a batch of {fit.batch}")
    return [fits, _labels(fit.labels, shape[1], fit.classes, refused)]


def _labels(labels: tuple[int, int], outputs: int, classes: int, refused: str | None) -> Finding:
    low, high = labels
    runs = f"labels run from {low} to {high}"
    if low < 0:
        return fails("labels", f"{runs}: labels below 0 are no classes", "number the classes from 0")
    if high >= outputs:
        off = low >= 1 and high == outputs
        reason = f"{runs}, but the model's outputs from 0 to {outputs - 1}"
        advice = "subtract 1 from the labels" if off else f"give the model {high + 1} outputs, or mend the labels"
        return fails("labels", reason + (": labels are off by one" if off else ""), advice)
    if low >= 1:
        reason = f"{runs} and class 0 never occurs: labels may be off by one; the model has {outputs} outputs"
        advice = f"subtract {low} from the labels, and give the model {high - low + 1} outputs"
        return (suspect if refused is None else fails)("labels", reason, advice)
    if outputs > high + 1:
        advice = f"give the model {high + 1} outputs, unless labels up to {outputs - 1} are still to come"
        return suspect("labels", f"the model has {outputs} outputs, but {runs}", advice)
    return passes("labels", f"{runs}, {classes} classes occur, {outputs} outputs")


def softmax_floor(classes: int) -> float:
    """Return the least cross-entropy of outputs that are already probabilities: ln(e + C - 1) - 1."""
    return math.log(math.e + classes - 1) - 1


def _outputs(facts: Facts) -> Finding:
    loss, modes, classes = facts.loss, facts.modes, facts.classes or 2
    if loss.binary and modes.ends_in_sigmoid:
        reason = "a sigmoid comes before a loss that applies it again: where it is right it cannot go under 0.313"
        return fails("outputs", reason, "return the logits: take the sigmoid out of the model")
    if loss.cross_entropy and modes.train_probabilities:
        reason = (
            "the outputs are probabilities, so softmax comes before cross-entropy, which applies it again: "
            f"the loss cannot go under ln(e + {classes - 1}) - 1 = {softmax_floor(classes):.3f}"
        )
        return fails("outputs", reason, "return the logits: take the softmax out of the model")
    if loss.cross_entropy and modes.eval_probabilities:
        reason = "the outputs are logits in training mode and probabilities in evaluation mode: validation loss is off"
        return suspect("outputs", reason, "return the logits in both modes")
    if loss.log_likelihood and not modes.train_log_probabilities:
        reason = "the loss takes log-probabilities, but the outputs' exponentials do not sum to 1"
        return fails("outputs", reason, "use cross_entropy, or end the model with log_softmax")
    return passes("outputs", "the outputs are what the loss takes")


def wrong_sign(right: float, wrong: float) -> bool:
    """Return whether a loss is larger for outputs that are right than for wrong ones, by more than rounding."""
    return right > wrong + 1e-4 * max(abs(right), abs(wrong))


def _loss_sign(loss: LossKind) -> list[Finding]:
    values = f"{loss.right:.4g} for outputs that are right, {loss.wrong:.4g} for outputs that are wrong"
    if wrong_sign(loss.right, loss.wrong):
        return [fails("loss-sign", f"the loss has the wrong sign: {values}", "minimise its negative")]
    answered = math.isfinite(loss.right) and math.isfinite(loss.wrong)
    return [passes("loss-sign", f"the loss is {values}")] if answered else []


def _modes(modes: Modes) -> Finding:
    train, evaluated = modes.train_loss, modes.eval_loss
    reason = f"loss {train:.4g} in training mode without dropout, {evaluated:.4g} in evaluation mode"
    if not (math.isfinite(train) and math.isfinite(evaluated)):
        return fails("finite", f"the loss is not finite: {reason}", "look for a division or a logarithm of 0")
    if abs(train - evaluated) > MODES_APART * max(abs(train), abs(evaluated)) + 0.1:
        advice = "look for what the model does only in one mode, and at batch norm on small batches"
        return suspect("modes", reason, advice)
    return passes("modes", reason)


def _gradients(facts: Facts) -> list[Finding]:
    reach, trainable = facts.reach, len(facts.reach.trainable)
    dead_layer = any(relu.units >= LEAST_UNITS and relu.dead == relu.units for relu in facts.rectifiers)
    findings = []
    if reach.absent:
        reason = f"{listed(reach.absent)} of {trainable} trainable parameters: the loss never reaches them"
        advice = "look for detach, no_grad, .item() or .data on the way, or remove what is not used"
        findings.append(fails("gradients", f"no gradient for {reason}: detached or unused", advice))
    if reach.zero:
        cause = ": all ReLUs behind them are dead" if dead_layer else ""
        reason = f"a gradient of exactly zero for {listed(reach.zero)}, in every batch{cause}"
        advice = "see dead-relus" if dead_layer else "look for weights that start alike or at zero, or saturation"
        findings.append(fails("gradients", reason, advice))
    if reach.frozen_after and reach.frozen_share < FINE_TUNED:
        reason = f"{listed(reach.frozen_after)} frozen (requires_grad is False) behind layers that train"
        findings.append(suspect("frozen", reason, "unfreeze it, if it should train"))
    if not findings:
        note = f"; {reach.frozen} more are frozen" if reach.frozen else ""
        findings.append(passes("gradients", f"each of {trainable} trainable parameters gets a gradient{note}"))
    return findings


def _rectifiers(facts: Facts) -> Finding:
    relus = facts.rectifiers
    if not relus:
        return passes("dead-relus", "no ReLU was seen")
    shares = [(relu.dead / relu.units, number) for number, relu in enumerate(relus, 1) if relu.units >= LEAST_UNITS]
    worst, number = max(shares, default=(0.0, 0))
    where = f"the units of ReLU {number} of {len(relus)} are zero on all of {facts.examples} examples"
    reason = f"{worst:.0%} of {where}" if number else "few units"
    advice = "look at biases and weights before it: raise the biases to 0, and initialise as He et al. 2015"
    if worst >= DEAD:
        return fails("dead-relus", f"dead ReLUs: {reason}", advice)
    if worst >= MOSTLY_DEAD:
        return suspect("dead-relus", reason, advice)
    return passes("dead-relus", f"at most {reason}")


def _descent(descent: Descent) -> Finding:
    loss, changes = descent.loss, descent.changes
    if not (math.isfinite(loss) and math.isfinite(descent.grad_norm)):
        reason = f"not finite: loss {loss:.4g}, length of the gradient {descent.grad_norm:.4g}"
        return fails("descent", reason, "look for a division, a root or a logarithm of 0")
    if not changes:
        return passes("descent", "the gradient is zero: there is no step to try")
    expected = descent.shares[-1] * max(abs(loss), 1e-3)
    if descent.noise > expected / 2:
        apart = f"two values at one place differ by {descent.noise:.3g}"
        return passes("descent", f"the loss is random: {apart}, so a step cannot be judged")
    if min(changes) < 0:
        return passes("descent", f"a step along -g changes the loss by {min(changes):+.3g}")
    reason = f"no step along -g lowers the loss of {loss:.4g}: the smallest changes it by {changes[-1]:+.3g}"
    advice = "look for a function with a gradient of its own, a detached part, or weights changed in the forward pass"
    return (fails if changes[-1] > 0.1 * expected else suspect)("descent", reason, advice)


def listed(names: Sequence[str]) -> str:
    """Return the first names and how many more there are.

    >>> listed(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
