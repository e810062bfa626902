"""Gradient noise along a run on disk: measured between two calls of `Run.advance`, by whoever owns the `for`.

    log = NoiseLog.of(run)
    while not run.done:
        log.measure_if_due()
        run.advance()
    log.measure_if_due()

The run never knows of it: weights, rows and checkpoints are the same bits with and without.
"""

from __future__ import annotations

from dataclasses import dataclass

from surefoot.errors import ConfigError
from surefoot.measure.noise import GROUPS, MICRO_BATCH_SIZE, noise_at
from surefoot.measure.noise_estimate import LEAST_GROUPS
from surefoot.record.noise import Noise
from surefoot.record.noise_log import append_noise, keep_noise
from surefoot.sgd.plan import Plan
from surefoot.training.run import Run

SHARE = 0.01
"""Examples that noise is measured on, as a share of those trained on: the default frequency. An example costs more in
a small batch than in a large one, so it is under the 3 % that measuring may add (benchmarks/noise.py)."""
LEAST_SIZE = 16
"""Examples in a micro-batch, at least; smaller ones cost more per example. Chosen by hand."""


@dataclass
class NoiseLog:
    """What is measured along a run, and what has been.

    Attributes:
        run: from `open_run`.
        due: after how many updates, and with how many groups of how many examples.
        seen: what has been measured, oldest first.
    """

    run: Run
    due: dict[int, tuple[int, int]]
    seen: list[Noise]

    @classmethod
    def of(cls, run: Run) -> NoiseLog:
        """Return the log of a run, which goes on with what its folder holds."""
        return cls(run, due(run.plan), list(keep_noise(run.folder, run.state.step)))

    def measure_if_due(self) -> Noise | None:
        """Measure where the run stands, write it down and return it, if it is due there and not done yet."""
        run = self.run
        at = run.state.step
        diverged = run.state.outcome is not None and run.state.outcome.kind == "diverged"
        if at not in self.due or diverged or any(noise.step == at for noise in self.seen):
            return None
        groups, size = self.due[at]
        try:
            noise = noise_at(
                run.task, run.state, batch_size=run.plan.batch_size, groups=groups, micro_batch_size=size,
                label_smoothing=run.plan.recipe.label_smoothing,
            )  # fmt: skip
        except ConfigError:  # a gradient that is not finite: the next step says so, as the run's outcome
            return None
        append_noise(run.folder, noise)
        self.seen.append(noise)
        return noise


def due(plan: Plan, share: float = SHARE) -> dict[int, tuple[int, int]]:
    """Return after which updates noise is measured, and there the number of groups and the examples in each.

    At the first row after which `share` of the examples trained on since the last measurement are enough for one.

    Args:
        plan: of the run.
        share: of the examples.

    >>> from surefoot.config import Recipe
    >>> from surefoot.sgd.plan import plan
    >>> due(plan(Recipe(epochs=3, batch_size=100), examples=50_000))
    {500: (31, 16), 1000: (31, 16), 1500: (31, 16)}
    """
    found: dict[int, tuple[int, int]] = {}
    last = 0
    for at in plan.row_steps:
        examples = min(int(share * (at - last) * plan.batch_size), GROUPS * MICRO_BATCH_SIZE)
        groups = min(GROUPS, examples // LEAST_SIZE)
        if groups >= LEAST_GROUPS:
            found[at] = (groups, examples // groups)
            last = at
    return found
