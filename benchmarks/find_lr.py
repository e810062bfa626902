"""Does find_lr's bracket hold the rate that is best for ten epochs, and how do the usual rules compare?

    python benchmarks/find_lr.py --cifar10 FOLDER --out benchmarks/results/find_lr.json --seeds 10

For each task: find_lr once per seed, which gives how far the ends of the bracket move between seeds, and what each rule
reads from the same task's range test; then the truth: a grid of rates, each trained for ten epochs with a linear
schedule to 0, over two seeds, scored on validation data. The regret of a suggestion is how much worse ten epochs at it
are than at the best rate, read from the truth's curve by linear interpolation in log rate; rates beyond the grid take
the value at its end, and a run that diverged counts as chance.

A task that is already in the output is left out, so the script can be stopped and called again. Results are written
after every task.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.data.dataset import DataSet, Part
from surefoot.training.population.many import Member, fit_many
from surefoot.training.task import reseeded

RULES = ("steep", "minimum/10", "valley", "slide", "lightning")
CIFAR_EXAMPLES = 3000
TRUTH_PER_DECADE = 3
STEP = 10 ** (1 / TRUTH_PER_DECADE)
"""The truth is known no better than to a step of its grid."""


class DeepMlp(nn.Sequential):
    """Six hidden layers of 64 with ReLU, no normalisation, PyTorch's initialisation."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        width = int(np.prod(input_shape))
        hidden = [layer for i in range(6) for layer in (nn.Linear(width if i == 0 else 64, 64), nn.ReLU())]
        super().__init__(nn.Flatten(), *hidden, nn.Linear(64, outputs))


def small_cnn(norm: bool) -> Callable[..., nn.Module]:
    """Return a factory of three convolutions of 16, 32 and 64 channels, with or without batch norm."""

    def make(input_shape: tuple[int, int, int], outputs: int) -> nn.Module:
        layers: list[nn.Module] = []
        before = input_shape[0]
        for width in (16, 32, 64):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=not norm)]
            layers += [nn.BatchNorm2d(width)] * norm + [nn.ReLU(), nn.MaxPool2d(2)]
            before = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, outputs))

    return make


@dataclass(frozen=True)
class Subject:
    """A task: how to get its data, its model, and the grid of the truth."""

    data: Callable[[], DataSet]
    model: Any
    low: float
    high: float


def subjects(cifar10: str | None) -> dict[str, Subject]:
    """Return the tasks by name."""

    def digits() -> DataSet:
        return surefoot.load("digits")

    def cifar() -> DataSet:
        data = surefoot.load("cifar10", data_dir=cifar10)
        return replace(data, train=_first(data.train, CIFAR_EXAMPLES), validation=_first(data.test, 2000), test=None)

    def _first(part: Part | None, count: int) -> Part:
        assert part is not None
        rows = np.arange(count)
        return Part(part.x[:count], part.y[:count], part.source.taken(rows))

    return {
        "digits, linear": Subject(digits, "linear", 1e-3, 1e2),
        "digits, mlp": Subject(digits, "mlp", 1e-3, 10.0),
        "digits, deep mlp": Subject(digits, DeepMlp, 1e-3, 10.0),
        "digits, cnn": Subject(digits, small_cnn(norm=True), 1e-3, 10.0),
        "curve, mlp": Subject(curve, "mlp", 1e-4, 1.0),
        "cifar10, cnn without norm": Subject(cifar, small_cnn(norm=False), 1e-3, 10.0),
        "cifar10, cnn with norm": Subject(cifar, small_cnn(norm=True), 1e-3, 10.0),
    }


