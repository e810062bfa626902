"""What `truth.py` has measured, read: the runs of a task's map by cell, and what there is to say of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tasks import DECAYS, PER_DECADE, Cell, Score, Subject

from surefoot.config import Recipe
from surefoot.rules import update_rule

LENGTHS = (0.125, 0.25, 0.5, 1.0)
"""Of the runs of a map, as shares of the final one; each is complete, with its own schedule."""
SEED = 9000
"""Of the map: weights and batches of every cell. No method is given it as its own."""
REPEATS = (9001, 9002)
"""Of the hopeful cells' runs of the final length, which a search may ask for as other seeds; and, where `truth.py` was
asked for more seeds, of every cell."""
FRESH = tuple(range(9100, 9105))
"""By which the hopeful cells and the default recipe are scored; no search sees them."""
AGAIN = tuple(range(9200, 9205))
"""Of the best cell once more: the best of many by `FRESH` looks better than it is."""
HOPEFUL = 12
"""Cells with the best validation errors, and as many with the best test scores, that get more seeds."""


@dataclass(frozen=True)
class Map:
    """A task's part of the truth.

    Attributes:
        about: the values as `truth.py` has written them.
    """

    about: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.about["name"]

    @property
    def rule(self) -> str:
        return self.about["rule"]

    @property
    def memories(self) -> tuple[float, ...]:
        return tuple(self.about["memories"])

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        return tuple(self.about["batch_sizes"])

    @property
    def validation_examples(self) -> int:
        return self.about["parts"]["validation"]

    @property
    def examples(self) -> int:
        return self.about["parts"]["train"]

    def updates(self, batch_size: int) -> int:
        """Return the updates of a complete training."""
        return self.about["epochs"] * (self.examples // batch_size)

    def rates(self, batch_size: int) -> list[int]:
        """Return the rates of a batch size, in quarter decades, rising."""
        return sorted(map(int, self.about["runs"].get(str(SEED), {}).get(str(batch_size), {}).get("1", {})))

    def cells(self) -> Iterator[Cell]:
        """Yield all cells of the final length."""
        for batch_size in self.batch_sizes:
            for step, (memory, decay) in product(self.rates(batch_size), product(self.memories, DECAYS)):
                yield Cell(batch_size, step, decay, memory)

    def score(self, cell: Cell, share: float = 1.0, seed: int = SEED) -> Score:
        """Return what came of a run; of a seed that the cell lacks, that of the map's seed.

        Raises:
            KeyError: the cell is not there.
        """
        repeated = self.about["repeats"].get(str(seed), {})
        if share == 1.0 and key(cell) in repeated:
            return _score(repeated[key(cell)], self.about["guessing"])
        for runs in (self.about["runs"].get(str(seed), {}), self.about["runs"][str(SEED)]):
            rows = runs.get(str(cell.batch_size), {}).get(f"{share:g}", {}).get(str(cell.step))
            if rows is not None:
                at = self.memories.index(cell.memory) * len(DECAYS) + DECAYS.index(cell.decay)
                return _score(rows[at], self.about["guessing"])
        raise KeyError(f"{self.name}: no run of {key(cell)} at {share:g} of the length")

    def error(self, score: Score) -> float:
        """Return what a search compares: the mean of log loss and log error rate, of a regression the log of the loss.

        As `surefoot.search.response.errors`; infinite where the run diverged.
        """
        if score.val_loss is None:
            return math.inf
        loss = math.log(max(score.val_loss, 1e-9))
        if score.val_accuracy is None:
            return loss
        wrong = (1 - score.val_accuracy) * self.validation_examples
        return (loss + math.log((wrong + 0.5) / (self.validation_examples + 1))) / 2

    def nearest(self, recipe: Recipe) -> Cell:
        """Return the cell that is nearest to a recipe: in rate and total decay by their logarithm, in batch size too,
        in momentum by that of 1 - momentum. Beyond the map it is the cell at its end.
        """
        rule, values, asked = update_rule(self.rule), recipe.rule_values, recipe.batch_size
        assert isinstance(asked, int)
        batch_size = min(self.batch_sizes, key=lambda size: abs(math.log(size / asked)))
        memory = min(self.memories, key=lambda each: abs(math.log((1 - each) / (1 - recipe.memory))))
        step = PER_DECADE * math.log10(recipe.lr / rule.per_rate(values))
        # Where the batch is another, the rate moves with it, so that the noise of the weights stays what it was.
        step += PER_DECADE * rule.batch_exponent * math.log10(batch_size / asked)
        decay = recipe.lr / rule.per_shrink(values) * recipe.decay * self.updates(batch_size)
        return Cell(batch_size, self._inside(batch_size, step), nearest_decay(decay), memory)

    def _inside(self, batch_size: int, step: float) -> int:
        rates = self.rates(batch_size)
        return min(max(round(step), rates[0]), rates[-1])

    @cached_property
    def fresh(self) -> dict[Cell, float]:
        """Mean score of the fresh seeds of each cell that has them, in points."""
        return {
            cell_of(name): float(np.mean(list(seen.values()))) for name, seen in self.about["fresh"].items() if seen
        }

    @cached_property
    def best(self) -> tuple[Cell, float]:
        """The best cell by its fresh seeds, and its score by other fresh seeds where it has them, in points."""
        cell = max(self.fresh, key=lambda each: self.fresh[each])
        again = self.about.get("again", {}).get(key(cell))
        return cell, float(np.mean(list(again.values()))) if again else self.fresh[cell]

    @property
    def default(self) -> float:
        """The score of the library's default recipe, mean of the fresh seeds, in points."""
        return float(np.mean([row[3] for seed, row in self.about["default"].items() if int(seed) in FRESH]))

    def points(self, cell: Cell) -> float:
        """Return the test score of a cell: of its fresh seeds, where it has them, else of the map's seed."""
        if cell in self.fresh:
            return self.fresh[cell]
        test = self.score(cell).test
        assert test is not None
        return test

    def said(self) -> dict[str, Any]:
        """Return what there is to say of the map; scores in points."""
        scores = {cell: self.score(cell) for cell in self.cells()}
        tests = np.array([score.test for score in scores.values()], dtype=float)
        by_validation = min(scores, key=lambda cell: self.error(scores[cell]))
        best, points = self.best
        spread = [np.std(list(seen.values()), ddof=1) for seen in self.about["fresh"].values() if len(seen) > 1]
        ends = {str(size): (self.rates(size)[0], self.rates(size)[-1]) for size in self.batch_sizes}
        return {
            "best": points, "best_cell": best, "default": self.default, "guessing": self.about["guessing"],
            "median": float(np.median(tests)), "tenth_best": float(np.quantile(tests, 0.9)),
            "by_validation": self.points(by_validation), "by_validation_cell": by_validation,
            "regret_of_choosing_by_validation": points - self.points(by_validation),
            "regret_of_default": points - self.default, "seed_deviation": float(np.median(spread)),
            "within_1_point": float(np.mean(tests >= points - 1)),
            "rate_inside": best.step not in ends[str(best.batch_size)],
            "best_by_batch_size": {
                str(size): max(self.points(cell) for cell in scores if cell.batch_size == size)
                for size in self.batch_sizes
            },
            "cells": len(scores), "cpu_seconds": self.about["cpu_seconds"],
        }  # fmt: skip


