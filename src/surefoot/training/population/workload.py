"""What is known of members before they are trained: what a step is made of, and whether a stack of them is sound.

A step is counted once: operator calls, numbers, bytes. A stack is tried before it is trusted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from surefoot.data.batches import batch_indices, fetch
from surefoot.optim.plan import Plan
from surefoot.seeds import StepSeeds, torch_stream
from surefoot.training.groups import thaw
from surefoot.training.loop import start
from surefoot.training.memory import total_bytes
from surefoot.training.population.member import Member, draws
from surefoot.training.population.network import has_rules
from surefoot.training.population.spread import possible
from surefoot.training.population.stack import Stack
from surefoot.training.population.strategy import Work, compiling_pays
from surefoot.training.state import has_extra_state, named_tensors, trainable
from surefoot.training.step import gradient
from surefoot.training.task import Task

_STACK_SHARE = 0.25
"""Share of all memory that the step of a stack may take. Chosen by hand: what is free now may be gone tomorrow."""
_TRACED_EXAMPLES = 8
_LONG_STEPS = 10_000
"""Steps of one run below which compiling them is not asked for: of 1,000 calls each it would take 13,000."""
_TRIED_STEPS = 2
"""Batches that are compared: what a model keeps from the first beside its buffers shows in the second."""
_APART = {"fp32": 1e-3, "bf16": 5e-2}
"""Largest difference that is rounding, as a share of a norm. Stacked fp32 gradients were 1e-7 to 2.5e-5 apart."""
_traces: WeakKeyDictionary[nn.Module, dict[object, _Trace]] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Trace:
    """A forward and backward pass: calls, numbers written, bytes kept, trained weights, whether all took part."""

    examples: int
    calls: int
    numbers: int
    kept_bytes: int
    weights: int
    whole: bool


class Counter(TorchDispatchMode):
    """Counts operator calls and the numbers that they write."""

    calls = numbers = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # what skips it loads the compiler first, for a second and a half

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls += 1
        if not func.is_view:
            of_each = out if isinstance(out, tuple | list) else [out]
            self.numbers += sum(value.numel() for value in of_each if isinstance(value, Tensor))
        return out


def work_of(member: Member, members: int) -> Work:
    """Return what there is to compute for so many members like this one.

    It depends on task, plan and machine, and on nothing of the moment.
    """
    task, plan = member.task, member.plan
    trace, piece = _trace(member), min(plan.batch_size, plan.recipe.micro_batch_size)
    pieces = math.ceil(plan.batch_size / piece)
    weights, groups = trace.weights, plan.recipe.groups
    growing = max(0, trace.numbers - weights)  # the gradients are as many, whatever the batch
    convolves, buffered = has_rules(task.template), any(True for _ in task.template.buffers())
    return Work(
        members=members,
        steps=plan.steps,
        calls=trace.calls * pieces,
        numbers=(growing * piece / trace.examples + weights) * pieces,
        weights=weights,
        fitting=max(1, int(_STACK_SHARE * total_bytes(task.machine.device) / step_bytes(member))),
        threads=task.machine.threads if task.machine.device.type == "cpu" else 1,
        processes=min(task.machine.threads, os.cpu_count() or 1) if possible(member) else 1,
        compilable=not (convolves or buffered or task.forward or task.loss_fn or thaw(groups))
        and not plan.recipe.progressive_resizing  # each size would be compiled anew
        and pieces == 1
        and trace.whole,
    )


def compiles_alone(task: Task, plan: Plan) -> bool:
    """Return whether a run of this task, alone on a CPU, is long enough for compiling its step; see `compiling_pays`.

    It depends on task and plan alone, so a run that is resumed answers the same.
    """
    if plan.steps < _LONG_STEPS or task.machine.device.type != "cpu" or task.optimizer is not None:
        return False
    plain = not task.draws and not has_extra_state(task.template)
    return plain and compiling_pays(work_of(Member(task, plan), 1)) and not draws(task)


def step_bytes(member: Member) -> int:
    """Return about how many bytes a step of a member takes: twice what it keeps for its backward pass, and six times
    the weights (weights, gradients, velocity, average, two of passage).
    """
    trace = _trace(member)
    weights = sum(value.numel() * value.element_size() for value in named_tensors(member.task.template).values())
    piece = min(member.plan.batch_size, member.plan.recipe.micro_batch_size)
    return int(2 * trace.kept_bytes * piece / trace.examples + 6 * weights)


def _trace(member: Member) -> _Trace:
    task, plan = member.task, member.plan
    few = min(plan.batch_size, plan.recipe.micro_batch_size, _TRACED_EXAMPLES)
    known = _traces.setdefault(task.template, {})
    of_loss = id(task.loss), task.loss_name, id(task.forward), id(task.loss_fn)
    key = few, id(task.data.train.x), of_loss, task.machine, plan.recipe.groups
    if key not in known:
        known[key] = _traced(member, few)
    return known[key]


def _traced(member: Member, few: int) -> _Trace:
    task, plan = member.task, member.plan
    _, indices = batch_indices(plan.examples, plan.batch_size, task.seed, 0)
    model = task.fresh_model(plan.recipe.groups)
    model = model if few > 1 else model.eval()
    kept: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch_stream(task.seed, "trace"), torch.enable_grad(), Counter() as counter:
        x, y = fetch(task.data, task.data.train, indices[:few], seed=task.seed)
        with saved_tensors_hooks(note, lambda value: value), task.machine.autocast():
            loss = task.objective(task.outputs(model, x, y), y)
        loss.backward()
    trained = trainable(model).values()
    weights, whole = sum(value.numel() for value in trained), all(value.grad is not None for value in trained)
    return _Trace(few, counter.calls, counter.numbers, sum(kept.values()), weights, whole)


def refusal(members: Sequence[Member]) -> str | None:
    """Return why members cannot be stacked, or None where two of them, stacked, compute what each computes alone.

    Loss, gradient and buffers of a first and another member are compared at their initial weights, over two batches; so
    the answer is a function of the members, whatever has been trained. It costs about ten steps of one member. What a
    model keeps beside its buffers is nobody's state: a stack has one such thing for all its members.
    """
    if members[0].task.optimizer is not None:
        return "the optimizer is one of the caller's, for the weights of one model"
    other = next((member for member in members if member.task.seed != members[0].task.seed), members[-1])
    pair = [members[0], other]
    alone, stacked = ([start(member.task, member.plan) for member in pair] for _ in range(2))
    task = pair[0].task
    try:
        with StepSeeds(task.seed, "step", every=task.draws) as seeds, task.machine.computing(), _without_fallback():
            stack = Stack(pair, stacked)
            for step in range(min(_TRIED_STEPS, pair[0].plan.steps)):
                seeds.at(step)
                stack.tables.begin([True, True], still := np.zeros((1, 2)), still)
                stack.go_to(step)
                with torch.no_grad():
                    losses, _, grads = stack.gradient()
                for i, (member, state) in enumerate(zip(pair, alone, strict=True)):
                    seeds.at(step)
                    state.step, before = step, _places(state.model)
                    loss, _, alone_grads = gradient(member.task, member.plan, state)
                    if _places(state.model) != before:
                        return "the model puts another tensor in place of a buffer, or keeps something beside them"
                    used = {
                        name: grad for name, grad in zip(stack.weights, alone_grads, strict=True) if grad is not None
                    }
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


@contextmanager
def _without_fallback() -> Iterator[None]:
    """Let vmap refuse what it has no rule for: it computes that one member at a time, which is for the loop."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]  # no public switch
    former = functorch._is_vmap_fallback_enabled()
    functorch._set_vmap_fallback_enabled(False)
    try:
        yield
    finally:
        functorch._set_vmap_fallback_enabled(former)
