"""Step 1, judged: is the loss before training the one of chance, and if not, why."""

from __future__ import annotations

import math

from surefoot.record.decision import Finding

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


def initial_loss(
    *,
    loss: float,
    standard_error: float,
    eval_loss: float,
    chance: float,
    prior: float | None,
    classes: int | None,
    output_scale: float,
    target_scale: float | None,
    input_scale: float,
    standardised_loss: float,
    penalty: float,
    standard_loss: bool,
    sums: bool,
    right: float,
    wrong: float,
    examples: int,
) -> list[Finding]:
    """Judge the loss before training; the arguments are those of `steps.initial_loss.measure.InitialLoss`.

    For logits of standard deviation s the cross-entropy starts near ln C + s^2 / 2, so an excess is a matter of their
    scale. Below chance is never wrong: a trained model, or a bias that carries the classes' shares.
    """
    if not math.isfinite(loss):
        return [_failed("finite", f"the loss before training is {loss}", "look at outputs, and at logarithms of 0")]
    if right > wrong + 1e-4 * max(abs(right), abs(wrong)):
        reason = f"wrong sign: the loss is {right:.4g} for outputs that are right, {wrong:.4g} for wrong ones"
        return [_failed("loss-sign", f"{reason}, and {loss:.4g} before training", "minimise its negative")]
    found = []
    if sums:
        reason = f"the loss is a sum over the batch, {loss:.4g} for {examples} examples, and not their mean"
        found.append(Finding(name="reduction", verdict="suspect", reason=reason, advice='use reduction="mean"'))
    elif math.isfinite(chance) and (classes is not None or standard_loss):
        found.append(
            _against_chance(loss, standard_error, chance, prior, classes, output_scale, target_scale, input_scale,
                            standardised_loss, standard_loss)
        )  # fmt: skip
    else:
        reason = f"loss {loss:.4g} before training, finite; there is no chance to compare a loss of your own with"
        found.append(Finding(name="initial-loss", verdict="pass", reason=reason))
    large = input_scale > LARGE_INPUTS and abs(standardised_loss - loss) > 0.1 * max(abs(chance), abs(loss), 1e-3)
    if large and all(finding.name != "inputs" for finding in found):
        reason = f"the inputs are not normalised: their root mean square is {input_scale:.3g}, and the model feels it"
        found.append(Finding(name="inputs", verdict="suspect", reason=reason, advice=_NORMALISE))
    found.append(_weight_decay(loss, penalty))
    return found


_NORMALISE = "bring the inputs to mean 0 and deviation 1, with the training part's numbers"


def _against_chance(
    loss: float,
    error: float,
    chance: float,
    prior: float | None,
    classes: int | None,
    outputs: float,
    targets: float | None,
    inputs: float,
    standardised: float,
    standard_loss: bool,
) -> Finding:
    what = f"chance, ln {classes} = {chance:.4g}" if classes and abs(chance - math.log(classes)) < 1e-3 else None
    what = what or (f"{chance:.4g}, outputs that are all alike" if classes else f"{chance:.4g}, outputs of 0")
    seen = f"{loss:.4g} (standard error {error:.2g}) against {what}"
    limit = chance + max((HIGH - 1) * chance, LEAST_EXCESS if classes else 0.0)
    if loss - 2 * error <= limit:
        if prior is not None and loss < (1 - BELOW) * chance - 2 * error:
            near = abs(loss - prior) <= BELOW * chance
            note = "the classes' shares are in the bias" if near and classes else "already trained"
            return Finding(name="initial-loss", verdict="pass", reason=f"{seen}: below chance, {note}")
        return Finding(name="initial-loss", verdict="pass", reason=seen)
    far = loss - 2 * error > chance + max((FAR - 1) * chance, 3 * LEAST_EXCESS if classes else 0.0)
    verdict = "fail" if far else "suspect"
    if standardised <= limit and inputs > 2:
        reason = (
            f"the inputs are not normalised: their root mean square is {inputs:.3g}; the loss is {seen}, "
            f"and {standardised:.4g} when they are"
        )
        return Finding(name="inputs", verdict=verdict, reason=reason, advice=_NORMALISE)
    if classes and not standard_loss:  # of logits of deviation 0.6 a squared error is 4 times that of equal ones
        reason = f"the loss is one of your own, and {seen}; the outputs have deviation {outputs:.3g}"
        advice = "if it grows with the outputs as this one does, a smaller last layer begins nearer"
        return Finding(name="initial-loss", verdict="suspect", reason=reason, advice=advice)
    if classes:
        reason = f"the logits are too large, deviation {outputs:.3g} where 1 or less is usual: the loss is {seen}"
        advice = "the weights are too large: initialise them smaller, the last layer first"
        return Finding(name="logit-scale", verdict=verdict, reason=reason, advice=advice)
    reason = f"the outputs, root mean square {outputs:.3g}, are too large for targets of {targets:.3g}: loss {seen}"
    return Finding(name="output-scale", verdict=verdict, reason=reason,
                   advice="initialise the last layer smaller, or bring the targets to deviation 1")  # fmt: skip


def _weight_decay(loss: float, penalty: float) -> Finding:
    reason = f"weight decay adds {penalty:.3g} to the loss of {loss:.4g}"
    return Finding(name="weight-decay", verdict="pass", reason=reason)


def _failed(name: str, reason: str, advice: str) -> Finding:
    return Finding(name=name, verdict="fail", reason=reason, advice=advice)
