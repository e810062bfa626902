"""Outputs and targets of every kind in one form, logits of single classes; trees of tensors, joined and compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from surefoot.data import tree
from surefoot.data.dataset import IGNORED, Part
from surefoot.training.task import Task


def class_logits(task: Task, outputs: Any, y: Any) -> tuple[Tensor, Tensor] | None:
    """Return outputs as logits [M, C] with their classes [M], where each target is one class; else None.

    M is the examples, or all pixels or positions whose target counts.

    Args:
        task: says what targets are.
        outputs, y: of a batch, as `Task.objective` takes them.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> class_logits(digits, torch.zeros(4, 10), torch.arange(4))[0].shape
    torch.Size([4, 10])
    """
    if not one_class_each(task):
        return None
    if task.classifies:
        return outputs, y
    counted = y != IGNORED
    last = outputs if task.data.target == "tokens" else outputs.movedim(1, -1)
    return last[counted], y[counted]


def one_class_each(task: Task) -> bool:
    """Return whether outputs are logits of one class for each target: for an example, a pixel or a position."""
    return task.counts_right and task.data.target != "multilabel"


def dense(task: Task) -> bool:
    """Return whether an example has a class for each of its pixels or positions, and outputs are logits of these."""
    return one_class_each(task) and not task.classifies


def numbers_of(part: Part) -> int:
    """Return how many numbers the inputs of one example are, over all leaves."""
    return sum(math.prod(leaf.shape[1:]) for leaf in tree.leaves(part.x))


def joined(trees: Sequence[Any]) -> Any:
    """Return the examples of several trees of one form as one.

    >>> joined([{"a": torch.zeros(2, 3)}, {"a": torch.zeros(1, 3)}])["a"].shape
    torch.Size([3, 3])
    """
    return trees[0] if len(trees) == 1 else tree.map_leaves(lambda *each: torch.cat(each), *trees)


def floats(value: Any) -> list[Tensor]:
    """Return the leaves of a tree that are of floating point."""
    return [leaf for leaf in tree.leaves(value) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def equal(a: Any, b: Any) -> bool:
    """Return whether two trees have the same tensors.

    >>> equal((torch.ones(2), torch.zeros(1)), (torch.ones(2), torch.ones(1)))
    False
    """
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return tree.same_form(a, b) and all(torch.equal(x, z) for x, z in pairs if isinstance(x, Tensor))
