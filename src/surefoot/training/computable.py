"""What a plan cannot compute of a task, before its first step: pieces of a batch, single examples, frozen groups."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surefoot.data import tree
from surefoot.data.batches import batch_indices, fetch, resized
from surefoot.errors import ConfigError
from surefoot.optim.plan import Plan
from surefoot.training.groups import asleep, sleeping
from surefoot.training.state import trainable
from surefoot.training.task import Task

_PIECES_OFF = 1e-3
"""Relative difference of gradients that is not rounding: fp32 gives 1e-6. Chosen by hand."""
_PIECES_EXAMPLES = 64
"""Most examples by which a `loss_fn` is seen to be a mean. Chosen by hand."""


def check_computable(task: Task, plan: Plan) -> None:
    """Raise ConfigError where the pieces of a batch cannot be computed, or do not add up to it."""
    if task.custom_loss and plan.batch_size > plan.recipe.micro_batch_size:
        _check_pieces(task, plan)
    if plan.recipe.progressive_resizing:
        _try_sides(task, plan)
    if plan.batch_size // math.ceil(plan.batch_size / plan.recipe.micro_batch_size) == 1:
        _try_one_example(task, plan)


def _try_one_example(task: Task, plan: Plan) -> None:
    """Raise ConfigError where a copy of the model cannot train on one example alone, as batch norm often cannot."""
    x, y = fetch(task.data, task.data.train, np.arange(1), augment=None, seed=task.seed, epoch=0)
    model = task.fresh_model()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), task.machine.autocast():
            task.outputs(model, x, y)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            f"batch_size = {plan.batch_size} with this model, in pieces of at most {plan.recipe.micro_batch_size}",
            "batch norm in training needs more than one value per channel, and some pieces of a batch are one example",
            "use a batch_size of at least 2, or a model without batch norm",
        ) from error


def _try_sides(task: Task, plan: Plan) -> None:
    """Raise ConfigError where the data are not images that can be shown smaller, or a copy of the model takes no other
    size than theirs.
    """
    given, stages = f"progressive_resizing {plan.recipe.progressive_resizing}", plan.stages
    if task.data.kind != "images" or task.data.target == "segmentation":
        what = "images whose pixels have classes" if task.data.kind == "images" else "data that are not images"
        raise ConfigError(f"{given} with {what}", "it brings whole images to other sizes", "leave it out")
    x, y = fetch(task.data, task.data.train, np.arange(1), augment=None, seed=task.seed, epoch=0)
    full, model = min(x.shape[2:]), task.fresh_model().eval()
    for side, _ in stages:
        if side >= full:
            raise ConfigError(
                f"{given} with images of {x.shape[2]} x {x.shape[3]} pixels", f"sides are below {full} pixels here",
                "leave it out, or give smaller sides",
            )  # fmt: skip
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad(), task.machine.autocast():
                task.outputs(model, resized(x, side), y)
        except Exception as error:  # the model may be anyone's, and raise anything
            raise ConfigError(
                f"{given} with a model that takes no images of {side} pixels ({type(error).__name__})",
                "the model must take images of every size, as by a global pooling before its head",
                "leave it out, give larger sides, or choose another model",
            ) from error


def try_groups(task: Task, plan: Plan) -> None:
    """Raise ConfigError where nothing that the outputs depend on is trained at the beginning."""
    rows = np.arange(min(2, len(task.data.train)))
    x, y = fetch(task.data, task.data.train, rows, augment=None, seed=task.seed, epoch=0)
    model = task.fresh_model(plan.recipe.groups).eval()
    with torch.random.fork_rng(devices=[]), sleeping(model, asleep(model, plan, 0)), torch.enable_grad():
        loss, _ = task.training_loss(task.outputs(model, x, y), y)
    if not loss.requires_grad:
        raise ConfigError(
            "groups that freeze all parameters that the loss depends on",
            "something must be trained from the beginning",
            "leave some out, as the head of the model with NAME=trained after the others",
        )


def _check_pieces(task: Task, plan: Plan) -> None:
    """Raise ConfigError where a user's loss of a batch has another gradient than the weighted mean of its pieces.

    So it is where the mean is not over examples (class weights, `ignore_index`) and the loss does not say over what it
    is, where it is a sum, and where examples are compared with each other. The gradient is that by the outputs of the
    first batch, of the untrained model; of a `loss_fn`, which shows no outputs, that by the weights, of few examples.
    """
    epoch, indices = batch_indices(plan.examples, plan.batch_size, task.seed, 0)
    pieces = np.array_split(indices, math.ceil(len(indices) / plan.recipe.micro_batch_size))
    if task.loss_fn is not None:
        indices = indices[: min(len(indices), plan.recipe.micro_batch_size, _PIECES_EXAMPLES)]
        pieces = np.split(indices, [len(indices) // 3]) if len(indices) > 2 else [indices]
    model, batches = task.fresh_model().eval(), []
    with torch.random.fork_rng(devices=[]), torch.no_grad(), task.machine.computing(), task.machine.autocast():
        for piece in pieces:
            x, y = fetch(task.data, task.data.train, piece, augment=task.augment, seed=task.seed, epoch=epoch)
            batches.append((x if task.loss_fn is not None else task.outputs(model, x, y), y))

    def gradient(x: Any, y: Any) -> tuple[Tensor, float]:
        """Return the gradient of the mean loss, flat, and over how many it is."""
        with torch.enable_grad():
            if task.loss_fn is not None:
                by, outputs = list(trainable(model).values()), task.outputs(model, x, y)
            else:
                outputs = tree.map_leaves(lambda leaf: leaf.float().detach().requires_grad_(), x)
                by = tree.leaves(outputs)
            loss, count = task.counted(outputs, y)
            grads = torch.autograd.grad(loss, by, allow_unused=True, materialize_grads=True)
        flat = [grad.reshape(len(grad) if task.loss_fn is None else 1, -1) for grad in grads]
        return torch.cat(flat, 1), float(len(tree.leaves(y)[0]) if count is None else count)

    joined = tuple(tree.map_leaves(lambda *each: torch.cat(each), *sides) for sides in zip(*batches, strict=True))
    with task.machine.computing():
        (whole, _), (again, _), parts = gradient(*joined), gradient(*joined), [gradient(*each) for each in batches]
    total = sum(count for _, count in parts) or 1.0
    weighted = [grad * (count / total) for grad, count in parts]
    rebuilt = torch.cat(weighted) if task.loss_fn is None else torch.stack(weighted).sum(0)
    off = float((whole - rebuilt).norm() / whole.norm())
    if off > _PIECES_OFF and torch.equal(whole, again):  # a loss that draws random numbers answers nothing
        count = math.ceil(plan.batch_size / plan.recipe.micro_batch_size)
        raise ConfigError(
            f"a batch of {plan.batch_size} in {count} pieces (micro_batch_size = {plan.recipe.micro_batch_size}) "
            f"with this loss, whose gradient would be {off:.2g} of its length off",
            "the loss of a batch must be the mean over its examples: not weighted by class, not a sum, none left out; "
            "or a pair, the sum and over how many it is",
            f"set micro_batch_size = {plan.batch_size}, or return (sum, count)",
        )
