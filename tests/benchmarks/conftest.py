"""Benchmarks are scripts beside each other, imported by their bare names; and maps of invented trainings."""

import importlib
import math
import sys
import zlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = ("task_data", "task_models", "tasks", "maps", "truth", "played", "peers", "rate_free", "regret_pictures",
           "regret")  # fmt: skip


@pytest.fixture(scope="module")
def scripts():
    """Return the importer of a benchmark by name; the names are free again afterwards."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for name in SCRIPTS:
        sys.modules.pop(name, None)


def invented(tasks):
    """Return a `trained` that trains nothing: a valley over the effective rate, deepest at 1 and in small batches; a
    run above a rate of 10 diverges. Every run has some luck. It notes what it was asked for.
    """

    def trained(first, runs, *, test=False, engine=None):
        trained.runs += [(recipe, seed) for recipe, seed in runs]
        return [score(first.data.examples, recipe, seed, test) for recipe, seed in runs]

    def score(examples, recipe, seed, test):
        rate = math.log10(recipe.effective_lr)
        size = recipe.batch_size if isinstance(recipe.batch_size, int) else 16
        steps = recipe.steps or recipe.epochs * (examples // size)
        if rate > 1:
            return tasks.Score(None, None, None, 50.0 if test else None)
        place = f"{rate:.2f} {recipe.momentum} {recipe.weight_decay:.1e} {size} {steps} {seed}"
        luck = zlib.crc32(place.encode()) / 2**32 - 0.5
        error = min(0.5, 0.05 * 1.5 ** (rate**2 * 4) * (1 + math.log2(size) / 10) * (200 / (steps * size)) ** 0.2)
        error *= 1 + 0.1 * luck
        return tasks.Score(2 * error, 1 - error, error, 100 * (1 - error) if test else None)

    trained.runs = []
    return trained


@pytest.fixture
def invented_truth(scripts, monkeypatch):
    """Return `truth` with invented trainings, and the function that invents them."""
    truth, tasks = scripts("truth"), scripts("tasks")
    replaced = invented(tasks)
    monkeypatch.setattr(truth, "trained", replaced)
    return truth, replaced
