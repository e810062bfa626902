"""Does find_lr's bracket hold the rate that is best for ten epochs, and how do the usual rules compare?

    python benchmarks/find_lr.py measure --cifar10 FOLDER --curves build/find_lr
    python benchmarks/find_lr.py judge --curves build/find_lr --out benchmarks/results/find_lr_MACHINE_DATE.json

`measure` keeps, for each task, the losses of every short run of ten calls of find_lr and of their range tests, and the
truth: a grid of rates, each trained for ten epochs with a linear schedule to 0, over several seeds, scored on data that
no call sees. What is there is left out, so it can be stopped and called again, and several can run at once on other
tasks. `judge` decides from the kept losses, without training, so that another rule is tried in seconds.

The regret of a suggestion is how much worse ten epochs at it are than at the best rate, read from the truth's curve by
linear interpolation in log rate; rates beyond the grid take the value at its end, and a run that diverged counts as
guessing. With few seeds the best of many rates is partly luck, so there is also the plateau: the rates that are not
worse than the best one by more than two standard errors of the difference.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from task_data import cifar, digits, noisy_digits
from task_models import small_cnn
from torch import nn

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.data.dataset import DataSet, Part
from surefoot.record.progress import finished
from surefoot.steps.lr_range.judge import ShortRuns, bracket, judge
from surefoot.steps.lr_range.measure import LrSearch, measure
from surefoot.steps.lr_range.range_test import RAMP, ramp, suggestions
from surefoot.training.make import reseeded
from surefoot.training.population.many import Member, fit_many
from surefoot.training.task import Task

RULES = ("steep", "minimum/10", "valley", "slide", "lightning")
SEARCH = LrSearch()
CALLS, TRUTH_PER_DECADE, EPOCHS = 10, 4, 10
HELD_OUT = 2000
"""Examples that the truth is scored on, at most."""


class DeepMlp(nn.Sequential):
    """Six hidden layers of 64 with ReLU, no normalisation, PyTorch's initialisation."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        width = int(np.prod(input_shape))
        hidden = [layer for i in range(6) for layer in (nn.Linear(width if i == 0 else 64, 64), nn.ReLU())]
        super().__init__(nn.Flatten(), *hidden, nn.Linear(64, outputs))


@dataclass(frozen=True)
class Subject:
    """A task: its data and model, the batch size, the grid of the truth, and the truth's seeds."""

    data: Callable[[], DataSet]
    model: Any
    batch_size: int
    low: float
    high: float
    seeds: int

    @property
    def recipe(self) -> Recipe:
        """All but the rate: what `find_lr` holds fixed unless told otherwise."""
        return Recipe(batch_size=self.batch_size, momentum=0.9, weight_decay=1e-4)


def subjects(cifar10: str | None) -> dict[str, Subject]:
    """Return the tasks by name; CIFAR-10 comes as 2,048 images of 12 x 12 pixels, so that one core can train them."""
    found = {
        "digits, linear": Subject(digits, "linear", 32, 1e-3, 1e2, 6),
        "digits, mlp": Subject(digits, "mlp", 32, 1e-3, 10.0, 6),
        "digits, mlp in batches of 128": Subject(digits, "mlp", 128, 1e-3, 10.0, 6),
        "digits, deep mlp without norm": Subject(digits, DeepMlp, 32, 1e-3, 10.0, 12),
        "digits with flipped labels, mlp": Subject(noisy_digits, "mlp", 32, 1e-3, 10.0, 6),
        "curve, mlp": Subject(curve, "mlp", 32, 1e-4, 1.0, 6),
        "digits, cnn with norm": Subject(digits, small_cnn(norm=True), 32, 1e-3, 10.0, 4),
        "digits, mlp in batches of 8": Subject(digits, "mlp", 8, 1e-3, 10.0, 4),
    }
    if cifar10 is not None:
        place = cifar10
        for norm in (False, True):
            name = f"cifar10, cnn {'with' if norm else 'without'} norm"
            found[name] = Subject(lambda: cifar(place, 2048, 12), small_cnn(norm), 64, 1e-2, 10.0, 4)
    return found


