"""Whether a stack computes what its members would compute alone: it is tried before it is trusted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from surefoot.seeds import StepSeeds
from surefoot.training.loop import start
from surefoot.training.population.member import Member
from surefoot.training.population.stack import Stack
from surefoot.training.step import gradient

_STEPS = 2
"""Batches that are compared: what a model keeps from the first beside its buffers shows in the second."""
_APART = {"fp32": 1e-3, "bf16": 5e-2}
"""Largest difference that is rounding, as a share of a norm. Stacked fp32 gradients were 1e-7 to 2.5e-5 apart."""


def refusal(members: Sequence[Member]) -> str | None:
    """Return why members cannot be stacked, or None where two of them, stacked, compute what each computes alone.

    Loss, gradient and buffers of a first and another member are compared at their initial weights, over two batches; so
    the answer is a function of the members, whatever has been trained. It costs about ten steps of one member. What a
    model keeps beside its buffers is nobody's state: a stack has one such thing for all its members.

    Args:
        members: that `groups` found alike, at least two.
    """
    other = next((member for member in members if member.task.seed != members[0].task.seed), members[-1])
    pair = [members[0], other]
    alone, stacked = ([start(member.task, member.plan) for member in pair] for _ in range(2))
    task = pair[0].task
    try:
        with StepSeeds(task.seed, "step") as seeds, task.machine.computing(), _without_fallback():
            stack = Stack(pair, stacked)
            for step in range(min(_STEPS, pair[0].plan.steps)):
                seeds.at(step)
                with torch.no_grad():
                    losses, _, grads = stack.gradient(step)
                for i, (member, state) in enumerate(zip(pair, alone, strict=True)):
                    seeds.at(step)
                    state.step, before = step, _places(state.model)
                    loss, _, own = gradient(member.task, member.plan, state)
                    if _places(state.model) != before:
                        return "the model puts another tensor in place of a buffer, or keeps something beside them"
                    used = {name: grad for name, grad in zip(stack.weights, own, strict=True) if grad is not None}
                    if used.keys() != grads.keys():
                        return "other weights take part in a stacked step than in a step alone"
                    pairs = [(torch.tensor([loss]), losses[i : i + 1].cpu())]
                    pairs.append((_flat(used.values()), _flat(grad[i] for grad in grads.values())))
                    buffers = dict(state.model.named_buffers())
                    pairs += [(buffers[name], value[i]) for name, value in stack.buffers.items() if name in buffers]
                    if not all(_close(a, b, _APART[task.machine.precision]) for a, b in pairs):
                        return "a stacked step differs from a step alone"
    except Exception as error:  # the model may be anyone's: vmap refuses many, each in its own words
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


def _places(model: nn.Module) -> list[object]:
    """Return what a forward pass must leave: the identity of all tensors, and numbers that modules hold."""
    held = [value for module in model.modules() for value in vars(module).values()]
    tensors = [value for value in held if isinstance(value, Tensor)]
    numbers: list[object] = [value for value in held if isinstance(value, int | float)]
    return numbers + [id(value) for value in (*model.buffers(), *model.parameters(), *tensors)]


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in tensors])


def _close(a: Tensor, b: Tensor, share: float) -> bool:
    a, b = a.detach().double(), b.detach().double()
    same = a == b  # infinities too, as attention masks have them
    return bool((a - b).masked_fill(same, 0.0).norm() <= share * a.masked_fill(same & a.isinf(), 0.0).norm() + 1e-12)


class _without_fallback:
    """vmap computes what it has no rule for one member at a time; such a model is for the loop."""

    def __enter__(self) -> None:
        self.former = _functorch()._is_vmap_fallback_enabled()
        _functorch()._set_vmap_fallback_enabled(False)

    def __exit__(self, *exception: Any) -> None:
        _functorch()._set_vmap_fallback_enabled(self.former)


def _functorch() -> Any:
    return torch._C._functorch  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]  # no public switch
