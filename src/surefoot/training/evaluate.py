"""Loss and accuracy of weights on a part of the data, in evaluation mode, with nothing changed by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from surefoot.data.batches import fetch
from surefoot.data.dataset import Part
from surefoot.training.task import Task

_BATCH_EXAMPLES = 1000
"""Examples evaluated at once. Larger was not faster on a CPU, and this bounds memory. Chosen by hand."""


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and share of right answers over a part; `accuracy` is None for regression."""

    loss: float
    accuracy: float | None
    examples: int


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode for the block, and each back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def outputs_of(
    task: Task, model: nn.Module, weights: Mapping[str, Tensor], part: Part
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (outputs [B, ...] in fp32, targets [B, ...]) over a part, in order.

    Between two batches the model is in its own mode, and gradients are on or off as the caller has them.
    """
    for first in range(0, len(part.y), _BATCH_EXAMPLES):
        rows = np.arange(first, min(first + _BATCH_EXAMPLES, len(part.y)))
        x, y = fetch(task.data, part, rows, augment=None, seed=task.seed, epoch=0)
        with evaluation_mode(model), torch.no_grad(), task.machine.autocast():
            # Tied weights come under both of their names, with one value.
            outputs = functional_call(model, dict(weights), (x,), tie_weights=False).float()
        yield outputs, y


def evaluate_part(
    task: Task,
    model: nn.Module,
    weights: Mapping[str, Tensor],
    part: Part,
    keep: list[tuple[Tensor, Tensor]] | None = None,
) -> Evaluation:
    """Return mean loss and accuracy of `weights` in `model` over a part.

    Label smoothing is left out, so that the loss means the same under every recipe. Outputs and targets of every batch
    are added to `keep`, on the CPU, where that is a list.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> model = digits.fresh_model()
    >>> round(evaluate_part(digits, model, model.state_dict(), digits.data.train).loss, 4)  # ln 10
    2.3026
    """
    loss, correct, examples = 0.0, 0, 0
    for outputs, targets in outputs_of(task, model, weights, part):
        loss += float(task.mean_loss(outputs, targets)) * len(targets)
        correct += int((outputs.argmax(1) == targets).sum()) if task.classifies else 0
        examples += len(targets)
        if keep is not None:
            keep.append((outputs.cpu(), targets.cpu()))
    return Evaluation(loss / examples, correct / examples if task.classifies else None, examples)
