"""K members as one against K runs in turn, and against two plain processes of one thread each.

    python benchmarks/population.py --cifar10 FOLDER --out benchmarks/results/population.json

Everything runs in turn in one process and its forks, the arms of a cell interleaved over rounds; medians and ratios are
what counts. Arms, in steps of single members per second:

    loop            `advance` for one member after the other, with all threads
    two processes   the same, half of the members in each of two processes of one thread: the fair opponent
    engine          the way that the rule names for the long run of this cell, once it is warm
    short run       one whole call of a new engine, its checks and warming up counted, for the loop's member-steps
    long run        the same for ten times as many
    compiled        linear layers only: the compiled step, with the seconds that compiling took beside it

A ratio of at least 0.95 to the loop is a law of the engine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

import surefoot
from surefoot.config import Recipe
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import FIGURES, LOOP, Way, strategy
from surefoot.training.population.workload import work_of
from surefoot.training.task import Task

LONGEST_SECONDS = 120.0
"""A long run that would take the loop longer is left out."""
CELLS = {  # model and data: batch size, member-steps of one measurement of the loop
    "mlp on digits, batch 32": ("digits", "mlp", 32, 3200),
    "mlp on digits, batch 128": ("digits", "mlp", 128, 2400),
    "cnn on digits, batch 128": ("digits", "cnn", 128, 256),
    "cnn on cifar10, batch 128": ("cifar10", "cnn", 128, 16),
}


def members_of(task: Task, count: int, batch: int, steps: int) -> list[Member]:
    """Return members that differ in their rate, as those of a search do, whose runs end with the call."""
    recipes = [Recipe(lr=0.001 * 1.1**k, batch_size=batch, steps=steps, weight_decay=1e-4) for k in range(count)]
    return [Member(task, surefoot.plan(recipe, task.data.examples)) for recipe in recipes]


def rate(members: list[Member], steps: int, engine: Engine) -> float:
    """Return member-steps per second of one call from the start, and nothing but the call."""
    states = start_many(members)
    began = time.perf_counter()
    advance_many(members, states, steps, engine)
    return len(members) * steps / (time.perf_counter() - began)


def measure(task: Task, count: int, batch: int, member_steps: int, rounds: int) -> dict[str, Any]:
    steps = max(2, member_steps // count)
    members = members_of(task, count, batch, steps)
    short, long = Engine(), Engine()
    result: dict[str, Any] = {"members": count, "steps": steps, "short run": rate(members, steps, short)}
    ten = members_of(task, count, batch, 10 * steps)
    if len(members) * steps / result["short run"] < LONGEST_SECONDS / 10:
        result["long run"] = rate(ten, 10 * steps, long)
        result["long run went"] = long.computed[0]
    result["short run went"] = short.computed[0]
    chosen = strategy(work_of(ten[0], count), FIGURES[task.machine.device.type])
    arms: dict[str, Callable[[], float]] = {
        "loop": lambda: rate(members, steps, Engine(LOOP)),
        "two processes": lambda: rate(members, steps, Engine(Way("loop", processes=2))),
    }
    warm = Engine(chosen)
    if chosen not in (LOOP, Way("loop", processes=2)):
        arms["engine"] = lambda: rate(members, steps, warm)
    if "mlp" in str(type(task.template)).lower():
        compiled = Engine(Way("compiled", -(-count // 2), 2))
        began = time.perf_counter()
        rate(members, 2, compiled)
        result["compile seconds"] = time.perf_counter() - began
        arms["compiled"] = lambda: rate(ten, 10 * steps, compiled)
    seen: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            seen[name].append(arm())
    result |= {name: statistics.median(values) for name, values in seen.items()}
    result.setdefault("engine", result["loop" if chosen == LOOP else "two processes"])
    result["raw"] = seen
    for arm in ("engine", "short run", "long run", "compiled"):
        if arm in result:
            result[f"{arm} / loop"] = result[arm] / result["loop"]
            result[f"{arm} / two processes"] = result[arm] / result["two processes"]
    return result


def busy_share(began: float, used: float) -> float:
    """Return the share of the cores' time since `began` that this process and its forks used."""
    return (cpu_seconds() - used) / ((time.perf_counter() - began) * (os.cpu_count() or 1))


def cpu_seconds() -> float:
    own, forks = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + forks.ru_utime + forks.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", help="folder that holds CIFAR-10; without it the cells of CIFAR-10 are left out")
    parser.add_argument("--members", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--cells", nargs="+", help="words that a cell's name must hold", default=[""])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    report: dict[str, Any] = {
        "date": date.today().isoformat(), "torch": torch.__version__, "python": platform.python_version(),
        "surefoot": surefoot.__version__, "cpus": os.cpu_count(), "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(), "machine": platform.machine(), "rounds": given.rounds,
        "unit": "steps of single members per second", "cells": {},
    }  # fmt: skip
    if given.out.is_file():  # go on with what an earlier call has measured
        report["cells"] = json.loads(given.out.read_text())["cells"]
    for name, (source, model, batch, member_steps) in CELLS.items():
        if (source == "cifar10" and not given.cifar10) or not any(word in name for word in given.cells):
            continue
        data = surefoot.load(source, data_dir=given.cifar10 if source == "cifar10" else None)
        task = surefoot.task(dataclasses.replace(data, validation=None, test=None), model)  # rows cost nothing
        for count in given.members:
            began, used = time.perf_counter(), cpu_seconds()
            result = measure(task, count, batch, member_steps, given.rounds)
            result["cpu share"] = busy_share(began, used)
            report["cells"][f"{name}, K = {count}"] = result
            given.out.write_text(json.dumps(report, indent=1) + "\n")
            shown = {k: round(v, 2) if isinstance(v, float) else v for k, v in result.items() if k != "raw"}
            print(f"{name}, K = {count}: {shown}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
