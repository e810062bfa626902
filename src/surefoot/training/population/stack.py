"""K states as one: their weights, slots and buffers stacked as [K, ...], and the gradient of all of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from surefoot.data import tree
from surefoot.data.batches import batch_indices, epoch_order, fetch, resized
from surefoot.optim.stacked import hyperparameters, slot_names, stacked_
from surefoot.record.run import Row
from surefoot.seeds import StepSeeds
from surefoot.training.groups import asleep, factors_of, sleeping, thaws
from surefoot.training.loop import advance_alike
from surefoot.training.population.layers import StackedLayers
from surefoot.training.population.member import Member
from surefoot.training.state import State, averaging_decay, trainable
from surefoot.training.step import Stretch
from surefoot.training.task import Task

Found = tuple[Tensor, Tensor, Tensor]
"""What a step saw of K members: mean losses [K], correct predictions [K], the norms of P weights' gradients [P, K]."""

Compute = Callable[["Stack", int, Tensor], Found]
"""(stack, step, lr [K]) -> what was seen, its loss the objective. It moves members whose numbers are finite."""


class Stack:
    """K members that stand at one step, with everything that their steps need: a `Stepper` of the loop.

    Attributes:
        members: of the rows of the stack, in order.
        rows: their positions among all members that the stack began with.
        network: the model and loss that all of them share.
        weights: the trained parameters by name, each [K, ...].
        buffers: buffers and parameters that are not trained, by name, each [K, ...].
        used: names of the weights that took part in the last step; one without a gradient is left as it is.
        slots: the rule's state by name, one for each weight, each [K, ...] or [K]: all that any member needs.
        averages: moving averages by name, each [K, ...]; None where none is kept.
        factors: of rate and weight decay of each weight.
        began: the step with which each weight begins to be trained.
        smoothing, clip: label smoothing and longest gradient, [K]; None where no member has one.
        ema: decay of the averages, [K].
        rule: the hyperparameters of a weight's first step and those of all later ones, but for their rates.
    """

    def __init__(self, members: Sequence[Member], states: Sequence[State], compute: Compute | None = None) -> None:
        self.states, self.compute, self.rows = states, compute or eager, list(range(len(members)))
        self._orders: dict[int, np.ndarray] = {}
        plan = members[0].plan
        model = members[0].task.fresh_model(plan.recipe.groups)
        self.trained = trainable(model)
        tensors = [_tensors(state.model) for state in states]
        stacked = {name: torch.stack([each[name].detach() for each in tensors]) for name in tensors[0]}
        seeds = {member.task.seed for member in members}
        self.network = Network(members[0].task, model, len(seeds) == 1, has_rules(model))
        self.weights = {name: stacked[name] for name in self.trained}
        self.used = list(self.weights)
        self.buffers = {name: value for name, value in stacked.items() if name not in self.trained}
        self.slots: dict[str, list[Tensor]] = {}
        for name, shape in slot_names([member.plan.recipe for member in members]).items():
            zeros = [value[0].new_zeros(value[0].shape if shape == "weight" else ()) for value in self.weights.values()]
            each = [state.slots.get(name, zeros) for state in states]
            self.slots[name] = [torch.stack(rows) for rows in zip(*each, strict=True)]
        kept = [state.average for state in states if state.average is not None]
        self.averages = {name: torch.stack([each[name] for each in kept]) for name in kept[0]} if kept else None
        self.factors = tuple(factors_of(model, plan.recipe).values())
        self.began = list(thaws(model, plan).values())
        self._tabulate(members)

    def run(self, stretches: Sequence[Stretch], seeds: StepSeeds) -> None:
        """Do the updates of a stretch of each, as the loop's `Stepper` says."""
        live, steps = list(stretches), len(stretches[0].rates)
        for i in range(steps):
            seeds.at(stretches[0].first + i)
            self._step(live, i, measure=stretches[0].measure_update and i == steps - 1)
            live = [stretch for stretch in live if not stretch.failed]
            if not live:
                return

    @torch.no_grad()
    def _step(self, live: Sequence[Stretch], i: int, *, measure: bool) -> None:
        """Do update i of a stretch; the compiled one of all rows, its shape being fixed."""
        at, runs = live[0].first + i, [stretch.run for stretch in live]
        if self.compute is eager and len(runs) < len(self.rows):
            self._keep([self.rows.index(run) for run in runs])
        places = [self.rows.index(run) for run in runs]
        rates = torch.zeros(len(self.rows))
        rates[places] = torch.tensor([stretch.rates[i] for stretch in live], dtype=torch.float32)
        before = {name: value.clone() for name, value in self.weights.items()} if measure else None
        loss, correct, norms = self.compute(self, at, rates.to(self.device))
        grad_norm = torch.linalg.vector_norm(norms, dim=0)
        self._average(loss.isfinite() & grad_norm.isfinite(), at + 1)
        numbers = torch.stack([loss, correct, grad_norm]).double().T.tolist()
        for stretch, place in zip(live, places, strict=True):
            of_step, right, norm = numbers[place]
            stretch.losses.append(of_step * self.network.task.loss_unit)
            stretch.grad_norms.append(norm)
            stretch.correct += 0 if stretch.failed else right
        if before is not None:
            self._measure(live, places, norms, before)

    def settle(self, run: int) -> None:
        """Copy one member's tensors back into its state. Its slots begin with its first update."""
        row, state = self.rows.index(run), self.states[run]
        tensors = _tensors(state.model)
        with torch.no_grad():
            for name, value in (*self.weights.items(), *self.buffers.items()):
                tensors[name].copy_(value[row])
        if state.step > 0:
            names = slot_names([self.members[row].plan.recipe])
            state.slots = {name: [value[row].clone() for value in self.slots[name]] for name in names}
        if self.averages is not None:
            state.average = {name: value[row].clone() for name, value in self.averages.items()}

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

    def _keep(self, places: Sequence[int]) -> None:
        """Drop the members that are not at these places."""
        index = torch.as_tensor(list(places), device=self.device)
        for table in (self.weights, self.buffers, self.averages or {}):
            for name in table:
                table[name] = table[name].index_select(0, index)
        self.slots = {name: [value.index_select(0, index) for value in each] for name, each in self.slots.items()}
        self.rows = [self.rows[place] for place in places]
        self._tabulate([self.members[place] for place in places])

    def batch(self, step: int) -> tuple[list[tuple[Any, Any]], list[float]]:
        """Return the pieces of this step's batch and the share of each: x [B, ...] if shared, else [K, B, ...]."""
        plan = self.members[0].plan
        tasks = [self.members[0].task] if self.network.shared_batches else [member.task for member in self.members]
        pieces: list[list[tuple[Any, Any]]] = []
        shares: list[float] = []
        for task in tasks:
            epoch, indices = batch_indices(plan.examples, plan.batch_size, task.seed, step)
            self._orders[task.seed] = epoch_order(plan.examples, task.seed, epoch)  # held, so it is drawn once
            parts = np.array_split(indices, math.ceil(len(indices) / plan.recipe.micro_batch_size))
            shares = [len(part) / len(indices) for part in parts]
            side = plan.side_at(step)
            settings: dict[str, Any] = {"augment": task.augment, "seed": task.seed, "epoch": epoch}
            found = [fetch(task.data, task.data.train, part, **settings) for part in parts]
            pieces.append([(x if side is None else resized(x, side), y) for x, y in found])
        if self.network.shared_batches:
            return pieces[0], shares

        def stacked(*each: Tensor) -> Tensor:
            return torch.stack(each)

        return [
            tuple(tree.map_leaves(stacked, *side) for side in zip(*batches, strict=True))
            for batches in zip(*pieces, strict=True)
        ], shares

    def gradient(self, step: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return losses, correct predictions and the gradient of each weight that took part, [K, ...].

        They are accumulated over the pieces of a batch as in one run.
        """
        pieces, shares = self.batch(step)
        still = asleep(self.network.model, self.members[0].plan, step)
        with sleeping(self.network.model, still):
            found = [self.network.gradient(self.weights, self.buffers, x, y, self.smoothing, still) for x, y in pieces]
        if len(found) == 1:
            return found[0][0], found[0][1], found[0][3]
        counts = [count for _, _, count, _ in found if count is not None]
        by_count = torch.stack(counts) if counts else torch.tensor(shares)[:, None].to(self.device)
        weights = by_count / by_count.sum(0).clamp_min(1e-30)  # of each piece, [P, K] or [P, 1]
        grads: dict[str, Tensor] = {}
        for (_, _, _, of_piece), weight in zip(found, weights, strict=True):
            for name, grad in of_piece.items():
                share = wide(weight, grad) if len(weight) > 1 else weight
                grads[name] = grads[name].add_(grad * share) if name in grads else grad * share
        loss = (torch.stack([loss for loss, _, _, _ in found]) * weights).sum(0)
        return loss, torch.stack([correct for _, correct, _, _ in found]).sum(0), grads

    def _average(self, moved: Tensor, updates: int) -> None:
        """Move the averages of these members, bool [K], towards their weights and buffers; see `averaging_decay`."""
        for name, value in (self.averages or {}).items():
            assert self.ema is not None  # `groups` puts members with and without an average apart
            now = self.weights[name] if name in self.weights else self.buffers[name]
            decay = self.ema.clamp_max(averaging_decay(1.0, updates))
            value.lerp_(now, wide((1 - decay) * moved, value).to(value.dtype))

    def _measure(
        self, live: Sequence[Stretch], places: Sequence[int], norms: Tensor, before: dict[str, Tensor]
    ) -> None:
        """Note the relative update of each member, and of each of its layers."""
        moves = norms_of([self.weights[name] - before[name] for name in self.used])
        sizes = norms_of([before[name] for name in self.used])
        total, size = (torch.linalg.vector_norm(each, dim=0) for each in (moves, sizes))
        ratios = torch.where(size > 0, total / size, torch.zeros_like(size)).tolist()
        table = torch.stack([norms, torch.where(sizes > 0, moves / sizes, torch.full_like(sizes, math.nan))])
        layers = [(i, name) for i, name in enumerate(self.used) if self.trained[name].dim() > 1]
        columns = table.double().permute(2, 1, 0).tolist()  # [K, P, 2]
        for stretch, place in zip(live, places, strict=True):
            stretch.update_ratio = ratios[place]
            stretch.layers = {name.removesuffix(".weight"): (*columns[place][i],) for i, name in layers}


def eager(stack: Stack, step: int, lr: Tensor) -> Found:
    """Compute one step operation by operation: convolutions grouped, linear layers as batched products."""
    buffers = {name: stack.buffers[name].clone() for name, _ in stack.network.model.named_buffers()}
    loss, correct, grads = stack.gradient(step)
    stack.used = list(grads)
    moved, norms = list(grads.values()), norms_of(list(grads.values()))
    norm = torch.linalg.vector_norm(norms, dim=0)
    finite = loss.isfinite() & norm.isfinite()
    dead = [] if bool(finite.all()) else (~finite).nonzero()[:, 0].tolist()
    weights, places = [stack.weights[name] for name in grads], [list(stack.weights).index(name) for name in grads]
    slots = {name: [each[place] for place in places] for name, each in stack.slots.items()}
    moving = [*weights, *itertools.chain(*slots.values())]
    kept = [value[dead].clone() for value in moving] if dead else []
    if stack.clip is not None:
        scale = torch.clamp(stack.clip / norm, max=1.0)
        for grad in moved:
            grad.mul_(wide(scale, grad))
    for first in (True, False):
        some = [i for i, place in enumerate(places) if (stack.began[place] == step) is first]
        of_some = {name: [each[i] for i in some] for name, each in slots.items()}
        rule, factors = stack.rule[0 if first else 1].at(lr), [stack.factors[places[i]] for i in some]
        stacked_([weights[i] for i in some], [moved[i] for i in some], of_some, rule, factors)
    for value, former in zip(moving, kept, strict=False):
        value[dead] = former
    for name, value in buffers.items() if dead else ():
        stack.buffers[name][dead] = value[dead]
    return loss, correct, norms


def advance_stack(
    members: Sequence[Member], states: Sequence[State], until_step: int, compute: Compute | None = None,
    going: Sequence[int] | None = None,
) -> list[list[Row]]:  # fmt: skip
    """Advance members that `groups` found alike as one, change their states, and return the new rows of each.

    `compute` None goes operation by operation; `going` are the positions of those that are advanced, None is all.
    """
    runs = [(member.task, member.plan) for member in members]
    return advance_alike(runs, states, until_step, Stack(members, states, compute), going)


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


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of each tensor of each member, [P, K]."""
    return torch.stack([torch.linalg.vector_norm(value.flatten(1), dim=1) for value in tensors])


def wide(value: Tensor, like: Tensor) -> Tensor:
    """Return a value for each member, [K], as [K, 1, ...]."""
    return value.view(-1, *[1] * (like.dim() - 1))
