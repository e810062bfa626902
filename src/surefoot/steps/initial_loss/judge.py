"""Step 1, judged: is the loss before training the one of chance, and if not, why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from surefoot.record.decision import Finding, fails, passes, suspect
from surefoot.record.intervals import student
from surefoot.steps.wiring.judge import wrong_sign

FAR = 4.0
"""Times the loss of chance from which a start is broken. Chosen by hand."""
HIGH = 2.0
"""Times the loss of chance that is worth a look: 100 % over it, as DeepLocalize's line (TDC) has it. Healthy networks
had up to 1.55: a plain one of 20 layers, initialised as He et al. 2015 to the last layer."""
LEAST_EXCESS = 1.0
"""Excess over chance that two classes may have, whose chance is only 0.69. Chosen by hand."""
LARGE_INPUTS = 10.0
"""Root mean square of inputs that nobody normalised: normalised ones have 1. Chosen by hand."""
BELOW = 0.02
"""Share below chance that is more than noise: there the model knows something already. Chosen by hand."""


@dataclass(frozen=True)
class InitialLoss:
    """What an untrained copy gives on training data, without weight decay.

    Attributes:
        loss: mean over batches in training mode; nothing is updated.
        standard_error: of that mean, over `batches` batches.
        eval_loss: mean in evaluation mode, where batch norm has not averaged anything yet.
        chance: the loss of outputs that are all alike: ln C for the cross-entropy; for numbers, of outputs of zero,
            which is the mean as the answer where targets are standardised.
        prior: the loss of the best answer that does not look at the input: the labels' entropy for the cross-entropy,
            the variance for squared error; None where the loss is not one of these.
        classes: C, 2 where the loss is the cross-entropy of one logit; None for numbers.
        output_scale: for classes the deviation of a row's logits, root mean square; for numbers the root mean square.
        target_scale: root mean square of the targets; None for classes.
        input_scale: root mean square of what the model gets.
        standardised_loss: as `loss`, with inputs brought to mean 0 and deviation 1.
        penalty: weight_decay / 2 * ||W||^2 over all trainable parameters.
        standard_loss: the loss is the cross-entropy or squared error.
        sums, right, wrong: as in `LossKind`.
        examples: of each batch.
    """

    loss: float
    standard_error: float
    batches: int
    eval_loss: float
    chance: float
    prior: float | None
    classes: int | None
    output_scale: float
    target_scale: float | None
    input_scale: float
    standardised_loss: float
    penalty: float
    standard_loss: bool
    sums: bool
    right: float
    wrong: float
    examples: int


def judge(facts: InitialLoss) -> list[Finding]:
    """Judge the loss before training.

    For logits of standard deviation s the cross-entropy starts near ln C + s^2 / 2, so an excess is a matter of their
    scale. Below chance is never wrong: a trained model, or a bias that carries the classes' shares.
    """
    loss = facts.loss
    if not math.isfinite(loss):
        return [fails("finite", f"the loss before training is {loss}", "look at outputs, and at logarithms of 0")]
    if wrong_sign(facts.right, facts.wrong):
        values = f"{facts.right:.4g} for outputs that are right, {facts.wrong:.4g} for wrong ones"
        reason = f"wrong sign: the loss is {values}, and {loss:.4g} before training"
        return [fails("loss-sign", reason, "minimise its negative")]
    if facts.sums:
        reason = f"the loss is a sum over the batch, {loss:.4g} for {facts.examples} examples, and not their mean"
        first = suspect("reduction", reason, 'use reduction="mean", or return a pair, the sum and over how many it is')
    elif math.isfinite(facts.chance) and (facts.classes is not None or facts.standard_loss):
        first = _against_chance(facts)
    else:
        reason = f"loss {loss:.4g} before training, finite; there is no chance to compare a loss of your own with"
        first = passes("initial-loss", reason)
    findings, inputs = [first], facts.input_scale
    felt = abs(facts.standardised_loss - loss) > 0.1 * max(abs(facts.chance), abs(loss))
    if inputs > LARGE_INPUTS and felt and first.name != "inputs":
        reason = f"the inputs are not normalised: their root mean square is {inputs:.3g}, and the model feels it"
        findings.append(suspect("inputs", reason, _NORMALISE))
    return [*findings, passes("weight-decay", f"weight decay adds {facts.penalty:.3g} to the loss of {loss:.4g}")]


_NORMALISE = "bring the inputs to mean 0 and deviation 1, with the training part's numbers"


def _against_chance(facts: InitialLoss) -> Finding:
    error, chance, classes = facts.standard_error, facts.chance, facts.classes
    half = student(facts.batches - 1) * error
    if classes:
        logarithm = abs(chance - math.log(classes)) < 1e-3
        what = f"chance, ln {classes} = {chance:.4g}" if logarithm else f"{chance:.4g}, outputs that are all alike"
    else:
        of_mean = facts.prior is not None and abs(chance - facts.prior) <= BELOW * chance
        what = f"{chance:.4g}, {'the variance of the targets' if of_mean else 'outputs of 0'}"
    compared = f"{facts.loss:.4g} (standard error {error:.2g}) against {what}"
    limit = chance + max((HIGH - 1) * chance, LEAST_EXCESS if classes else 0.0)
    if facts.loss - half <= limit:
        if facts.prior is not None and facts.loss < (1 - BELOW) * chance - half:
            shares = abs(facts.loss - facts.prior) <= BELOW * chance and classes
            why = "the classes' shares are in the bias" if shares else "already trained, or by luck"
            if classes and not shares and facts.loss > facts.prior:
                why = "the answers lean to the frequent classes"
            return passes("initial-loss", f"{compared}: below chance, {why}")
        return passes("initial-loss", compared)
    far = facts.loss - half > chance + max((FAR - 1) * chance, 3 * LEAST_EXCESS if classes else 0.0)
    grave = fails if far else suspect
    if facts.standardised_loss <= limit and facts.input_scale > 2:
        reason = f"the inputs are not normalised: their root mean square is {facts.input_scale:.3g}"
        reason += f"; the loss is {compared}, and {facts.standardised_loss:.4g} when they are"
        return grave("inputs", reason, _NORMALISE)
    scale = f"{facts.output_scale:.3g}"
    if classes and not facts.standard_loss:  # of logits of deviation 0.6 a squared error is 4 times that of equal ones
        reason = f"the loss is one of your own, and {compared}; the outputs have deviation {scale}"
        advice = "if it grows with the outputs as this one does, a smaller last layer begins nearer"
        return suspect("initial-loss", reason, advice)
    if classes:
        reason = f"the logits are too large, deviation {scale} where 1 or less is usual: the loss is {compared}"
        return grave("logit-scale", reason, "the weights are too large: initialise them smaller, the last layer first")
    if facts.target_scale is not None and facts.output_scale <= facts.target_scale:
        return passes(
            "initial-loss", f"{compared}: outputs no larger than the targets, which differ from them by chance"
        )
    targets = f"too large for targets of {facts.target_scale:.3g}"
    reason = f"the outputs, root mean square {scale}, are {targets}: loss {compared}"
    return grave("output-scale", reason, "initialise the last layer smaller, or bring the targets to deviation 1")
