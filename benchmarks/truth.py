"""The whole map of small tasks: every cell of rate x weight decay x memory trained to its end, over three seeds.

    python benchmarks/truth.py --cifar10 FOLDER --out benchmarks/results/truth_MACHINE_DATE.json
    python benchmarks/truth.py --rule adamw --out benchmarks/results/truth_adamw_MACHINE_DATE.json

What a tuner's answer is judged by (`regret.py`). A cell's value is the mean test accuracy of its seeds. The best of
many noisy cells looks better than it is, so the best cell is trained again with fresh seeds: the difference is the
optimism, which every regret against the best cell contains.

The script can be stopped and called again: it goes on from the last rate that is in the output. All tasks get their
first seed before any gets its second, and cells that were hopeless under the first seed are repeated last: until then
such a cell's value is that of one seed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tasks import Subject, first_task, subjects, trained

import surefoot
from surefoot.rules import update_rule
from surefoot.training.population.engine import Engine


@dataclass(frozen=True)
class Axes:
    """The cells of a rule's map.

    Attributes:
        lrs, weight_decays: values of each.
        memories: of momentum, or of what the rule has in its place.
    """

    lrs: list[float]
    weight_decays: tuple[float, ...]
    memories: tuple[float, ...]

    @property
    def cells(self) -> tuple[tuple[float, float], ...]:
        """(memory, weight decay) of what is trained at each rate, in the order of the output."""
        return tuple(product(self.memories, self.weight_decays))


AXES = {
    "sgd": Axes(np.geomspace(1e-3, 10, 13).tolist(), (1e-4, 1e-3, 1e-2, 1e-1), (0.5, 0.9)),
    "adamw": Axes(np.geomspace(1e-4, 1, 13).tolist(), (1e-2, 1e-1, 1.0, 10.0), (0.95, 0.999)),
}
"""13 x 4 x 2. On digits the edges were seen to be clearly worse than the middle, but for weight decay, of which the
least does nothing in runs as short as these."""
SEEDS = (9000, 9001, 9002)
"""Of the map. No method is given these."""
FRESH_SEEDS = tuple(range(9100, 9106))
"""Of the best cell's second training."""
NEAR = (0.3, 1.0)
"""Points below the best cell that count as its plateau: the targets for mean and worst regret."""

HOPELESS = 3.0
"""Points below the best cell of the first seed. Chosen by hand: 6 to 10 times the deviation between seeds."""


def axes_of(kept: Mapping[str, Any]) -> Axes:
    """Return the axes of a task's part of the output; those of before other rules say none."""
    return AXES[kept.get("rule", "sgd")]


def measure(subject: Subject, kept: dict[str, Any], seed: int, wanted: np.ndarray, save: Callable[[], None]) -> None:
    """Train what is missing of one seed's map, saving after every rate.

    Args:
        subject: the task.
        kept: its part of the output: by seed and rate, [validation accuracy, test accuracy, outcome] of each cell, or
            None.
        seed: of the weights and batches.
        wanted: which cells, bool [memories, weight decays, rates].
        save: called when `kept` has grown.
    """
    first, engine, axes = None, Engine(), AXES[subject.rule]
    of_rate = axes.cells
    for lr, cells in zip(axes.lrs, wanted.reshape(len(of_rate), len(axes.lrs)).T, strict=True):
        row = kept["runs"].get(_key(seed, lr), [None] * len(of_rate))
        missing = [i for i, cell in enumerate(row) if cell is None and cells[i]]
        if not missing:
            continue
        began = time.process_time()
        first = first or first_task(subject)
        recipes = [subject.recipe(lr, weight_decay=of_rate[i][1], memory=of_rate[i][0]) for i in missing]
        scores = dict(zip(missing, trained(first, recipes, seed, engine), strict=True))
        kept["runs"][_key(seed, lr)] = [
            [s.val_accuracy, s.test_accuracy, s.outcome] if (s := scores.get(i)) else cell for i, cell in enumerate(row)
        ]
        kept["cpu_seconds"] = kept.get("cpu_seconds", 0.0) + time.process_time() - began
        save()


def hopeful(kept: Mapping[str, Any]) -> np.ndarray:
    """Return which cells were not hopeless under the first seed, bool [memories, weight decays, rates]."""
    first = accuracies(kept)[0]
    return first >= np.nanmax(first) - HOPELESS


