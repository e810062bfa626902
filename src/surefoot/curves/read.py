"""Step 6: what the loss and accuracy curves of a run say, in words and with the place where each thing shows.

One record cannot tell every cause from every other: a rate that is too low looks like a run that is too short. Where
that is so the finding names both, and it is silent where the numbers lie within their noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from surefoot.curves import signs
from surefoot.curves.signs import LEAST_ROWS, Sign, initial
from surefoot.record.decision import Decision, Finding, Verdict, worst
from surefoot.record.run import Outcome, Row
from surefoot.record.stored import Stored


def read_curves(rows: Sequence[Row], outcome: Outcome) -> Decision:
    """Return what a run's curves say.

    Args:
        rows: of the run, oldest first. Training losses are means since the row before, in training mode.
        outcome: how it ended.

    >>> read_curves([], Outcome(kind="diverged", step=3, reason="the loss is not finite")).findings[0].name
    'diverged'
    """
    curve = [row for row in rows if math.isfinite(row.train_loss)]
    if outcome.kind == "diverged":
        found = [signs.diverged(rows, outcome)]
    elif len(curve) < LEAST_ROWS and (nothing := signs.nothing_learned(curve)) is not None:
        found = [nothing]
    elif len(curve) < LEAST_ROWS:
        reason = f"{len(curve)} rows are too few to read a curve; from {LEAST_ROWS} on it says something"
        found = [Sign(Finding(name="rows", verdict="pass", reason=reason))]
    else:
        found = _signs(curve)
    findings = tuple(each.finding for each in found) or (_sound(curve),)
    verdict: Verdict = worst(findings)
    first = next((each for each in findings if each.verdict == verdict), findings[0])
    pins = [{"finding": each.finding.name, "step": each.step} for each in found if each.step is not None]
    return Decision(
        step=6, name="curves", claim="the curves show nothing that another setting would mend", verdict=verdict,
        reason=first.reason, advice=first.advice, findings=findings, evidence={"rows": len(rows), "pins": pins},
    )  # fmt: skip


def read_stored(stored: Stored) -> Decision | None:
    """Return what the curves of a run on disk say; None while it is not done."""
    result = stored.result or {}
    kind, last = result.get("outcome"), stored.rows[-1].step if stored.rows else 0
    if kind not in ("finished", "diverged"):
        return None
    outcome = Outcome(kind=kind, step=result.get("steps") or last, reason=result.get("reason") or "no reason given")
    return read_curves(stored.rows, outcome)


def _signs(curve: Sequence[Row]) -> list[Sign]:
    """Each sign that shows, the causes before what follows from them."""
    if (nothing := signs.nothing_learned(curve)) is not None:
        return [nothing]
    rate = signs.plateau(curve) or signs.lowered_early(curve) or signs.straight(curve)
    found = [rate, signs.at_the_floor(curve)]
    fit = signs.overfitting(curve) or signs.by_heart(curve)
    early = rate is not None and rate.finding.name == "lowered-early"
    improving = None if fit or early else signs.improving(curve)
    found += [fit, improving]
    if not any(found):
        found.append(signs.little_learned(curve) or signs.small(curve))
    return [each for each in found if each is not None]


def _sound(curve: Sequence[Row]) -> Finding:
    last = curve[-1]
    parts = [f"the training loss fell from {initial(curve):.3g} to {last.train_loss:.3g}"]
    if last.train_accuracy is not None and last.val_accuracy is not None:
        parts.append(f"training and validation accuracy are {last.train_accuracy:.1%} and {last.val_accuracy:.1%}")
    return Finding(name="sound", verdict="pass", reason=f"{' and '.join(parts)}, without a sign of trouble")
