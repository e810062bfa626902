"""From runs on a small sample at several rates to the verdict of step 2: can this model learn anything by heart?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from surefoot.record.decision import Finding
from surefoot.record.run import Record

FALLS = 0.9
"""A loss has fallen when it is under this share of the initial one. Chosen by hand: noise over a whole pass is less."""
EXPLODES = 2.0
"""A loss that ends above the initial one by this factor has exploded. Chosen by hand."""
STILL_FALLING = 0.9
"""A loss that fell to less than this share over the last quarter of its run has not come to rest. Chosen by hand."""
LEARNED_VARIANCE = 0.01
"""A regression is learned when its squared error is under this share of the targets' variance: R2 above 0.99."""
WRONG_STATISTICS = 0.9
"""Under this accuracy in evaluation mode, at 100 % in training mode, the model cannot be used. Chosen by hand."""
LIMITS = (1e-6, 1e2)
"""No rates are tried beyond. Chosen by hand."""
_SAME = 1 + 1e-9


@dataclass(frozen=True, kw_only=True)
class SampleFacts:
    """What is known of the sample and the model before training; the fields are those of `measure.overfit.Sample`."""

    examples: int
    batch_size: int
    parameters: int
    outputs: int
    initial_loss: float
    contradictions: tuple[tuple[str, ...], ...] = ()
    best_accuracy: float | None = 1.0
    target_variance: float | None = None
    probabilities: bool = False
    functional_dropout: bool = False

    @property
    def classifies(self) -> bool:
        """Whether targets are classes."""
        return self.best_accuracy is not None


@dataclass(frozen=True)
class Trials:
    """The runs by their rate, and what they were to reach.

    Attributes:
        records: a row for each pass; its validation is the sample itself, in evaluation mode.
        facts: of the sample.
        enough: the loss at which a regression is learned; None for classes.
        cut: the runs were ended, or no others begun, because no more examples were granted.
    """

    records: Mapping[float, Record] = field(default_factory=dict)
    facts: SampleFacts = field(default_factory=lambda: SampleFacts(examples=0, batch_size=1, parameters=0, outputs=1,
                                                                   initial_loss=math.nan))  # fmt: skip
    enough: float | None = None
    cut: bool = False

    def trained(self, lr: float) -> bool:
        """Whether a run learned the sample in training mode."""
        last = self.records[lr].last
        if last is None:
            return False
        return last.train_accuracy == 1.0 if self.enough is None else last.train_loss <= self.enough

    def learned(self, lr: float) -> bool:
        """Whether a run learned the sample in training mode and in evaluation mode."""
        last = self.records[lr].last
        if last is None or not self.trained(lr):
            return False
        return last.val_accuracy == 1.0 if self.enough is None else (last.val_loss or 0.0) <= self.enough

    @property
    def passed(self) -> list[float]:
        """The rates at which the sample was learned in both modes, the quickest and then the lowest first."""
        return sorted((lr for lr in self.records if self.learned(lr)), key=lambda lr: (_steps(self.records[lr]), lr))

    @property
    def best(self) -> float:
        """The rate with the least loss at its end."""
        return min(self.records, key=lambda lr: (_last_loss(self.records[lr]), lr))

    def fate(self, lr: float) -> str:
        """What the loss did: "learned", "falls", "flat", "explodes" or "diverged"."""
        record, initial = self.records[lr], self.facts.initial_loss
        if record.outcome.kind == "diverged":
            return "diverged"
        if self.learned(lr):
            return "learned"
        loss = _last_loss(record)
        if loss > EXPLODES * abs(initial) + abs(initial) * (initial < 0):
            return "explodes"
        return "falls" if loss < initial - (1 - FALLS) * abs(initial) else "flat"