def confirm(subject: Subject, kept: dict[str, Any], save: Callable[[], None]) -> None:
    """Train the best cell again with fresh seeds, unless that was done."""
    if "fresh" in kept:
        return
    best = features(kept)["best"]
    recipe = subject.recipe(best["lr"], best["weight_decay"], best[update_rule(subject.rule).memory])
    first = first_task(subject)
    kept["fresh"] = [trained(first, [recipe], seed)[0].test_accuracy for seed in FRESH_SEEDS]
    save()


def accuracies(kept: Mapping[str, Any], part: str = "test") -> np.ndarray:
    """Return the accuracies of a map, in points, [seeds, memories, weight decays, rates]; nan where one is missing.

    Args:
        kept: a task's part of the output.
        part: "test" or "validation".
    """
    axes, column = axes_of(kept), ("validation", "test").index(part)
    rows = [
        [kept["runs"].get(_key(seed, lr), [None] * len(axes.cells)) for lr in axes.lrs] for seed in SEEDS
    ]  # fmt: skip
    table = [[[np.nan if cell is None else cell[column] for cell in row] for row in of_seed] for of_seed in rows]
    shape = (len(SEEDS), len(axes.lrs), len(axes.memories), len(axes.weight_decays))
    return 100 * np.array(table, dtype=np.float64).reshape(shape).transpose(0, 2, 3, 1)


def means(kept: Mapping[str, Any], part: str = "test") -> np.ndarray:
    """Return the mean over the seeds that a cell has, in points, [memories, weight decays, rates]; nan where none."""
    runs = accuracies(kept, part)
    return np.where(np.isfinite(runs).any(axis=0), np.nansum(runs, axis=0), np.nan) / np.maximum(
        np.isfinite(runs).sum(axis=0), 1
    )