def curve() -> DataSet:
    """Return a noisy nonlinear regression of 2,000 examples with 8 features."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 8)).astype(np.float32)
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * np.abs(x[:, 3]) + 0.1 * rng.normal(size=2000)
    return surefoot.load((x, y.astype(np.float32)), target="numbers", validation=0.2)


# Measuring


def measure_task(name: str, subject: Subject, folder: Path, calls: int) -> None:
    """Write what is missing of a task into the folder: the calls, then the truth.

    Args:
        name, subject: the task.
        folder: of all tasks.
        calls: of find_lr, each with three seeds of its own.
    """
    data = subject.data()
    for number in range(calls):
        place = folder / f"{_slug(name)}-{number}.npz"
        if not place.is_file():
            _written(place, lambda file, number=number: np.savez_compressed(file, **_call(subject, data, 100 * number)))
            print(f"{name}: call {number}", flush=True)
    place = folder / f"{_slug(name)}-truth.json"
    if not place.is_file():
        found = json.dumps(truth(subject, data))
        _written(place, lambda file: file.write(found.encode()))
        print(f"{name}: truth", flush=True)


def _written(place: Path, write: Callable[[Any], object]) -> None:
    partial = place.with_name(f"{place.name}.tmp")
    with partial.open("wb") as file:
        write(file)
    partial.replace(place)


def _call(subject: Subject, data: DataSet, seed: int) -> dict[str, Any]:
    """One call of find_lr as arrays: losses [M, T] of M short runs, with rate and number of the seed of each."""
    task = surefoot.task(data, subject.model, seed=seed, precision="fp32", threads=1)
    began, cpu = time.perf_counter(), _cpu_seconds()
    seen = finished(measure(task, subject.recipe, SEARCH))
    seconds, cpu_seconds = time.perf_counter() - began, _cpu_seconds() - cpu
    lrs, losses = ramp(task, subject.recipe, *RAMP, SEARCH.steps)
    return {
        "seeds": [seed for seed, _ in seen.losses], "lrs": [lr for _, lr in seen.losses],
        "losses": np.stack(list(seen.losses.values())), "repeated": seen.lrs, "untrained": np.stack(seen.untrained),
        "ramp_lrs": lrs, "ramp_losses": losses, "seconds": seconds, "cpu_seconds": cpu_seconds,
    }  # fmt: skip


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def truth(subject: Subject, data: DataSet) -> dict[str, Any]:
    """Return the rates and, for each seed and rate, the error on held-out data after complete trainings.

    The error is 1 - accuracy, for a regression the mean squared error.
    """
    points = round(math.log10(subject.high / subject.low) * TRUTH_PER_DECADE) + 1
    lrs = np.geomspace(subject.low, subject.high, points)
    held = data.test or data.validation
    assert held is not None
    part = Part(held.x[:HELD_OUT], held.y[:HELD_OUT], held.source.taken(np.arange(min(HELD_OUT, len(held)))))
    first = surefoot.task(
        replace(data, validation=part, test=None), subject.model, precision="fp32", threads=1
    )  # fmt: skip
    chance = float(part.y.var()) if data.classes is None else 1 - 1 / len(data.classes)
    errors = [_errors(reseeded(first, 5000 + seed), subject, lrs, chance) for seed in range(subject.seeds)]
    return {"lrs": lrs.tolist(), "errors": errors, "chance": chance, "examples": data.examples, "held_out": len(part)}


def _errors(task: Task, subject: Subject, lrs: np.ndarray, chance: float) -> list[float]:
    recipes = [
        replace(subject.recipe, lr=lr, epochs=EPOCHS, schedule=Schedule(kind="linear")) for lr in lrs.tolist()
    ]  # fmt: skip
    plans = [surefoot.plan(recipe, task.data.examples) for recipe in recipes]
    _, records = fit_many([Member(task, replace(plan, row_steps=(plan.steps,))) for plan in plans])
    return [_error(record, chance) for record in records]


def _error(record: surefoot.Record, chance: float) -> float:
    last = record.last
    if record.outcome.kind != "finished" or last is None or last.val_loss is None or not np.isfinite(last.val_loss):
        return chance
    return min(last.val_loss, chance) if last.val_accuracy is None else 1 - last.val_accuracy


# Judging


def judged(name: str, folder: Path, kept: int) -> dict[str, Any]:
    """Return what there is to say of a task from what was measured, deciding anew."""
    seen = json.loads((folder / f"{_slug(name)}-truth.json").read_text())
    lrs, errors = np.array(seen["lrs"]), np.array(seen["errors"])
    mean = errors.mean(axis=0)
    at = int(mean.argmin())
    apart = errors - errors[:, [at]]
    error = apart.std(axis=0, ddof=1) / math.sqrt(len(errors))
    plateau = lrs[apart.mean(axis=0) <= 2 * error]
    calls = [_decided(folder / f"{_slug(name)}-{number}.npz") for number in range(kept)]
    found = [call["value"] for call in calls if call["value"] is not None]

    def row(suggested: Sequence[float]) -> dict[str, float]:
        regrets = np.interp(np.log(suggested), np.log(lrs), mean) - mean.min()
        return {
            "answers": len(suggested), "median_lr": statistics.median(suggested),
            "ratio_to_best": statistics.median(suggested) / float(lrs[at]),
            "spread_decades": float(np.ptp(np.log10(suggested))),
            "mean_regret": float(regrets.mean()), "worst_regret": float(regrets.max()),
        }  # fmt: skip

    rows = {"find_lr": [v["lr"] for v in found], "low": [v["low"] for v in found], "high": [v["high"] for v in found]}
    rows |= {rule: [call["rules"][rule] for call in calls if call["rules"][rule] is not None] for rule in RULES}
    ends = ("low", "high")
    inside = [_best_inside(v["low"], v["high"], lrs, mean) for v in found]
    return {
        "best_lr": float(lrs[at]), "best_error": float(mean.min()),
        "plateau": [float(plateau.min()), float(plateau.max())],
        "best_inside": statistics.fmean(v["low"] <= lrs[at] <= v["high"] for v in found),
        "plateau_met": statistics.fmean(v["low"] <= plateau.max() and plateau.min() <= v["high"] for v in found),
        "regret_of_best_inside": statistics.fmean(inside), "worst_regret_of_best_inside": max(inside),
        "ends_move_decades": {end: float(np.ptp([math.log10(v[end]) for v in found])) for end in ends},
        "width_decades": statistics.fmean(math.log10(v["high"] / v["low"]) for v in found),
        "seconds_median": statistics.median(call["seconds"] for call in calls),
        "cpu_seconds_median": statistics.median(call["cpu_seconds"] for call in calls),
        "rows": {rule: row(suggested) for rule, suggested in rows.items() if suggested},
        "truth": seen, "calls": calls,
    }  # fmt: skip


def _best_inside(low: float, high: float, lrs: np.ndarray, errors: np.ndarray) -> float:
    """The regret of the best rate within the bracket: what a search inside it must lose."""
    inside = np.geomspace(low, high, 50)
    return float(np.interp(np.log(inside), np.log(lrs), errors).min() - errors.min())


def short_runs(kept: Mapping[str, np.ndarray]) -> ShortRuns:
    """Return the short runs of a kept call, at the rates that all seeds were measured at."""
    found = {(int(s), float(lr)): own for s, lr, own in zip(kept["seeds"], kept["lrs"], kept["losses"], strict=True)}
    seeds = range(len(kept["untrained"]))
    losses = np.stack([[found[seed, float(lr)] for seed in seeds] for lr in kept["repeated"]])
    return ShortRuns(kept["repeated"], losses, kept["untrained"])


def _decided(place: Path) -> dict[str, Any]:
    with np.load(place) as kept:
        runs = short_runs(kept)
        found = bracket(runs)
        return {
            "value": None if found is None else asdict(found),
            "verdicts": {f.name: f.verdict for f in judge(runs, found)},
            "seconds": float(kept["seconds"]), "cpu_seconds": float(kept["cpu_seconds"]),
            "rules": suggestions(kept["ramp_lrs"], kept["ramp_losses"]),
            "lrs": runs.lrs.tolist(), "initial_losses": runs.initial.round(5).tolist(),
            "final_losses": [[round(x, 5) if math.isfinite(x) else None for x in each] for each in runs.final.tolist()],
        }  # fmt: skip


def _shown(name: str, said: Mapping[str, Any]) -> str:
    low, high = said["plateau"]
    found = [call for call in said["calls"] if call["value"] is not None]
    lines = [
        f"{name} ({len(found)} of {len(said['calls'])} calls answer): "
        f"best {said['best_lr']:.2g}, plateau {low:.2g} to {high:.2g} (error {said['best_error']:.4f}); in the "
        f"bracket {said['best_inside']:.0%}, plateau met {said['plateau_met']:.0%}, regret of the best rate inside "
        f"{said['regret_of_best_inside']:.4f}, {said['width_decades']:.2f} decades wide; "
        f"{said['cpu_seconds_median']:.1f} CPU seconds"
    ]
    for rule, seen in said["rows"].items():
        lines.append(
            f"  {rule:<11} {seen['median_lr']:9.2g}  x{seen['ratio_to_best']:<8.2g} spread {seen['spread_decades']:.2f}"
            f"  regret {seen['mean_regret']:.4f} (worst {seen['worst_regret']:.4f})"
        )
    return "\n".join(lines)


def _slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def main() -> None:
    """Measure, or judge what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("act", choices=("measure", "judge"))
    parser.add_argument("--cifar10", default=os.environ.get("SUREFOOT_CIFAR10"), help="folder or archive of CIFAR-10")
    parser.add_argument("--tasks", nargs="*", help="only those whose name holds one of these words")
    parser.add_argument("--calls", type=int, default=CALLS, help="of find_lr per task")
    parser.add_argument("--curves", type=Path, required=True, help="folder of what was measured")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.curves.mkdir(parents=True, exist_ok=True)
    wanted = {
        name: subject for name, subject in subjects(options.cifar10).items()
        if not options.tasks or any(word in name for word in options.tasks)
    }  # fmt: skip
    if options.act == "measure":
        for name, subject in wanted.items():
            measure_task(name, subject, options.curves, options.calls)
        return
    result = {
        "what": "find_lr's bracket and the usual rules against the best rate of complete trainings",
        "date": date.today().isoformat(), "epochs": EPOCHS,
        "versions": {"surefoot": surefoot.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"cpus": os.cpu_count(), "capability": torch.backends.cpu.get_cpu_capability(), "threads": 1},
        "tasks": {},
    }  # fmt: skip
    for name in wanted:
        calls = len(list(options.curves.glob(f"{_slug(name)}-[0-9]*.npz")))
        if calls and (options.curves / f"{_slug(name)}-truth.json").is_file():
            result["tasks"][name] = judged(name, options.curves, calls)
            print(_shown(name, result["tasks"][name]), flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
