"""What each step of a search has cost, in training examples: read from its evidence."""

from __future__ import annotations

from surefoot.record.decision import Decision


def wiring(decision: Decision) -> int:
    """Return about how many examples step 0 has trained on: three rates, and a few batches for the gradients."""
    seen = decision.evidence.get("dependence") or {}
    return 3 * 64 * int(seen.get("steps", 0)) + 1000


def initial_loss(decision: Decision) -> int:
    """Return how many examples step 1 has looked at."""
    return int(decision.evidence.get("examples") or 1000)


def overfit(decision: Decision) -> int:
    """Return how many examples step 2 has trained on, repetitions counted."""
    size = decision.evidence["sample"]["batch_size"]
    return sum(int(run["steps"][-1]) * size for run in decision.evidence["runs"] if run["steps"])


def bracket(decision: Decision) -> int:
    """Return how many examples step 3 has trained on; a run that diverged counts in full."""
    evidence = decision.evidence
    runs = sum(len(rate["final_losses"]) for rate in evidence["rates"]) + ("range_test" in evidence)
    return runs * evidence["steps"] * evidence["batch_size"]


def batch_size(decision: Decision) -> int:
    """Return about how many examples the choice of the batch size has seen: its run, as many to measure, and races."""
    evidence = decision.evidence
    raced = sum(each["batch_size"] * (each["reached"] or each["limit"]) for each in evidence["races"])
    timed = sum(each["batch_size"] * len(each["step_seconds"]) for each in evidence["sizes"])
    return 2 * int(evidence["steps"]) * int(evidence["batch_size"]) + timed + raced