def features(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return what there is to say of a map: its best cell, its plateau, its noise; accuracies in points."""
    runs, mean, axes = accuracies(kept), means(kept), axes_of(kept)
    memory = update_rule(kept.get("rule", "sgd")).memory
    best, at = float(np.nanmax(mean)), np.unravel_index(int(np.nanargmax(mean)), mean.shape)
    repeated = np.isfinite(runs).all(axis=0) & (mean >= best - NEAR[1])
    spread = float(np.sqrt(runs[:, repeated].var(axis=0, ddof=1).mean()))
    # What a search that trained every cell as often would answer, if it saw the validation part alone.
    by_validation = means(kept, "validation")
    tied = mean[by_validation == np.nanmax(by_validation)]
    found: dict[str, Any] = {
        "best": {
            "lr": axes.lrs[at[2]], "weight_decay": axes.weight_decays[at[1]], memory: axes.memories[at[0]]
        },
        "best_accuracy": best, "on_border_of_rates": bool(at[2] in (0, len(axes.lrs) - 1)), "seeds": len(runs),
        "seed_deviation": spread, "standard_error_of_a_cell": spread / len(runs) ** 0.5,
        "cells_of_one_seed": int((np.isfinite(runs).sum(axis=0) == 1).sum()),
        "cells_missing": int(np.isnan(mean).sum()),
        "regret_of_choosing_by_validation": float(best - tied.mean()),
        "cells_within": {f"{points:g}": int((mean >= best - points).sum()) for points in NEAR},
        "rates_within": {f"{points:g}": _rates_within(axes, memory, mean, best - points) for points in NEAR},
    }  # fmt: skip
    if "fresh" in kept:
        fresh = 100 * np.array(kept["fresh"])
        found |= {"best_accuracy_fresh": float(fresh.mean()), "optimism": best - float(fresh.mean())}
    return found


def _rates_within(axes: Axes, name: str, mean: np.ndarray, least: float) -> list[dict[str, Any]]:
    """Return the lowest and highest rate with at least this accuracy, for each memory and weight decay with any."""
    found = []
    for (i, memory), (j, decay) in product(enumerate(axes.memories), enumerate(axes.weight_decays)):
        good = np.flatnonzero(mean[i, j] >= least)
        if len(good):
            ends = {"low": axes.lrs[good[0]], "high": axes.lrs[good[-1]]}
            found.append({name: memory, "weight_decay": decay, **ends, "rates": len(good)})
    return found


def shown(name: str, kept: Mapping[str, Any]) -> str:
    """Return a task's map and features as text, accuracies in points."""
    said, mean, axes = features(kept), means(kept), axes_of(kept)
    best, memory = said["best"], update_rule(kept.get("rule", "sgd")).memory
    lines = [
        f"{name}: {said['best_accuracy']:.2f} at lr {best['lr']:.3g}, weight decay {best['weight_decay']:g}, {memory} "
        f"{best[memory]:g} (fresh seeds: {said.get('best_accuracy_fresh', float('nan')):.2f}); {said['seeds']} "
        f"seeds, deviation {said['seed_deviation']:.2f}; cells within 0.3 and 1 points: "
        f"{said['cells_within']['0.3']}, {said['cells_within']['1']} of {mean.size}; choosing by validation: regret "
        f"{said['regret_of_choosing_by_validation']:.2f}",
        f"{'lr':>22} " + " ".join(f"{lr:6.2g}" for lr in axes.lrs),
    ]
    for (i, value), (j, decay) in product(enumerate(axes.memories), enumerate(axes.weight_decays)):
        cells = " ".join(f"{accuracy:6.2f}" for accuracy in mean[i, j])
        lines.append(f"{memory:>8} {value:3g}, decay {decay:5g} {cells}")
    return "\n".join(lines)


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


def _key(seed: int, lr: float) -> str:
    return f"seed {seed}, lr {lr:.4g}"


def _described(subject: Subject) -> dict[str, Any]:
    data = subject.data()
    parts = {name: len(part) for name, part in data.parts.items()}
    return {
        "rule": subject.rule, "parts": parts, "shape": data.input_shape, "batch_size": subject.batch_size,
        "epochs": subject.epochs, "schedule": "cosine", "fingerprint": data.fingerprint, "runs": {},
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, and print the maps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cifar10", default=os.environ.get("SUREFOOT_CIFAR10"), help="folder or archive of CIFAR-10")
    parser.add_argument("--tasks", nargs="*", help="only those whose name holds one of these words")
    parser.add_argument("--rule", choices=list(AXES), default="sgd")
    parser.add_argument(
        "--rounds", type=int, choices=range(4), default=3,
        help="0: train nothing; 1: the first seed; 2: the others too, without hopeless cells; 3: all",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {"tasks": {}}
    axes, memory = AXES[options.rule], update_rule(options.rule).memory
    result |= setting() | {
        "what": f"test accuracy of complete trainings over learning rate x weight decay x {memory}",
        "rule": options.rule, "lrs": axes.lrs, "weight_decays": axes.weight_decays, "memory": memory,
        "memories": axes.memories, "seeds": SEEDS, "fresh_seeds": FRESH_SEEDS,
        "cells": f"of each seed and rate, [validation accuracy, test accuracy, outcome] of each {memory}, weight decay",
    }  # fmt: skip
    chosen = {
        name: subject for name, subject in subjects(options.cifar10, options.rule).items()
        if not options.tasks or any(word in name for word in options.tasks)
    }  # fmt: skip

    def save() -> None:
        write(options.out, result)

    whole = np.full((len(axes.memories), len(axes.weight_decays), len(axes.lrs)), True)
    for number, (name, subject) in product(range(1, options.rounds + 1), chosen.items()):
        kept = result["tasks"].setdefault(name, {}) or _begun(result, name, subject)
        for seed in SEEDS[:1] if number == 1 else SEEDS:
            measure(subject, kept, seed, hopeful(kept) if number == 2 else whole, save)
        if number > 1:
            confirm(subject, kept, save)
        print(f"round {number}, {name}: {kept['cpu_seconds']:.0f} CPU seconds so far", flush=True)
    for name, kept in result["tasks"].items():
        if name in chosen and "fresh" in kept:
            kept["features"] = features(kept)
            kept["map"] = [
                [[None if np.isnan(v) else round(float(v), 3) for v in row] for row in rows] for rows in means(kept)
            ]
            print(f"\n{shown(name, kept)}")
    save()


def _begun(result: dict[str, Any], name: str, subject: Subject) -> dict[str, Any]:
    result["tasks"][name] = _described(subject)
    return result["tasks"][name]


if __name__ == "__main__":
    main()
