"""What each step of a search has cost, in training examples: read from its evidence."""

from __future__ import annotations

from surefoot.record.decision import Decision, cost_in_examples


def counted(decision: Decision) -> int:
    """Return what a step has cost that counted what it trained on and what it only looked at."""
    evidence = decision.evidence
    return cost_in_examples(evidence.get("trained_examples", 0), evidence.get("evaluated_examples", 0))


def batch_size(decision: Decision) -> int:
    """Return about how many examples the choice of the batch size has seen: its run, as many to measure, and races."""
    evidence = decision.evidence
    raced = sum(each["batch_size"] * (each["reached"] or each["limit"]) for each in evidence["races"])
    timed = sum(each["batch_size"] * len(each["step_seconds"]) for each in evidence["sizes"])
    return 2 * int(evidence["steps"]) * int(evidence["batch_size"]) + timed + raced
