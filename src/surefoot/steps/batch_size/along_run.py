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

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from surefoot.data.batches import fetch
from surefoot.data.tree import leaves
from surefoot.errors import ConfigError
from surefoot.optim.plan import Plan
from surefoot.record.noise import Noise, append_noise, truncate_noise
from surefoot.steps.batch_size.noise import MICRO_BATCH_SIZE, MICRO_BATCHES, noise_at
from surefoot.steps.batch_size.noise_estimate import LEAST_MICRO_BATCHES
from surefoot.training.run import Run
from surefoot.training.task import Task

SHARE = 0.015
"""Steps' worth of work that measuring may take, as a share of the steps done: the default frequency. With what else a
measurement costs it stays under the 3 % that it may add (benchmarks/noise.py). Chosen by hand."""
STEP_FLOP = {"cpu": 1e8, "cuda": 1e10}
"""What a step costs however small it is, in floating-point operations: about 1 ms at 0.1 TFLOP/s on two cores of a CPU
and at 10 TFLOP/s on a GPU. Chosen by hand; not timed, so that the same run is measured at the same steps anywhere."""


@dataclass
class NoiseLog:
    """What is measured along a run, and what has been.

    Attributes:
        run: from `open_run`.
        due: after how many updates, and in how many micro-batches.
        micro_batch_size: examples in each group.
        measured: what has been measured, oldest first.
    """

    run: Run
    due: dict[int, int]
    micro_batch_size: int
    measured: list[Noise]

    @classmethod
    def of(cls, run: Run) -> NoiseLog:
        """Return the log of a run, which goes on with what its folder holds."""
        size = min(MICRO_BATCH_SIZE, run.plan.batch_size)
        cost = relative_cost(run.task, run.plan.batch_size, size)
        return cls(run, due(run.plan, cost, SHARE), size, list(truncate_noise(run.folder, run.state.step)))

    def measure_if_due(self) -> Noise | None:
        """Measure where the run stands, write it down and return it, if it is due there and not done yet."""
        run = self.run
        at = run.state.step
        diverged = run.state.outcome is not None and run.state.outcome.kind == "diverged"
        if at not in self.due or diverged or any(noise.step == at for noise in self.measured):
            return None
        try:
            noise = noise_at(
                run.task, run.state, batch_size=run.plan.batch_size, micro_batches=self.due[at],
                micro_batch_size=self.micro_batch_size, label_smoothing=run.plan.recipe.label_smoothing,
            )  # fmt: skip
        except ConfigError:  # a gradient that is not finite: the next step says so, as the run's outcome
            return None
        append_noise(run.folder, noise)
        self.measured.append(noise)
        return noise


def due(plan: Plan, cost: float, share: float) -> dict[int, int]:
    """Return after which updates noise is measured, and in how many micro-batches there.

    At the first row after which the share of the steps since the last measurement pays for enough of them.

    Args:
        plan: of the run.
        cost: of a group, in steps.
        share: of the steps that may be spent.

    >>> from surefoot.config import Recipe
    >>> from surefoot.optim.plan import plan
    >>> due(plan(Recipe(epochs=4, batch_size=100), examples=50_000), cost=0.5, share=0.015)
    {500: 15, 1000: 15, 1500: 15, 2000: 15}
    """
    steps: dict[int, int] = {}
    last = 0
    for at in plan.row_steps:
        count = min(MICRO_BATCHES, int(share * (at - last) / cost))
        if count >= LEAST_MICRO_BATCHES:
            steps[at], last = count, at
    return steps


def relative_cost(task: Task, batch_size: int, micro_batch_size: int) -> float:
    """Return what the gradient of a micro-batch costs, in steps of a whole batch: at most 1.

    Args:
        task: whose model is counted on two examples; a model that cannot be counted costs a whole step.
        batch_size, micro_batch_size: B and b, b at most B.

    >>> import surefoot
    >>> mlp = surefoot.task(surefoot.load("digits"), "mlp")
    >>> 0.9 < relative_cost(mlp, 128, 16) < 1  # a small model: what a step costs however small it is
    True
    """
    x, y = fetch(task.data, task.data.train, np.arange(min(2, len(task.data.train))), seed=task.seed)
    model = task.fresh_model().eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
            task.outputs(model, x, y)
        forward = counter.get_total_flops() / len(leaves(y)[0])
    except Exception:  # the model may be anyone's, and counting takes its calls apart
        forward = 0.0
    fixed = STEP_FLOP.get(task.machine.device.type, STEP_FLOP["cuda"])
    # Backward is twice forward: a product for the inputs' gradient and one for the weights'.
    return (fixed + 3 * forward * micro_batch_size) / (fixed + 3 * forward * batch_size)
