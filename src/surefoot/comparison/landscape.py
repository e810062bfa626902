"""The loss on a plane through the paths of training, after Li et al. 2018 (arXiv 1712.09913), section 7.

The plane is that of the two main directions of the weights along the paths (PCA), through their mean, so that it shows
as much of the paths as any plane can. All weights and biases count alike.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.comparison.runs import RuleRuns, parameters_from, part_of
from surefoot.data.batches import fetch
from surefoot.data.dataset import Part
from surefoot.record.comparison import Slice
from surefoot.record.progress import Progress
from surefoot.training.evaluate import examples_at_once
from surefoot.training.state import State
from surefoot.training.task import Task

MARGIN = 0.15
"""The grid reaches this share of the paths' extent beyond them. Chosen by hand."""
SLICE_EXAMPLES = 500
"""Training examples on which the slice is evaluated, at most. Chosen by hand."""
MOST_NUMBERS = 2**28
"""Of all weights along all paths: 1 GB. Chosen by hand."""


@dataclass(frozen=True)
class Plane:
    """A plane in the space of the weights, and the paths' shadows on it.

    Attributes:
        origin: [D].
        axes: orthonormal, [2, D].
        paths: coordinates of the points of each path, [P, 2].
        shares: of the points' variance along each axis.
    """

    origin: Tensor
    axes: Tensor
    paths: list[Tensor]
    shares: tuple[float, float]


def slice_of(
    task: Task, names: Sequence[str], finals: Sequence[RuleRuns], evaluated: Part, points: int, now: Progress
) -> Generator[Progress, None, Slice | None]:
    """Return the paths of the first seed on the plane of their main directions, with the loss on it.

    A run that diverged is left out: it would set the plane and the scale alone.

    Args:
        task: of the first seed.
        names, finals: of the rules, and their runs.
        evaluated: the examples that losses were evaluated on; some of these are used.
        points: of the grid, on each side.
        now: what is yielded after each row.
    """
    shown = [
        (name, runs.paths[0].weights, runs.losses[0])
        for name, runs in zip(names, finals, strict=True)
        if all(map(math.isfinite, runs.losses[0]))
    ]
    paths = [weights for _, weights, _ in shown if weights is not None]
    if not paths or sum(weights.numel() for weights in paths) > MOST_NUMBERS:
        return None
    plane = plane_through(paths)
    a, b = grid_of(plane.paths, points)
    few = part_of(task.data, evaluated, min(SLICE_EXAMPLES, examples_at_once(task)), "slice")
    losses = yield from losses_on(task, finals[0].paths[0].state.clone(), plane, (a, b), few, now)
    return Slice(
        shares=plane.shares, a=tuple(a.tolist()), b=tuple(b.tolist()),
        losses=tuple(tuple(row) for row in losses.tolist()), rules=tuple(name for name, _, _ in shown),
        paths=tuple(tuple((x, y) for x, y in path.tolist()) for path in plane.paths),
        path_losses=tuple(losses for _, _, losses in shown),
    )  # fmt: skip


def plane_through(paths: Sequence[Tensor]) -> Plane:
    """Return the plane of the two main directions of these points.

    Args:
        paths: weights along each, [P, D]; together more than two different points.

    >>> made = plane_through([torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 1, 0]])])
    >>> made.paths[0].shape, round(sum(made.shares), 3)
    (torch.Size([3, 2]), 1.0)
    """
    points = torch.cat(list(paths)).double()
    origin = points.mean(0)
    centred = points - origin
    # The Gram matrix of some hundred points is small, where the covariance of the weights is not.
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    axes = vectors[:, -2:].flip(1).T @ centred
    axes = axes / axes.norm(dim=1, keepdim=True).clamp_min(1e-30)
    total = float(values.clamp_min(0).sum())
    shares = (float(values[-1]) / total, float(values[-2].clamp_min(0)) / total) if total > 0 else (0.0, 0.0)
    return Plane(origin, axes, [(weights.double() - origin) @ axes.T for weights in paths], shares)


def grid_of(paths: Sequence[Tensor], points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates of a square grid that holds all paths, with a margin: [points] and [points].

    Both axes have the same scale, so that angles and distances on the picture are those of the weights.
    """
    every = torch.cat(list(paths)).numpy()
    centre = (every.max(0) + every.min(0)) / 2
    half = float((every.max(0) - every.min(0)).max()) / 2 * (1 + 2 * MARGIN) or 1.0
    a, b = (np.linspace(at - half, at + half, points) for at in centre)
    return a, b


def losses_on(
    task: Task, state: State, plane: Plane, grid: tuple[np.ndarray, np.ndarray], evaluated: Part, now: Progress
) -> Generator[Progress, None, np.ndarray]:
    """Return the loss at each point of a grid on the plane, [B, A].

    In evaluation mode, save that batch norm uses the statistics of the examples: those that were gathered while
    training belong to other weights.

    Args:
        task: gives model and loss.
        state: a run's; its model is used up, its buffers are not changed.
        plane: where.
        grid: coordinates along the axes, [A] and [B].
        evaluated: the examples.
        now: what is yielded after each row.
    """
    x, y = fetch(task.data, evaluated, np.arange(len(evaluated)), augment=None, seed=task.seed, epoch=0)
    trained = [module for module in state.model.modules() if module.training]
    model = state.model.eval()
    for module in trained:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()

    def loss(along_a: float, along_b: float) -> float:
        vector = plane.origin + along_a * plane.axes[0] + along_b * plane.axes[1]
        # Copies of the buffers, too: batch norm writes to them.
        named = {name: value.detach().clone() for name, value in model.state_dict().items()}
        with task.machine.autocast():
            moved = named | parameters_from(model, vector)
            outputs = task.outputs_with(model, moved, x, y, tie_weights=False)
        return float(task.mean_loss(outputs, y))

    rows = []
    for along_b in grid[1]:
        with task.machine.computing(), torch.no_grad():
            rows.append([loss(along_a, along_b) for along_a in grid[0]])
        yield now
    return np.array(rows)
