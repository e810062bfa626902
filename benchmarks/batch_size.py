"""Is the batch size that is predicted to reach a target first within a factor of two of the one that does?

    python benchmarks/batch_size.py steps --cifar10 FOLDER --out FILE    # may run beside other work
    python benchmarks/batch_size.py seconds --cifar10 FOLDER --out FILE  # by the clock of the process, on one thread
    python benchmarks/batch_size.py predict --cifar10 FOLDER --out FILE  # needs a quiet machine
    python benchmarks/batch_size.py judge --out FILE

The truth, for five sizes on each of three tasks: the steps to a validation loss, at the best constant rate of that
size, times the seconds of a step, which are measured apart. The rate of each size is found by the same search: all
rates of one grid with one seed, then the best and its neighbours with more. A size's steps are the mean over seeds at
the best of those rates.

The prediction: `choosing_batch_size` over the five sizes as it comes, from its short run at the middle size and the
rate that the search found for that one.

What is in the output already is left out, so each part can be stopped and called again.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from task_models import small_cnn

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.data.dataset import DataSet, Part
from surefoot.optim.plan import Plan
from surefoot.record.progress import finished
from surefoot.record.run import Row
from surefoot.steps.batch_size.choose import choosing_batch_size
from surefoot.steps.batch_size.measure import BatchSizeSearch, step_times
from surefoot.training.make import reseeded
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import Member, advance_many, start_many
from surefoot.training.task import Task

LRS = tuple(0.0025 * 2.0**k for k in range(11))
"""0.0025 to 2.56 by factors of 2: the same first grid for each size."""
ROW_RATIO = 1.12
"""The validation loss is looked at after numbers of steps that grow by this: the error of a crossing is half of it."""
BEYOND = 1.6
"""A rate is given up once so many times the steps are done that another rate has needed with every seed."""
CIFAR_EXAMPLES, CIFAR_VALIDATION = 3000, 1000


@dataclass(frozen=True)
class Subject:
    """A task: data, model, the sizes, and the validation loss that is to be reached."""

    data: Callable[[], DataSet]
    model: Any
    sizes: tuple[int, ...]
    target: float
    most_steps: int


def subjects(cifar10: str | None) -> dict[str, Subject]:
    """Return the tasks by name."""

    def digits() -> DataSet:
        return surefoot.load("digits", validation=0.3)

    def cifar() -> DataSet:
        data = surefoot.load("cifar10", data_dir=cifar10)
        assert data.test is not None
        return dataclasses.replace(
            data, train=_first(data.train, CIFAR_EXAMPLES), validation=_first(data.test, CIFAR_VALIDATION), test=None
        )

    def _first(part: Part, count: int) -> Part:
        return Part(part.x[:count], part.y[:count], part.source.taken(np.arange(count)))

    found = {
        "digits, mlp": Subject(digits, "mlp", (4, 16, 64, 256, 1007), 0.15, 4000),
        "digits, cnn": Subject(digits, small_cnn(False), (4, 16, 64, 256, 1007), 0.2, 4000),
    }
    if cifar10 is not None:
        sizes = (8, 32, 128, 512, 1024)
        found["cifar10, cnn with batch norm"] = Subject(cifar, small_cnn(True, (8, 16, 32)), sizes, 1.7, 4000)
    return found


def recipe_of(size: int, lr: float, steps: int) -> Recipe:
    """Return the recipe of all runs here: momentum 0.9, a small weight decay, a constant rate."""
    return Recipe(lr=lr, steps=steps, batch_size=size, momentum=0.9, weight_decay=1e-4,
                  schedule=Schedule(kind="constant"))  # fmt: skip


def plan_of(examples: int, size: int, lr: float, steps: int) -> Plan:
    """Return its plan, with rows at numbers of steps that grow geometrically."""
    marks = {min(steps, round(4 * ROW_RATIO**k)) for k in range(200)}
    return dataclasses.replace(surefoot.plan(recipe_of(size, lr, steps), examples), row_steps=tuple(sorted(marks)))


def reached(rows: Sequence[Row], target: float) -> int | None:
    """Return the first step at which the validation loss is at the target, and still is at the next row."""
    for now, after in itertools.pairwise(rows):
        if now.val_loss is not None and after.val_loss is not None and max(now.val_loss, after.val_loss) <= target:
            return now.step
    return None


def count(task: Task, seeds: Sequence[int], subject: Subject, size: int, lrs: Sequence[float], known: dict[str, Any],
          engine: Engine) -> None:  # fmt: skip
    """Add to `known` the steps to the target of each rate and seed; None where it was not reached in time."""
    missing = [(lr, seed) for lr in lrs for seed in seeds if f"{lr:g}/{seed}" not in known]
    if not missing:
        return
    tasks = {seed: reseeded(task, seed) for seed in seeds}
    plans = {lr: plan_of(task.data.examples, size, lr, subject.most_steps) for lr in lrs}
    members = [Member(tasks[seed], plans[lr]) for lr, seed in missing]
    states, rows = start_many(members), [[] for _ in members]
    answers: list[int | None] = [None for _ in members]
    alive, limit = list(range(len(members))), subject.most_steps
    for mark in plans[lrs[0]].row_steps:
        if mark > limit or not alive:
            break
        moved, new = advance_many([members[i] for i in alive], [states[i] for i in alive], mark, engine)
        for i, state, more in zip(alive, moved, new, strict=True):
            states[i], rows[i] = state, rows[i] + more
            answers[i] = reached(rows[i], subject.target)
        for lr in {lr for lr, _ in missing}:
            own = [answers[i] for i, (each, _) in enumerate(missing) if each == lr]
            if all(own):
                limit = min(limit, BEYOND * max(step for step in own if step is not None))
        alive = [i for i in alive if answers[i] is None and states[i].outcome is None]
    known |= {f"{lr:g}/{seed}": answer for (lr, seed), answer in zip(missing, answers, strict=True)}


def searched(task: Task, subject: Subject, size: int, seeds: int, engine: Engine) -> dict[str, Any]:
    """Return the steps to the target of a size: of every rate tried, and at the best one."""
    known: dict[str, Any] = {}
    lrs = list(LRS)
    while True:  # the grid is widened where the best rate lies on its border
        count(task, [100], subject, size, lrs, known, engine)
        first = [known[f"{lr:g}/100"] for lr in lrs]
        best = min(range(len(lrs)), key=lambda i: first[i] or 10**9)
        more = [lrs[0] / 4, lrs[0] / 2] if best == 0 else [2 * lrs[-1], 4 * lrs[-1]] if best == len(lrs) - 1 else []
        if not more or first[best] is None:
            break
        lrs = sorted([*lrs, *more])
    near = [lrs[i] for i in (best - 1, best, best + 1) if 0 <= i < len(lrs) and first[i] is not None]
    for lr in near:  # one rate at a time: none is given up for another
        count(task, [100 + s for s in range(seeds)], subject, size, [lr], known, engine)
    means = {}
    for lr in near:
        own = [known[f"{lr:g}/{100 + s}"] for s in range(seeds)]
        if all(own):
            means[lr] = statistics.fmean(own)
    lr = min(means, key=means.__getitem__) if means else None
    own = [known[f"{lr:g}/{100 + s}"] for s in range(seeds)] if lr else []
    return {
        "lr": lr, "steps": means[lr] if lr else None,
        "standard_error": statistics.stdev(own) / len(own) ** 0.5 if len(own) > 1 else None,
        "grid": lrs, "seeds": seeds, "tried": known,
    }  # fmt: skip


def steps_part(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Count steps to the target."""
    for name, subject in subjects(options.cifar10).items():
        if options.tasks and not any(word in name for word in options.tasks):
            continue
        data = subject.data()
        task = surefoot.task(data, subject.model, threads=1)
        engine = Engine()
        own = result["tasks"].setdefault(name, {"target": subject.target, "examples": data.examples, "sizes": {}})
        for size in subject.sizes:
            seen = own["sizes"].setdefault(str(size), {})
            if "steps" in seen:
                continue
            began = time.perf_counter()
            seen["steps"] = searched(task, subject, size, options.seeds, engine)
            write(options.out, result)
            print(f"{name}, batch {size}: {seen['steps']['steps']} steps at rate {seen['steps']['lr']} "
                  f"({time.perf_counter() - began:.0f} s)", flush=True)  # fmt: skip


