"""The whole map of small tasks: every cell of batch size x rate x total decay x momentum trained, at four lengths.

    python benchmarks/truth.py --cifar10 FOLDER --half development --out benchmarks/results/maps
    python benchmarks/truth.py --cifar10 FOLDER --half development --out FOLDER --estimate    # what that takes
    python benchmarks/truth.py --out FOLDER --show                                            # print what is there
    python benchmarks/truth.py --out FOLDER --join benchmarks/results/truth_MACHINE_DATE.json # one file of all

What a tuner's answer is judged by (`regret.py`), and what searches are played on. All cells are trained with one seed
(--seeds), shorter runs with a schedule of their own, and only runs of the final length see the test part. A batch size
begins with a window of two decades of rates, which is widened until the best rate, by validation and by test, lies
half a decade inside. Then the hopeful cells get more seeds, some that a search may ask for and fresh ones that score
what was chosen; the best by these gets five more, since the best of many looks better than it is. Last, other axes at
the best cell: schedule, warmup, label smoothing and, for images, augmentation.

A file for each task. The script can be stopped and called again, and several processes share the tasks: one that
another process works on is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from maps import AGAIN, FRESH, HOPEFUL, LENGTHS, REPEATS, SEED, Map, described, key, read_maps, shown
from tasks import DECAYS, NEAR_CELLS, Cell, Score, Subject, first_task, guessing, initial_loss, subjects, trained

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.training.population.engine import Engine
from surefoot.training.task import Task

INSIDE = 2
"""Rates beyond the best one on either side, half a decade, until which a window is widened."""
WIDER = 2
"""Rates by which it is widened at a time."""
MOST_RATES = 21
"""Of a batch size: five decades."""
STAGES = ("map", "fresh", "variants")
AUGMENTATIONS = {"flip": ("flip",), "flip and crop": ("flip", "crop:1")}
HALF_LENGTHS = (0.5, 1.0)
"""Of the runs along other axes."""


class OutOfTimeError(Exception):
    """The time that a call may take is over: what is there is saved."""


class Work:
    """The training of one task's map.

    Attributes:
        subject: the task.
        kept: its part of the output, which grows.
        save: writes it.
        until: process time at which no other piece of work is begun.
        seeds: of every cell.
    """

    def __init__(
        self, subject: Subject, kept: dict[str, Any], save: Callable[[], None], until: float, seeds: int = 1
    ) -> None:  # fmt: skip
        self.subject, self.kept, self.save, self.until, self.seeds = subject, kept, save, until, seeds
        self.first, self.engine = first_task(subject), Engine()
        if "initial_loss" not in kept:
            kept |= {"guessing": guessing(subject.data()), "initial_loss": initial_loss(self.first)}
            save()

    def trained(self, runs: Sequence[tuple[Recipe, int]], stage: str, *, test: bool, first: Task | None = None) -> Any:
        """Train runs of one length and batch size and return their rows."""
        if time.process_time() > self.until:
            raise OutOfTimeError
        began = time.process_time()
        scores = trained(first or self.first, runs, test=test, engine=self.engine)
        spent = self.kept["cpu_seconds"]
        spent[stage] = round(spent.get(stage, 0.0) + time.process_time() - began, 2)
        return [row(score) for score in scores]

    def map(self) -> None:
        """Train every cell at every length, and widen the windows; then the same cells with other seeds."""
        for size in self.subject.batch_sizes:
            steps = list(self.subject.window(size))
            while steps:
                for share in reversed(LENGTHS):
                    self._fill(SEED, size, share, steps)
                steps = wider(Map(self.kept), size)
        for seed, size, share in product(REPEATS[: self.seeds - 1], self.subject.batch_sizes, LENGTHS):
            self._fill(seed, size, share, Map(self.kept).rates(size))

    def _fill(self, seed: int, size: int, share: float, steps: Sequence[int]) -> None:
        runs = self.kept["runs"].setdefault(str(seed), {})
        rows = runs.setdefault(str(size), {}).setdefault(f"{share:g}", {})
        missing = [step for step in steps if str(step) not in rows]
        if not missing:
            return
        others = list(product(self.subject.memories, DECAYS))
        cells = [Cell(size, step, decay, memory) for step in missing for memory, decay in others]
        wanted = [(self.subject.recipe(cell, share), seed) for cell in cells]
        found = self.trained(wanted, "map", test=share == 1.0 and seed == SEED)
        for i, step in enumerate(missing):
            rows[str(step)] = found[i * len(others) : (i + 1) * len(others)]
        self.save()

    def fresh(self) -> None:
        """Train the hopeful cells and the default recipe with more seeds, and the best of them once more."""
        cells = hopeful(Map(self.kept))
        for size in self.subject.batch_sizes:
            some = [cell for cell in cells if cell.batch_size == size]
            seeds = {seed: self.kept["repeats"].setdefault(str(seed), {}) for seed in REPEATS}
            runs = [(cell, seed) for cell, seed in product(some, REPEATS) if key(cell) not in seeds[seed]]
            runs += [(cell, seed) for cell, seed in product(some, FRESH)
                     if str(seed) not in self.kept["fresh"].get(key(cell), {})]  # fmt: skip
            self._score(runs, seeds)
        default, seen = self.subject.default, self.kept["default"]
        missing = [seed for seed in (SEED, *REPEATS, *FRESH) if str(seed) not in seen]
        if missing:
            found = self.trained([(default, seed) for seed in missing], "fresh", test=True)
            seen |= {str(seed): each or [None, None, None, self.kept["guessing"]]
                     for seed, each in zip(missing, found, strict=True)}  # fmt: skip
            self.save()
        best, _ = Map(self.kept).best
        if key(best) not in self.kept["again"]:
            found = self.trained([(self.subject.recipe(best), seed) for seed in AGAIN], "fresh", test=True)
            scores = dict(zip(map(str, AGAIN), map(self._points, found), strict=True))
            self.kept["again"] = {key(best): scores}
            self.save()

    def _score(self, runs: Sequence[tuple[Cell, int]], repeats: Mapping[int, dict[str, Any]]) -> None:
        if not runs:
            return
        found = self.trained([(self.subject.recipe(cell), seed) for cell, seed in runs], "fresh", test=True)
        for (cell, seed), each in zip(runs, found, strict=True):
            if seed in repeats:
                repeats[seed][key(cell)] = each
            else:
                self.kept["fresh"].setdefault(key(cell), {})[str(seed)] = self._points(each)
        self.save()

    def _points(self, found: Sequence[float] | None) -> float:
        return self.kept["guessing"] if found is None else found[3]

    def variants(self) -> None:
        """Train the best cell along other axes, each beside the plain recipe on the same seeds."""
        best, _ = Map(self.kept).best
        seen = self.kept["variants"].setdefault(key(best), {})
        for share in HALF_LENGTHS:
            missing = {name: each for name, each in varied(self.subject.recipe(best, share), self.subject).items()
                       if f"{share:g}" not in seen.get(name, {})}  # fmt: skip
            for augment in dict.fromkeys(augment for _, augment in missing.values()):
                names = [name for name, each in missing.items() if each[1] == augment]
                runs = [(missing[name][0], seed) for name in names for seed in (SEED, *REPEATS)]
                found = self.trained(runs, "variants", test=True, first=self._augmented(augment))
                for i, name in enumerate(names):
                    seen.setdefault(name, {})[f"{share:g}"] = found[3 * i : 3 * i + 3]
                self.save()

    def _augmented(self, augment: tuple[str, ...]) -> Task | None:
        if not augment:
            return None
        where = {"precision": "fp32", "threads": 1}
        return surefoot.task(self.subject.data(), self.subject.model, augment=list(augment), **where)


def varied(plain: Recipe, subject: Subject) -> dict[str, tuple[Recipe, tuple[str, ...]]]:
    """Return recipes that differ from one along one axis, and the augmentation of each, by name."""
    batches = subject.data().examples // int(plain.batch_size)
    epochs = (plain.steps or 0) / batches
    schedules = {
        "constant": Schedule(kind="constant"), "linear": Schedule(kind="linear"),
        "wsd": Schedule(kind="wsd", decay_epochs=epochs / 5),
        "step": Schedule(kind="step", milestones_epochs=(epochs / 2, epochs * 3 / 4)),
        "warmup": Schedule(warmup_epochs=epochs / 10),
    }  # fmt: skip
    found: dict[str, tuple[Recipe, tuple[str, ...]]] = {"plain": (plain, ())}
    found |= {name: (dataclasses.replace(plain, schedule=each), ()) for name, each in schedules.items()}
    if subject.data().classes is not None:
        found["smoothing"] = (dataclasses.replace(plain, label_smoothing=0.1), ())
    if "image" in subject.kinds:
        found |= {name: (plain, augment) for name, augment in AUGMENTATIONS.items()}
    return found


def wider(of: Map, size: int) -> list[int]:
    """Return the rates by which a batch size's window is to be widened; none where its best rates lie inside."""
    rates = of.rates(size)
    cells = [cell for cell in of.cells() if cell.batch_size == size]
    scores = {cell: of.score(cell) for cell in cells}
    best = min(cells, key=lambda cell: of.error(scores[cell])), max(cells, key=lambda cell: scores[cell].test or 0.0)
    low, high = min(cell.step for cell in best), max(cell.step for cell in best)
    room = max(0, MOST_RATES - len(rates))
    more = [rates[0] - 1 - i for i in range(WIDER)] if low - rates[0] < INSIDE else []
    more += [rates[-1] + 1 + i for i in range(WIDER)] if rates[-1] - high < INSIDE else []
    return sorted(more) if len(more) <= room else []


