"""How much worse than the best cell of a map is what a method chose, and what did choosing cost?

    python benchmarks/truth.py --cifar10 FOLDER --out MAPS                          # once: the maps
    python benchmarks/rate_free.py --cifar10 FOLDER --out RATE_FREE.json            # once: what must be trained
    python benchmarks/regret.py --maps MAPS --rate-free RATE_FREE.json --out benchmarks/results/regret_MACHINE_DATE.json
    python benchmarks/regret.py --maps MAPS --out REGRET.json --live --cifar10 FOLDER --tasks cancer friedman
    python benchmarks/regret.py --maps MAPS --out REGRET.json --half test           # once, at the end

Methods are played on the maps (`played.py`, `peers.py`), at budgets of half a training to 32. Regret, in points of
accuracy or R2: the best cell's test score by fresh seeds minus that of the chosen recipe's cell, by fresh seeds where
it has them, else by the map's one. It can be negative. The development half is the default; what is there of the other
half stays in the output. A run that is already in the output is left out; --anew METHOD plays it again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from maps import FRESH, Map, read_maps
from peers import PEERS, Method, default, single_recipe
from played import Choice, Table, surefoot_choice
from rate_free import RANGE_SEEDS
from regret_pictures import draw
from tasks import Subject, first_task, subjects, trained
from truth import setting, write

import surefoot

BUDGETS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
REPETITIONS = 5
RESAMPLED = 2000
"""Draws of the bootstrap, tasks with replacement and a repetition of each: a mean's interval of 95 %."""
LIVE_BUDGETS = (2.0,)
SUREFOOT = "surefoot"


def played(table: Table, budgets: Sequence[float], seed: int) -> dict[float, Choice]:
    """The product's own search."""
    return {budget: surefoot_choice(table, budget) for budget in budgets}


def methods(maps: Mapping[str, Map], fitted_on: Mapping[str, Map]) -> dict[str, Method]:
    """Return the methods that are played, by name.

    Args:
        maps: of the half that is played.
        fitted_on: of the development half, by which a recipe for the other half is found.
    """
    found: dict[str, Method] = {SUREFOOT: played, **PEERS, "default": default}
    return found | {"single recipe": single_recipe(fitted_on or maps)}


def run(name: str, method: Method, of: Map, repetition: int, repetitions: int) -> dict[str, Any]:
    """Play a method once at every budget."""
    table, began = Table(of, repetition, repetitions), time.process_time()
    choices = method(table, BUDGETS, repetition)
    return {
        "task": of.name, "method": name, "repetition": repetition,
        "cpu_seconds": round(time.process_time() - began, 3),
        "answers": {f"{budget:g}": [round(table.points(choice.recipe), 3), round(choice.cost, 3),
                                    " ".join(map(str, table.cell(choice.recipe)))]
                    for budget, choice in choices.items()},
    }  # fmt: skip


