"""What a step of a member is made of, counted once: operator calls, numbers, bytes. And how much memory there is."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from surefoot.data.batches import batch_indices, fetch
from surefoot.training.population.member import Member
from surefoot.training.population.spread import possible
from surefoot.training.population.stack import has_rules
from surefoot.training.population.strategy import Work
from surefoot.training.state import trainable

MEMORY_SHARE = 0.5
"""Share of the free memory that a step may take. Chosen by hand."""
_STACK_SHARE = 0.25
"""Share of all memory that the step of a stack may take. Chosen by hand: what is free now may be gone tomorrow."""
_TRACED_EXAMPLES = 8
_traces: WeakKeyDictionary[nn.Module, dict[object, _Trace]] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Trace:
    """A forward and backward pass of some examples: calls, numbers written, bytes kept for the backward pass.

    `whole`: every weight took part.
    """

    examples: int
    calls: int
    numbers: int
    kept_bytes: int
    whole: bool


class _Counter(TorchDispatchMode):
    """Counts operator calls and the numbers that they write."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.numbers = 0, 0

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
    weights = sum(value.numel() for value in trainable(task.template).values())
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
        compilable=not convolves and not buffered and pieces == 1 and trace.whole,
    )


def step_bytes(member: Member) -> int:
    """Return about how many bytes a step of a member takes: twice what it keeps for its backward pass, and six times
    the weights (weights, gradients, velocity, average, two of passage).
    """
    trace = _trace(member)
    weights = sum(value.numel() * value.element_size() for value in member.task.template.state_dict().values())
    piece = min(member.plan.batch_size, member.plan.recipe.micro_batch_size)
    return int(2 * trace.kept_bytes * piece / trace.examples + 6 * weights)


def _trace(member: Member) -> _Trace:
    task, plan = member.task, member.plan
    few = min(plan.batch_size, plan.recipe.micro_batch_size, _TRACED_EXAMPLES)
    known = _traces.setdefault(task.template, {})
    key = few, id(task.data.train.x), id(task.loss), task.machine
    if key not in known:
        known[key] = _traced(member, few)
    return known[key]


def _traced(member: Member, few: int) -> _Trace:
    task, plan = member.task, member.plan
    _, indices = batch_indices(plan.examples, plan.batch_size, task.seed, 0)
    model = task.fresh_model().train() if few > 1 else task.fresh_model().eval()
    kept: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.random.fork_rng(devices=[]), torch.enable_grad(), _Counter() as counter:
        x, y = fetch(task.data, task.data.train, indices[:few], seed=task.seed)
        with saved_tensors_hooks(note, lambda value: value), task.machine.autocast():
            loss = task.mean_loss(model(x), y)
        loss.backward()
    whole = all(value.grad is not None for value in trainable(model).values())
    return _Trace(few, counter.calls, counter.numbers, sum(kept.values()), whole)


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return total_bytes(device) // 2


def total_bytes(device: torch.device) -> int:
    """Return the memory of a device; of the CPU, what this process's control group may use, where that is less."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return total
