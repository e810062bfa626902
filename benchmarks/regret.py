"""How much worse than the best recipe of a whole map is the one that a method chose, and what did choosing cost?

    python benchmarks/truth.py --cifar10 FOLDER --out TRUTH.json      # once: the whole maps
    python benchmarks/regret.py --cifar10 FOLDER --truth TRUTH.json --out benchmarks/results/regret_MACHINE_DATE.json

Regret: the test accuracy of the map's best cell minus that of the chosen recipe, trained anew with the truth's own
seeds, each the mean of three, in points. Cost: examples processed by the search over those of one complete training.
`regret_fresh` takes the best cell's accuracy from fresh seeds: without the optimism of the best of many noisy cells.

Methods see the training and validation parts. Batch size, length and schedule (cosine to 0) are fixed for all of them.
A run that is already in the output is left out, so the script can be stopped and called again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from peers import FIXED, PEERS, Choice, Method, seen_data
from tasks import Score, Subject, first_task, subjects, trained
from truth import AXES, SEEDS, features, setting, shown, write

import surefoot
from surefoot.config import Recipe
from surefoot.rules import update_rule

FIXED_BUDGET = 2
"""Under which the methods are listed whose cost does not depend on the budget."""


def tuned(subject: Subject, budget: int, seed: int) -> Choice:
    """Surefoot's own answer."""
    found = surefoot.tune(
        seen_data(subject), subject.model, budget=f"{budget}x", seed=seed, final=False, precision="fp32", threads=1,
        fixed={"batch_size": subject.batch_size, "epochs": subject.epochs, "schedule": "cosine"}, rule=subject.rule,
    )  # fmt: skip
    if found.recipe is None:
        failed = next(decision for decision in found.decisions if decision.verdict == "fail")
        raise RuntimeError(f"{subject.name}, seed {seed}: step {failed.step} failed: {failed.reason}")
    decisions = [{"name": each.name, "verdict": each.verdict, "reason": each.reason} for each in found.decisions]
    return Choice(found.recipe, found.cost["trainings"], {"decisions": decisions, "unchecked": list(found.unchecked)})


METHODS: dict[str, Method] = {"surefoot": tuned, **PEERS, **FIXED}


def measured(subject: Subject, method: str, budget: int, seed: int) -> dict[str, Any]:
    """Let a method choose, train what it chose with the truth's seeds, and return both."""
    began, busy = time.perf_counter(), time.process_time()
    choice = METHODS[method](subject, budget, seed)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - busy
    scores, recipe = judged(subject, choice.recipe), choice.recipe
    return {
        "task": subject.name, "method": method, "budget": budget, "seed": seed,
        **recipe.rule_values,
        "schedule": recipe.schedule.kind, "cost": choice.cost, "seconds": seconds, "cpu_seconds": cpu_seconds,
        "test_accuracies": [100 * score.test_accuracy for score in scores],
        "outcomes": [score.outcome for score in scores], "said": choice.said,
    }  # fmt: skip


@cache
def judged(subject: Subject, recipe: Recipe) -> list[Score]:
    """Return the scores of a recipe under the truth's seeds; methods that agree are trained once."""
    first = first_task(subject)
    return [trained(first, [recipe], seed)[0] for seed in SEEDS]


def regrets(run: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, float]:
    """Return both regrets of a run, in points, from what is known of its task's map.

    >>> regrets({"test_accuracies": [90.0, 91.0, 92.0]}, {"best_accuracy": 91.5, "best_accuracy_fresh": 91.25})
    {'regret': 0.5, 'regret_fresh': 0.25}
    """
    accuracy = statistics.fmean(run["test_accuracies"])
    return {name: known[best] - accuracy for name, best in
            (("regret", "best_accuracy"), ("regret_fresh", "best_accuracy_fresh"))}  # fmt: skip


