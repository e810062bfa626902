"""A comparison is what several rules did on one problem from one start, as plain data that pictures are drawn from.

S seeds, P points along a run, N training examples. Points are log-spaced in steps; the first is step 0.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from surefoot.record.decision import Finding
from surefoot.record.lines import from_plain, plain

VERSION = 2
"""Of `comparison.json`; raised when a field changes its meaning or goes."""
NAME = "comparison.json"


@dataclass(frozen=True, kw_only=True)
class RateRun:
    """One run of the search for a rule's rate.

    Attributes:
        lr: the rate.
        marks: steps at which the loss was evaluated, [P].
        losses: training loss at each, [P]; infinite from where the run diverged.
    """

    lr: float
    marks: tuple[int, ...]
    losses: tuple[float, ...]

    @property
    def score(self) -> float:
        """What the search compares: the training loss at the end of the budget."""
        return self.losses[-1]


@dataclass(frozen=True, kw_only=True)
class DirectionNoise:
    """The noise of a rule's step direction, all rules at the same weights.

    A step is divided by its mean gain, 1 / (1 - momentum), so that directions of one length are compared.

    Attributes:
        variance: tr Cov(direction) / ||gradient of the full loss||^2: 0 is no noise, 1 as much noise as signal.
        cosine: mean cosine between the step and the full gradient.
        samples: steps that this was seen over.
    """

    variance: float
    cosine: float
    samples: int


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """What one rule did.

    Attributes:
        name: as the user reads it.
        settings: the recipe as nested plain values, with the rate that was found.
        batch_size: examples per step; for gradient descent N.
        steps: of one run.
        lr: peak learning rate of the final runs.
        given: whether that rate was given and not searched.
        tried: the search, by rising rate; empty where the rate was given.
        marks: steps at which the loss was evaluated, [P].
        losses: training loss, [S][P]; infinite from where a run diverged.
        accuracies: at the end, [S], on `Comparison.accuracy_on`; None for regression, or without such a part.
        step_seconds: median over repetitions of the time of one step, this rule alone in the plain loop.
        step_seconds_range: least and largest repetition.
        direction: the noise of its steps; None where it was not measured.
        steps_to_target: [S], interpolated between points; None where the target was not reached.
    """

    name: str
    settings: dict[str, Any]
    batch_size: int
    steps: int
    lr: float
    given: bool
    tried: tuple[RateRun, ...]
    marks: tuple[int, ...]
    losses: tuple[tuple[float, ...], ...]
    accuracies: tuple[float, ...] | None
    step_seconds: float
    step_seconds_range: tuple[float, float]
    direction: DirectionNoise | None
    steps_to_target: tuple[float | None, ...]

    @property
    def final_losses(self) -> tuple[float, ...]:
        """Training loss at the end of the budget, [S]."""
        return tuple(run[-1] for run in self.losses)

    @property
    def momentum(self) -> float:
        """The momentum, beta; 0 where the rule reads none."""
        return float(self.settings.get("momentum", 0.0))


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """What momentum makes of noisy gradients, at fixed weights.

    Coordinates are along the full gradient and along the main direction of the noise, both in lengths of the full
    gradient, which is the point (1, 0). Steps are divided by their mean gain.

    Attributes:
        rule: whose momentum it is.
        momentum: beta.
        batch_size: of the gradients.
        gradients: [n][2].
        steps: [n][2], in the same order.
        gradient_cosines, step_cosines: with the full gradient, from the very first step on, [m].
    """

    rule: str
    momentum: float
    batch_size: int
    gradients: tuple[tuple[float, float], ...]
    steps: tuple[tuple[float, float], ...]
    gradient_cosines: tuple[float, ...]
    step_cosines: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The loss on a plane through the paths: origin + a axis1 + b axis2, axes by PCA of the weights along the paths.

    Attributes:
        shares: of the paths' variance that lies along each axis.
        a, b: coordinates of the grid, [A] and [B], in units of the weights.
        losses: on the grid, [B][A].
        paths: for each rule its points (a, b), [P][2], first seed.
        rules: names, in the order of `paths`.
        path_losses: training loss at those points (of the path itself, not of its shadow on the plane), [P] each.
    """

    shares: tuple[float, float]
    a: tuple[float, ...]
    b: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    rules: tuple[str, ...]
    paths: tuple[tuple[tuple[float, float], ...], ...]
    path_losses: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class SurfaceRun:
    """One rule on a known surface, w in two dimensions.

    Attributes:
        name: of the rule.
        lr, momentum: its settings.
        path: w before the first and after every step, [T+1][2]; cut where it left the picture.
        losses: f(w) at those, [T+1].
        contraction: factor per step on the distance to the minimum, measured; None where it is not asked.
        theory: the same from theory.
        floor: mean loss that theory gives for noisy gradients; None without noise.
    """

    name: str
    lr: float
    momentum: float
    path: tuple[tuple[float, float], ...]
    losses: tuple[float, ...]
    contraction: float | None = None
    theory: float | None = None
    floor: float | None = None


@dataclass(frozen=True, kw_only=True)
class SurfaceResult:
    """Rules on one known surface.

    Attributes:
        name: "quadratic", "rates" or "noise".
        text: what it is, in one sentence.
        minimum: w at which f is 0.
        x, y: coordinates of a grid, [X] and [Y].
        losses: f on it, [Y][X].
        runs: the rules.
    """

    name: str
    text: str
    minimum: tuple[float, float]
    x: tuple[float, ...]
    y: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    runs: tuple[SurfaceRun, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What several rules did on one problem, from the same start, with the same budget of examples.

    Attributes:
        data, model: names.
        examples: N, training examples used.
        budget_examples: training examples that each run saw, at most.
        evaluated_examples: training examples on which the loss was evaluated, the same for all.
        search_seed: of the search for rates.
        seeds: of the final runs, [S].
        accuracy_on: the part that accuracies are of.
        initial_loss: mean over seeds.
        target_loss: the loss that rules are timed to; None where no rule learns.
        target_reason: where the target comes from, in one sentence.
        rules: what each did, in the order given.
        slice: the paths on a plane of the loss surface; None where it was not asked or the model is too large.
        averaging: None where no rule has momentum and mini-batches.
        surfaces: the known surfaces.
        findings: what it means.
        machine: versions, device, precision and threads.
        untouched: SHA-256 over the caller's model and random states, the same before and after.
        data_fingerprint: SHA-256 over all of the data, of which `examples` were used; "" in records of older versions.
        seconds: what it took.
        version: of this record.
    """

    data: str
    model: str
    examples: int
    budget_examples: int
    evaluated_examples: int
    search_seed: int
    seeds: tuple[int, ...]
    accuracy_on: str | None
    initial_loss: float
    target_loss: float | None
    target_reason: str
    rules: tuple[RuleResult, ...]
    slice: Slice | None
    averaging: Averaging | None
    surfaces: tuple[SurfaceResult, ...]
    findings: tuple[Finding, ...]
    machine: dict[str, Any] = field(default_factory=dict)
    untouched: str | None = None
    data_fingerprint: str = ""
    seconds: float = 0.0
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON values; a loss that is not finite becomes None, which JSON can hold."""
        return plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Comparison:
        """Return the comparison that `to_dict` wrote; a loss of None comes back as infinite."""
        dropped = ("rates", "rates_of")  # of version 1, which drew one rule at four rates, as the search does
        return from_plain(cls, {name: value for name, value in values.items() if name not in dropped})
