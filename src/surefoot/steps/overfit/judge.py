"""Step 2, judged: from runs on a small sample at several rates to whether this model can learn anything by heart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from surefoot.record.decision import Finding, fails, passes, suspect
from surefoot.record.run import Record, Row
from surefoot.steps.wiring.judge import softmax_floor

FALLS = 0.9
"""A loss has fallen when it is under this share of the initial one. Chosen by hand: noise over a whole pass is less."""
EXPLODES = 2.0
"""A loss that ends above the initial one by this factor has exploded. Chosen by hand."""
STILL_FALLING = 0.9
"""A loss that fell to less than this share over the last quarter of its run has not come to rest. Chosen by hand."""
LEARNED_VARIANCE = 0.01
"""A regression is learned when its squared error is under this share of the targets' variance: R2 above 0.99."""
LEARNED_DENSE = 0.1
"""Pixels and tokens are learned when the loss has come so near to the least one, as a share of what the best constant
answer leaves over it. A fault leaves it at that answer, and to the last pixel a sample is often larger than a small
model. Chosen by hand."""
LITTLE = 0.75
"""Share of the loss of a constant answer from which the least loss of a model says that it tells too little apart.
Chosen by hand."""
LEARNED_UNKNOWN = 0.5
"""A loss whose least value is not known has to fall by this share. Chosen by hand."""
NEARLY = 0.1
"""Under this share a regression learns, though not to the end: R2 above 0.9. Chosen by hand."""
WRONG_STATISTICS = 0.9
"""Under this accuracy in evaluation mode, at 100 % in training mode, the model cannot be used. Chosen by hand."""
LIMITS = (1e-6, 1e2)
"""No rates are tried beyond. Chosen by hand."""
_SAME = 1 + 1e-9
_ROUNDING = 1e-9
"""Of a share that is a count divided by another."""
_HALF_A_DECADE = math.sqrt(10)
_GONE = ("diverged", "explodes")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What can be said of a sample and the model before anything is trained.

    Attributes:
        examples: N.
        batch_size: examples per update.
        parameters: trainable numbers of the model.
        outputs: classes C, or values per example.
        initial_loss: mean loss of the initial weights, in training mode.
        contradictions: groups of examples with identical input and different targets, each with their names.
        best_accuracy: share that can be right at most, given the contradictions; None for a regression.
        target_variance: mean over the values of the targets' variance; None for classes.
        constant_loss: of pixels and tokens, what the best answer that does not look at the inputs leaves; else None.
        contexts: how many places of pixels or tokens the model tells apart; None of others.
        least_loss: of a regression with a shipped loss, what is left where examples with identical input all get the
            mean of their targets; of pixels and tokens, where those in one context all get their shares.
        probabilities: whether the outputs for classes are already probabilities.
        floor_known: whether it is known how low the loss can go: not of a `loss_fn`, nor of targets of any form.
        functional_dropout: whether the untrained model in training mode still gives other outputs each time.
    """

    examples: int
    batch_size: int
    parameters: int
    outputs: int
    initial_loss: float
    contradictions: tuple[tuple[str, ...], ...] = ()
    best_accuracy: float | None = 1.0
    target_variance: float | None = None
    constant_loss: float | None = None
    contexts: int | None = None
    least_loss: float = 0.0
    probabilities: bool = False
    functional_dropout: bool = False
    floor_known: bool = True


@dataclass(frozen=True)
class Facts:
    """The sample, and the runs on it.

    Attributes:
        sample: what was known before training.
        enough: the loss at which a regression is learned; None for classes.
        records: of the runs by their rate: a row for each pass; its validation is the sample, in evaluation mode.
        cut: the runs were ended, or no others begun, because no more examples were granted.
    """

    sample: Sample
    enough: float | None = None
    records: Mapping[float, Record] = field(default_factory=dict)
    cut: bool = False

    def learned_in_training(self, lr: float) -> bool:
        """Whether a run learned the sample in training mode."""
        return learned_in_training(self.records[lr].last, self.enough, self.right)

    @property
    def right(self) -> float:
        """The share that must be right where the sample is of classes: all that the contradictions leave."""
        return 1.0 if self.sample.best_accuracy is None else self.sample.best_accuracy

    @property
    def passed(self) -> list[float]:
        """The rates at which the sample was learned in both modes, the quickest and then the lowest first."""
        rates = [lr for lr, record in self.records.items() if learned(record.last, self.enough, self.right)]
        return sorted(rates, key=lambda lr: (_steps(self.records[lr]), lr))

    @property
    def best(self) -> float:
        """The rate with the least loss at its end."""
        return min(self.records, key=lambda lr: (_last_loss(self.records[lr]), lr))

    def fate(self, lr: float) -> str:
        """What the loss did: "learned", "falls", "flat", "explodes" or "diverged"."""
        record, initial = self.records[lr], self.sample.initial_loss
        if record.outcome.kind == "diverged":
            return "diverged"
        if learned(record.last, self.enough, self.right):
            return "learned"
        loss = _last_loss(record)
        if loss > EXPLODES * abs(initial) + abs(initial) * (initial < 0):
            return "explodes"
        return "falls" if loss < initial - (1 - FALLS) * abs(initial) else "flat"


def loss_enough(sample: Sample, *, custom_loss: bool) -> float | None:
    """Return the loss at which a regression is learned; None for classes, of which all must be right."""
    if sample.best_accuracy is not None:
        return None
    if sample.constant_loss is not None:
        room = max(sample.constant_loss - sample.least_loss, LEARNED_DENSE * sample.constant_loss)
        return sample.least_loss + LEARNED_DENSE * room
    if not sample.floor_known:
        return sample.initial_loss - LEARNED_UNKNOWN * abs(sample.initial_loss)
    whole = abs(sample.initial_loss) if custom_loss or sample.target_variance is None else sample.target_variance
    return LEARNED_VARIANCE * whole + sample.least_loss


def learned_in_training(row: Row | None, enough: float | None, right: float = 1.0) -> bool:
    """Return whether the sample is known by heart in training mode, over the last pass.

    Args:
        row: of a pass.
        enough: the loss to reach, or None for an accuracy.
        right: that accuracy.
    """
    return row is not None and _is_learned(row.train_loss, row.train_accuracy, enough, right)


def learned(row: Row | None, enough: float | None, right: float = 1.0) -> bool:
    """Return whether the sample is known by heart, in training mode and after the pass in evaluation mode too."""
    if row is None or not learned_in_training(row, enough, right):
        return False
    return _is_learned(row.val_loss, row.val_accuracy, enough, right)


def _is_learned(loss: float | None, accuracy: float | None, enough: float | None, right: float) -> bool:
    if enough is None:
        return accuracy is not None and accuracy >= right - _ROUNDING
    return loss is not None and loss <= enough


def beyond(facts: Facts) -> tuple[float, ...]:
    """Return two rates more, half a decade apart, on the side where the best rate lies on the border; none if inside.

    Where every run diverged or exploded the border is the lower one.
    """
    fates = {lr: facts.fate(lr) for lr in sorted(facts.records)}
    low, high = min(fates), max(fates)
    if all(fate in _GONE for fate in fates.values()) or (facts.best == low and fates[low] != "flat"):
        return tuple(lr for lr in (low / 10, low / _HALF_A_DECADE) if lr >= LIMITS[0] / _SAME)
    if facts.best == high or (fates[high] == "flat" and "falls" not in fates.values()):
        return tuple(lr for lr in (high * _HALF_A_DECADE, high * 10) if lr <= LIMITS[1] * _SAME)
    return ()


def judge(facts: Facts) -> list[Finding]:
    """Return the findings: whether the sample is learned by heart, and if not, what the runs say of the cause.

    Reading the runs: notes of the lecture "Training Neural Networks II" (CS231n; EECS 498), step 2: a loss that does
    not go down means a rate too low or a bad initialisation, one that explodes a rate too high or a bad initialisation.
    """
    sample, findings = facts.sample, []
    if sample.probabilities:
        reason = (
            "the outputs are already probabilities, and cross-entropy takes the softmax once more: the loss cannot "
            f"fall under {softmax_floor(sample.outputs):.4g}, which is ln(e + C - 1) - 1 for {sample.outputs} classes"
        )
        advice = "return the logits: remove the softmax at the end of the model"
        findings.append(fails("softmax-before-loss", reason, advice))
    if sample.contradictions:
        findings.append(_contradiction(sample))
    if sample.contexts is not None and sample.constant_loss and sample.least_loss > LITTLE * sample.constant_loss:
        findings.append(_blind(sample))
    if sample.functional_dropout:
        reason = "with torch's dropout modules off, the model in training mode still gives other outputs each time"
        advice = "functional dropout and other noise cannot be switched off from outside: make it a module"
        findings.append(suspect("noise-inside", reason, advice))
    if facts.passed:
        return [*findings, _success(facts)]
    if facts.cut:
        return [*findings, _unfinished(facts)]
    only_training = [lr for lr in facts.records if facts.learned_in_training(lr)]
    return [*findings, _statistics(facts, only_training) if only_training else _failure(facts)]


def _contradiction(sample: Sample) -> Finding:
    right = "" if sample.best_accuracy is None else f": at most {sample.best_accuracy:.1%} can be right"
    inputs = f"{len(sample.contradictions)} inputs of the sample stand there with different targets"
    reason = f"{inputs}{right}, such as {', '.join(sample.contradictions[0][:3])}"
    return suspect("contradicting-labels", reason, "mend the labels; surefoot data check finds all of them")


def _blind(sample: Sample) -> Finding:
    count = "gives every pixel or token one answer" if sample.contexts == 1 else f"has {sample.contexts} answers at all"
    least = f"cannot come under {sample.least_loss:.3g}, where a constant answer has {sample.constant_loss:.3g}"
    advice = "look for what takes the inputs away: a mean over pixels or positions, a mask that hides all, a dead layer"
    return (fails if sample.contexts == 1 else suspect)("blind", f"the model {count}, and {least}", advice)


def _success(facts: Facts) -> Finding:
    lr = facts.passed[0]
    every = "every one right" if facts.right == 1 else f"{facts.right:.1%} right, all that their labels allow"
    what = every if facts.enough is None else f"loss under {facts.enough:.3g}"
    if not facts.sample.floor_known:
        note = "how low it can go is not known of a loss of your own"
        reason = f"the loss of {facts.sample.examples} examples falls by half in {_steps(facts.records[lr])} steps"
        return passes("learns-by-heart", f"{reason} at rate {lr:.2g}: {what}, in both modes; {note}")
    if facts.sample.constant_loss is not None:
        least, constant = facts.sample.least_loss, facts.sample.constant_loss
        what += f", where {least:.3g} is the least and {constant:.3g} that of a constant answer"
    quick = f"{facts.sample.examples} examples are learned by heart in {_steps(facts.records[lr])} steps"
    return passes("learns-by-heart", f"{quick} at rate {lr:.2g}: {what}, in both modes")


def _unfinished(facts: Facts) -> Finding:
    """Short runs that fall prove nothing yet; that none of them falls is worth a look."""
    steps = f"{_steps(facts.records[facts.best])} steps"
    reason = f"not decided: {_at_best(facts)} in {steps}, and no more examples were granted"
    if any(facts.fate(lr) == "falls" or facts.learned_in_training(lr) for lr in facts.records):
        return passes("unfinished", reason)
    return suspect("unfinished", reason, "surefoot check gives this step all the time that it takes")


def _at_best(facts: Facts) -> str:
    record, initial = facts.records[facts.best], facts.sample.initial_loss
    right, loss = None if record.last is None else record.last.train_accuracy, _last_loss(record)
    accuracy = "" if right is None else f" and {right:.1%} right"
    goes = "falls" if loss < initial else "goes"
    return f"at best, at rate {facts.best:.2g}, the loss {goes} from {initial:.4g} to {loss:.4g}{accuracy}"


def _statistics(facts: Facts, lrs: list[float]) -> Finding:
    def score(lr: float) -> float:
        last = facts.records[lr].last
        value = None if last is None else last.val_accuracy if facts.enough is None else -(last.val_loss or math.inf)
        return -math.inf if value is None else value

    lr = max(lrs, key=score)
    what = f"{score(lr):.1%} right" if facts.enough is None else f"a loss of {-score(lr):.4g}"
    usable = facts.enough is None and score(lr) >= WRONG_STATISTICS
    reason = f"at rate {lr:.2g} the sample is learned in training mode, but in evaluation mode there are {what}"
    advice = (
        "the running statistics of batch norm do not fit the weights: look at its momentum, at very small batches, and "
        "at modules that behave differently in the two modes"
    )
    return (suspect if usable else fails)("statistics", reason, advice)


def _failure(facts: Facts) -> Finding:
    fates = {lr: facts.fate(lr) for lr in sorted(facts.records)}
    initial = f"{facts.sample.initial_loss:.4g}"
    rates = f"{len(fates)} rates from {min(fates):.2g} to {max(fates):.2g}"
    if all(fate in _GONE for fate in fates.values()):
        reason = f"the loss explodes at each of {rates}, from {initial} at the start"
        advice = "the rate is too high or the initialisation bad: look at the scale of weights, inputs and targets"
        return fails("explodes", reason, advice)
    if "falls" in fates.values():
        return _plateau(facts)
    least = f"{_last_loss(facts.records[facts.best]):.4g}"
    reason = f"the loss falls at none of {rates}; it starts at {initial}, and its least end is {least}"
    advice = (
        "the rate is too low or the initialisation bad, or gradients do not reach the weights: check the wiring, then "
        "look at activations layer by layer"
    )
    return fails("does-not-fall", reason, advice)


def _plateau(facts: Facts) -> Finding:
    sample, record, ends = facts.sample, facts.records[facts.best], _at_best(facts)
    if not sample.floor_known:
        return passes("falls", f"{ends}; how low it can go is not known of a loss of your own")
    if _still_falling(record):
        reason = f"{ends} in {_steps(record)} steps, and was still falling"
        return suspect("still-falling", reason, f"give more time: max_steps = {4 * _steps(record)}")
    if (
        sample.constant_loss is None
        and facts.enough is not None
        and _last_loss(record) <= NEARLY / LEARNED_VARIANCE * facts.enough
    ):
        advice = "go on if the result is good enough; a wider model, or a longer run, learns more by heart"
        return suspect("nearly", f"{ends} and stays there, which is near the {facts.enough:.4g} of R2 0.99", advice)
    if sample.contradictions or sample.probabilities:
        return fails("plateau", f"{ends} and stays there", "the cause was found: see the finding before this one")
    if sample.examples * sample.outputs > sample.parameters:
        reason = (
            f"{ends} and stays there; {sample.parameters:,} parameters for {sample.outputs} outputs are "
            f"fewer than {sample.examples} examples need to be learned by heart"
        )
        advice = "so small a model cannot pass this test on this sample: give fewer examples, or go on"
        return suspect("capacity", reason, advice)
    room = f"although {sample.parameters:,} parameters could hold {sample.examples} examples"
    advice = (
        "look for a bottleneck in the model, saturated or dead units, inputs that do not tell the examples apart, "
        "wrong labels, and noise inside the model"
    )
    return fails("plateau", f"{ends} and stays there, {room}", advice)


def _last_loss(record: Record) -> float:
    last = record.last
    loss = math.inf if last is None or record.outcome.kind == "diverged" else last.train_loss
    return loss if math.isfinite(loss) else math.inf


def _steps(record: Record) -> int:
    return record.last.step if record.last is not None else record.outcome.step


def _still_falling(record: Record) -> bool:
    """Whether the mean loss of the last eighth of the run is well under that of the eighth before the last quarter.

    Fewer than eight passes do not tell.
    """
    losses = [row.train_loss for row in record.rows]
    eighth = len(losses) // 8
    return eighth > 0 and sum(losses[-eighth:]) < STILL_FALLING * sum(losses[-3 * eighth : -2 * eighth])
