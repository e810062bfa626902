"""What a step with AdamW costs here, with and without groups, beside a plain loop with torch.optim.AdamW.

    python benchmarks/rules.py --out benchmarks/results/rules.json

Everything runs in turn in one process, the arms interleaved, so that a slow minute of the machine meets all of them;
ratios within a round are what counts. Every arm trains the same model on the same batches from the same weights, and
the first step of each is compared before anything is timed. Arms:

    surefoot            `advance` with rule adamw
    surefoot, groups    the same with multipliers of rate and decay, as torch's in four parameter groups
    optimizer=          `advance` with torch.optim.AdamW(fused=True) in place of the rule
    torch fused         a plain loop: the batch by index, forward, backward, torch.optim.AdamW(fused=True)
    torch foreach       the same with foreach=True
    torch fused, groups the plain loop with four parameter groups, fused
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.data.batches import batch_indices, fetch
from surefoot.optim.plan import Plan
from surefoot.training.groups import factors_of
from surefoot.training.task import Task

LR, DECAY = 1e-3, 0.01
GROUPS = {"*": {"lr": 1}, "*.bias": {"lr": 2, "weight_decay": 0}, "head": {"lr": 10}}
"""Of every model here: the head, biases, the head's bias, and the rest."""
Arm = Callable[[int], float]
"""(steps) -> seconds."""


class Transformer(nn.Module):
    """Two encoder layers over the rows of an image, and a linear head."""

    def __init__(self, input_shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.embed = nn.Linear(channels * width, 64)
        self.place = nn.Parameter(torch.zeros(height, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2).flatten(2)
        return self.head(self.encoder(self.embed(rows) + self.place).mean(1))


MODELS: dict[str, Any] = {"mlp": "mlp", "cnn": "cnn", "transformer": Transformer}


def ours(task: Task, plan: Plan) -> tuple[Arm, nn.Module]:
    """Return an arm that trains by the loop of this package, and its model."""
    state = surefoot.start(task, plan)

    def run(steps: int) -> float:
        nonlocal state
        began = time.perf_counter()
        state, _ = surefoot.advance(task, plan, state, state.step + steps)
        return time.perf_counter() - began

    return run, state.model


def by_torch(task: Task, plan: Plan, *, grouped: bool, **options: bool) -> tuple[Arm, nn.Module]:
    """Return an arm that is a plain loop, and its model."""
    model = task.fresh_model()
    named = dict(model.named_parameters())
    buckets: dict[Any, list[nn.Parameter]] = {}
    recipe = Recipe(rule="adamw", groups=GROUPS if grouped else None)
    for name, factors in factors_of(model, recipe).items():
        buckets.setdefault(factors, []).append(named[name])
    groups = [
        {"params": each, "lr": LR * factors.lr, "weight_decay": DECAY * factors.weight_decay}
        for factors, each in buckets.items()
    ]
    optimizer = torch.optim.AdamW(groups, **options)
    step = 0

    def run(steps: int) -> float:
        nonlocal step
        began = time.perf_counter()
        for _ in range(steps):
            epoch, rows = batch_indices(plan.examples, plan.batch_size, task.seed, step)
            x, y = fetch(task.data, task.data.train, rows, seed=task.seed, epoch=epoch)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            step += 1
        return time.perf_counter() - began

    return run, model


def arms_of(task: Task, plans: dict[str, Plan], with_optimizer: Task) -> dict[str, tuple[Arm, nn.Module]]:
    """Return all arms of a model by name."""
    plain = plans["plain"]
    return {
        "surefoot": ours(task, plain),
        "surefoot, groups": ours(task, plans["groups"]),
        "optimizer=": ours(with_optimizer, plans["optimizer"]),
        "torch fused": by_torch(task, plain, grouped=False, fused=True),
        "torch foreach": by_torch(task, plain, grouped=False, foreach=True),
        "torch fused, groups": by_torch(task, plain, grouped=True, fused=True),
    }


def measured(name: str, rounds: int, steps: int, threads: int) -> dict[str, Any]:
    """Return the seconds of a step of every arm of a model, and ratios to torch's, round by round."""
    data = surefoot.load("digits")
    settings: dict[str, Any] = {"precision": "fp32", "threads": threads}
    task = surefoot.task(data, MODELS[name], **settings)
    fused = surefoot.task(data, MODELS[name], optimizer=_fused, **settings)
    total = steps * (rounds + 2)
    common: dict[str, Any] = {
        "lr": LR, "steps": total, "batch_size": 64, "schedule": Schedule(kind="constant"),
    }  # fmt: skip
    adamw = {"rule": "adamw", "weight_decay": DECAY, **common}
    recipes = {
        "plain": Recipe(**adamw),
        "groups": Recipe(**adamw, groups=GROUPS),
        "optimizer": Recipe(rule="optimizer", **common),
    }
    plans = {
        key: surefoot.plan(recipe, data.examples, rows_per_epoch=1) for key, recipe in recipes.items()
    }  # rows validate, which is not a step: none falls into a round
    plans = {key: _without_rows(plan) for key, plan in plans.items()}
    torch.set_num_threads(threads)
    arms = arms_of(task, plans, fused)
    _agree(arms)
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for run, _ in arms.values():
        run(steps - 1)  # warm-up
    for _ in range(rounds):
        for arm, (run, _) in arms.items():
            seconds[arm].append(run(steps) / steps)
    pairs = {
        "surefoot / torch fused": ("surefoot", "torch fused"),
        "surefoot / torch foreach": ("surefoot", "torch foreach"),
        "surefoot, groups / torch fused, groups": ("surefoot, groups", "torch fused, groups"),
        "surefoot, groups / surefoot": ("surefoot, groups", "surefoot"),
        "optimizer= / torch fused": ("optimizer=", "torch fused"),
    }
    ratios = {
        key: statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))
        for key, (one, other) in pairs.items()
    }
    return {
        "parameters": sum(parameter.numel() for parameter in task.template.parameters()),
        "tensors": sum(1 for _ in task.template.parameters()),
        "seconds_per_step": {arm: statistics.median(values) for arm, values in seconds.items()},
        "ratios": ratios,
        "all_seconds_per_step": seconds,
    }


def _fused(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=LR, weight_decay=DECAY, fused=True)


def _without_rows(plan: Plan) -> Plan:
    return dataclasses.replace(plan, row_steps=(plan.steps,))


def _agree(arms: dict[str, tuple[Arm, nn.Module]]) -> None:
    """Do one step of each arm, and see that those with and without groups end at the same weights."""
    for run, _ in arms.values():
        run(1)
    for names in (
        ("surefoot", "optimizer=", "torch fused", "torch foreach"),
        ("surefoot, groups", "torch fused, groups"),
    ):
        first, *others = [arms[name][1] for name in names]
        for other in others:
            for a, b in zip(first.parameters(), other.parameters(), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def main() -> None:
    """Measure every model and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=30, help="steps per round and arm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {
        "what": "seconds per training step with AdamW on digits, batch 64, arms in turn in one process",
        "models": {name: measured(name, options.rounds, options.steps, options.threads) for name in options.models},
        "rounds": options.rounds,
        "steps_per_round": options.steps,
        "threads": options.threads,
        "date": date.today().isoformat(),
        "versions": {"surefoot": surefoot.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"cpus": os.cpu_count(), "capability": torch.backends.cpu.get_cpu_capability()},
    }
    for name, found in result["models"].items():
        print(name, json.dumps({key: round(value, 3) for key, value in found["ratios"].items()}))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
