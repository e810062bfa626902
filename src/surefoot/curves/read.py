"""Step 6: what the loss and accuracy curves of a run say, in words and with the place where each thing shows.

One record cannot tell every cause from every other: a rate that is too low looks like a run that is too short. Where
that is so the finding names both, and it is silent where the numbers lie within their noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surefoot.record.decision import Decision, Finding, Verdict, worst
from surefoot.record.intervals import LEVEL, of_discordant, slope_of, student
from surefoot.record.run import Outcome, Row

LEAST_ROWS = 6
"""Fewer rows make no curve: each third of it needs two. Chosen by hand."""
GAP = 0.1
"""Training above validation accuracy by more than this, with nothing left to learn, is a set learned by heart: the
value of SageMaker Debugger's rule Overfit and of AutoTrainer (Zhang et al. 2021, ICSE)."""
RISE = 0.1
"""A validation loss that has risen by more than this share of its least, while the training loss fell, is over-fitting:
the value of SageMaker Debugger's rule Overtraining."""
_BY_HEART, _HALF = 0.99, 0.5
_AT_ONCE = 0.1
"""A loss that keeps more than nine tenths of its way for later, after more than the share below, stood still."""
_STOOD = 0.2
"""Share of the run that a plateau at the start lasts. Chosen by hand: warm-up takes 5 to 15 %."""
_LEAST_STAND = 50
"""Updates: a shorter stand is how any training begins. Chosen by hand."""
_STRAIGHT = 0.6
"""A loss that falls in the second third of a run by more than this share of its fall in the first has no bend: "with
low learning rates the improvements will be linear" (CS231n notes, neural-networks-3). Chosen by hand."""
_HIGH, _LOW = 0.5, 0.1
"""Shares of the peak rate: above the first a run is still taking large steps, below the second hardly any."""
_CRAWL = 0.1
"""Share of its earlier pace at which the loss goes on after the rate was lowered. Chosen by hand."""
_EARLY = 0.6
"""A rate that is low before this share of the run was lowered early: step schedules lower it a hundredfold at 75 % (He
et al. 2015, arXiv 1512.03385, section 4.2: at 50 and 75 %)."""
_LITTLE = 0.03
"""A relative change of the loss that is none. Chosen by hand."""
_LONGER = 1.25
"""Times the length for which a gain is foretold: extrapolating further is guessing. Chosen by hand."""


@dataclass(frozen=True)
class Sign:
    """One thing that the curves show, and where: update `step`, None where it is the whole run."""

    finding: Finding
    step: int | None = None


def diverged(rows: Sequence[Row], outcome: Outcome) -> Sign:
    """What a run that diverged says: nothing but that."""
    rate = f" at learning rate {rows[-1].lr:.3g}" if rows else ""
    return Sign(
        Finding(name="diverged", verdict="fail", reason=f"diverged after {outcome.step:,} updates{rate}: "
                f"{outcome.reason}",
                advice="lower the learning rate by 3 to 10, or warm it up; surefoot check tells whether the model "
                "is to blame"),
        rows[-1].step if rows else None,
    )  # fmt: skip


def nothing_learned(curve: Sequence[Row]) -> Sign | None:
    """A loss that is at the end where it was at the start."""
    begun, last = initial(curve) if curve else 0.0, curve[-1].train_loss if curve else -1.0
    if begun - last > _LITTLE * abs(begun):
        return None
    rates = f"{min(row.lr for row in curve):.2g} to {max(row.lr for row in curve):.2g}"
    lower = "lower the learning rate by 3 to 10; " if last > 2 * abs(begun) else ""
    return Sign(
        Finding(name="nothing-learned", verdict="fail", reason=f"the training loss began at {begun:.3g} and ended "
                f"at {last:.3g}, at learning rates from {rates}",
                advice=f"{lower}surefoot find-lr shows which rates make it fall; surefoot check whether the model "
                "can learn at all"),
        curve[-1].step,
    )  # fmt: skip


