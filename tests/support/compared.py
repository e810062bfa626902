"""An invented comparison of three rules, one of which diverges in one seed."""

from __future__ import annotations

import math

from surefoot.record.comparison import (
    Averaging,
    Comparison,
    DirectionNoise,
    RateRun,
    RuleResult,
    Slice,
    SurfaceResult,
    SurfaceRun,
)
from surefoot.record.decision import Finding


def rule(
    name: str, batch_size: int, losses: list[list[float]], noise: float | None, *, given: bool = False
) -> RuleResult:
    """Return what a rule did; it was given its rate, or had three tried."""
    tried = [(0.1, 1.9), (1.0, losses[0][-1]), (10.0, math.inf)]
    return RuleResult(
        name=name, settings={"momentum": 0.9, "momentum_form": "pytorch", "schedule": {"kind": "constant"}},
        batch_size=batch_size, steps=10, lr=1.0, given=given,
        tried=() if given else tuple(RateRun(lr=lr, marks=(0, 1, 10), losses=(2.0, 1.9, loss)) for lr, loss in tried),
        marks=(0, 1, 10), losses=tuple(tuple(run) for run in losses), accuracies=(0.9, 0.8),
        step_seconds=1e-3 * batch_size, step_seconds_range=(1e-3, 2e-3),
        direction=None if noise is None else DirectionNoise(variance=noise, cosine=0.5, samples=9),
        steps_to_target=tuple(5.0 if run[-1] <= 0.5 else None for run in losses),
    )  # fmt: skip


def comparison() -> Comparison:
    """Return the comparison."""
    rules = (
        rule("gradient-descent", 100, [[2.0, 1.8, 1.5], [2.0, 1.7, 1.4]], 0.0),
        rule("momentum lr=1 label with words", 10, [[2.0, 1.0, 0.2], [2.0, 1.1, 0.3]], 0.3, given=True),
        rule("sgd", 1, [[2.0, 1.9, 0.1], [2.0, 2.5, math.inf]], None),
    )
    plane = Slice(
        shares=(0.7, 0.2), a=(-1.0, 0.0, 1.0), b=(-1.0, 0.0, 1.0),
        losses=((2.0, 1.0, 2.0), (1.0, 0.1, 1.0), (2.0, 1.0, math.inf)), rules=("gradient-descent", "sgd"),
        paths=(((-0.9, 0.0), (0.0, 0.0)), ((-0.9, 0.0), (0.5, 0.5))), path_losses=((2.0, 1.5), (2.0, 0.1)),
    )  # fmt: skip
    run = SurfaceRun(name="good", lr=0.1, momentum=0.0, path=((-1.0, 1.0), (0.5, 0.5), (9.0, 0.0)),
                     losses=(1.0, 0.5, 81.0), contraction=0.5, theory=0.5)  # fmt: skip
    noisy = SurfaceRun(name="noisy", lr=0.1, momentum=0.0, path=((-1.0, 1.0), (0.5, 0.5)), losses=(1.0, 0.5), floor=0.4)
    surface = SurfaceResult(
        name="quadratic", text="a quadratic", minimum=(0.0, 0.0), x=(-1.0, 0.0, 1.0), y=(-1.0, 0.0, 1.0),
        losses=((2.0, 1.0, 2.0), (1.0, 0.0, 1.0), (2.0, 1.0, 2.0)), runs=(run, noisy),
    )  # fmt: skip
    return Comparison(
        data="digits", model="mlp", examples=100, budget_examples=1000, evaluated_examples=50, search_seed=0,
        seeds=(1, 2),
        accuracy_on="test", initial_loss=2.0, target_loss=0.5, target_reason="given", rules=rules,
        slice=plane,
        averaging=Averaging(rule="momentum", momentum=0.9, batch_size=10, gradients=((1.0, 0.5), (0.5, -1.0)),
                            steps=((1.0, 0.1), (0.9, -0.1)), gradient_cosines=(0.3, 0.5), step_cosines=(0.3, 0.9)),
        surfaces=(surface,), findings=(Finding(name="x", verdict="suspect", reason="a reason", advice="look"),),
        machine={"threads": 1}, untouched="ab", data_fingerprint="ff00", seconds=1.5,
    )  # fmt: skip