def summary(runs: Iterable[Mapping[str, Any]], maps: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the figures of each method, by name and budget: regrets in points, costs in complete trainings.

    Args:
        runs: from `measured`.
        maps: the truth's tasks; runs of tasks whose map is not complete are left out.

    `mean_regret` is the mean over tasks of the mean over repetitions; `worst_regret` is of a single repetition, and
    `worst_task_regret` of the mean over a task's repetitions.
    """
    whole = {name: features(kept) for name, kept in maps.items() if "fresh" in kept}
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for run in runs:
        if run["task"] in whole:
            row = regrets(run, whole[run["task"]]) | {"cost": run["cost"], "cpu_seconds": run["cpu_seconds"]}
            name = run["method"] if run["method"] in FIXED else f"{run['method']} {run['budget']}x"
            found.setdefault(name, {}).setdefault(run["task"], []).append(row)
    return {name: _figures(by_task) for name, by_task in found.items()}


def _figures(by_task: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    every = [row for rows in by_task.values() for row in rows]
    means = {task: statistics.fmean(row["regret"] for row in rows) for task, rows in by_task.items()}
    fresh = [statistics.fmean(row["regret_fresh"] for row in rows) for rows in by_task.values()]
    return {
        "mean_regret": statistics.fmean(means.values()), "worst_regret": max(row["regret"] for row in every),
        "worst_task_regret": max(means.values()), "mean_regret_fresh": statistics.fmean(fresh),
        "worst_regret_fresh": max(row["regret_fresh"] for row in every),
        "cost": statistics.fmean(row["cost"] for row in every), "most_cost": max(row["cost"] for row in every),
        "cpu_seconds": sum(row["cpu_seconds"] for row in every), "tasks": len(by_task), "runs": len(every),
        "regret_by_task": means,
    }  # fmt: skip


def table(figures: Mapping[str, Mapping[str, Any]], maps: Mapping[str, Any]) -> str:
    """Return the summary as text, the least mean regret first."""
    tasks = [name for name in maps if any(name in row["regret_by_task"] for row in figures.values())]
    lines = [f"{'method':<14} {'cost':>5} {'mean':>6} {'worst':>6} {'fresh':>6} " + " ".join(f"{i:>6}" for i, _ in
             enumerate(tasks, 1))]  # fmt: skip
    for name, row in sorted(figures.items(), key=lambda item: item[1]["mean_regret"]):
        cells = " ".join(f"{row['regret_by_task'].get(task, float('nan')):6.2f}" for task in tasks)
        lines.append(f"{name:<14} {row['cost']:5.2f} {row['mean_regret']:6.2f} {row['worst_regret']:6.2f} "
                     f"{row['mean_regret_fresh']:6.2f} {cells}")  # fmt: skip
    lines += [f"{i}: {task}" for i, task in enumerate(tasks, 1)]
    return "\n".join(lines)


def main() -> None:
    """Measure what is not in the output yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cifar10", default=os.environ.get("SUREFOOT_CIFAR10"), help="folder or archive of CIFAR-10")
    parser.add_argument("--tasks", nargs="*", help="only those whose name holds one of these words")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--rule", choices=list(AXES), default="sgd", help="that of the truth")
    parser.add_argument("--budgets", nargs="*", type=int, default=[2], help="in complete trainings")
    parser.add_argument("--repetitions", type=int, default=3, help="seeds of each method")
    parser.add_argument("--truth", type=Path, required=True, help="what truth.py has written")
    parser.add_argument("--maps", action="store_true", help="also print the maps")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {"runs": {}}
    known, maps = subjects(options.cifar10, options.rule), json.loads(options.truth.read_text())["tasks"]
    names = [name for name in known if name in maps]
    names = [name for name in names if not options.tasks or any(word in name for word in options.tasks)]
    wanted = product(names, product(options.budgets, range(options.repetitions)), options.methods)
    for name, (budget, seed), method in wanted:
        key = f"{name} | {method} | {budget}x | {seed}"
        if key in result["runs"] or (method in FIXED and budget != FIXED_BUDGET):
            continue
        run = measured(known[name], method, budget, seed)
        result["runs"][key] = run
        memory = update_rule(options.rule).memory
        chosen = f"lr {run['lr']:.3g}, weight decay {run['weight_decay']:.2g}, {memory} {run[memory]:.3g}"
        accuracy = statistics.fmean(run["test_accuracies"])
        print(f"{key}: {chosen}: {accuracy:.2f} at {run['cost']:.2f}, {run['seconds']:.0f} s", flush=True)
        write(options.out, result)
    result |= {
        "what": "test accuracy of the best cell of a whole map minus that of the recipe a method chose, in points",
        **setting(), "rule": options.rule, "truth": options.truth.name, "truth_seeds": SEEDS,
        "summary": summary(result["runs"].values(), maps),
    }  # fmt: skip
    if any(run["method"] == "optuna" for run in result["runs"].values()):
        result["versions"]["optuna"] = version("optuna")
    result["maps"] = {name: features(kept) for name, kept in maps.items() if "fresh" in kept}
    write(options.out, result)
    for name in maps if options.maps else ():
        print(shown(name, maps[name]) + "\n")
    print(table(result["summary"], maps))


if __name__ == "__main__":
    main()
