"""K states as one: their weights, velocities and buffers stacked as [K, ...], and the gradient of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from surefoot.data.batches import batch_indices, fetch
from surefoot.sgd.stacked import Hyperparameters, hyperparameters
from surefoot.sgd.update import decays
from surefoot.training.population.layers import StackedLayers
from surefoot.training.population.member import Member
from surefoot.training.state import State, trainable
from surefoot.training.task import Task


@dataclass(frozen=True)
class Seen:
    """What one step saw of K members, each [K]: mean loss, correct predictions, norm of the gradient."""

    loss: Tensor
    correct: Tensor
    grad_norm: Tensor

    @property
    def finite(self) -> Tensor:
        """Which members have been updated, bool [K]."""
        return self.loss.isfinite() & self.grad_norm.isfinite()


class Stack:
    """K members that stand at one step, with everything that their steps need.

    Attributes:
        members: of the rows of the stack, in order.
        network: the model and loss that all of them share.
        weights: the trained parameters by name, each [K, ...].
        buffers: buffers and parameters that are not trained, by name, each [K, ...].
        velocity: one for each weight; None where no member has momentum.
        averages: moving averages by name, each [K, ...]; None where none is kept.
        decays: for each weight whether it decays.
        smoothing, clip: label smoothing and longest gradient, [K]; None where no member has one.
        ema: decay of the averages, [K].
        rule: the hyperparameters of the first step and those of all later ones, but for their rates.
    """

    def __init__(self, members: Sequence[Member], states: Sequence[State]) -> None:
        model = members[0].task.fresh_model().train()
        names = trainable(model)
        tensors = [_tensors(state.model) for state in states]
        stacked = {name: torch.stack([each[name].detach() for each in tensors]) for name in tensors[0]}
        seeds = {member.task.seed for member in members}
        self.network = Network(members[0].task, model, len(seeds) == 1, has_rules(model))
        self.weights = {name: stacked[name] for name in names}
        self.buffers = {name: value for name, value in stacked.items() if name not in names}
        self.velocity: list[Tensor] | None = None
        if any(member.plan.recipe.momentum > 0 for member in members):
            zeros = [torch.zeros_like(value[0]) for value in self.weights.values()]
            each = [state.velocity or zeros for state in states]
            self.velocity = [torch.stack(rows) for rows in zip(*each, strict=True)]
        kept = [state.average for state in states if state.average is not None]
        self.averages = {name: torch.stack([each[name] for each in kept]) for name in kept[0]} if kept else None
        self.decays = decays(list(names.items()), members[0].plan.recipe.decay_on)
        self._tabulate(members)

    def _tabulate(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        recipes = [member.plan.recipe for member in members]
        self.device = next(iter(self.weights.values())).device

        def column(values: list[float]) -> Tensor | None:
            return torch.tensor(values, device=self.device) if any(values) else None

        self.smoothing = column([recipe.label_smoothing for recipe in recipes])
        self.ema = column([recipe.ema_decay or 0.0 for recipe in recipes])
        clipped = any(recipe.clip_norm is not None for recipe in recipes)
        self.clip = column([recipe.clip_norm or math.inf for recipe in recipes]) if clipped else None
        rates = torch.zeros(len(recipes), device=self.device)
        self.rule = tuple(hyperparameters(recipes, rates, first=first) for first in (True, False))

    def rule_at(self, step: int, lr: Tensor) -> Hyperparameters:
        """Return the hyperparameters of a step with these rates, [K]."""
        return self.rule[0 if step == 0 else 1].at(lr)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop the members that are not in `rows`."""
        index = torch.as_tensor(list(rows), device=self.device)
        for table in (self.weights, self.buffers, self.averages or {}):
            for name in table:
                table[name] = table[name].index_select(0, index)
        if self.velocity is not None:
            self.velocity = [value.index_select(0, index) for value in self.velocity]
        self._tabulate([self.members[row] for row in rows])

    def scatter(self, row: int, state: State) -> None:
        """Copy one member's tensors back into its state. Its velocity begins with its first update."""
        tensors = _tensors(state.model)
        with torch.no_grad():
            for name, value in (*self.weights.items(), *self.buffers.items()):
                tensors[name].copy_(value[row])
        if self.velocity is not None and self.members[row].plan.recipe.momentum > 0 and state.step > 0:
            state.velocity = [value[row].clone() for value in self.velocity]
        if self.averages is not None:
            state.average = {name: value[row].clone() for name, value in self.averages.items()}

    def batch(self, step: int) -> tuple[list[tuple[Tensor, Tensor]], list[float]]:
        """Return the pieces of this step's batch and the share of each: x [B, ...] if shared, else [K, B, ...]."""
        plan = self.members[0].plan
        tasks = [self.members[0].task] if self.network.shared_batches else [member.task for member in self.members]
        pieces: list[list[tuple[Tensor, Tensor]]] = []
        shares: list[float] = []
        for task in tasks:
            epoch, indices = batch_indices(plan.examples, plan.batch_size, task.seed, step)
            parts = np.array_split(indices, math.ceil(len(indices) / plan.recipe.micro_batch_size))
            shares = [len(part) / len(indices) for part in parts]
            settings: dict[str, Any] = {"augment": task.augment, "seed": task.seed, "epoch": epoch}
            pieces.append([fetch(task.data, task.data.train, part, **settings) for part in parts])
        if self.network.shared_batches:
            return pieces[0], shares
        each = zip(*pieces, strict=True)
        return [(torch.stack([x for x, _ in own]), torch.stack([y for _, y in own])) for own in each], shares

    def gradient(self, step: int) -> tuple[Seen, dict[str, Tensor]]:
        """Return what a step sees and the gradient of each weight, [K, ...], accumulated over pieces as in one run."""
        pieces, shares = self.batch(step)
        found = [self.network.gradient(self.weights, self.buffers, x, y, self.smoothing) for x, y in pieces]
        seen, grads = found[0]
        if len(found) > 1:
            grads = {
                name: torch.stack([own[name] * share for (_, own), share in zip(found, shares, strict=True)]).sum(0)
                for name in grads
            }
            loss = torch.stack([own.loss * share for (own, _), share in zip(found, shares, strict=True)]).sum(0)
            seen = Seen(loss, torch.stack([own.correct for own, _ in found]).sum(0), norms(list(grads.values())))
        return seen, grads

    def average_(self) -> None:
        """Move the averages towards the weights and buffers, by 1 - decay."""
        for name, value in (self.averages or {}).items():
            assert self.ema is not None  # `groups` puts members with and without an average apart
            now = self.weights[name] if name in self.weights else self.buffers[name]
            value.lerp_(now, (1 - self.ema).view(-1, *[1] * (value.dim() - 1)).to(value.dtype))


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
        self, weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, smoothing: Tensor | None
    ) -> tuple[Seen, dict[str, Tensor]]:
        """Return what a batch shows and each weight's gradient, [K, ...]. Buffers change in place, as in training."""
        leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
        with torch.enable_grad():
            total, (loss, correct) = self.total(leaves, buffers, x, y, smoothing)
            # Not `torch.func.grad`: it takes a fifth longer, and loads the compiler, 1.5 s.
            found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        each = zip(leaves.items(), found, strict=True)
        grads = {name: torch.zeros_like(value) if grad is None else grad for (name, value), grad in each}
        return Seen(loss, correct, norms(list(grads.values()))), grads

    def total(
        self, weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, smoothing: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the sum of the members' losses, whose gradient is each one's own, and loss and correct, each [K]."""
        place = None if self.shared_batches else 0
        in_dims = (0, 0, place, place, None if smoothing is None else 0)
        with StackedLayers() if self.has_rules else nullcontext():
            each = torch.vmap(self._one, in_dims=in_dims, randomness="same")
            loss, correct = each(weights, buffers, x, y, smoothing)
        return loss.sum(), (loss.detach(), correct)

    def _one(self, weights: Any, buffers: Any, x: Tensor, y: Tensor, smoothing: Any) -> tuple[Tensor, Tensor]:
        with self.task.machine.autocast():
            outputs = functional_call(self.model, (weights, buffers), (x,))
        if smoothing is None or self.task.loss is not None or not self.task.classifies:
            loss = self.task.mean_loss(outputs, y)
        else:  # F.cross_entropy takes one number for all members
            likelihoods = F.log_softmax(outputs.float(), -1)
            loss = -(1 - smoothing) * likelihoods.gather(1, y[:, None]).mean() - smoothing * likelihoods.mean()
        correct = (outputs.argmax(1) == y).sum().float() if self.task.classifies else loss.detach() * 0
        return loss, correct


def has_rules(model: nn.Module) -> bool:
    """Return whether some layer of the model has a rule in `StackedLayers`: it works on channels of images."""
    return any(
        isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.GroupNorm | nn.modules.batchnorm._BatchNorm)
        for module in model.modules()
    )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return each member's L2 norm over all its tensors, [K]."""
    each = [torch.linalg.vector_norm(value.flatten(1), dim=1) for value in tensors]
    return torch.linalg.vector_norm(torch.stack(each), dim=0)
