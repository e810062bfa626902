"""How much memory a step takes, and how much there is."""

from __future__ import annotations

import os

import torch
from torch.autograd.graph import saved_tensors_hooks

from surefoot.data.batches import batch_indices, fetch
from surefoot.models.extra_state import named_tensors
from surefoot.training.population.member import Member

MEMORY_SHARE = 0.5
"""Share of the free memory that a step may take. Chosen by hand."""


def most_members(member: Member) -> int:
    """Return how many members like this one fit into memory as a stack, at least 1."""
    return max(1, int(MEMORY_SHARE * free_bytes(member.task.machine.device) / step_bytes(member)))


def step_bytes(member: Member) -> int:
    """Return about how many bytes a step of a member takes: twice what it keeps for its backward pass, and six times
    the weights (weights, gradients, velocity, average, two of passage).
    """
    task, plan = member.task, member.plan
    _, indices = batch_indices(plan.examples, plan.batch_size, task.seed, 0)
    few = indices[: min(len(indices), plan.recipe.micro_batch_size, 8)]
    x, y = fetch(task.data, task.data.train, few, seed=task.seed)
    model = task.fresh_model().train() if len(few) > 1 else task.fresh_model().eval()
    kept: dict[int, int] = {}

    def note(value: torch.Tensor) -> torch.Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.random.fork_rng(devices=[]), saved_tensors_hooks(note, lambda value: value), task.machine.autocast():
        task.mean_loss(model(x), y)
    weights = sum(value.numel() * value.element_size() for value in named_tensors(model).values())
    piece = min(plan.batch_size, plan.recipe.micro_batch_size)
    return int(2 * sum(kept.values()) * piece / len(few) + 6 * weights)


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
