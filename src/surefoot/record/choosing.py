"""Which row of a run is the best, and whether a run should stop: pure functions of its rows. No torch.

The loop knows neither: whoever owns the `for` asks after each row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from surefoot.record.measures import is_better, number_of, rises, words
from surefoot.record.run import Row

_SAME = 9
"""Decimals to which epochs are compared: a third of one is no exact number."""


def best_row(rows: Iterable[Row], name: str, min_delta: float = 0.0) -> Row | None:
    """Return the row with the best number, the first of equal ones; None where no row has one.

    Args:
        rows: of a run, oldest first.
        name: of the number, as in `measures.number_of`.
        min_delta: a row that is better than the best before it by no more than this is passed over.
    """
    best: tuple[Row, float] | None = None
    for row in rows:
        value = number_of(row, name)
        if value is not None and (best is None or is_better(value, best[1], name, min_delta)):
            best = row, value
    return None if best is None else best[0]


def stopped_early(
    rows: Sequence[Row], name: str, epochs: float, min_delta: float = 0.0, planned_steps: int | None = None
) -> str | None:
    """Return why a run should stop after its last row; None where it should go on.

        stop, if epoch(last) - epoch(best) >= epochs

    where best is the last row whose number was better than all before it by more than `min_delta`.

    Args:
        rows: of the run so far, oldest first.
        name: of the number that is watched.
        epochs: for how long it may be no better.
        min_delta: what is better by no more than this does not count.
        planned_steps: of the run, for the sentence.

    Reference: Prechelt 1998, "Early stopping - but when?", section 2.2, the criterion UP, counted as Keras counts
    `patience` and `min_delta`.
    """
    best = best_row(rows, name, min_delta)
    if best is None or round(rows[-1].epoch - best.epoch - epochs, _SAME) < 0:
        return None
    last, peak = rows[-1], max(row.lr for row in rows)
    of = f" of {planned_steps:,}" if planned_steps is not None else ""
    still = (
        f"; the learning rate was still at {last.lr / peak:.0%} of its highest" if 0.1 * peak < last.lr < peak else ""
    )
    delta = f" by more than {min_delta:g}" if min_delta else ""
    verb = "risen" if rises(name) else "fallen"
    return (
        f"stopped early at step {last.step:,}{of}: {words(name)} has not {verb}{delta} for {epochs:g} "
        f"epoch{'' if epochs == 1 else 's'}, since step {best.step:,}{still}"
    )