def beyond(trials: Trials) -> tuple[float, ...]:
    """Return two rates more, half a decade apart, on the side where the best rate lies on the border; none if inside.

    Where every run diverged or exploded the border is the lower one.
    """
    lrs = sorted(trials.records)
    gone = all(trials.fate(lr) in ("diverged", "explodes") for lr in lrs)
    half = math.sqrt(10)
    if gone or (trials.best == lrs[0] and trials.fate(lrs[0]) != "flat"):
        return tuple(sorted(lr for lr in (lrs[0] / half, lrs[0] / 10) if lr >= LIMITS[0] / _SAME))
    top = trials.fate(lrs[-1])
    if trials.best == lrs[-1] or (top == "flat" and not any(trials.fate(lr) == "falls" for lr in lrs)):
        return tuple(lr for lr in (lrs[-1] * half, lrs[-1] * 10) if lr <= LIMITS[1] * _SAME)
    return ()


def judged(trials: Trials) -> tuple[Finding, ...]:
    """Return the findings: whether the sample is learned by heart, and if not, what the runs say of the cause.

    Reading the runs: notes of the lecture "Training Neural Networks II" (CS231n; EECS 498), step 2: a loss that does
    not go down means a rate too low or a bad initialisation, one that explodes a rate too high or a bad initialisation.
    """
    findings = []
    facts = trials.facts
    if facts.probabilities:
        findings.append(_softmax(trials))
    if facts.contradictions:
        findings.append(_contradiction(facts))
    if facts.functional_dropout:
        findings.append(_still_random())
    passed = trials.passed
    if passed:
        lr = passed[0]
        findings.append(Finding(name="learns-by-heart", verdict="pass", reason=_success(trials, lr)))
        return tuple(findings)
    if trials.cut:
        findings.append(_unfinished(trials))
        return tuple(findings)
    only_training = [lr for lr in trials.records if trials.trained(lr)]
    findings.append(_statistics(trials, only_training) if only_training else _failure(trials))
    return tuple(findings)


def _success(trials: Trials, lr: float) -> str:
    steps, facts = _steps(trials.records[lr]), trials.facts
    what = "every one right" if trials.enough is None else f"loss under {trials.enough:.3g}"
    return f"{facts.examples} examples are learned by heart in {steps} steps at rate {lr:.2g}: {what}, in both modes"


def _failure(trials: Trials) -> Finding:
    fates = {lr: trials.fate(lr) for lr in sorted(trials.records)}
    lrs, initial = list(fates), trials.facts.initial_loss
    tried = f"{len(lrs)} rates from {lrs[0]:.2g} to {lrs[-1]:.2g}"
    if all(fate in ("diverged", "explodes") for fate in fates.values()):
        return Finding(
            name="explodes", verdict="fail",
            reason=f"the loss explodes at each of {tried}, from {initial:.4g} at the start",
            advice="the rate is too high or the initialisation bad: look at the scale of weights, inputs and targets",
        )  # fmt: skip
    if "falls" not in fates.values():
        return Finding(
            name="does-not-fall", verdict="fail",
            reason=f"the loss falls at none of {tried}; it starts at {initial:.4g}, and its least end is "
            f"{_last_loss(trials.records[trials.best]):.4g}",
            advice="the rate is too low or the initialisation bad, or gradients do not reach the weights: check "
            "the wiring, then look at activations layer by layer",
        )  # fmt: skip
    return _plateau(trials)


def _unfinished(trials: Trials) -> Finding:
    """Short runs that fall prove nothing yet; that none of them falls is worth a look."""
    record = trials.records[trials.best]
    falls = any(trials.fate(lr) == "falls" or trials.trained(lr) for lr in trials.records)
    return Finding(
        name="unfinished", verdict="pass" if falls else "suspect",
        reason=f"not decided: {_at_best(trials)} in {_steps(record)} steps, and no more examples were granted",
        advice=None if falls else "surefoot check gives this step all the time that it takes",
    )  # fmt: skip


def _at_best(trials: Trials) -> str:
    record, initial = trials.records[trials.best], trials.facts.initial_loss
    last, loss = record.last, _last_loss(record)
    accuracy = "" if last is None or last.train_accuracy is None else f" and {last.train_accuracy:.1%} right"
    goes = "falls" if loss < initial else "goes"
    return f"at best, at rate {trials.best:.2g}, the loss {goes} from {initial:.4g} to {loss:.4g}{accuracy}"


