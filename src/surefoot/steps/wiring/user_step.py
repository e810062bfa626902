"""The user's own training step, tried on their own objects: does it move the weights, downhill, and forget gradients.

Everything here runs inside `untouched`, so model and optimizer are as before afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from surefoot.data.tree import map_leaves
from surefoot.seeds import torch_stream
from surefoot.steps.untouched import untouched
from surefoot.steps.wiring.judge_training import UserStepFacts
from surefoot.steps.wiring.measure import batch
from surefoot.training.task import Task, training_modes_

UserStep = Callable[[nn.Module, Any, Any], object]
"""(model, x, y) -> anything: one update of the model by the user's own optimizer, of a batch; x and y may be trees."""
_CALLS = 8
"""Calls after which a step that accumulates gradients should have moved the weights. Chosen by hand."""
_EXAMPLES = 64
_MARK = -3.0
"""Length, over that of the gradient, to which the gradients that a step left behind are brought, with the other sign:
if the next step adds to them, it turns around."""


def try_user_step(
    task: Task, model: nn.Module, step: UserStep, optimizer: torch.optim.Optimizer | None = None
) -> UserStepFacts:
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
    x, y = (map_leaves(lambda leaf: leaf.to(place), side) for side in batch(task, examples=_EXAMPLES))
    of_optimizer: dict[str, Any] = {}
    if optimizer is not None:
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        of_optimizer = {
            "not_held": tuple(name for name, parameter in named.items() if id(parameter) not in held),
            "lr": max(float(group.get("lr", math.nan)) for group in optimizer.param_groups),
            "fresh": not optimizer.state,
        }

    def run(grads: Mapping[str, Tensor | None], calls: int) -> tuple[dict[str, Tensor], dict[str, Tensor | None], int]:
        """Run the step from the same place with these gradients; return the update, what is left, and the calls."""
        with untouched(model, optimizer), torch_stream(task.seed, "own-step"):
            start = {name: parameter.detach().clone() for name, parameter in named.items()}
            for name, parameter in named.items():
                grad = grads.get(name)
                parameter.grad = None if grad is None else grad.clone()
            done, update = 0, dict[str, Tensor]()
            while done < calls and not any(bool((delta != 0).any()) for delta in update.values()):
                step(model, x, y)
                done += 1
                update = {name: parameter.detach() - start[name] for name, parameter in named.items()}
            left = {name: None if p.grad is None else p.grad.detach().clone() for name, p in named.items()}
            return update, left, done

    try:
        update, left, calls = run({}, _CALLS)
        moved = _length(update)
        if not moved > 0:
            return UserStepFacts(moved=moved, **of_optimizer)
        gradient = _gradient(task, model, named, x, y)
        left_length = _length({name: grad for name, grad in left.items() if grad is not None})
        # Left behind by a step that clips, they would be outweighed by the gradient.
        mark = _MARK * max(1.0, _length(gradient) / left_length) if left_length > 0 else 0.0
        marked = {name: None if grad is None else grad * mark for name, grad in left.items()}
        again, turned = run(left, calls)[0], run(marked, calls)[0]
    except Exception as error:  # the step is the user's, and may raise anything
        problem = f"{type(error).__name__}: {(str(error) or repr(error)).splitlines()[0]}"
        return UserStepFacts(problem=problem, **of_optimizer)
    slope = sum(float((gradient[name].double() * update[name].double()).sum()) for name in named)
    return UserStepFacts(
        moved=moved,
        calls=calls,
        still=tuple(
            name for name in named if not bool((update[name] != 0).any()) and bool((gradient[name] != 0).any())
        ),
        stale=_length({name: turned[name] - update[name] for name in named}) / moved,
        ratio=_length(again) / moved,
        uphill=slope / max(moved * _length(gradient), 1e-300),
        **of_optimizer,
    )


def _gradient(task: Task, model: nn.Module, named: dict[str, nn.Parameter], x: Any, y: Any) -> dict[str, Tensor]:
    """Return the gradient of the task's loss at the model's weights, in training mode, with the step's dropout."""
    with untouched(model), torch_stream(task.seed, "own-step"):
        loss = task.objective(task.outputs(training_modes_(model), x, y), y)
        grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), grads, strict=True)}


def _length(tensors: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))
