"""Step 4: a coarse grid of complete small runs."""

from __future__ import annotations

from collections.abc import Generator

from surefoot.record.decision import Decision
from surefoot.record.progress import Progress
from surefoot.record.trial import TrialResult
from surefoot.search import decide as judge
from surefoot.search import space
from surefoot.search.trials import trial_of, trying
from surefoot.search.work import Work

COARSE_SHARE = 0.45
"""Share of what is then left that the coarse grid may cost. Chosen by hand: about half to look around."""
WIDE, NARROW = 12, 5
"""Members of a coarse grid over rate, decay and momentum; of one over rates alone, where no more can be paid for."""
TELLING_SHARE = 0.5
"""Shortest runs that say which weight decay or momentum is better. On digits with flipped labels runs of a quarter of
the length preferred a tenth of the decay that was best at the end, since nothing is learned by heart in so short a time
(docs/log.md, "Regret at two trainings, halved")."""
LEAST_SHARE = 1 / 16
LEAST_STEPS = 10
"""Shorter runs say nothing of longer ones. Chosen by hand."""


def coarse(own: Work, where: space.Space) -> Generator[Progress, None, bool]:
    """Do step 4, complete small runs, and return whether none of them could be finished.

    They cover rate, decay and momentum where the runs are long enough to tell decays apart, and else the rates alone.
    """
    granted = COARSE_SHARE * own.ledger.left
    least = max(LEAST_SHARE, LEAST_STEPS / own.final_steps)
    everything = len(where.candidates) > 1
    if granted < 2 * least or not everything:
        own.left_out("step 4, the coarse grid: nothing is free, or the budget does not allow two short runs")
        return False
    wide = granted >= WIDE * max(2 * least, TELLING_SHARE)
    if not wide and not where.fixed_rate:
        where = space.only_rates(where)
    count = WIDE if wide else NARROW
    share = min(1.0, granted / count)
    if share < least:
        share, count = least, int(granted / least)
    count = max(2, min(int(granted / share + 1e-9), 4 * WIDE)) if share >= 1 else count
    points = space.coarse_grid(where, count)
    trials = [trial_of("coarse-grid", own.base, where.recipe(point, share), 0, share) for point in points]

    def make() -> Generator[Progress, None, tuple[Decision, list[TrialResult]]]:
        found = yield from trying(own.task, trials, own.journal, own.engine)
        return judge.coarse(found, own.validation_examples, own.base.batch_size, _initial_loss(own)), found

    return (yield from own.booked(make)).verdict == "fail"


def _initial_loss(own: Work) -> float | None:
    """Return the loss before training, as step 3 or else step 1 saw it; None where neither ran."""
    seen = {each.name: each.evidence for each in own.made}
    if "learning-rate" in seen:
        losses = seen["learning-rate"]["initial_losses"]
        return sum(losses) / len(losses)
    return seen["initial-loss"].get("loss") if "initial-loss" in seen else None
