"""The least loss that a model can have on pixels or tokens: those that stand in one context for it get one answer.

A language model sees the tokens so far, a convolution its surroundings, a bigram model one token. What a model sees is
asked of itself: where outputs of untrained weights, moved at random, are the same, it cannot tell apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from surefoot.data.batches import fetch_slice
from surefoot.seeds import generator
from surefoot.steps.answers import class_logits
from surefoot.steps.wiring.inputs import stirred
from surefoot.training.evaluate import examples_at_once
from surefoot.training.task import Task

_MOST = 100_000
"""Pixels or tokens that are looked at: beyond, the first ones speak for all. Chosen by hand."""
_DIRECTIONS = 32
"""Numbers that are kept of the logits of each: a vocabulary has tens of thousands. Chosen by hand."""
_SAME = 1e-5
"""Difference of logits, as a share of their deviation, that is rounding. Chosen by hand."""


@dataclass(frozen=True)
class Floor:
    """What is left at best.

    Attributes:
        loss: mean over targets of -log of their share in their context.
        constant_loss: the same where all stand in one context: of the best answer that does not look at inputs.
        contexts: how many the model tells apart.
    """

    loss: float
    constant_loss: float
    contexts: int


def floor_of(task: Task) -> Floor:
    """Return the least cross-entropy of a task whose targets are classes of pixels or positions.

    >>> import surefoot
    >>> ids = torch.arange(60).reshape(10, 6) // 2 % 2
    >>> data = surefoot.load((ids, 1 - ids), target="tokens", validation=0)
    >>> bigram = surefoot.task(data, torch.nn.Embedding(2, 2))
    >>> floor = floor_of(bigram)
    >>> floor.contexts, round(floor.loss, 3), round(floor.constant_loss, 3)
    (2, 0.0, 0.693)
    """
    model, part, found, targets = stirred(task), task.data.train, list[Tensor](), list[Tensor]()
    for first in range(0, len(part), at_once := examples_at_once(task)):
        x, y = fetch_slice(task.data, part, first, first + at_once)
        with torch.no_grad():
            answers = class_logits(task, task.outputs(model, x, y), y)
        assert answers is not None
        found.append(_few(answers[0].float(), task.seed))
        targets.append(answers[1])
        if sum(map(len, targets)) >= _MOST:
            break
    logits, y = torch.cat(found)[:_MOST], torch.cat(targets)[:_MOST]
    contexts = contexts_of(logits, task.seed)
    alone = torch.zeros_like(contexts)
    return Floor(_entropy(contexts, y), _entropy(alone, y), int(contexts.max()) + 1 if len(contexts) else 0)


def _few(logits: Tensor, seed: int) -> Tensor:
    """Return logits, [M, C], by a few directions drawn at random where there are more: what differs, differs there."""
    if logits.shape[1] <= _DIRECTIONS:
        return logits
    directions = generator(seed, "directions").normal(size=(logits.shape[1], _DIRECTIONS))
    return logits @ torch.from_numpy(directions / math.sqrt(logits.shape[1])).to(logits)


def contexts_of(logits: Tensor, seed: int = 0) -> Tensor:
    """Return a number for each row of outputs, the same for rows that are the same but for rounding, int64 [M].

    Rows are sorted along a direction drawn at random, and compared with the one before.

    Args:
        logits: [M, C].
        seed: of that direction.

    >>> contexts_of(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])).unique().tolist()
    [0, 1]
    """
    if not len(logits):
        return torch.zeros(0, dtype=torch.int64)
    direction = torch.from_numpy(generator(seed, "contexts").normal(size=logits.shape[1])).to(logits)
    order = torch.argsort(logits @ direction)
    ranked = logits[order]
    scale = float((logits - logits.mean(0)).square().mean().sqrt())
    new = (ranked[1:] - ranked[:-1]).abs().amax(1) > _SAME * scale
    contexts = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    contexts[order[1:]] = new.long().cumsum(0)
    return contexts


def _entropy(contexts: Tensor, y: Tensor) -> float:
    """Return the mean over targets of -log of the share that a target has in its context."""
    if not len(y):
        return 0.0
    pairs = contexts * (int(y.max()) + 1) + y
    _, place, together = pairs.unique(return_inverse=True, return_counts=True)
    inside = torch.bincount(contexts)[contexts]
    return float((inside / together[place].double()).log().mean())
