"""From gradient noise along a short run and the seconds of a step to the batch size that reaches a loss first.

McCandlish et al. 2018 (arXiv 1812.06162), section 2.3: at the best rate for its size, a batch of B needs

    steps(B) = S_min + E_min / B = S_min (1 + B_noise / B),    B_noise = E_min / S_min

to reach a loss. A step of a batch of B_0 makes the share f = 1 / (1 + b / B_0) of the progress that a step along the
whole gradient would make, where b is the noise scale at that point (section 2.2), so that a run of S_0 steps has

    S_min = f S_0,    E_min = (1 - f) S_0 B_0,    steps(B) = S_0 (f + (1 - f) B_0 / B),

f being its mean along the run. It is bounded where noise scales are not: a noise scale whose interval is open above is
a share whose interval ends at 0.

The prediction is checked by a race from the same start: another size wins if it is at the loss at which the short run
ended in less than its S_0 t(B_0) seconds, at the rate that goes with its size (section 2.2, equation 2.6),

    lr(B) = lr(B_0) (f(B) / f(B_0))^a,

a being 1 for SGD and 1/2 for the others, as for Adam and RMSProp, whose rate goes with the root of the batch where
noise is most of the gradient (Malladi et al. 2022, arXiv 2205.10287, section 5, who change betas and eps with it, which
stay here).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from surefoot.record.decision import Finding
from surefoot.record.noise import Estimate, Noise
from surefoot.steps.lr_range.judge import LEAST_DROP

APART = 4
"""Choices at the two ends of the noise scale's interval further apart than this factor disagree. Chosen by hand: the
time near the best size is flat, so that within it little is lost."""


@dataclass(frozen=True, kw_only=True)
class ShortRun:
    """The run along which noise was measured.

    Attributes:
        batch_size: B_0.
        steps: S_0.
        lr: its rate.
        first_loss, last_loss: mean training loss at its beginning and its end: the target.
        diverged: whether it did.
        noise: along it, at least one.
        batch_exponent: a, of its rule.
    """

    batch_size: int
    steps: int
    lr: float
    first_loss: float
    last_loss: float
    diverged: bool
    noise: tuple[Noise, ...]
    batch_exponent: float = 1.0


@dataclass(frozen=True)
class StepTime:
    """What a step takes.

    Attributes:
        batch_size: examples per step.
        seconds: of a step, one for each round, [R].
    """

    batch_size: int
    seconds: tuple[float, ...]

    @property
    def estimate(self) -> Estimate:
        """Seconds of a step: the median of the rounds, from the least to the most."""
        return Estimate(value=float(np.median(self.seconds)), low=min(self.seconds), high=max(self.seconds))


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What a batch size would take to the loss that the short run ends at.

    Attributes:
        batch_size: B.
        step_seconds: of one step.
        steps, seconds: to the target, each with an interval from those of noise and timings.
    """

    batch_size: int
    step_seconds: Estimate
    steps: Estimate
    seconds: Estimate


@dataclass(frozen=True, kw_only=True)
class BatchSizeChoice:
    """The batch size that is predicted to be first.

    Attributes:
        batch_size: chosen.
        noise_scale: B_noise of the whole short run, with its interval; open above where f may be 0.
        progress: f, with its interval.
        predicted: for each size, smallest first.
        at_low, at_high: what would be chosen if the noise scale were at the low and at the high end of its interval.
    """

    batch_size: int
    noise_scale: Estimate
    progress: Estimate
    predicted: tuple[Predicted, ...]
    at_low: int
    at_high: int


def progress(noise_scale: Estimate, batch_size: int) -> Estimate:
    """Return f = 1 / (1 + noise scale / B), the share of a full step's progress that a step of a batch of B makes.

    >>> progress(Estimate(value=128.0, low=64.0, high=math.inf), 64)
    Estimate(value=0.3333333333333333, low=0.0, high=0.5)
    """

    def share(scale: float) -> float:
        return 0.0 if math.isinf(scale) else 1 / (1 + scale / batch_size)

    value = 0.0 if math.isnan(noise_scale.value) else share(noise_scale.value)
    return Estimate(value=value, low=share(noise_scale.high), high=share(noise_scale.low))


def mean_progress(run: ShortRun) -> Estimate:
    """Return the mean of f along a run. The points are drawn independently, so their deviations add in quadrature."""
    shares = [progress(noise.total.noise_scale, run.batch_size) for noise in run.noise]
    count = len(shares)
    mean = math.fsum(share.value for share in shares) / count
    below = math.sqrt(math.fsum((share.value - share.low) ** 2 for share in shares)) / count
    above = math.sqrt(math.fsum((share.high - share.value) ** 2 for share in shares)) / count
    return Estimate(value=mean, low=max(0.0, mean - below), high=min(1.0, mean + above))