def write(path: Path, result: dict[str, Any]) -> None:
    """Write the output, with where and when it was made."""
    result |= {
        "what": "the batch size that is predicted to reach a target first, against measured time to that target",
        "date": date.today().isoformat(),
        "versions": {"surefoot": surefoot.__version__, "torch": torch.__version__,
                     "python": platform.python_version()},
        "machine": {"cpus": os.cpu_count(), "capability": torch.backends.cpu.get_cpu_capability(), "threads": 1},
    }  # fmt: skip
    path.write_text(json.dumps(result, indent=1) + "\n")


def seconds_part(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Time the steps of each size, as training does them, on one thread.

    By the clock of the process, which on one thread shows what the wall's does on a quiet machine.
    """
    for name, subject in subjects(options.cifar10).items():
        own = result["tasks"].setdefault(name, {"target": subject.target, "sizes": {}})
        if "step_seconds" in own or (options.tasks and not any(word in name for word in options.tasks)):
            continue
        task = surefoot.task(subject.data(), subject.model, threads=1)
        timed, _ = finished(
            step_times(
                task,
                recipe_of(subject.sizes[0], 0.1, 10),
                BatchSizeSearch(sizes=subject.sizes, rounds=9),
                time.process_time,
            )
        )
        own["step_seconds"] = {str(each.batch_size): list(each.seconds) for each in timed}
        write(options.out, result)
        print(name, {each.batch_size: f"{1e3 * each.estimate.value:.2f} ms" for each in timed}, flush=True)


def predict_part(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Let the house choose, from a short run at the middle size, at the rate that the search found best for it."""
    for name, subject in subjects(options.cifar10).items():
        own = result["tasks"].setdefault(name, {"target": subject.target, "sizes": {}})
        if options.tasks and not any(word in name for word in options.tasks):
            continue
        predictions = own.setdefault("predictions", [])
        data, middle = subject.data(), subject.sizes[len(subject.sizes) // 2]
        lr = own["sizes"][str(middle)]["steps"]["lr"]
        for seed in range(len(predictions), options.predictions):
            task = surefoot.task(data, subject.model, threads=1, seed=seed)
            search = BatchSizeSearch(sizes=subject.sizes)
            decision = finished(choosing_batch_size(task, recipe_of(middle, lr, 10), search))
            assert decision.value is not None
            predictions.append({
                "seed": seed, "lr": lr, "value": decision.value, "verdict": decision.verdict,
                "seconds": decision.seconds, "target_loss": decision.evidence["target_loss"],
                "sizes": decision.evidence["sizes"], "races": decision.evidence["races"],
                "noise_scales": [noise["total"]["noise_scale"] for noise in decision.evidence["noise"]],
            })  # fmt: skip
            write(options.out, result)
            print(name, seed, decision.reason, flush=True)


def judge_part(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Hold predictions against the truth, and print the table."""
    for name, own in result["tasks"].items():
        times = {}
        for size, seen in own["sizes"].items():
            if seen.get("steps", {}).get("steps") and size in own.get("step_seconds", {}):
                times[int(size)] = seen["steps"]["steps"] * statistics.median(own["step_seconds"][size])
        if not times or not own.get("predictions"):
            continue
        best = min(times, key=times.__getitem__)
        chosen = [each["value"]["batch_size"] for each in own["predictions"]]
        own["judged"] = {
            "measured_seconds": {str(size): seconds for size, seconds in sorted(times.items())}, "best": best,
            "chosen": chosen, "time_over_best": [times[size] / times[best] for size in chosen],
            "noise_scales": [each["value"]["noise_scale"] for each in own["predictions"]],
            "noise_scale_that_fits_the_steps": _fitted(own),
        }  # fmt: skip
        print(f"{name}: " + ", ".join(
            f"{size}: {own['sizes'][str(size)]['steps']['steps']:.0f} steps, {seconds:.2f} s" for size, seconds
            in sorted(times.items())) + f"; chosen {chosen}, time over best "
            f"{[round(ratio, 2) for ratio in own['judged']['time_over_best']]}; noise scale that fits the steps "
            f"{own['judged']['noise_scale_that_fits_the_steps']:.0f}, measured "
            f"{own['judged']['noise_scales']}")  # fmt: skip
    write(options.out, result)


def _fitted(own: dict[str, Any]) -> float:
    """Return the noise scale of the hyperbola steps = S_min (1 + scale / B) that is nearest in the logarithm."""
    pairs = [(int(size), seen["steps"]["steps"]) for size, seen in own["sizes"].items() if seen["steps"]["steps"]]
    sizes, steps = np.array(pairs, dtype=float).T

    def error(scale: float) -> float:
        return float(np.var(np.log(steps) - np.log1p(scale / sizes)))

    return float(min(np.geomspace(1, 1e5, 1000), key=error))


PARTS = {"steps": steps_part, "seconds": seconds_part, "predict": predict_part, "judge": judge_part}


def main() -> None:
    """Measure what is not in the output yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=[*PARTS])
    parser.add_argument("--cifar10", default=os.environ.get("SUREFOOT_CIFAR10"), help="folder or archive of CIFAR-10")
    parser.add_argument("--tasks", nargs="*", help="only those whose name holds one of these words")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--predictions", type=int, default=3, help="how often the house chooses, with other seeds")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    result = json.loads(options.out.read_text()) if options.out.is_file() else {"tasks": {}}
    PARTS[options.part](options, result)


if __name__ == "__main__":
    main()
