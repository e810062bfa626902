"""What the loop costs beside the model, and an epoch against PyTorch's DataLoader with per-image transforms.

    python benchmarks/loop.py --cifar10 FOLDER --out benchmarks/results/loop.json

Everything runs in turn in one process, the arms interleaved, so that a slow minute of the machine meets all of
them; medians and ratios are what counts. Arms:

    surefoot            `advance`: batches by index from one uint8 tensor, augmented whole, SGD of `optim.update`
    model alone         forward, backward and update of the same steps on a batch that lies ready
    loader, 0 workers   DataLoader over a Dataset that augments and normalises one image at a time (tensor code),
    loader, 2 workers   default collation, the same model, torch.optim.SGD

Every arm has the same model, memory format, precision, batch size, threads and number of steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.data.batches import batch_indices, fetch
from surefoot.optim.plan import Plan
from surefoot.optim.update import sgd_
from surefoot.training.task import Task

PIXELS = 4


class OneByOne(Dataset[tuple[Tensor, int]]):
    """CIFAR-10 as most people write it: one image at a time, padded, cropped, flipped, normalised."""

    def __init__(self, task: Task) -> None:
        self.x, self.y = task.data.train.x, task.data.train.y
        self.mean, self.std = task.data.mean.view(3, 1, 1), task.data.std.view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = F.pad(self.x[index].float().div_(255), (PIXELS,) * 4, mode="reflect")
        top, left = torch.randint(0, 2 * PIXELS + 1, (2,)).tolist()
        image = image[:, top : top + 32, left : left + 32]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        return (image - self.mean) / self.std, int(self.y[index])


def surefoot_arm(task: Task, plan: Plan) -> Callable[[int], float]:
    """Return a function that trains some steps and returns their seconds."""
    state = surefoot.start(task, plan)

    def run(steps: int) -> float:
        nonlocal state
        began = time.perf_counter()
        state, _ = surefoot.advance(task, plan, state, state.step + steps)
        return time.perf_counter() - began

    return run


def model_arm(task: Task, plan: Plan) -> Callable[[int], float]:
    """Return the same for forward, backward and update alone, on a batch that lies ready."""
    model = task.fresh_model().train()
    recipe = plan.recipe
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    velocity: list[Tensor] | None = None
    _, rows = batch_indices(plan.examples, plan.batch_size, 0, 0)
    x, y = fetch(task.data, task.data.train, rows, augment=task.augment, seed=0, epoch=0)

    def run(steps: int) -> float:
        nonlocal velocity
        began = time.perf_counter()
        for _ in range(steps):
            for parameter in parameters.values():
                parameter.grad = None
            with task.machine.autocast():
                outputs = model(x)
            task.mean_loss(outputs, y, recipe.label_smoothing).backward()
            velocity = sgd_(
                [parameter.data for parameter in parameters.values()],
                [parameter.grad for parameter in parameters.values() if parameter.grad is not None],
                velocity, lr=0.01, momentum=recipe.momentum, momentum_form=recipe.momentum_form,
                dampening=recipe.dampening, weight_decay=recipe.weight_decay,
                weight_decay_form=recipe.weight_decay_form,
            )  # fmt: skip
        return time.perf_counter() - began

    return run


def loader_arm(task: Task, plan: Plan, workers: int) -> Callable[[int], float]:
    """Return the same for DataLoader, per-image transforms and torch.optim.SGD."""
    model = task.fresh_model().train()
    recipe = plan.recipe
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=recipe.momentum, weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum_form == "nesterov",
    )  # fmt: skip
    loader = DataLoader(
        OneByOne(task), batch_size=plan.batch_size, shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip

    def forever() -> Iterator[Any]:
        while True:
            yield from loader

    batches = forever()

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            x, y = next(batches)
            optimizer.zero_grad()
            with task.machine.autocast():
                outputs = model(x.contiguous(memory_format=torch.channels_last))
            F.cross_entropy(outputs.float(), y, label_smoothing=recipe.label_smoothing).backward()
            optimizer.step()
        return time.perf_counter() - began

    return run


def ours_of_machine() -> Callable[[], float]:
    """Return a function that gives the share of busy CPU time since the last call that was this process's own."""

    def read() -> tuple[float, float]:
        fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        times = os.times()
        return sum(fields) - fields[3] - fields[4], (sum(times[:4])) * os.sysconf("SC_CLK_TCK")

    before = read()

    def share() -> float:
        nonlocal before
        now = read()
        busy, own = now[0] - before[0], now[1] - before[1]
        before = now
        return min(1.0, own / busy) if busy > 0 else 1.0

    return share


def main() -> None:
    """Measure all arms in turn and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cifar10", default=os.environ.get("SUREFOOT_CIFAR10"), help="folder or archive of CIFAR-10")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12, help="steps per round and arm")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    settings = surefoot.Recipe(
        lr=0.01, epochs=50, batch_size=512, momentum=0.85, momentum_form="nesterov", weight_decay=1e-3,
        label_smoothing=0.2, schedule=Schedule(kind="constant"),
    )  # fmt: skip
    assert isinstance(settings, Recipe)
    data = surefoot.load("cifar10", data_dir=options.cifar10)
    task = surefoot.task(data, "cnn", augment=("flip-alternate", f"crop:{PIXELS}"))
    plan = surefoot.plan(settings, data.examples)
    arms = {
        "surefoot": surefoot_arm(task, plan),
        "model alone": model_arm(task, plan),
        "loader, 0 workers": loader_arm(task, plan, 0),
        "loader, 2 workers": loader_arm(task, plan, 2),
    }
    share = ours_of_machine()
    for run in arms.values():
        run(2)  # warm-up: allocation, workers' start
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(options.rounds):
        for name, run in arms.items():
            seconds[name].append(run(options.steps) / options.steps)
        print(f"round {number + 1}: " + ", ".join(f"{n} {v[-1] * 1000:.0f} ms" for n, v in seconds.items()), flush=True)
    step = {name: statistics.median(values) for name, values in seconds.items()}
    overhead = statistics.median(a / b - 1 for a, b in zip(seconds["surefoot"], seconds["model alone"], strict=True))
    result = {
        "what": "seconds per training step of cnn on CIFAR-10, arms in turn in one process",
        "seconds_per_step": step,
        "seconds_per_epoch": {name: value * plan.steps_per_epoch for name, value in step.items()},
        "all_seconds_per_step": seconds,
        "overhead_share_of_a_step": overhead / (1 + overhead),
        "epoch_faster_than_loader_0_workers": step["loader, 0 workers"] / step["surefoot"],
        "epoch_faster_than_loader_2_workers": step["loader, 2 workers"] / step["surefoot"],
        "batch_size": plan.batch_size,
        "precision": task.machine.precision,
        "threads": torch.get_num_threads(),
        "share_of_busy_cpu_that_was_ours": share(),
        "rounds": options.rounds,
        "steps_per_round": options.steps,
        "date": date.today().isoformat(),
        "versions": {"surefoot": surefoot.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"cpus": os.cpu_count(), "capability": torch.backends.cpu.get_cpu_capability()},
    }
    print(json.dumps({key: value for key, value in result.items() if key != "all_seconds_per_step"}, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