def hopeful(of: Map) -> list[Cell]:
    """Return the cells that are best by validation or by test."""
    scores = {cell: of.score(cell) for cell in of.cells()}
    by_validation = sorted(scores, key=lambda cell: of.error(scores[cell]))[:HOPEFUL]
    by_test = sorted(scores, key=lambda cell: -(scores[cell].test or 0.0))[:HOPEFUL]
    return list(dict.fromkeys([*by_validation, *by_test]))


def row(score: Score) -> list[float | None] | None:
    """Return a score as a row of the output, numbers to five digits; None of a run that diverged."""
    if score.val_loss is None:
        return None
    values = (score.val_loss, score.val_accuracy, score.train_loss, score.test)
    return [None if value is None else float(f"{value:.5g}") for value in values]


def estimate(subject: Subject) -> float:
    """Return the CPU seconds that a task's map takes, from 18 of its cells at a quarter of the length."""
    first, size = first_task(subject), subject.batch_sizes[len(subject.batch_sizes) // 2]
    middle, others = list(subject.window(size))[NEAR_CELLS], list(product(subject.memories, DECAYS))
    cells = [Cell(size, middle + i, decay, memory) for i in (-2, 0, 2) for memory, decay in others]
    trained(first, [(subject.recipe(cells[0], 0.25), SEED)])  # what is done once
    began = time.process_time()
    trained(first, [(subject.recipe(cell, 0.25), SEED) for cell in cells], test=True)
    each = (time.process_time() - began) / len(cells) / 0.25
    trainings = 12 * len(others) * len(subject.batch_sizes) * sum(LENGTHS)  # 12 rates: windows are widened by three
    trainings += 1.5 * HOPEFUL * (len(REPEATS) + len(FRESH)) + 40
    return each * trainings


def setting() -> dict[str, Any]:
    """Return date, versions and machine, as every result of the benchmarks has them."""
    return {
        "date": date.today().isoformat(),
        "versions": {"surefoot": surefoot.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"cpus": os.cpu_count(), "capability": torch.backends.cpu.get_cpu_capability(), "threads": 1},
    }


def write(out: Path, result: Mapping[str, Any]) -> None:
    """Write a result, each list of plain values on a line, so that a kill leaves the old file or the new one, whole."""
    text = json.dumps(result, indent=1)
    joined = re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda found: "[" + re.sub(r"\s*\n\s*", " ", found[1]) + "]", text)
    partial = out.with_name(f"{out.name}.tmp")
    partial.write_text((joined if json.loads(joined) == json.loads(text) else text) + "\n")  # text may hold brackets
    partial.replace(out)