def plateau(curve: Sequence[Row]) -> Sign | None:
    """A loss that stood still at first, and why it then fell: by itself, or because the rate fell."""
    losses = np.array([row.train_loss for row in curve])
    begun = initial(curve)
    way = begun - losses.min()
    if not way > _LITTLE * abs(begun):
        return None
    moved = np.flatnonzero(losses < begun - _AT_ONCE * way)
    at = int(moved[0])
    before = curve[at - 1].step if at else 0
    share = before / curve[-1].step
    if share < _STOOD or before < _LEAST_STAND:
        return None
    peak, then = max(row.lr for row in curve), curve[at].lr
    falling = then < _HIGH * peak and curve[0].lr >= then
    words = f"the training loss stood near {begun:.3g} for the first {share:.0%} of the run"
    if falling:
        return Sign(
            Finding(name="rate-too-high", verdict="suspect",
                    reason=f"{words}, and fell once the learning rate was down from {peak:.3g} to {then:.3g}",
                    advice=f"lower the learning rate to about {then:.2g}"), before,
        )  # fmt: skip
    return Sign(
        Finding(name="plateau-at-the-start", verdict="suspect", reason=f"{words} before it fell",
                advice="look at the initialisation and the scale of the inputs (surefoot check), or raise the "
                "learning rate"),
        before,
    )  # fmt: skip


def straight(curve: Sequence[Row]) -> Sign | None:
    """A loss without a bend: steps that are too small, or too few."""
    losses = np.array([row.train_loss for row in curve])
    third = len(curve) // 3
    first, second = initial(curve) - losses[third - 1], losses[third - 1] - losses[2 * third - 1]
    slope, half = slope_of(losses[third - 1 : 2 * third + 1])
    if not (first > 0 and second > _STRAIGHT * first and second > _LITTLE * abs(initial(curve)) and -slope > half):
        return None
    return Sign(
        Finding(name="rate-too-low", verdict="suspect",
                reason=f"the training loss fell by {first:.3g} in the first third and by {second:.3g} in the "
                f"second, almost in a straight line: the rate is too low, or the run too short",
                advice="raise the learning rate by 3 (surefoot find-lr shows how far), or train longer"),
        curve[2 * third - 1].step,
    )  # fmt: skip


def lowered_early(curve: Sequence[Row]) -> Sign | None:
    """A rate that was lowered while the loss still fell, and with which it then stood."""
    peak = max(row.lr for row in curve)
    top = max(i for i, row in enumerate(curve) if row.lr >= _HIGH * peak)
    after = next((i for i in range(top + 1, len(curve)) if curve[i].lr < _LOW * peak), None)
    if after is None or curve[after].step > _EARLY * curve[-1].step or top < 2:
        return None
    losses = np.array([row.train_loss for row in curve])
    slope, half = slope_of(losses[max(0, top - 3) : top + 1])
    rest = losses[after:]
    if not (-slope > half and -slope > _LITTLE * losses[top] and len(rest) > 2):
        return None
    pace = float(rest[0] - rest[-1]) / (len(rest) - 1)
    if pace > _CRAWL * -slope:
        return None
    share = curve[after].step / curve[-1].step
    return Sign(
        Finding(name="lowered-early", verdict="suspect",
                reason=f"the learning rate was under a tenth of its peak after {share:.0%} of the run, while the "
                f"training loss was falling by {-slope:.3g} a row; since then by {pace:.2g} a row, to {rest[-1]:.3g}",
                advice="lower the rate later, or with a cosine over the whole run"),
        curve[after].step,
    )  # fmt: skip