def chosen(run: ShortRun, timed: Sequence[StepTime]) -> BatchSizeChoice:
    """Return the size of the least predicted time.

    Args:
        run: the short run.
        timed: what a step takes at each size, smallest first.

    >>> from surefoot.record.noise import LayerNoise
    >>> same = {name: Estimate(value=64.0, low=60.0, high=70.0) for name in ("second_moment", "grad_norm_sq", "trace",
    ...     "batch_variance", "signal_to_noise", "noise_scale")}
    >>> noise = Noise(step=10, batch_size=64, groups=32, micro_batch_size=64, loss=1.0, batch_norm=False,
    ...     total=LayerNoise(name="total", parameters=1, **same), layers=())
    >>> run = ShortRun(batch_size=64, steps=100, lr=0.1, first_loss=2.3, last_loss=1.0, diverged=False, noise=(noise,))
    >>> found = chosen(run, [StepTime(16, (0.9,)), StepTime(64, (1.0,)), StepTime(256, (3.0,))])
    >>> found.batch_size, [round(size.steps.value) for size in found.predicted]
    (64, [250, 100, 62])
    """
    share = mean_progress(run)
    times = {time.batch_size: time.estimate for time in timed}
    return BatchSizeChoice(
        batch_size=_first(run, times, share.value),
        noise_scale=Estimate(value=_scale(share.value, run), low=_scale(share.high, run), high=_scale(share.low, run)),
        progress=share,
        predicted=tuple(_predicted(run, size, time, share) for size, time in times.items()),
        at_low=_first(run, times, share.high),
        at_high=_first(run, times, share.low),
    )


def _steps(run: ShortRun, size: int, share: float) -> float:
    return run.steps * (share + (1 - share) * run.batch_size / size)


def _scale(share: float, run: ShortRun) -> float:
    return math.inf if share <= 0 else run.batch_size * (1 - share) / share


def _first(run: ShortRun, times: dict[int, Estimate], share: float) -> int:
    return min(times, key=lambda size: _steps(run, size, share) * times[size].value)


def _predicted(run: ShortRun, size: int, time: Estimate, share: Estimate) -> Predicted:
    ends = sorted(_steps(run, size, end) for end in (share.low, share.high))
    steps = Estimate(value=_steps(run, size, share.value), low=ends[0], high=ends[1])
    return Predicted(
        batch_size=size, step_seconds=time, steps=steps,
        seconds=Estimate(value=steps.value * time.value, low=steps.low * time.low, high=steps.high * time.high),
    )  # fmt: skip


def judge(run: ShortRun, choice: BatchSizeChoice | None) -> tuple[Finding, ...]:
    """Return the findings: whether the run trained, how well noise is known, whether the choice hangs on it, and more.

    Args:
        run: the short run.
        choice: from `chosen`; None where the run diverged.
    """
    if choice is None:
        return (_trained(run),)
    return (_trained(run), _noise_interval(choice), _agreement(choice), *_along(run))


def _trained(run: ShortRun) -> Finding:
    what = f"{run.steps} steps of {run.batch_size} at rate {run.lr:.2g}"
    if run.diverged:
        return Finding(name="loss-drops", verdict="fail", reason=f"{what} diverged",
                       advice="give a rate at which the loss drops: find one with surefoot find-lr")  # fmt: skip
    small = run.first_loss - run.last_loss < LEAST_DROP * abs(run.first_loss)
    return Finding(
        name="loss-drops", verdict="suspect" if small else "pass",
        reason=f"in {what} the loss goes from {run.first_loss:.4g} to {run.last_loss:.4g}",
        advice="the noise of a run that hardly trains says little about one that does: give another rate, or more steps"
        if small else None,
    )  # fmt: skip


def _noise_interval(choice: BatchSizeChoice) -> Finding:
    scale = choice.noise_scale
    if math.isinf(scale.high):
        value = "larger than can be told" if math.isinf(scale.value) else f"{scale.value:.3g}"
        return Finding(
            name="noise-known", verdict="suspect",
            reason=f"the noise scale is {value} examples, and at least {scale.low:.3g}: its interval is open above, "
            "since noise hides the gradient",
            advice="measure on more examples, with a larger micro batch",
        )  # fmt: skip
    return Finding(
        name="noise-known", verdict="pass",
        reason=f"the noise scale along the run is {scale.value:.3g} examples [{scale.low:.3g}, {scale.high:.3g}]",
    )  # fmt: skip


def _agreement(choice: BatchSizeChoice) -> Finding:
    low, high = sorted((choice.at_low, choice.at_high))
    wide = high > APART * low
    return Finding(
        name="choice-certain", verdict="suspect" if wide else "pass",
        reason=f"over the noise scale's interval the first to arrive is {low}"
        + (f" to {high} examples a step" if high != low else " examples a step throughout"),
        advice="measure on more examples, or compare the two by training" if wide else None,
    )  # fmt: skip


