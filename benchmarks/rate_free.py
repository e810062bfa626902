"""Rules without a rate, and range tests, trained live on the tasks of the maps: what they come to at a training's cost.

    pip install schedulefree prodigyopt dadaptation dog-optimizer    # for this benchmark only
    python benchmarks/rate_free.py --cifar10 FOLDER --half development --out benchmarks/results/rate_free.json

Each rule is that of its authors' package at its published defaults, in a plain loop of the default batch size, without
weight decay, with the schedule that its authors advise: constant for schedule-free and for DoG, which averages, else
cosine to 0. Range tests choose a rate for the default recipe, which `regret.py` looks up in the map. Runs that are
already in the output are left out.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from maps import FRESH, SEED
from tasks import Subject, first_task, guessing, points, subjects
from torch import nn
from truth import setting, write

import surefoot
from surefoot.data.batches import batch_indices, fetch
from surefoot.steps.lr_range.range_test import ramp, suggestions
from surefoot.training.evaluate import evaluate_part
from surefoot.training.make import reseeded
from surefoot.training.task import Task

RANGE_STEPS = 100
"""Of a range test: `num_it` of fastai's lr_find, `num_training` of Lightning's."""
FASTAI_RAMP, LIGHTNING_RAMP = (1e-7, 10.0), (1e-8, 1.0)
"""First and last rate of a range test, the defaults of either."""
RANGE_SEEDS = (SEED, SEED + 1, SEED + 2)
STATISTICS_BATCHES = 50
"""Batches by which the statistics of batch norm are measured anew for averaged weights: schedule-free's README."""


@dataclass(frozen=True)
class Rule:
    """A rule without a rate.

    Attributes:
        made: (model, steps) -> its optimizer.
        cosine: whether its factor falls to 0.
        averages: whether the model to be judged is an average, made by `averaged`.
    """

    made: Callable[[nn.Module, int], Any]
    cosine: bool = True
    averages: str = ""


def _schedule_free(model: nn.Module, steps: int) -> Any:
    from schedulefree import SGDScheduleFree

    return SGDScheduleFree(model.parameters(), lr=1.0, momentum=0.9, warmup_steps=round(0.05 * steps))


def _schedule_free_adamw(model: nn.Module, steps: int) -> Any:
    from schedulefree import AdamWScheduleFree

    return AdamWScheduleFree(model.parameters(), lr=0.0025, warmup_steps=round(0.05 * steps))


def _prodigy(model: nn.Module, steps: int) -> Any:
    from prodigyopt import Prodigy

    return Prodigy(model.parameters(), lr=1.0)


def _d_adaptation(model: nn.Module, steps: int) -> Any:
    from dadaptation import DAdaptSGD

    return DAdaptSGD(model.parameters(), lr=1.0, momentum=0.9)


def _d_adaptation_adam(model: nn.Module, steps: int) -> Any:
    from dadaptation import DAdaptAdam

    return DAdaptAdam(model.parameters(), lr=1.0)


def _dog(model: nn.Module, steps: int) -> Any:
    from dog import DoG

    return DoG(model.parameters())


RULES = {
    "schedule-free": Rule(_schedule_free, cosine=False, averages="schedule-free"),
    "schedule-free adamw": Rule(_schedule_free_adamw, cosine=False, averages="schedule-free"),
    "prodigy": Rule(_prodigy), "dog": Rule(_dog, cosine=False, averages="polynomial"),
    "d-adaptation": Rule(_d_adaptation), "d-adaptation adam": Rule(_d_adaptation_adam),
}  # fmt: skip
"""Defazio et al. 2024 (arXiv 2405.15682), Mishchenko & Defazio 2023 (arXiv 2306.06101), Ivgi, Hinder & Carmon 2023
(arXiv 2302.12022), Defazio & Mishchenko 2023 (arXiv 2301.07733)."""


