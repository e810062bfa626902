"""One voice: all that is seen of a run weighed together, so that no two sentences of its advice contradict.

Each finding pulls in directions: to a larger or a smaller rate, a longer or a shorter run, more or less regularisation,
a larger or a smaller model. What weighs more speaks first; a finding that pulls the other way is still shown, as
something that was seen, but gives no advice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from surefoot.config import Config
from surefoot.curves.baseline import LINEAR_BETTER, NO_BETTER, beside_baseline
from surefoot.curves.read import read_curves
from surefoot.record.baseline import Baseline
from surefoot.record.decision import Decision, Finding, worst
from surefoot.record.run import Outcome, Row
from surefoot.record.stored import Stored

PULLS: dict[str, frozenset[str]] = {
    "diverged": frozenset({"rate-"}),
    "nothing-learned": frozenset(),
    "overfitting": frozenset({"length-", "regularise+", "model-"}),
    NO_BETTER: frozenset(),
    LINEAR_BETTER: frozenset({"model-"}),
    "rate-too-high": frozenset({"rate-"}),
    "lowered-early": frozenset({"rate+"}),
    "noise-at-the-floor": frozenset({"rate-"}),
    "plateau-at-the-start": frozenset({"rate+"}),
    "rate-too-low": frozenset({"rate+", "length+"}),
    "still-improving": frozenset({"length+"}),
    "underfitting": frozenset({"model+", "regularise-"}),
    "little-learned": frozenset({"model+", "length+"}),
    "overconfident": frozenset({"regularise+"}),
}
"""Where the advice of each finding pulls, the weightiest finding first: what ended the run, what an answer on held-out
examples says, what the rate did, what more of the same would do. Chosen by hand."""


def judge_run(rows: Sequence[Row], outcome: Outcome, config: Config, result: Mapping[str, Any]) -> Decision:
    """Return what a run says: its curves, and its result beside the simplest answers, weighed together.

    Args:
        rows: of the run, oldest first.
        outcome: how it ended.
        config: of the run.
        result: as in `result.json`; that of a search has its decisions.
    """
    curves = read_curves(rows, outcome, in_training=in_training(config), val_examples=result.get("val_examples"))
    findings = [_of_used_weights(each, result, rows) for each in curves.findings]
    if outcome.kind == "finished" and isinstance(result.get("baseline"), Mapping):
        beside = Baseline.from_dict(result["baseline"])
        findings += beside_baseline(beside, linear_model=config.model == "linear")
    searched = any(made.get("name") in ("coarse-grid", "refine") for made in result.get("decisions") or ())
    weighed_up = weighed(findings, rate_was_searched=searched)
    first = next(each for each in weighed_up if each.verdict == worst(weighed_up))
    return dataclasses.replace(
        curves, findings=tuple(weighed_up), verdict=first.verdict, reason=first.reason, advice=first.advice
    )


def _of_used_weights(finding: Finding, result: Mapping[str, Any], rows: Sequence[Row]) -> Finding:
    """Return a finding of the whole curve as it stands with weights of an earlier row, and with a run that stopped."""
    used, end = result.get("weights_from_step") or 0, result.get("steps") or 0
    if result.get("weights") == "best" and finding.name in ("overfitting", "overconfident") and used < end:
        epoch = next((row.epoch for row in rows if row.step == used), None)
        where = f"step {used:,}" if epoch is None else f"epoch {epoch:.3g}"
        return Finding(
            name=finding.name, verdict="pass",
            reason=f"{finding.reason}; the weights that are used are those of {where}, the best on the validation part",
        )  # fmt: skip
    if finding.name == "still-improving" and finding.advice and end < (result.get("planned_steps") or end):
        return dataclasses.replace(finding, advice="wait longer before it stops: a larger --early-stopping-epochs")
    return finding


def read_stored(stored: Stored) -> Decision | None:
    """Return what a run on disk says; None while it is not done."""
    result = stored.result or {}
    kind, last = result.get("outcome"), stored.rows[-1].step if stored.rows else 0
    if kind not in ("finished", "diverged"):
        return None
    outcome = Outcome(kind=kind, step=result.get("steps") or last, reason=result.get("reason") or "no reason given")
    return judge_run(stored.rows, outcome, stored.config, result)


def in_training(config: Config) -> tuple[str, ...]:
    """Return what is in a run's training loss and not in its validation loss.

    >>> in_training(Config(data="digits", augment=("flip",)))
    ('augmentation',)
    """
    there = {
        "label smoothing": config.recipe.label_smoothing, "class weights": config.class_weights,
        "augmentation": config.augment,
    }  # fmt: skip
    return tuple(name for name, value in there.items() if value)


def weighed(findings: Sequence[Finding], *, rate_was_searched: bool = False) -> list[Finding]:
    """Return all findings, the weightiest first, of which no two give advice that contradicts.

    Args:
        findings: of one run.
        rate_was_searched: whether complete runs at other rates were compared, which says more of the rate than a curve.

    >>> seen = [Finding(name="rate-too-low", verdict="suspect", reason="straight", advice="train longer"),
    ...         Finding(name="overfitting", verdict="suspect", reason="by heart", advice="no longer")]
    >>> [(each.name, each.verdict, each.advice) for each in weighed(seen)]
    [('overfitting', 'suspect', 'no longer'), ('rate-too-low', 'pass', None)]
    """
    order = list(PULLS)
    ranked = sorted(findings, key=lambda each: order.index(each.name) if each.name in PULLS else len(order))
    speaks: list[Finding] = []
    shown: list[Finding] = []
    for finding in ranked:
        pulls = PULLS.get(finding.name, frozenset())
        if rate_was_searched and finding.verdict == "suspect" and pulls & {"rate+", "rate-"}:
            shown.append(_silent(finding, "complete runs at other rates were compared, and this one was chosen"))
            continue
        against = next((other for other in speaks if finding.advice and opposed(pulls, PULLS[other.name])), None)
        if against is not None:
            shown.append(_silent(finding, f"'{against.name}' weighs more"))
            continue
        shown.append(finding)
        if finding.advice and pulls:
            speaks.append(finding)
    if any(each.verdict != "pass" for each in shown):
        shown = [each for each in shown if each.name != "sound"]
    return sorted(shown, key=lambda each: ("fail", "suspect", "pass").index(each.verdict))


def opposed(left: frozenset[str], right: frozenset[str]) -> bool:
    """Return whether two findings pull in opposite directions.

    >>> opposed(PULLS["rate-too-low"], PULLS["overfitting"]), opposed(PULLS["rate-too-low"], PULLS["still-improving"])
    (True, False)
    """
    return any(pull[:-1] + ("-" if pull.endswith("+") else "+") in right for pull in left)


def _silent(finding: Finding, why: str) -> Finding:
    return Finding(name=finding.name, verdict="pass", reason=f"{finding.reason}; no advice follows: {why}")