def curve() -> DataSet:
    """Return a noisy nonlinear regression of 2,000 examples with 8 features."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 8)).astype(np.float32)
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * np.abs(x[:, 3]) + 0.1 * rng.normal(size=2000)
    return surefoot.load((x, y.astype(np.float32)), target="numbers", validation=0.2)


def searches(subject: Subject, data: DataSet, seeds: int) -> list[dict[str, Any]]:
    """Return for each seed the bracket, what the rules say, and the seconds that it took."""
    found = []
    for seed in range(seeds):
        decision = surefoot.find_lr(subject.model, data, seed=100 * seed, seeds=3, threads=1)
        ramp = decision.evidence["range_test"]["suggestions"]
        found.append({"value": decision.value, "seconds": decision.seconds, "rules": ramp, "verdict": decision.verdict})
    return found


def truth(subject: Subject, data: DataSet, epochs: float, seeds: int) -> dict[str, Any]:
    """Return rates and, for each, the mean validation error of complete trainings over seeds.

    The error is 1 - accuracy, or for a regression the loss; where a run diverged, that of guessing.
    """
    points = round(np.log10(subject.high / subject.low) * TRUTH_PER_DECADE) + 1
    lrs = np.geomspace(subject.low, subject.high, points)
    assert data.validation is not None
    if data.classes is None:
        chance = float(data.validation.y.var())
    else:
        chance = 1 - 1 / len(data.classes)
    first = surefoot.task(data, subject.model, threads=1)
    batch = min(128, data.examples)
    errors, losses = [], []
    for seed in range(seeds):
        task = reseeded(first, 1000 + seed)
        recipes = [Recipe(lr=lr, epochs=epochs, batch_size=batch, weight_decay=1e-4,
                          schedule=Schedule(kind="linear")) for lr in lrs.tolist()]  # fmt: skip
        _, records = fit_many([Member(task, surefoot.plan(recipe, data.examples)) for recipe in recipes])
        for into, key in ((errors, "error"), (losses, "loss")):
            into.append([_score(record, chance, key) for record in records])
    return {
        "lrs": lrs.tolist(), "errors": errors, "val_losses": losses, "mean_errors": np.mean(errors, axis=0).tolist(),
        "mean_val_losses": [float(v) for v in np.mean(losses, axis=0)], "chance": chance,
    }  # fmt: skip


def _score(record: surefoot.Record, chance: float, key: str) -> float:
    last = record.last
    if record.outcome.kind != "finished" or last is None or last.val_loss is None or not np.isfinite(last.val_loss):
        return chance if key == "error" else 1e6
    if key == "loss":
        return min(last.val_loss, 1e6)
    return min(last.val_loss, chance) if last.val_accuracy is None else 1 - last.val_accuracy


def judged(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table's row of one task from its measurements."""
    lrs, errors = np.array(measured["truth"]["lrs"]), np.array(measured["truth"]["mean_errors"])
    best = float(lrs[np.argmin(errors)])
    runs = [run for run in measured["searches"] if run["value"] is not None]
    values = [run["value"] for run in runs]

    def at(lr: float) -> float:
        return float(np.interp(np.log(lr), np.log(lrs), errors) - errors.min())

    def of(suggested: list[float]) -> dict[str, float]:
        return {
            "median_lr": statistics.median(suggested),
            "ratio_to_best": statistics.median(lr / best for lr in suggested),
            "spread_decades": float(np.ptp(np.log10(suggested))),
            "mean_regret": statistics.fmean(map(at, suggested)),
            "worst_regret": max(map(at, suggested)),
        }

    rows = {"find_lr": of([v["lr"] for v in values]), "low": of([v["low"] for v in values]),
            "high": of([v["high"] for v in values])}  # fmt: skip
    for rule in RULES:
        given = [run["rules"][rule] for run in runs if run["rules"][rule] is not None]
        if given:
            rows[rule] = of(given) | {"answers": len(given)}
    near = lrs[errors <= errors.min() + 0.1 * (measured["truth"]["chance"] - errors.min()) * 0.1]
    return {
        "best_lr": best, "best_error": float(errors.min()),
        "rates_within_1_percent_of_chance_range": [float(near.min()), float(near.max())],
        "best_inside_bracket": statistics.fmean(v["low"] <= best <= v["high"] for v in values),
        "best_within_a_grid_step_of_the_bracket": statistics.fmean(
            v["low"] / STEP <= best <= v["high"] * STEP for v in values
        ),
        "best_inside_bracket_with_intervals": statistics.fmean(
            v["low_interval"][0] <= best <= v["high_interval"][1] for v in values
        ),
        "seconds_median": statistics.median(run["seconds"] for run in runs), "rows": rows,
    }  # fmt: skip


def main() -> None:
    """Measure the tasks that are not in the output yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cifar10", default=os.environ.get("SUREFOOT_CIFAR10"), help="folder or archive of CIFAR-10")
    parser.add_argument("--tasks", nargs="*", help="only those whose name holds one of these words")
    parser.add_argument("--seeds", type=int, default=10, help="calls of find_lr per task")
    parser.add_argument("--truth-seeds", type=int, default=2)
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    result = json.loads(options.out.read_text()) if options.out.is_file() else {"tasks": {}}
    for name, subject in subjects(options.cifar10).items():
        wanted = not options.tasks or any(word in name for word in options.tasks)
        if name in result["tasks"] or not wanted or ("cifar10" in name and options.cifar10 is None):
            continue
        began = time.perf_counter()
        data = subject.data()
        measured: dict[str, Any] = {"truth": truth(subject, data, options.epochs, options.truth_seeds)}
        measured["truth_seconds"] = time.perf_counter() - began
        measured["searches"] = searches(subject, data, options.seeds)
        measured |= {"seeds": options.seeds, "truth_seeds": options.truth_seeds, "epochs": options.epochs}
        measured["judged"] = judged(measured)
        result["tasks"][name] = measured
        result |= {
            "what": "find_lr's bracket and the usual rules against the best rate of complete trainings",
            "date": date.today().isoformat(),
            "versions": {"surefoot": surefoot.__version__, "torch": torch.__version__,
                         "python": platform.python_version()},
            "machine": {"cpus": os.cpu_count(), "capability": torch.backends.cpu.get_cpu_capability(), "threads": 1},
        }  # fmt: skip
        options.out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    for name, measured in result["tasks"].items():
        row = judged(measured)
        print(f"\n{name}: best {row['best_lr']:.2g} (error {row['best_error']:.4f}), inside the bracket in "
              f"{row['best_inside_bracket']:.0%}, find_lr {row['seconds_median']:.1f} s")  # fmt: skip
        for rule, seen in row["rows"].items():
            print(
                f"  {rule:<11} {seen['median_lr']:9.2g}  x{seen['ratio_to_best']:<8.2g} spread "
                f"{seen['spread_decades']:.2f}  regret {seen['mean_regret']:.4f} (worst {seen['worst_regret']:.4f})"
            )


if __name__ == "__main__":
    main()
