"""How much memory a device has, and what share of it something may take."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch

MEMORY_SHARE = 0.5
"""Share of the free memory that a step may take, or a tensor of the data on a card. Chosen by hand."""


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return total_bytes(device) // 2


def total_bytes(device: torch.device) -> int:
    """Return the memory of a device; of the CPU, what this process's control group may use, where that is less."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such file, or "max"
            total = min(total, int(Path(limit).read_text(encoding="ascii")))
    return total