def _along(run: ShortRun) -> Iterator[Finding]:
    scales = [noise.total.noise_scale for noise in run.noise]
    grows = "; it grows, as it does while the loss falls, so a longer training is served by a larger batch"
    unsure = "; whether it grows cannot be told within their intervals" if len(scales) > 1 else ""
    yield Finding(
        name="noise-along", verdict="pass",
        reason=f"noise scales along the run: {', '.join(_or_open(scale.value) for scale in scales)}"
        + (grows if _grows(scales) else unsure),
    )  # fmt: skip
    if run.noise[0].batch_norm:
        yield Finding(
            name="batch-norm", verdict="pass",
            reason=f"with batch norm the noise is that of gradients of {run.noise[0].micro_batch_size} examples, "
            "normalised by their own statistics; other sizes have other statistics, and a smaller one more noise",
        )  # fmt: skip


def _grows(scales: Sequence[Estimate]) -> bool:
    """Whether the last interval lies above the first, and none below one that was before it."""
    falls = any(later.high < scale.low for scale, later in combinations(scales, 2))
    return scales[-1].low > scales[0].high and not falls


def _or_open(scale: float) -> str:
    return f"{scale:.3g}" if math.isfinite(scale) else "open"


def answer(run: ShortRun, choice: BatchSizeChoice) -> str:
    """Return the choice in one sentence."""
    best = next(size for size in choice.predicted if size.batch_size == choice.batch_size)
    scale, speed = choice.noise_scale, best.batch_size / best.step_seconds.value
    return (
        f"batch size {choice.batch_size}: a loss of {run.last_loss:.4g} after about {best.seconds.value:.3g} s "
        f"[{best.seconds.low:.3g}, {best.seconds.high:.3g}], {speed:,.0f} examples a second, at a noise scale of "
        f"{_or_open(scale.value)} [{scale.low:.3g}, {_or_open(scale.high)}] examples"
    )


PROXY = (
    "the noise scale stands in for the critical batch size and may miss it by a few times (McCandlish et al. 2018; "
    "Merrill et al. 2025, arXiv 2505.23971); another size wants another rate: find it anew at this one"
)


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


def rivals(run: ShortRun, choice: BatchSizeChoice) -> list[int]:
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
    size = run.batch_size
    others = [other for other in choice.predicted if other.batch_size != size]
    if not others or len(others) == len(choice.predicted):
        return []
    if choice.batch_size == size:
        return [min(others, key=lambda other: other.seconds.value).batch_size]
    low, high = sorted((size, choice.batch_size))
    halfway = math.sqrt(size * choice.batch_size)
    between = [other.batch_size for other in others if low < other.batch_size < high]
    return [choice.batch_size, *sorted(between, key=lambda other: abs(math.log(other / halfway)))[:1]]


def race_for(run: ShortRun, choice: BatchSizeChoice, size: int) -> Race:
    """Return the race of a size before it is run.

    Args:
        run: the short run at B_0.
        choice: made from it.
        size: B, one of those predicted.
    """
    seconds = {predicted.batch_size: predicted.step_seconds.value for predicted in choice.predicted}
    f = choice.progress.value
    share = f + (1 - f) * run.batch_size / size  # f(B_0) / f(B)
    return Race(
        batch_size=size, lr=run.lr / share**run.batch_exponent, step_seconds=seconds[size],
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


def decided(run: ShortRun, choice: BatchSizeChoice, races: Sequence[Race]) -> tuple[int, tuple[Finding, ...]]:
    """Return the batch size after the races, and what was seen, a finding for each race.

    Args:
        run: the short run at B_0.
        choice: made from it.
        races: that were run, the last perhaps won.
    """
    winner = next((race.batch_size for race in races if race.reached is not None), None)
    if winner is None:
        winner = run.batch_size if races else choice.batch_size
    findings = []
    for race in races:
        what = f"from the same start {race.batch_size} examples a step at rate {race.lr:.2g}"
        limit = race.limit * race.step_seconds
        against = f"{run.batch_size} at rate {run.lr:.2g} in {limit:.2g} s ({run.steps} steps)"
        if race.reached is None:
            end = f"are not at a loss of {run.last_loss:.4g} in the time of {against}"
        else:
            took = race.reached * race.step_seconds
            end = f"are at a loss of {run.last_loss:.4g} in {took:.2g} s ({race.reached} steps), {against}"
        expected = (race.reached is not None) == (race.batch_size == choice.batch_size)
        findings.append(Finding(
            name=f"raced-{race.batch_size}", verdict="pass" if expected else "suspect", reason=f"{what} {end}",
            advice=None if expected else f"not what the noise predicts; the race decides: {winner}",
        ))  # fmt: skip
    return winner, tuple(findings)