def at_the_floor(curve: Sequence[Row]) -> Sign | None:
    """A high rate with which the loss has long stood: noise holds it up."""
    peak = max(row.lr for row in curve)
    last = [row for row in curve if row.step > curve[-1].step / 2]
    if min(row.lr for row in last) < _HIGH * peak or len(last) < LEAST_ROWS // 2:
        return None
    losses = np.array([row.train_loss for row in last])
    slope, half = slope_of(losses)
    # Standing must be shown: a slope that is not sure, of few and noisy rows, is none.
    falls = (half - slope) * (len(losses) - 1)
    if falls > _AT_ONCE * losses.mean() or not losses.mean() < (1 - _AT_ONCE) * initial(curve):
        return None
    spread = float(np.std(losses))
    if not losses.mean() > _LITTLE * initial(curve) or spread > GAP * losses.mean():
        return None
    return Sign(
        Finding(name="noise-at-the-floor", verdict="suspect",
                reason=f"for the second half of the run the training loss has stood at {losses.mean():.3g} "
                f"(standard "
                f"deviation {spread:.2g}) with the learning rate at {last[-1].lr:.3g}",
                advice="lower the rate towards the end: schedule=cosine or linear"),
        last[0].step,
    )  # fmt: skip


def overfitting(
    curve: Sequence[Row], in_training: Sequence[str] = (), val_examples: int | None = None
) -> Sign | None:  # fmt: skip
    """A validation loss that has risen since its least, while the training loss fell.

    The least of noisy values is low by luck, so the rise is taken from the mean of three rows around it, and must
    exceed what the least of so many windows falls by chance. Where accuracy has not fallen with it, and is near that on
    the training part, answers have not become worse: probabilities have become too sure (Guo et al. 2017, section 3).

    Args:
        curve: rows.
        in_training: what else is in the training loss, such as "label smoothing", and not in the validation loss.
        val_examples: of the validation part; None where nobody says.
    """
    held = [(row, row.val_loss) for row in curve if row.val_loss is not None and math.isfinite(row.val_loss)]
    if len(held) < LEAST_ROWS:
        return None
    raw = np.array([loss for _, loss in held])
    windows = np.convolve(raw, np.ones(3) / 3, mode="valid")
    at = int(windows.argmin()) + 1
    tail = raw[max(at + 2, len(raw) - max(2, len(raw) // 4)) :]
    if len(tail) < 2 or windows.min() <= 0:
        return None
    # Half the mean square of successive differences: a trend is in no two neighbours (von Neumann 1941). It has about
    # two thirds of the degrees of freedom.
    spread = math.sqrt(float((np.diff(raw) ** 2).mean()) / 2)
    chance = student(2 * (len(raw) - 1) / 3, 1 - 2 * (1 - LEVEL) / max(1, len(raw) - 4))
    risen = float(tail.mean() - windows.min())
    fallen = held[at][0].train_loss - held[-1][0].train_loss
    if risen <= max(RISE * windows.min(), chance * spread * math.sqrt(1 / 3 + 1 / len(tail))) or fallen <= 0:
        return None
    slope, half = slope_of(raw[at:])
    if slope <= half:
        return None
    best, end = held[at][0], held[-1][0]
    beside = f" ({' and '.join(in_training)} in it, which the validation loss is without)" if in_training else ""
    reason = (
        f"the validation loss has risen by {risen / windows.min():.0%} since epoch {best.epoch:.3g}, while the "
        f"training loss fell from {best.train_loss:.3g} to {end.train_loss:.3g}{beside}"
    )
    if best.val_accuracy is None or end.val_accuracy is None:
        verdict, name = "suspect", "overfitting"
    else:
        reason += f"; validation accuracy went from {best.val_accuracy:.1%} to {end.val_accuracy:.1%}"
        worse = _is_lower(end.val_accuracy, best.val_accuracy, val_examples)
        apart = end.train_accuracy is not None and end.train_accuracy - end.val_accuracy > GAP
        sure = worse or apart
        verdict, name = ("suspect", "overfitting") if sure else ("pass", "overconfident")
    advice = "more weight decay, augmentation or data; or a shorter run"
    if name == "overconfident":
        reason += ": answers are no worse, probabilities are too sure"
        advice = "if you use the probabilities and not the answers alone: label smoothing or more weight decay"
    return Sign(Finding(name=name, verdict=verdict, reason=reason, advice=advice), best.step)


def _is_lower(now: float, before: float, examples: int | None) -> bool:
    """Whether an accuracy has fallen by more than the examples can err; by a point where nobody says how many."""
    if examples is None:
        return now < before - 0.01
    lost = round((before - now) * examples)
    return lost > 0 and of_discordant(0, lost, examples).is_worse


def by_heart(curve: Sequence[Row]) -> Sign | None:
    """A training part without an error left, and a validation part far from it."""
    last = curve[-1]
    if last.train_accuracy is None or last.val_accuracy is None:
        return None
    gap = last.train_accuracy - last.val_accuracy
    if gap <= GAP or last.train_accuracy < _BY_HEART:
        return None
    at = next(row for row in curve if row.train_accuracy is not None and row.train_accuracy >= _BY_HEART)
    return Sign(
        Finding(name="overfitting", verdict="suspect",
                reason=f"{last.train_accuracy:.1%} of the training examples are right and {last.val_accuracy:.1%} "
                f"of the validation part, a gap of {100 * gap:.1f} points: the training part is known by heart",
                advice="more data, augmentation or weight decay; training longer gains nothing"),
        at.step,
    )  # fmt: skip


def improving(curve: Sequence[Row]) -> Sign | None:
    """A validation loss, or without one a training loss, that still falls at the end; and what more would gain."""
    held = [row for row in curve if row.val_loss is not None and math.isfinite(row.val_loss)]
    rows = held if len(held) >= LEAST_ROWS else list(curve)
    what = "validation" if rows is held else "training"
    losses = np.array([row.val_loss if rows is held else row.train_loss for row in rows], dtype=float)
    last = max(LEAST_ROWS // 2 + 1, len(rows) // 3)
    slope, half = slope_of(losses[-last:])
    scale = losses[-1] if losses.min() > 0 else losses[0] - losses[-1]
    if not (-slope > half and -slope * last > _LITTLE * abs(scale)):
        return None
    fallen = -slope * (last - 1)
    words = f"the {what} loss still falls: by {fallen:.3g} over the last {last} rows, to {losses[-1]:.3g}"
    if rows[-1].lr < _HIGH * max(row.lr for row in rows[-last:]):
        note = "the falling learning rate is part of that, so one run cannot tell what more epochs would gain"
        return Sign(Finding(name="still-improving", verdict="pass", reason=f"{words}; {note}"), rows[-last].step)
    per_log, log_half = slope_of(losses[-last:], np.log([row.step for row in rows[-last:]]))
    gain, spread = -per_log * math.log(_LONGER), log_half * math.log(_LONGER)
    return Sign(
        Finding(name="still-improving", verdict="suspect",
                reason=f"{words}; {_LONGER - 1:.0%} more epochs would lower it by about {gain:.2g} "
                f"[{gain - spread:.2g}, {gain + spread:.2g}]",
                advice=f"train longer: --epochs {math.ceil(_LONGER * rows[-1].epoch)} or more"),
        rows[-1].step,
    )  # fmt: skip


def small(curve: Sequence[Row]) -> Sign | None:
    """A training loss that stands far from perfect, with validation no worse: the model can do no more."""
    last = curve[-1]
    if last.train_accuracy is None or last.val_accuracy is None or last.train_accuracy > 1 - GAP:
        return None
    middle = np.array([row.train_loss for row in curve[len(curve) // 3 :]])
    if last.train_accuracy - last.val_accuracy > _LITTLE or middle[0] - middle[-1] > 2 * _LITTLE * abs(middle[0]):
        return None
    return Sign(
        Finding(name="underfitting", verdict="suspect",
                reason=f"{last.train_accuracy:.1%} of the training examples are right and {last.val_accuracy:.1%} "
                f"of the validation part, "
                f"and the training loss has stood near {last.train_loss:.3g} for two thirds of the run",
                advice="take a larger model, or less weight decay or augmentation"),
        curve[len(curve) // 3].step,
    )  # fmt: skip


def little_learned(curve: Sequence[Row]) -> Sign | None:
    """A training part of which less than half is right: a small model cannot be told from a wrong rate."""
    last = curve[-1]
    if last.train_accuracy is None or last.train_accuracy >= _HALF:
        return None
    return Sign(
        Finding(name="little-learned", verdict="suspect",
                reason=f"only {last.train_accuracy:.1%} of the training examples are right at the end",
                advice="surefoot find-lr shows which rates work; if yours does, train longer or take a larger model"),
        last.step,
    )  # fmt: skip


def initial(curve: Sequence[Row]) -> float:
    """The loss of the first batches, before most of the learning; the first row's mean where none is finite."""
    first = [loss for loss in curve[0].losses[:3] if math.isfinite(loss)]
    return float(np.mean(first)) if first else curve[0].train_loss


def read_curves(
    rows: Sequence[Row], outcome: Outcome, *, in_training: Sequence[str] = (), val_examples: int | None = None
) -> Decision:  # fmt: skip
    """Return what a run's curves say.

    Args:
        rows: of the run, oldest first. Training losses are means since the row before, in training mode.
        outcome: how it ended.
        in_training, val_examples: as in `overfitting`.

    >>> read_curves([], Outcome(kind="diverged", step=3, reason="the loss is not finite")).findings[0].name
    'diverged'
    """
    curve = [row for row in rows if math.isfinite(row.train_loss)]
    if outcome.kind == "diverged":
        found = [diverged(rows, outcome)]
    elif len(curve) < LEAST_ROWS and (nothing := nothing_learned(curve)) is not None:
        found = [nothing]
    elif len(curve) < LEAST_ROWS:
        reason = f"{len(curve)} rows are too few to read a curve; from {LEAST_ROWS} on it says something"
        found = [Sign(Finding(name="rows", verdict="pass", reason=reason))]
    else:
        found = _signs(curve, in_training, val_examples)
    findings = tuple(each.finding for each in found) or (_sound(curve),)
    verdict: Verdict = worst(findings)
    first = next((each for each in findings if each.verdict == verdict), findings[0])
    pins = [{"finding": each.finding.name, "step": each.step} for each in found if each.step is not None]
    return Decision(
        step=6, name="curves", claim="the curves show nothing that another setting would mend", verdict=verdict,
        reason=first.reason, advice=first.advice, findings=findings, evidence={"rows": len(rows), "pins": pins},
    )  # fmt: skip


def _signs(curve: Sequence[Row], in_training: Sequence[str], val_examples: int | None) -> list[Sign]:
    """Each sign that shows, the causes before what follows from them."""
    if (nothing := nothing_learned(curve)) is not None:
        return [nothing]
    rate = plateau(curve) or lowered_early(curve) or straight(curve)
    found = [rate, at_the_floor(curve)]
    fit = by_heart(curve) or overfitting(curve, in_training, val_examples)
    early = rate is not None and rate.finding.name == "lowered-early"
    rising = None if fit or early else improving(curve)
    found += [fit, rising]
    if not any(found):
        found.append(little_learned(curve) or small(curve))
    return [each for each in found if each is not None]


def _sound(curve: Sequence[Row]) -> Finding:
    last = curve[-1]
    parts = [f"the training loss fell from {initial(curve):.3g} to {last.train_loss:.3g}"]
    if last.train_accuracy is not None and last.val_accuracy is not None:
        parts.append(f"training and validation accuracy are {last.train_accuracy:.1%} and {last.val_accuracy:.1%}")
    return Finding(name="sound", verdict="pass", reason=f"{' and '.join(parts)}, without a sign of trouble")
