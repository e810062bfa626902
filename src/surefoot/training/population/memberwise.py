"""What is done to stacked tensors [K, ...] for each member alone, and which members a stack still has."""
# The kernels torch._foreach_* are what torch.optim is built on; they have no public name.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.training.population.member import Member
from surefoot.training.state import averaging_decay


def survivors(ends: Mapping[int, int], rows: Sequence[int], step: int, every: int, share: float) -> list[int]:
    """Return which rows a stack has at a step: those that have ended leave at multiples of some steps.

    It depends on nothing else, so in whatever calls a run is divided, the same members are computed together.

    Args:
        ends: updates done by each of those that have ended.
        rows: all that there were at first.
        step: updates done by the others.
        every: steps between two times at which rows may leave.
        share: of the rows, which may still move at most if the others are to leave.

    >>> survivors({1: 5}, [0, 1, 2], 15, every=16, share=1.0), survivors({1: 5}, [0, 1, 2], 16, every=16, share=1.0)
    ([0, 1, 2], [0, 2])
    """
    left = list(rows)
    for mark in sorted({(end // every + 1) * every for end in ends.values()}):
        moving = [row for row in left if ends.get(row, mark) >= mark]
        if mark <= step and len(moving) <= share * len(left):
            left = moving
    return left


def ema_shares(members: Sequence[Member], first: int, many: int) -> np.ndarray:
    """Return by which share the averages of members move in so many steps from `first`, [T, K]: `averaging_decay`."""
    decays = [member.plan.recipe.ema_decay or 0.0 for member in members]
    steps = range(first + 1, first + 1 + many) if any(decays) else ()
    shares = [[1 - averaging_decay(decay, updates) for decay in decays] for updates in steps]
    return np.array(shares) if shares else np.zeros((many, len(decays)))


def copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies of tensors, made in one launch where that is possible."""
    copies = [torch.empty_like(value) for value in tensors]
    if copies:
        torch._foreach_copy_(copies, list(tensors))
    return copies


def keep_(tensors: Iterable[Tensor], before: Iterable[Tensor], moved: Tensor | None) -> None:
    """Put members that do not move back to what they were, in place; None moves all."""
    if moved is not None:
        for value, former in zip(tensors, before, strict=True):
            torch.where(wide(moved, value), value, former, out=value)


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of each tensor of each member, [P, K]."""
    return torch.stack([torch.linalg.vector_norm(value.reshape(len(value), -1), dim=1) for value in tensors])


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and all buffers of a model by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def wide(value: Tensor, like: Tensor) -> Tensor:
    """Return a value for each member, [K], as [K, 1, ...]."""
    return value.view(-1, *[1] * (like.dim() - 1))