def rate_free_runs(of: Map, seen: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Yield the runs of what was trained live: rules without a rate at one training, and range tests at their steps."""
    start = {"task": of.name, "cpu_seconds": 0.0}
    for rule, scores in seen["rules"].items():
        for i, points in enumerate(scores.values()):
            answers = {f"{budget:g}": [points, 1.0, ""] for budget in BUDGETS if budget >= 1}
            yield start | {"method": rule, "repetition": i, "answers": answers}
    for i, seed in enumerate(RANGE_SEEDS):
        table = Table(of, i, len(RANGE_SEEDS))
        for rule, lr in seen["ranges"].get(str(seed), {}).items():
            recipe = table.default if lr is None else dataclasses.replace(table.default, lr=lr)
            answer = [round(table.points(recipe), 3), round(seen["range_cost"], 3), ""]
            answers = {f"{budget:g}": answer for budget in BUDGETS if budget >= min(1.0, seen["range_cost"])}
            yield start | {"method": f"range test, {rule}", "repetition": i, "answers": answers}


def live(of: Map, subject: Subject, repetition: int, budget: float) -> dict[str, Any]:
    """Let the product search by training, steps 0 to 3 too, and train what it chose with the fresh seeds."""
    began = time.process_time()
    data = dataclasses.replace(subject.data(), test=None)
    found = surefoot.tune(
        data, subject.model, budget=f"{budget:g}x", seed=repetition, final=False, precision="fp32", threads=1,
        fixed={"epochs": subject.epochs}, rule=subject.rule,
    )  # fmt: skip
    recipe = found.recipe or subject.default
    scores = trained(first_task(subject), [(recipe, seed) for seed in FRESH], test=True)
    points = statistics.fmean(score.test for score in scores if score.test is not None)
    said = " ".join(map(str, Table(of, 0, 1).cell(recipe)))
    return {
        "task": of.name, "method": f"{SUREFOOT}, live", "repetition": repetition,
        "cpu_seconds": round(time.process_time() - began, 3),
        "answers": {f"{budget:g}": [round(points, 3), round(found.cost["trainings"], 3), said]},
    }  # fmt: skip


def summary(runs: Iterable[Mapping[str, Any]], maps: Mapping[str, Map]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the figures of every half, method and budget: regrets in points, costs in trainings.

    `worst_regret` is of the worst task, the mean over its repetitions; `rank` the mean over tasks, from 1, among the
    methods that answer at that budget, ties shared.
    """
    regrets: dict[tuple[str, str], dict[str, dict[str, list[tuple[float, float]]]]] = {}
    for each in runs:
        if each["task"] not in maps:
            continue
        of = maps[each["task"]]
        for budget, (points, cost, *_) in each["answers"].items():
            by_method = regrets.setdefault((of.about["half"], budget), {})
            by_method.setdefault(each["method"], {}).setdefault(each["task"], []).append((of.best[1] - points, cost))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (half, budget), by_method in regrets.items():
        ranks = _ranks(by_method)
        for method, by_task in by_method.items():
            figures = _figures(by_task) | {"rank": ranks.get(method)}
            found.setdefault(half, {}).setdefault(method, {})[budget] = figures
    return found


def _figures(by_task: Mapping[str, list[tuple[float, float]]]) -> dict[str, Any]:
    means = {task: statistics.fmean(regret for regret, _ in rows) for task, rows in by_task.items()}
    draws = np.random.default_rng(0)
    rows = list(by_task.values())
    resampled = [
        np.mean([rows[i][draws.integers(len(rows[i]))][0] for i in draws.integers(len(rows), size=len(rows))])
        for _ in range(RESAMPLED)
    ]  # fmt: skip
    return {
        "mean_regret": statistics.fmean(means.values()),
        "interval": [float(np.quantile(resampled, 0.025)), float(np.quantile(resampled, 0.975))],
        "worst_regret": max(means.values()), "worst_task": max(means, key=lambda task: means[task]),
        "worst_run": max(regret for every in rows for regret, _ in every),
        "cost": statistics.fmean(cost for every in rows for _, cost in every), "tasks": len(means),
        "runs": sum(map(len, rows)), "regret_by_task": means,
    }  # fmt: skip


def _ranks(by_method: Mapping[str, Mapping[str, list[tuple[float, float]]]]) -> dict[str, float]:
    """Return the mean rank of the methods that were played on all of the tasks."""
    tasks = set().union(*(by_task for by_task in by_method.values()))
    whole = [method for method, by_task in by_method.items() if tasks <= by_task.keys()]
    ranks: dict[str, list[float]] = {method: [] for method in whole}
    for task in tasks:
        of = {method: statistics.fmean(regret for regret, _ in by_method[method][task]) for method in whole}
        for method in whole:
            less = sum(value < of[method] - 1e-9 for value in of.values())
            same = sum(abs(value - of[method]) <= 1e-9 for value in of.values())
            ranks[method].append(less + (same + 1) / 2)
    return {method: statistics.fmean(values) for method, values in ranks.items() if values}


def behind(figures: Mapping[str, Mapping[str, Any]], least: float = 0.3) -> list[str]:
    """Return where the product is behind another method by more than so many points, the worst first."""
    found = []
    for method, by_budget in figures.items():
        for budget, theirs in by_budget.items():
            ours = figures.get(SUREFOOT, {}).get(budget)
            if ours is None or method.startswith(SUREFOOT):
                continue
            for task, regret in theirs["regret_by_task"].items():
                lost = ours["regret_by_task"].get(task, -np.inf) - regret
                if lost > least:
                    found.append((lost, f"{lost:6.2f} behind {method} at {budget}x: {task}"))
    return [text for _, text in sorted(found, reverse=True)]


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the mean regret, the worst task's and the rank of every method at every budget as text."""
    names = [f"{budget:g}" for budget in BUDGETS]
    most = max(of["tasks"] for by_budget in figures.values() for of in by_budget.values())
    lines = [f"{f'{most} tasks: mean, worst, rank':<30} " + " ".join(f"{name + 'x':>18}" for name in names)]
    last = {method: list(of.values())[-1] for method, of in figures.items()}
    for method in sorted(figures, key=lambda each: last[each]["mean_regret"]):
        cells = [figures[method].get(name) for name in names]
        lines.append(f"{method:<30} " + " ".join(
            f"{'-':>18}" if each is None else
            f"{each['mean_regret']:6.2f} {each['worst_regret']:6.2f} {each['rank'] or float('nan'):4.1f}"
            for each in cells
        ))  # fmt: skip
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Play what is not in the output yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--maps", type=Path, required=True, help="folder or file of truth.py")
    parser.add_argument("--rate-free", type=Path, help="what rate_free.py has written")
    parser.add_argument("--half", choices=("development", "test"), default="development")
    parser.add_argument("--tasks", nargs="*", help="only those whose name holds one of these words")
    parser.add_argument("--methods", nargs="*", help="of those that are played; all, if left out")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--anew", nargs="*", default=(), metavar="METHOD", help="forget its runs of this half")
    parser.add_argument("--live", action="store_true", help="search by training in place of playing")
    parser.add_argument("--live-budgets", nargs="*", type=float, default=LIVE_BUDGETS)
    parser.add_argument("--cifar10", default=os.environ.get("SUREFOOT_CIFAR10"), help="for --live")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {"runs": {}}
    runs: dict[str, dict[str, Any]] = result["runs"]
    whole = read_maps(options.maps)
    maps = {name: of for name, of in whole.items() if of.about["half"] == options.half}
    fitted_on = {name: of for name, of in whole.items() if of.about["half"] == "development"}
    chosen = [of for name, of in maps.items() if not options.tasks or any(word in name for word in options.tasks)]
    for key in [key for key, each in runs.items() if each["method"] in options.anew and each["task"] in maps]:
        del runs[key]

    def keep(each: dict[str, Any], budget: str = "") -> None:
        runs[" | ".join([each["task"], each["method"], *([budget] if budget else []), str(each["repetition"])])] = each

    if options.live:
        known = subjects(options.cifar10)
        for of in chosen:
            for budget in options.live_budgets:
                for i in range(options.repetitions):
                    if f"{of.name} | {SUREFOOT}, live | {budget:g} | {i}" not in runs:
                        keep(live(of, known[of.name], i, budget), f"{budget:g}")
                        write(options.out, result)
    else:
        for name, method in methods(maps, fitted_on).items():
            if options.methods and name not in options.methods:
                continue
            for of in chosen:
                for i in range(options.repetitions):
                    if f"{of.name} | {name} | {i}" not in runs:
                        keep(run(name, method, of, i, options.repetitions))
            write(options.out, result)
    if options.rate_free:
        seen = json.loads(options.rate_free.read_text())["tasks"]
        for of in chosen:
            for each in rate_free_runs(of, seen[of.name]) if of.name in seen else ():
                keep(each)
    figures = summary(runs.values(), whole)
    result |= {"what": __doc__.splitlines()[0] if __doc__ else "", **setting(), "summary": figures}
    for package in ("optuna", "smac"):
        try:
            result["versions"][package] = version(package)
        except PackageNotFoundError:
            continue
    result["maps"] = {name: of.said() for name, of in whole.items() if of.about["half"] in figures}
    ours = figures.get("test", {}).get(SUREFOOT, {}).get("2")
    if ours is not None:
        result["surefoot"] = {name: ours[name] for name in ("mean_regret", "worst_regret", "cost")}
    write(options.out, result)
    for half, of_half in figures.items():
        print(f"{half}\n{table(of_half)}")
        print("\n".join(behind(of_half)[:20]), end="\n\n")
        draw(of_half, options.out.with_name(f"{options.out.stem}_{half}"), BUDGETS)


if __name__ == "__main__":
    main()
