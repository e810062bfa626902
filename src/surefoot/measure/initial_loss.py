"""The loss before training, what chance would give, and the scale of outputs, weights and inputs behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surefoot.measure.wiring import batch, forward, loss_kind
from surefoot.training.task import Task

LEAST_BATCHES, BATCHES = 2, 8
"""Batches of 128 examples whose losses are averaged, at least and usually: the standard error shows if that is enough.
Chosen by hand."""
PASSES = 3
"""Forward passes of each: as it is, standardised, and in evaluation mode."""


@dataclass(frozen=True)
class InitialLoss:
    """What an untrained copy gives on training data, without weight decay.

    Attributes:
        loss: mean over batches in training mode; nothing is updated.
        standard_error: of that mean.
        eval_loss: mean in evaluation mode, where batch norm has not seen anything yet.
        chance: the loss of outputs that are all alike: ln C for the cross-entropy; for numbers, of outputs of zero.
        prior: the loss of the best answer that does not look at the input: the labels' entropy for the cross-entropy,
            the variance for squared error; None where the loss is not one of these.
        classes: C, 2 where the loss is the cross-entropy of one logit; None for numbers.
        output_scale: for classes the deviation of a row's logits, root mean square; for numbers the root mean square.
        target_scale: root mean square of the targets; None for classes.
        input_scale: root mean square of what the model gets.
        standardised_loss: as `loss`, with inputs brought to mean 0 and deviation 1.
        penalty: weight_decay / 2 * ||W||^2 over all trainable parameters.
        standard_loss: the loss is the cross-entropy or squared error.
        sums, right, wrong: as in `LossKind`.
        examples: of each batch.
    """

    loss: float
    standard_error: float
    eval_loss: float
    chance: float
    prior: float | None
    classes: int | None
    output_scale: float
    target_scale: float | None
    input_scale: float
    standardised_loss: float
    penalty: float
    standard_loss: bool
    sums: bool
    right: float
    wrong: float
    examples: int


def initial_loss(task: Task, weight_decay: float = 5e-4, batches: int = BATCHES) -> InitialLoss:
    """Return the loss of an untrained copy and what explains it.

    Args:
        task: what is to be learned.
        weight_decay: of the penalty.
        batches: whose losses are averaged, at least 2.

    >>> import surefoot
    >>> found = initial_loss(surefoot.task(surefoot.load("digits"), "linear"))
    >>> round(found.loss, 4), round(found.chance, 4), found.penalty  # ln 10; the weights start at zero
    (2.3026, 2.3026, 0.0)
    """
    looked = [batch(task, number) for number in range(batches)]
    outputs = _outputs(task, [x for x, _ in looked])
    losses = [float(task.mean_loss(each, y)) for each, (_, y) in zip(outputs, looked, strict=True)]
    x, y = torch.cat([x for x, _ in looked]), torch.cat([y for _, y in looked])
    whole = torch.cat(outputs)
    kind = loss_kind(task, outputs[0], looked[0][1])
    chance, prior = _without_inputs(task, whole, y)
    mean, std = x.mean(0, keepdim=True), x.std(0, keepdim=True, correction=0).clamp_min(1e-6 * float(x.abs().max()))
    standardised = _outputs(task, [(each - mean) / std.clamp_min(1e-30) for each, _ in looked])
    weights = [parameter for parameter in task.template.parameters() if parameter.requires_grad]
    return InitialLoss(
        loss=float(np.mean(losses)),
        standard_error=float(np.std(losses, ddof=1) / math.sqrt(len(losses))),
        eval_loss=_eval_loss(task, looked),
        chance=chance,
        prior=prior,
        classes=task.data.outputs if task.classifies else 2 if kind.binary else None,
        output_scale=_scale(whole - whole.mean(1, keepdim=True)) if task.classifies else _scale(whole),
        target_scale=None if task.classifies else _scale(y.float()),
        input_scale=_scale(x),
        standardised_loss=float(
            np.mean([float(task.mean_loss(each, y)) for each, (_, y) in zip(standardised, looked, strict=True)])
        ),
        penalty=weight_decay / 2 * sum(float(each.detach().double().square().sum()) for each in weights),
        standard_loss=kind.cross_entropy or kind.binary or (task.loss is None and not task.classifies),
        sums=kind.sums,
        right=kind.right,
        wrong=kind.wrong,
        examples=len(looked[0][1]),
    )


def _outputs(task: Task, inputs: list[Tensor]) -> list[Tensor]:
    """Return the outputs of each batch in training mode, each from the untrained state."""
    with torch.no_grad():
        return [forward(task, task.fresh_model().train(), x) for x in inputs]


def _eval_loss(task: Task, batches: list[tuple[Tensor, Tensor]]) -> float:
    model: nn.Module = task.fresh_model().eval()
    with torch.no_grad():
        return float(np.mean([float(task.mean_loss(forward(task, model, x), y)) for x, y in batches]))


def _without_inputs(task: Task, outputs: Tensor, y: Tensor) -> tuple[float, float | None]:
    """Return the loss of outputs that are all alike, and that of the best answer that does not look at the input."""
    if not task.classifies:
        zero = _tried(task, torch.zeros_like(outputs), y)
        return zero, float(y.float().var(0, correction=0).mean()) if task.loss is None else None
    # Log-probabilities where the model gives those; a loss that takes logits does not feel the shift.
    normed = bool(torch.allclose(outputs.logsumexp(1), torch.zeros(len(y), device=outputs.device), atol=1e-2))
    level = -math.log(outputs.shape[1]) if normed else 0.0
    chance = _tried(task, torch.full_like(outputs, level), y)
    shares = torch.bincount(y, minlength=outputs.shape[1]).float() / len(y)
    prior = _tried(task, shares.clamp_min(1e-8).log().expand_as(outputs), y)
    built_in = task.loss is None or abs(chance - float(F.cross_entropy(torch.zeros_like(outputs), y))) < 1e-3
    return chance, prior if built_in else None


def _tried(task: Task, outputs: Tensor, y: Tensor) -> float:
    try:
        return float(task.mean_loss(outputs, y))
    except Exception:  # the user's loss may refuse made-up outputs; then there is no number to compare with
        return math.nan


def _scale(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())
