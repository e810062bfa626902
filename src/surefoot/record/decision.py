"""A finding is one thing that was seen and what it means; a decision is a step of the procedure with its evidence."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["pass", "suspect", "fail"]
"""pass: nothing is wrong. suspect: look at it, training may still work. fail: training on is not worth it."""
_BY_GRAVITY: tuple[Verdict, ...] = ("pass", "suspect", "fail")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was seen, and what it means.

    Attributes:
        name: of the check, in a few letters that do not change between versions, such as "logit-scale".
        verdict: what it means for training.
        reason: one sentence with the numbers.
        advice: what to do, in one sentence; None where there is nothing to do.
    """

    name: str
    verdict: Verdict
    reason: str
    advice: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one step of the procedure decided, and why.

    Attributes:
        step: of the procedure: 0 wiring, 1 initial loss, 2 overfit a sample, 3 learning rate.
        name: of the step, such as "initial-loss".
        claim: what was tested, in one sentence.
        verdict: the worst of its findings.
        reason: one sentence with the numbers.
        advice: what to do now; None where there is nothing to do.
        value: what was chosen, as JSON values; None where a step only passes or fails.
        findings: everything that was seen, in the order of the checks.
        evidence: the measurements behind it, as JSON values.
        untouched: SHA-256 over the caller's model, optimizer and random states, which was the same before and after.
        seconds: what it took.
    """

    step: int
    name: str
    claim: str
    verdict: Verdict
    reason: str
    advice: str | None = None
    value: dict[str, Any] | None = None
    findings: tuple[Finding, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    untouched: str | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict == "pass"

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as JSON values; a number that is not finite becomes None, which JSON can hold."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Decision:
        """Return the decision that `to_dict` wrote."""
        findings = tuple(Finding(**each) for each in values.get("findings", ()))
        return cls(**{**values, "findings": findings})


def cost_in_examples(trained: int, evaluated: int = 0) -> int:
    """Return what work costs, in training examples: one that only goes forward costs a third of one that is trained on.

    The backward pass takes twice what the forward pass does (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).

    Args:
        trained: examples whose gradient was taken, repetitions counted.
        evaluated: examples for which only outputs were computed.

    >>> cost_in_examples(640, 100)
    674
    """
    return trained - -evaluated // 3


def worst(findings: tuple[Finding, ...] | list[Finding]) -> Verdict:
    """Return the gravest verdict; "pass" where there is none.

    >>> worst([Finding(name="a", verdict="pass", reason="ok"), Finding(name="b", verdict="fail", reason="no")])
    'fail'
    """
    verdicts: list[Verdict] = ["pass", *(finding.verdict for finding in findings)]
    return max(verdicts, key=_BY_GRAVITY.index)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
