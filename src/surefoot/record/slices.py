"""The loss on planes: the slice through the paths of training, and surfaces on which theory knows the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from surefoot.record.plain import losses_of, tuples, with_losses


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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Slice:
        """Return the slice whose JSON values these are."""
        nested = {name: tuple(losses_of(row) for row in values[name]) for name in ("losses", "path_losses")}
        return cls(**{**tuples(values), **nested})


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
        name: "quadratic", "rates", "noise" or "rosenbrock".
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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SurfaceResult:
        """Return the result whose JSON values these are."""
        runs = tuple(with_losses(SurfaceRun, each) for each in values["runs"])
        losses = tuple(losses_of(row) for row in values["losses"])
        return cls(**{**tuples(values), "losses": losses, "runs": runs})