def nearest_decay(decay: float) -> float:
    """Return the total decay of the maps that is nearest by its logarithm; the least where there is none."""
    return min(DECAYS, key=lambda each: abs(math.log(each / max(decay, 1e-9))))


def key(cell: Cell) -> str:
    """Return the name of a cell in the output."""
    return f"{cell.batch_size} {cell.step} {cell.decay:g} {cell.memory:g}"


def cell_of(name: str) -> Cell:
    """Return the cell of that name.

    >>> cell_of(key(Cell(32, -4, 0.1, 0.9)))
    Cell(batch_size=32, step=-4, decay=0.1, memory=0.9)
    """
    batch_size, step, decay, memory = name.split()
    return Cell(int(batch_size), int(step), float(decay), float(memory))


def _score(row: list[float | None] | None, guessing: float) -> Score:
    """Return a row of the output as a score: None of a run that diverged, whose test score is that of guessing."""
    return Score(None, None, None, guessing) if row is None else Score(row[0], row[1], row[2], row[3])


def read_maps(place: Path, half: str | None = None) -> dict[str, Map]:
    """Return the maps that are whole, by task.

    Args:
        place: folder of `truth.py`, or one file with all.
        half: None for both.
    """
    if place.is_dir():
        found = [json.loads(path.read_text()) for path in sorted(place.glob("*.json"))]
    else:
        found = list(json.loads(place.read_text())["tasks"].values())
    maps = [Map(each) for each in found if "again" in each and each["again"] and half in (None, each["half"])]
    return {each.name: each for each in maps}


def shown(of: Map) -> str:
    """Return a map as text: for every batch size, momentum and decay the test scores over the rates."""
    said = of.said()
    best: Cell = said["best_cell"]
    lines = [
        f"{of.name}: best {said['best']:.2f} at {key(best)}; default {said['default']:.2f}, median cell "
        f"{said['median']:.2f}, guessing {said['guessing']:.2f}; by validation {said['by_validation']:.2f} at "
        f"{key(said['by_validation_cell'])}; seeds deviate by {said['seed_deviation']:.2f}; "
        f"{said['within_1_point']:.0%} of {said['cells']} cells within a point; "
        f"{sum(said['cpu_seconds'].values()):.0f} CPU seconds"
    ]
    for size in of.batch_sizes:
        rates = of.rates(size)
        lines.append(f"{'batch ' + str(size):>24} " + " ".join(f"{10 ** (step / PER_DECADE):6.2g}" for step in rates))
        for memory, decay in product(of.memories, DECAYS):
            scores = [of.score(Cell(size, step, decay, memory)).test for step in rates]
            cells = " ".join("     -" if each is None else f"{each:6.2f}" for each in scores)
            lines.append(f"memory {memory:5g}, decay {decay:4g} {cells}")
    return "\n".join(lines)


def described(subject: Subject) -> dict[str, Any]:
    """Return the beginning of a task's part of the output."""
    data = subject.data()
    return {
        "name": subject.name, "half": subject.half, "family": subject.family, "kinds": sorted(subject.kinds),
        "rule": subject.rule, "parts": {name: len(part) for name, part in data.parts.items()},
        "batch_sizes": subject.batch_sizes, "epochs": subject.epochs, "decays": DECAYS, "memories": subject.memories,
        "fingerprint": data.fingerprint, "runs": {}, "repeats": {}, "fresh": {}, "again": {}, "default": {},
        "variants": {}, "cpu_seconds": {},
    }  # fmt: skip