def file_of(folder: Path, name: str) -> Path:
    """Return the file of a task."""
    return folder / f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}.json"


def train(subject: Subject, folder: Path, stages: Sequence[str], until: float, seeds: int = 1) -> None:
    """Train what a task's map lacks; nothing where another process works on it."""
    path = file_of(folder, subject.name)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            kept = json.loads(path.read_text()) if path.is_file() else described(subject) | setting()
            if kept["fingerprint"] != subject.data().fingerprint:
                raise SystemExit(f"{path}: the data of {subject.name} has changed since it was begun: move it away")
            work = Work(subject, kept, lambda: write(path, kept), until, seeds)
            for stage in STAGES:
                if stage in stages:
                    getattr(work, stage)()
            print(f"{subject.name}: {kept['cpu_seconds']} CPU seconds", flush=True)
    except Timeout:
        print(f"{subject.name}: another process works on it", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cifar10", default=os.environ.get("SUREFOOT_CIFAR10"), help="folder or archive of CIFAR-10")
    parser.add_argument("--half", choices=("development", "test"), help="both, if left out")
    parser.add_argument("--tasks", nargs="*", help="only those whose name holds one of these words")
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=STAGES)
    parser.add_argument("--seeds", type=int, choices=(1, 2, 3), default=1, help="of every cell of the map")
    parser.add_argument("--limit-seconds", type=float, default=float("inf"), help="CPU seconds of this call")
    parser.add_argument("--estimate", action="store_true", help="say what the maps take, and train none")
    parser.add_argument("--show", action="store_true", help="print the maps that are whole, and train none")
    parser.add_argument("--join", type=Path, help="write all maps that are whole into one file, and train none")
    parser.add_argument("--out", type=Path, required=True, help="folder, with a file for each task")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.show or options.join:
        maps = read_maps(options.out, options.half)
        if options.join:
            said = {"what": __doc__.splitlines()[0] if __doc__ else "", **setting()}
            write(options.join, said | {"tasks": {name: of.about for name, of in maps.items()}})
        for of in maps.values() if options.show else ():
            print(shown(of), end="\n\n")
        return
    chosen = [
        subject for name, subject in subjects(options.cifar10, options.half).items()
        if not options.tasks or any(word in name for word in options.tasks)
    ]  # fmt: skip
    if options.estimate:
        seconds = {subject.name: estimate(subject) for subject in chosen}
        for name, each in seconds.items():
            print(f"{each:7.0f} CPU seconds  {name}", flush=True)
        print(f"{sum(seconds.values()):7.0f} CPU seconds in all")
        return
    until = time.process_time() + options.limit_seconds
    try:
        for subject in chosen:
            train(subject, options.out, options.stages, until, options.seeds)
    except OutOfTimeError:
        print(f"{options.limit_seconds:g} CPU seconds are over: call it again to go on")


if __name__ == "__main__":
    main()
