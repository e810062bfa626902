"""What reading costs: steps from a memory map, from a stream on disk and by workers, beside the same data in memory.

    python benchmarks/reading.py --mib 2048 --out benchmarks/results/reading.json

The same steps, from the same order, in turn in one process, so that a slow minute of the machine meets all arms; what
counts is the ratio of medians to the first arm. Data on disk is read through once before, so its pages are warm. Arms:

    memory       images as one uint8 tensor in memory, a batch is an index
    memmap       the same in a memory map, of which rows are read by the batch
    stream       the same from a generator, which was spooled to disk
    Dataset, N   a Dataset that flips at random, read anew in each epoch by N processes (0: in between)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

import surefoot
from surefoot.data import mapped
from surefoot.training.task import Task

SHAPE = (3, 32, 32)
BATCH = 128


class Flipped:
    """A Dataset that mirrors an image or not, as most people write it."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        image = torch.from_numpy(np.array(self.x[at]))
        return image.flip(2) if torch.rand(()) < 0.5 else image, int(self.y[at])


def arm(task: Task, steps: int) -> Callable[[], float]:
    """Return a function that trains some steps and returns their seconds."""
    plan = surefoot.plan(surefoot.Recipe(steps=10**6, batch_size=BATCH, lr=1e-3), task.data.examples)
    state = surefoot.start(task, plan)

    def run() -> float:
        nonlocal state
        began = time.perf_counter()
        state, _ = surefoot.advance(task, plan, state, state.step + steps)
        return time.perf_counter() - began

    return run


def arms(folder: Path, mib: int, workers: int, model: str, steps: int) -> dict[str, Callable[[], float]]:
    """Return all arms, over the same images."""
    examples = mib * 2**20 // int(np.prod(SHAPE))
    rng = np.random.default_rng(0)
    y = np.arange(examples) % 10
    x = rng.integers(0, 256, (examples, *SHAPE), dtype=np.uint8)
    np.save(folder / "x.npy", x)
    sources: dict[str, Any] = {"memory": (x, y)}
    mapped.IN_MEMORY = 2**20  # so that a small set takes the way of a large one
    sources["memmap"] = (np.load(folder / "x.npy", mmap_mode="r"), y)
    sources["stream"] = ((x[i], y[i]) for i in range(examples))
    small = min(examples, 20_000)
    for count in (0, workers):
        sources[f"Dataset, {count}"] = Flipped(x[:small], y[:small])
    found = {}
    for name, source in sources.items():
        number = int(name.rpartition(" ")[2]) if name.startswith("Dataset") else None
        data = surefoot.load(source, validation=0, workers=number)
        found[name] = arm(surefoot.task(data, model, device="cpu", threads=torch.get_num_threads()), steps)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mib", type=int, default=2048, help="of images")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--steps", type=int, default=200, help="a repetition")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("SUREFOOT_CACHE", home)
        found = arms(Path(home), asked.mib, asked.workers, asked.model, asked.steps)
        for repetition in range(asked.repetitions + 1):
            for name, run in found.items():
                taken = run()
                if repetition:  # the first warms
                    seconds.setdefault(name, []).append(taken)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    ratios = {name: round(each / medians["memory"], 3) for name, each in medians.items()}
    report = {
        "date": date.today().isoformat(), "system": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(), "torch": torch.__version__, "model": asked.model, "mib": asked.mib,
        "batch_size": BATCH, "steps": asked.steps, "repetitions": asked.repetitions, "workers": asked.workers,
        "ratio_to_memory": ratios, "within_10_percent": all(ratios[name] <= 1.1 for name in ("memmap", "stream")),
        "seconds": {name: [round(value, 4) for value in each] for name, each in seconds.items()},
    }  # fmt: skip
    for name, ratio in ratios.items():
        print(f"{name:12} {medians[name]:8.3f} s for {asked.steps} steps   {ratio:6.3f} of memory")
    if asked.out:
        asked.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
