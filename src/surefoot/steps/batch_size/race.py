"""A predicted batch size is checked by a race: a short run at that size against the one that the prediction stands on.

Both start from the same weights. The run at B_0 ends at a loss after S_0 steps, S_0 t_0 seconds. Another size wins if
it is at that loss in less: within S_0 t_0 / t(B) steps, at the rate that goes with its size,

    lr(B) = lr(B_0) f(B) / f(B_0),    f(B) = 1 / (1 + B_noise / B)

(McCandlish et al. 2018, arXiv 1812.06162, section 2.2, equation 2.6; `steps.batch_size.judge` has the symbols).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from surefoot.record.decision import Finding
from surefoot.steps.batch_size.judge import Choice, ShortRun


@dataclass(frozen=True, kw_only=True)
class Race:
    """A short run at another size, which may take as long as that at the size which the prediction stands on.

    Attributes:
        batch_size: B, of this run.
        lr: its rate.
        step_seconds: of one of its steps, measured apart.
        limit: steps that it may take.
        reached: steps after which it was at the loss; None where it was not within the limit.
    """

    batch_size: int
    lr: float
    step_seconds: float
    limit: int
    reached: int | None


def rivals(run: ShortRun, choice: Choice) -> list[int]:
    """Return the sizes to race, one after the other until one wins.

    They are the predicted size, then the one about halfway to it. Where the size of the short run is itself predicted
    to be first, the second best is raced; where it was not timed, there is nothing to race against.

    >>> from types import SimpleNamespace as Some
    >>> sizes = [Some(batch_size=b, seconds=Some(value=s)) for b, s in ((16, 4.0), (64, 2.0), (256, 1.0))]
    >>> rivals(Some(batch_size=16), Some(batch_size=256, predicted=sizes))
    [256, 64]
    >>> rivals(Some(batch_size=256), Some(batch_size=256, predicted=sizes))
    [64]
    """
    own = run.batch_size
    others = [each for each in choice.predicted if each.batch_size != own]
    if not others or len(others) == len(choice.predicted):
        return []
    if choice.batch_size == own:
        return [min(others, key=lambda each: each.seconds.value).batch_size]
    halfway = math.sqrt(own * choice.batch_size)
    between = [
        each.batch_size
        for each in others
        if min(own, choice.batch_size) < each.batch_size < max(own, choice.batch_size)
    ]
    return [choice.batch_size, *sorted(between, key=lambda size: abs(math.log(size / halfway)))[:1]]


def race_for(run: ShortRun, choice: Choice, size: int) -> Race:
    """Return the race of a size before it is run.

    Args:
        run: the short run at B_0.
        choice: made from it.
        size: B, one of those predicted.
    """
    seconds = {each.batch_size: each.step_seconds.value for each in choice.predicted}
    f = choice.progress.value
    share = f + (1 - f) * run.batch_size / size  # f(B_0) / f(B)
    return Race(
        batch_size=size, lr=run.lr / share, step_seconds=seconds[size],
        limit=max(1, math.floor(run.steps * seconds[run.batch_size] / seconds[size])), reached=None,
    )  # fmt: skip


def reached(losses: Sequence[float], target: float, window: int) -> int | None:
    """Return after how many steps the mean loss over a window is at the target; None if it never is.

    >>> reached([4.0, 3.0, 2.0, 1.0], target=2.0, window=3)
    4
    """
    total = 0.0
    for i, loss in enumerate(losses):
        total += loss - (losses[i - window] if i >= window else 0.0)
        if i + 1 >= window and total <= target * window:
            return i + 1
    return None


def decided(run: ShortRun, choice: Choice, races: Sequence[Race]) -> tuple[int, tuple[Finding, ...]]:
    """Return the batch size after the races, and what was seen, a finding for each race.

    Args:
        run: the short run at B_0.
        choice: made from it.
        races: that were run, the last perhaps won.
    """
    winner = next((race.batch_size for race in races if race.reached is not None), None)
    if winner is None:
        winner = run.batch_size if races else choice.batch_size
    seen = []
    for race in races:
        own = race.limit * race.step_seconds
        what = f"from the same start {race.batch_size} examples a step at rate {race.lr:.2g}"
        against = f"{run.batch_size} at rate {run.lr:.2g} in {own:.2g} s ({run.steps} steps)"
        if race.reached is None:
            end = f"are not at a loss of {run.last_loss:.4g} in the time of {against}"
        else:
            took = race.reached * race.step_seconds
            end = f"are at a loss of {run.last_loss:.4g} in {took:.2g} s ({race.reached} steps), {against}"
        expected = (race.reached is not None) == (race.batch_size == choice.batch_size)
        seen.append(
            Finding(
                name=f"raced-{race.batch_size}", verdict="pass" if expected else "suspect", reason=f"{what} {end}",
                advice=None if expected else f"not what the noise predicts; the race decides: {winner}",
            )
        )  # fmt: skip
    return winner, tuple(seen)
