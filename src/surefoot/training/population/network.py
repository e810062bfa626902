"""K models of one structure as one function of stacked weights [K, ...], and the gradient of each member's loss."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from surefoot.training.population.layers import StackedLayers
from surefoot.training.task import Task


@dataclass(frozen=True)
class Network:
    """The model and loss of K members as functions of stacked weights.

    Attributes:
        task: of one member; its data, loss and machine are everyone's.
        model: gives the structure; its own weights are not used.
        shared_batches: whether all members see the same batch.
        has_rules: whether some layer may have a rule in `StackedLayers`; a compiler cannot follow them.
    """

    task: Task
    model: nn.Module
    shared_batches: bool
    has_rules: bool

    def gradient(
        self, weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Any, y: Any, smoothing: Tensor | None,
        still: Collection[str] = (),
    ) -> tuple[Tensor, Tensor, Tensor | None, dict[str, Tensor]]:  # fmt: skip
        """Return what a batch shows, over how many its losses are the mean (None: its examples) and the gradients, each
        [K, ...], but of the weights that stand still. Buffers change in place, as in training.
        """
        weights = {name: value.detach() for name, value in weights.items()}
        leaves = {name: value.requires_grad_() for name, value in weights.items() if name not in still}
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # vmap has no rule for the other kinds of attention
            total, (loss, correct, *counts) = self.total(weights, buffers, x, y, smoothing)
            # Not `torch.func.grad`: it takes a fifth longer, and loads the compiler, 1.5 s.
            grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        return (
            loss,
            correct,
            counts[0] if counts else None,
            {name: grad for name, grad in zip(leaves, grads, strict=True) if grad is not None},
        )

    def total(
        self, weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Any, y: Any, smoothing: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the sum of the members' losses, whose gradient is each one's own, and what `_one` returns, [K]."""
        place = None if self.shared_batches else 0
        in_dims = (0, 0, place, place, None if smoothing is None else 0)
        with StackedLayers() if self.has_rules else nullcontext():
            each = torch.vmap(self._one, in_dims=in_dims, randomness="same")
            loss, *others = each(weights, buffers, x, y, smoothing)
        return loss.sum(), (loss.detach(), *others)

    def _one(self, weights: Any, buffers: Any, x: Any, y: Any, smoothing: Any) -> tuple[Tensor, ...]:
        with self.task.machine.autocast():
            outputs = self.task.outputs_with(self.model, {**weights, **buffers}, x, y, tie_weights=True)
        count = None
        if not (self.task.classifies and self.task.criterion == "cross-entropy"):
            loss, count = self.task.training_loss(outputs, y, 0.0 if smoothing is None else smoothing)
        else:  # F.cross_entropy takes one smoothing for all members, and under vmap loads 500 modules, 0.4 s
            likelihoods = F.log_softmax(outputs.float(), -1)
            if self.task.class_weights is not None:
                likelihoods = likelihoods * self.task.class_weights[y][:, None]
            loss = -likelihoods.gather(1, y[:, None]).mean()
            loss = loss if smoothing is None else (1 - smoothing) * loss - smoothing * likelihoods.mean()
        correct = self.task.right(outputs, y).float() if self.task.counts_right else torch.zeros_like(loss.detach())
        return (loss, correct) if count is None else (loss, correct, count.float())


def has_rules(model: nn.Module) -> bool:
    """Return whether some layer of the model has a rule in `StackedLayers`: it works on channels of images."""
    return any(
        isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.GroupNorm | nn.modules.batchnorm._BatchNorm)
        for module in model.modules()
    )
