"""From gradient noise along a short run and the seconds of a step to the batch size that reaches a loss first.

McCandlish et al. 2018 (arXiv 1812.06162), section 2.3: at the best rate for its size, a batch of B needs

    steps(B) = S_min + E_min / B = S_min (1 + B_noise / B),    B_noise = E_min / S_min

to reach a loss. A step of a batch of B_0 makes the share f = 1 / (1 + b / B_0) of the progress that a step along the
whole gradient would make, where b is the noise scale at that point (section 2.2), so that a run of S_0 steps has

    S_min = f S_0,    E_min = (1 - f) S_0 B_0,    steps(B) = S_0 (f + (1 - f) B_0 / B),

f being its mean along the run. It is bounded where noise scales are not: a noise scale whose interval is open above is
a share whose interval ends at 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from surefoot.record.decision import Finding
from surefoot.record.noise import Estimate, Noise

APART = 4
"""Choices at the two ends of the noise scale's interval further apart than this factor disagree. Chosen by hand: the
time near the best size is flat, so that within it little is lost."""
GROWS = 2.0
"""A noise scale that grows by this factor along a short run is said. Chosen by hand."""
LEAST_DROP = 0.05
"""A short run whose loss drops by less than this share has not trained. Chosen by hand."""


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
    """

    batch_size: int
    steps: int
    lr: float
    first_loss: float
    last_loss: float
    diverged: bool
    noise: tuple[Noise, ...]


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What a batch size would take to the loss that the short run ends at.

    Attributes:
        batch_size: B.
        step_seconds: of one step.
        examples_per_second: B / step_seconds.
        steps, seconds: to the target, each with an interval from those of noise and timings.
    """

    batch_size: int
    step_seconds: Estimate
    examples_per_second: float
    steps: Estimate
    seconds: Estimate


@dataclass(frozen=True, kw_only=True)
class Choice:
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


def chosen(run: ShortRun, seconds: dict[int, Sequence[float]]) -> Choice:
    """Return the size of the least predicted time.

    Args:
        run: the short run.
        seconds: of a step, the rounds of each size.

    >>> from surefoot.record.noise import LayerNoise
    >>> same = {name: Estimate(value=64.0, low=60.0, high=70.0) for name in ("second_moment", "grad_norm_sq", "trace",
    ...     "batch_variance", "signal_to_noise", "noise_scale")}
    >>> noise = Noise(step=10, batch_size=64, groups=32, micro_batch_size=64, loss=1.0, batch_norm=False,
    ...     total=LayerNoise(name="total", parameters=1, **same), layers=())
    >>> run = ShortRun(batch_size=64, steps=100, lr=0.1, first_loss=2.3, last_loss=1.0, diverged=False, noise=(noise,))
    >>> found = chosen(run, {16: [0.9], 64: [1.0], 256: [3.0]})
    >>> found.batch_size, [round(each.steps.value) for each in found.predicted]
    (64, [250, 100, 62])
    """
    share = mean_progress(run)
    sizes = sorted(seconds)
    times = {size: _timing(seconds[size]) for size in sizes}
    return Choice(
        batch_size=_first(run, times, share.value),
        noise_scale=Estimate(value=_scale(share.value, run), low=_scale(share.high, run),
                             high=_scale(share.low, run)),
        progress=share,
        predicted=tuple(_predicted(run, size, times[size], share) for size in sizes),
        at_low=_first(run, times, share.high),
        at_high=_first(run, times, share.low),
    )  # fmt: skip


def _timing(rounds: Sequence[float]) -> Estimate:
    ordered = sorted(rounds)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return Estimate(value=median, low=ordered[0], high=ordered[-1])


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
        batch_size=size, step_seconds=time, examples_per_second=size / time.value, steps=steps,
        seconds=Estimate(value=steps.value * time.value, low=steps.low * time.low, high=steps.high * time.high),
    )  # fmt: skip


def judged(run: ShortRun, choice: Choice | None) -> tuple[Finding, ...]:
    """Return the findings: whether the run trained, how well noise is known, whether the choice hangs on it, and more.

    Args:
        run: the short run.
        choice: from `chosen`; None where the run diverged.
    """
    trained = _trained(run)
    if choice is None:
        return (trained,)
    found = [trained, _noise_known(choice), _agreement(choice), _along(run)]
    if run.noise[0].batch_norm:
        found.append(Finding(
            name="batch-norm", verdict="pass",
            reason=f"with batch norm the noise is that of gradients of {run.noise[0].micro_batch_size} examples, "
            "normalised by their own statistics; other sizes have other statistics, and a smaller one more noise",
        ))  # fmt: skip
    return tuple(found)


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


def _noise_known(choice: Choice) -> Finding:
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
        name="noise-known",
        verdict="pass",
        reason=f"the noise scale along the run is {scale.value:.3g} examples [{scale.low:.3g}, {scale.high:.3g}]",
    )


def _agreement(choice: Choice) -> Finding:
    low, high = sorted((choice.at_low, choice.at_high))
    wide = high > APART * low
    return Finding(
        name="choice-certain", verdict="suspect" if wide else "pass",
        reason=f"over the noise scale's interval the first to arrive is {low}"
        + (f" to {high} examples a step" if high != low else " examples a step throughout"),
        advice="measure on more examples, or compare the two by training" if wide else None,
    )  # fmt: skip


def _along(run: ShortRun) -> Finding:
    scales = [noise.total.noise_scale.value for noise in run.noise]
    text = ", ".join("open" if not math.isfinite(scale) else f"{scale:.3g}" for scale in scales)
    grows = len(scales) > 1 and not scales[-1] < GROWS * scales[0]
    return Finding(
        name="noise-along", verdict="pass",
        reason=f"noise scales along the run: {text}"
        + ("; it grows, as it does while the loss falls, so a longer training is served by a larger batch"
           if grows else ""),
    )  # fmt: skip


def answer(run: ShortRun, choice: Choice) -> str:
    """Return the choice in one sentence."""
    best = next(each for each in choice.predicted if each.batch_size == choice.batch_size)
    scale = choice.noise_scale
    top = "open" if math.isinf(scale.high) else f"{scale.high:.3g}"
    value = "open" if math.isinf(scale.value) else f"{scale.value:.3g}"
    return (
        f"batch size {choice.batch_size}: a loss of {run.last_loss:.4g} after about {best.seconds.value:.3g} s "
        f"[{best.seconds.low:.3g}, {best.seconds.high:.3g}], {best.examples_per_second:,.0f} examples a second, at a "
        f"noise scale of {value} [{scale.low:.3g}, {top}] examples"
    )


PROXY = (
    "the noise scale stands in for the critical batch size and may miss it by a few times (McCandlish et al. 2018; "
    "Merrill et al. 2025, arXiv 2505.23971); another size wants another rate: find it anew at this one"
)
