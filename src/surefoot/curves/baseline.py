"""What a result is worth beside the simplest answers, in findings."""

from __future__ import annotations

import math

from surefoot.record.baseline import Baseline, Simple
from surefoot.record.decision import Finding, passes, suspect

_LOSS = "loss of a "
"""Begins the measure of answers of which each example has several."""
NO_BETTER = "no-better-than-constant"
LINEAR_BETTER = "linear-is-better"
_NOTHING = 0.5
"""The area under the ROC curve of outputs that rank nothing."""


def beside_baseline(found: Baseline, *, linear_model: bool = False) -> list[Finding]:
    """Return what the simplest answers say of a result: one finding for the constant, one for the linear model.

    Args:
        found: the result beside them.
        linear_model: whether the network is a linear model too, which need not be better than one.

    >>> from surefoot.record.baseline import class_baseline
    >>> y = [0] * 97 + [1] * 3
    >>> found = class_baseline("test", [True] * 97 + [False] * 3, [-0.13] * 100, y, {"no": 970, "yes": 30})
    >>> beside_baseline(found)[0].name
    'no-better-than-constant'
    """
    constant = next(each for each in found.against if each.name == "constant")
    linear = next((each for each in found.against if each.name == "linear"), None)
    findings = [_constant(found, constant)]
    if linear is not None and not linear.gain.is_better and not (linear_model and not linear.gain.is_worse):
        findings.append(_linear(found, linear))
    return findings


def _constant(found: Baseline, constant: Simple) -> Finding:
    if found.measure.startswith(_LOSS):
        return _of_answers(found, constant)
    if constant.gain.is_better:
        return passes("baseline", f"{_achieved(found)}, {constant.words} {_gets(found, constant)}: "
                      f"{_gained(found, constant)} more")  # fmt: skip
    than = "is no better than" if constant.gain.value <= 0 else "cannot be told from"
    reason = (
        f"{_achieved(found)}, which {than} {constant.words} ({_score(found, constant.score)}): "
        f"the difference is {_gained(found, constant)}"
    )
    gain, auc = found.log_loss_gain, found.auc
    knows = []
    if gain is not None and gain.is_better:
        knows.append(f"a loss of {found.log_loss:.3g} against {found.prior_loss:.3g} of the classes' shares")
    if auc is not None and auc.low > _NOTHING:
        knows.append(f"an AUC of {auc.value:.3g} [{auc.low:.3g}, {auc.high:.3g}]")
    if knows:
        reason += f"; the probabilities do say something, by {' and '.join(knows)}"
    if constant.gain.value > 0:
        advice = f"judge it on more examples: {found.examples:,} cannot show that it is better"
    elif knows:
        advice = (
            "judge it by recall and average precision (surefoot evaluate), weigh the classes (class_weights = "
            '"balanced"), or answer by a threshold of your own'
        )
    else:
        advice = (
            "look whether the inputs hold the answer (surefoot check) and at the learning rate (surefoot find-lr), or "
            "get more examples"
        )
    return suspect(NO_BETTER, reason, advice)


def _of_answers(found: Baseline, simple: Simple) -> Finding:
    """Return what the shares of the classes say of a model of pixels, tokens or labels."""
    reason = (
        f"the {found.measure} is {_nats(found, found.score)} on {_where(found)}, {simple.words} gets "
        f"{_nats(found, simple.score)}: {simple.gain.value:.3g} [{simple.gain.low:.3g}, {simple.gain.high:.3g}] less"
    )
    if simple.gain.is_better:
        return passes("baseline", reason)
    return suspect(
        NO_BETTER, f"{reason}, so the model is not shown to know more",
        "look whether the inputs hold the answer (surefoot check) and at the learning rate (surefoot find-lr), or "
        "get more examples",
    )  # fmt: skip


def _nats(found: Baseline, loss: float) -> str:
    perplexity = f" (perplexity {math.exp(min(loss, 700)):.4g})" if found.measure.endswith("token") else ""
    return f"{loss:.4g}{perplexity}"


def _linear(found: Baseline, linear: Simple) -> Finding:
    gets = f"{linear.words} {_gets(found, linear)} on the same examples"
    if linear.gain.is_worse:
        return suspect(
            LINEAR_BETTER,
            f"{gets}, and this model {_score(found, found.score)}: the difference is {_gained(found, linear)}",
            "take the linear model, or look for better settings: surefoot tune",
        )
    return passes("linear-as-good", f"{gets}: the network is not shown to be better than it, the difference is "
                  f"{_gained(found, linear)}")  # fmt: skip


def _achieved(found: Baseline) -> str:
    where = _where(found)
    if found.measure == "accuracy":
        return f"{found.score:.1%} of {where} are right"
    if found.measure != "R2":
        return f"{found.measure} is {found.score:.1%} on {where}"
    return f"R2 is {_r2(found.score)} on {where}, counted from the training mean"


def _where(found: Baseline) -> str:
    chosen = " (there is no test part; choices may have been made on it)" if found.part == "validation" else ""
    return f"the {found.examples:,} examples of the {found.part} part{chosen}"


def _gets(found: Baseline, simple: Simple) -> str:
    return f"gets {_score(found, simple.score)}"


def _score(found: Baseline, score: float) -> str:
    return f"{score:.1%}" if found.measure != "R2" else f"R2 {_r2(score)}"


def _r2(value: float) -> str:
    """Return an R2 with four decimals, as `evaluate` shows it; one that is far below 0 with three digits."""
    return f"{value:.4f}" if value > -10 else f"{value:.3g}"


def _gained(found: Baseline, simple: Simple) -> str:
    gain = simple.gain
    if found.measure != "R2":
        return f"{100 * gain.value:+.1f} points [{100 * gain.low:.1f}, {100 * gain.high:.1f}]"
    return f"{gain.value:+.3g} [{gain.low:.3g}, {gain.high:.3g}]"