def _plateau(trials: Trials) -> Finding:
    facts, record, seen = trials.facts, trials.records[trials.best], _at_best(trials)
    if _falling(record):
        return Finding(
            name="still-falling", verdict="suspect",
            reason=f"{seen} in {_steps(record)} steps, and was still falling",
            advice=f"give more time: max_steps = {4 * _steps(record)}",
        )  # fmt: skip
    if facts.contradictions or facts.probabilities:
        return Finding(
            name="plateau", verdict="fail", reason=f"{seen} and stays there",
            advice="the cause was found: see the finding before this one",
        )  # fmt: skip
    if facts.examples * facts.outputs > facts.parameters:
        return Finding(
            name="capacity", verdict="suspect",
            reason=f"{seen} and stays there; {facts.parameters:,} parameters for {facts.outputs} outputs are "
            f"fewer than {facts.examples} examples need to be learned by heart",
            advice="so small a model cannot pass this test on this sample: give fewer examples, or go on",
        )  # fmt: skip
    return Finding(
        name="plateau", verdict="fail",
        reason=f"{seen} and stays there, although {facts.parameters:,} parameters could hold {facts.examples} examples",
        advice="look for a bottleneck in the model, saturated or dead units, inputs that do not tell the examples "
        "apart, wrong labels, and noise inside the model",
    )  # fmt: skip


def _statistics(trials: Trials, lrs: list[float]) -> Finding:
    def seen(lr: float) -> float:
        last = trials.records[lr].last
        value = None if last is None else last.val_accuracy if trials.enough is None else -(last.val_loss or math.inf)
        return -math.inf if value is None else value

    lr = max(lrs, key=seen)
    best = seen(lr)
    what = f"{best:.1%} right" if trials.enough is None else f"a loss of {-best:.4g}"
    unusable = best < WRONG_STATISTICS if trials.enough is None else True
    return Finding(
        name="statistics", verdict="fail" if unusable else "suspect",
        reason=f"at rate {lr:.2g} the sample is learned in training mode, but in evaluation mode there are {what}",
        advice="the running statistics of batch norm do not fit the weights: look at its momentum, at very small "
        "batches, and at modules that behave differently in the two modes",
    )  # fmt: skip


def _softmax(trials: Trials) -> Finding:
    classes = trials.facts.outputs
    floor = math.log(math.e + classes - 1) - 1
    return Finding(
        name="softmax-before-loss", verdict="fail",
        reason=f"the outputs are already probabilities, and cross-entropy takes the softmax once more: the loss cannot "
        f"fall under {floor:.4g}, which is ln(e + C - 1) - 1 for {classes} classes",
        advice="return the logits: remove the softmax at the end of the model",
    )  # fmt: skip


def _contradiction(facts: SampleFacts) -> Finding:
    first = ", ".join(facts.contradictions[0][:3])
    right = "" if facts.best_accuracy is None else f": at most {facts.best_accuracy:.1%} can be right"
    return Finding(
        name="contradicting-labels", verdict="suspect",
        reason=f"{len(facts.contradictions)} inputs of the sample stand there with different targets{right}, such as "
        f"{first}",
        advice="mend the labels; surefoot data check finds all of them",
    )  # fmt: skip


def _still_random() -> Finding:
    return Finding(
        name="noise-inside", verdict="suspect",
        reason="with torch's dropout modules off, the model in training mode still gives other outputs each time",
        advice="functional dropout and other noise cannot be switched off from outside: make it a module",
    )  # fmt: skip


def _last_loss(record: Record) -> float:
    last = record.last
    loss = math.inf if last is None or record.outcome.kind == "diverged" else last.train_loss
    return loss if math.isfinite(loss) else math.inf


def _steps(record: Record) -> int:
    return record.last.step if record.last is not None else record.outcome.step


def _falling(record: Record) -> bool:
    """Whether the mean loss of the last eighth of the run is well under that of the eighth before the last quarter."""
    losses = [row.train_loss for row in record.rows]
    eighth = len(losses) // 8
    if eighth == 0:
        return False
    return sum(losses[-eighth:]) < STILL_FALLING * sum(losses[-3 * eighth : -2 * eighth])
