"""How far a search is, for those who look on: what is measured, and what the budget leaves."""

from __future__ import annotations

from surefoot.record.heartbeat import Heartbeat
from surefoot.tuning.budget import Ledger
from surefoot.tuning.progress import Progress


def heartbeat(seen: Progress, ledger: Ledger, seconds_since: float) -> Heartbeat:
    """Return the heartbeat of a search.

    A budget in final trainings leaves the time that its rest takes at the pace so far; one of time leaves its rest.

    Args:
        seen: what is being measured.
        ledger: what was spent up to the last decision.
        seconds_since: that decision.

    >>> from surefoot.tuning.budget import budget
    >>> ledger = Ledger(budget("2x"), examples=500, seconds=10.0, final_examples=1000)
    >>> now = heartbeat(Progress(1, 2, "step 4"), ledger, seconds_since=5.0)
    >>> now.spent, now.seconds_left
    (0.5, 25.0)
    """
    granted, spent, left = ledger.budget, None, None
    if granted.seconds is not None:
        spent = ledger.seconds + seconds_since
        left = max(0.0, granted.seconds - spent)
    elif granted.trainings is not None and ledger.final_examples:
        spent = ledger.cost
        pace = ledger.seconds / spent if spent else None
        left = None if pace is None else max(0.0, pace * (granted.trainings - spent) - seconds_since)
    return Heartbeat(
        phase="search", steps_done=seen.steps_done, steps_planned=seen.steps_planned,
        seconds=ledger.seconds + seconds_since, doing=seen.text, members=seen.members, alive=seen.alive,
        budget=str(granted), spent=spent, seconds_left=left,
    )  # fmt: skip