def live(first: Task, subject: Subject, rule: Rule, seed: int) -> float:
    """Train by a rule with the weights and batches of a seed, and return its test score in points."""
    task = reseeded(first, seed)
    made = surefoot.plan(subject.default, task.data.examples)
    model = task.fresh_model().train()
    optimizer = rule.made(model, made.steps)
    average: Any = None
    if rule.averages == "polynomial":
        from dog import PolynomialDecayAverager

        average = PolynomialDecayAverager(model)
    if rule.averages == "schedule-free":
        optimizer.train()
    for step in range(made.steps):
        for group in optimizer.param_groups if rule.cosine else ():
            group["lr"] = 0.5 * (1 + math.cos(math.pi * step / made.steps))
        loss = _loss(task, model, made.batch_size, step)
        if not math.isfinite(loss.item()):
            return guessing(first.data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if average is not None:
            average.step()
    if average is not None:
        model = average.averaged_model
    if rule.averages == "schedule-free":
        optimizer.eval()  # its own: the weights become the averaged ones, by which it is judged
    if rule.averages:
        _measure_statistics(task, model, made.batch_size)
    assert task.data.test is not None
    seen = evaluate_part(task, model, model.state_dict(), task.data.test)
    return points(first.data, seen.loss, seen.accuracy) if math.isfinite(seen.loss) else guessing(first.data)


def _loss(task: Task, model: nn.Module, size: int, step: int) -> torch.Tensor:
    epoch, rows = batch_indices(task.data.examples, size, task.seed, step)
    x, y = fetch(task.data, task.data.train, rows, seed=task.seed, epoch=epoch)
    return task.mean_loss(task.outputs(model, x, y), y)


def _measure_statistics(task: Task, model: nn.Module, size: int) -> None:
    """Measure the statistics of batch norm with the weights as they are."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    with torch.no_grad():
        for step in range(min(STATISTICS_BATCHES, task.data.examples // size)):
            _loss(task, model, size, step)


def ranges(first: Task, subject: Subject, seed: int) -> dict[str, float | None]:
    """Return the rate that each rule of a range test reads, with the default recipe."""
    seen = reseeded(first, seed)
    fastai = suggestions(*ramp(copy.copy(seen), subject.default, *FASTAI_RAMP, RANGE_STEPS))
    lightning = suggestions(*ramp(copy.copy(seen), subject.default, *LIGHTNING_RAMP, RANGE_STEPS))
    return fastai | {"lightning": lightning["lightning"]}


def main() -> None:
    """Train what is not in the output yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cifar10", default=os.environ.get("SUREFOOT_CIFAR10"), help="folder or archive of CIFAR-10")
    parser.add_argument("--half", choices=("development", "test"), default="development")
    parser.add_argument("--tasks", nargs="*", help="only those whose name holds one of these words")
    parser.add_argument("--rules", nargs="*", choices=list(RULES), default=list(RULES))
    parser.add_argument("--seeds", type=int, default=3, help="of each rule, at most 5")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {"tasks": {}}
    for name, subject in subjects(options.cifar10, options.half).items():
        if options.tasks and not any(word in name for word in options.tasks):
            continue
        first, began = first_task(subject), time.process_time()
        kept = result["tasks"].setdefault(name, {"rules": {}, "ranges": {}})
        kept["range_cost"] = RANGE_STEPS / surefoot.plan(subject.default, first.data.examples).steps
        for rule in options.rules:
            scores = kept["rules"].setdefault(rule, {})
            for seed in FRESH[: options.seeds]:
                if str(seed) not in scores:
                    scores[str(seed)] = float(f"{live(first, subject, RULES[rule], seed):.5g}")
        for seed in RANGE_SEEDS:
            if str(seed) not in kept["ranges"]:
                kept["ranges"][str(seed)] = ranges(first, subject, seed)
        kept["cpu_seconds"] = kept.get("cpu_seconds", 0.0) + round(time.process_time() - began, 2)
        write(options.out, result | setting())
        said = ", ".join(f"{rule} {sum(seen.values()) / len(seen):.2f}" for rule, seen in kept["rules"].items())
        print(f"{name}: {said}; {kept['cpu_seconds']:.0f} CPU seconds", flush=True)


if __name__ == "__main__":
    main()
