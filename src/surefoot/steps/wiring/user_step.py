"""The user's own training step, tried on their own objects: does it move the weights, downhill, and forget gradients.

Everything here runs inside `untouched`, so model and optimizer are as before afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surefoot.seeds import torch_stream
from surefoot.steps.untouched import untouched
from surefoot.steps.wiring.measure import batch
from surefoot.training.task import Task

OwnStep = Callable[[nn.Module, Tensor, Tensor], object]
"""(model, x [B, ...], y [B, ...]) -> anything: one update of the model by the user's own optimizer."""
_CALLS = 8
"""Calls after which a step that accumulates gradients should have moved the weights. Chosen by hand."""
_EXAMPLES = 64
_MARK = -3.0
"""Length, over that of the gradient, to which the gradients that a step left behind are brought, with the other sign:
if the next step adds to them, it turns around."""


@dataclass(frozen=True)
class OwnStepSeen:
    """What the user's step did.

    Attributes:
        problem: the error that it raised, in one line; then the rest says nothing.
        moved: length of the first update, over all trainable parameters.
        calls: after which they moved; None if never.
        still: trainable parameters with a gradient that was not zero, and that did not move.
        not_held: parameters with requires_grad that are in no group of the optimizer; None where none was given.
        lr: largest rate in the optimizer's groups; None where none was given.
        stale: relative change of the update when the gradients that the call before left are turned around and made
            three times as long as the gradient; 0 for a step that begins by clearing them.
        ratio: length of the second update over the first, from the same weights, with the gradients left in place.
        uphill: cosine between the update and the gradient of the loss; above 0 the loss rises.
        fresh: the optimizer had no velocity or other state, so that the update is the gradient's alone.
    """

    problem: str | None
    moved: float = math.nan
    calls: int | None = None
    still: tuple[str, ...] = ()
    not_held: tuple[str, ...] | None = None
    lr: float | None = None
    stale: float = 0.0
    ratio: float = 1.0
    uphill: float = math.nan
    fresh: bool = True


def own_step(
    task: Task, model: nn.Module, step: OwnStep, optimizer: torch.optim.Optimizer | None = None
) -> OwnStepSeen:
    """Return what one call of the user's step does to their model; afterwards all is as it was.

    What the step itself keeps between calls, outside model and optimizer, cannot be put back.

    Args:
        task: gives the batch and the loss.
        model: the user's own.
        step: called with the model and a batch.
        optimizer: which the step uses, to be put back too.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    place = next(iter(model.parameters())).device
    x, y = (each.to(place) for each in batch(task, examples=_EXAMPLES))
    held = None if optimizer is None else {id(p) for group in optimizer.param_groups for p in group["params"]}
    known: dict[str, Any] = {
        "not_held": None if held is None else tuple(name for name, p in named.items() if id(p) not in held),
        "lr": None if optimizer is None else max(float(g.get("lr", math.nan)) for g in optimizer.param_groups),
        "fresh": optimizer is None or not optimizer.state,
    }

    def tried(left: dict[str, Tensor | None], calls: int) -> tuple[dict[str, Tensor], dict[str, Tensor | None], int]:
        """Run the step from the same place with these gradients; return the update, what is left, and the calls."""
        with untouched(model, optimizer), torch_stream(task.seed, "own-step"):
            before = {name: parameter.detach().clone() for name, parameter in named.items()}
            for name, parameter in named.items():
                parameter.grad = None if left[name] is None else left[name].clone()  # pyright: ignore
            done, update = 0, dict[str, Tensor]()
            while done < calls and not any(bool((each != 0).any()) for each in update.values()):
                step(model, x, y)
                done += 1
                update = {name: parameter.detach() - before[name] for name, parameter in named.items()}
            after = {n: None if p.grad is None else p.grad.detach().clone() for n, p in named.items()}
            return update, after, done

    none: dict[str, Tensor | None] = dict.fromkeys(named)
    try:
        update, left, calls = tried(none, _CALLS)
        moved = _length(update)
        if not moved > 0:
            return OwnStepSeen(None, moved=moved, calls=None, **known)
        gradient = _gradient(task, model, named, x, y)
        kept = _length({name: grad for name, grad in left.items() if grad is not None})
        mark = _MARK * max(1.0, _length(gradient) / kept) if kept > 0 else 0.0  # what was clipped would be outweighed
        marked = {name: None if grad is None else grad * mark for name, grad in left.items()}
        again, turned = tried(left, calls)[0], tried(marked, calls)[0]
    except Exception as error:  # the step is the user's, and may raise anything
        return OwnStepSeen(f"{type(error).__name__}: {(str(error) or repr(error)).splitlines()[0]}", **known)
    still = [name for name in named if not bool((update[name] != 0).any()) and bool((gradient[name] != 0).any())]
    slope = sum(float((gradient[name].double() * update[name].double()).sum()) for name in named)
    return OwnStepSeen(
        None,
        moved=moved,
        calls=calls,
        still=tuple(still),
        stale=_length({name: turned[name] - update[name] for name in named}) / moved,
        ratio=_length(again) / moved,
        uphill=slope / max(moved * _length(gradient), 1e-300),
        **known,
    )


def _gradient(task: Task, model: nn.Module, named: dict[str, nn.Parameter], x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return the gradient of the task's loss at the model's weights, in training mode, with the step's dropout."""
    with untouched(model), torch_stream(task.seed, "own-step"):
        loss = task.mean_loss(model.train()(x), y)
        grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), grads, strict=True)}


def _length(tensors: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(each.double().square().sum()) for each in tensors.values()))
