"""Small tasks with a held-out test part: what the benchmarks of choosing learn, and how a recipe is scored.

A task is small enough that a whole map of recipes can be trained on one core: CIFAR-10 comes as 12 x 12 or 8 x 8
pixels. Methods see the training and validation parts only. The test part belongs to the truth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

import surefoot
from surefoot.config import Recipe
from surefoot.data.dataset import DataSet, stratified
from surefoot.rules import update_rule
from surefoot.training.evaluate import evaluate_part
from surefoot.training.make import reseeded
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import Member, fit_many
from surefoot.training.task import Task

Pair = tuple[Tensor, Tensor]
"""x, y of one part."""

FLIPPED = 0.2
"""Share of the training labels of the noisy task that are another class. Chosen by hand."""


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
    """A task of the benchmark: its data with all three parts, its model, and what is fixed for every method.

    Attributes:
        name: of the task.
        data: returns the data with a test part.
        model: as in `surefoot.task`.
        batch_size, epochs: of every complete training. The schedule is the recipe's default, cosine to 0.
        rule: that updates the weights.
    """

    name: str
    data: Callable[[], DataSet]
    model: Any
    batch_size: int
    epochs: int
    rule: str = "sgd"

    @property
    def default(self) -> Recipe:
        """The library's default recipe at this length."""
        return Recipe(rule=self.rule, batch_size=self.batch_size, epochs=self.epochs)

    def recipe(self, lr: float, weight_decay: float, memory: float) -> Recipe:
        """Return the recipe of a complete training; memory: momentum of SGD, or what the rule has in its place."""
        changes: dict[str, float] = {update_rule(self.rule).memory: memory}
        return dataclasses.replace(self.default, lr=lr, weight_decay=weight_decay, **changes)


def subjects(cifar10: str | None, rule: str = "sgd") -> dict[str, Subject]:
    """Return the tasks by name, the cheap ones first.

    Args:
        cifar10: folder or archive of CIFAR-10; None leaves its tasks out.
        rule: that updates the weights in all of them.
    """
    found = [
        Subject("breast cancer, mlp", breast_cancer, "mlp", 16, 12),
        Subject("digits, linear", digits, "linear", 32, 9),
        Subject("digits, mlp", digits, "mlp", 32, 9),
        Subject("digits with flipped labels, mlp", noisy_digits, "mlp", 32, 9),
        Subject("digits, mlp in batches of 8", digits, "mlp", 8, 9),
        Subject("digits, cnn with norm", digits, small_cnn(norm=True), 32, 9),
    ]
    if cifar10 is not None:
        found += [
            Subject("cifar10, cnn without norm", lambda: cifar(cifar10, 2048, side=12), small_cnn(norm=False), 64, 9),
            Subject("cifar10, cnn with norm", lambda: cifar(cifar10, 2048, side=12), small_cnn(norm=True), 64, 9),
            Subject("cifar10, resnet20", lambda: cifar(cifar10, 1024, side=8), "resnet20", 64, 6),
        ]
    return {subject.name: dataclasses.replace(subject, rule=rule) for subject in found}


@cache
def breast_cancer() -> DataSet:
    """Return scikit-learn's table of 30 numbers as 285 training, 114 validation and 170 test rows of 2 classes."""
    x, y = (torch.from_numpy(values) for values in load_breast_cancer(return_X_y=True))
    return surefoot.load(_parts(x.float(), y.long(), test=170, validation=114))


@cache
def digits() -> DataSet:
    """Return the embedded digits as 896 training, 301 validation and 600 test images."""
    return surefoot.load(_digits_parts())


@cache
def noisy_digits() -> DataSet:
    """Return the digits with 20 % of the training labels moved to another class; validation and test are clean."""
    parts = _digits_parts()
    x, y = parts["train"]
    rng = np.random.default_rng(0)
    hit = torch.from_numpy(rng.permutation(len(y))[: round(FLIPPED * len(y))])
    moved = y.clone()
    moved[hit] = (y[hit] + torch.from_numpy(rng.integers(1, 10, len(hit)))) % 10
    return surefoot.load(parts | {"train": (x, moved)})


def _digits_parts() -> dict[str, Pair]:
    whole = surefoot.load("digits", validation=0)
    assert whole.test is not None
    x, y = torch.cat([whole.train.x, whole.test.x]), torch.cat([whole.train.y, whole.test.y])
    return _parts(x, y, test=600, validation=301)


def _parts(x: Tensor, y: Tensor, *, test: int, validation: int) -> dict[str, Pair]:
    """Return examples by their part, each with the same mix of classes."""
    rest, tested = stratified(y.numpy(), len(y), test / len(y), seed=0, stream="benchmark-test")
    share = validation / len(rest)
    train, validated = stratified(y.numpy()[rest], len(rest), share, seed=0, stream="benchmark-validation")
    rows = {"train": rest[train], "validation": rest[validated], "test": tested}
    return {name: (x[torch.from_numpy(at)], y[torch.from_numpy(at)]) for name, at in rows.items()}


@cache
def cifar(place: str, examples: int, side: int) -> DataSet:
    """Return the first `examples` images of CIFAR-10's training part, 2,000 others for validation, all 10,000 for test.

    Args:
        place: folder or archive of CIFAR-10.
        examples: of the training part.
        side: pixels: means of squares of 2 x 2 of the middle 24 pixels (12), or of 4 x 4 of all (8).
    """
    whole = _cifar10(place)
    assert whole.test is not None

    def part(x: Tensor, y: Tensor) -> Pair:
        x, pool = (x[:, :, 4:28, 4:28], 2) if side == 12 else (x, 32 // side)
        return F.avg_pool2d(x.float(), pool).round().to(torch.uint8), y

    train, test = whole.train, whole.test
    return surefoot.load({
        "train": part(train.x[:examples], train.y[:examples]),
        "validation": part(train.x[40_000:42_000], train.y[40_000:42_000]), "test": part(test.x, test.y),
    })  # fmt: skip


@cache
def _cifar10(place: str) -> DataSet:
    return surefoot.load("cifar10", data_dir=place, validation=0)


@dataclass(frozen=True)
class Score:
    """One complete training. A run that diverged has the accuracy of guessing."""

    val_accuracy: float
    test_accuracy: float
    outcome: str


def first_task(subject: Subject) -> Task:
    """Return the task with all of its parts, of which `trained` makes one for every seed."""
    return surefoot.task(subject.data(), subject.model, precision="fp32", threads=1)


def trained(first: Task, recipes: Sequence[Recipe], seed: int, engine: Engine | None = None) -> list[Score]:
    """Train every recipe to its end with the weights and batches of this seed and return the scores.

    Args:
        first: from `first_task`.
        recipes: [K], of one length and batch size.
        seed: of the initial weights and the order of the examples.
        engine: of earlier calls, which need not choose anew.
    """
    task = reseeded(first, seed)
    bare = dataclasses.replace(task, data=dataclasses.replace(task.data, validation=None, test=None))
    states, records = fit_many(
        [Member(bare, surefoot.plan(recipe, task.data.examples)) for recipe in recipes], engine or Engine()
    )
    chance = 1 / task.data.outputs
    scores = []
    for state, record in zip(states, records, strict=True):
        good = record.outcome.kind == "finished"
        seen = [
            evaluate_part(task, state.model, state.weights, part) if good and part is not None else None
            for part in (task.data.validation, task.data.test)
        ]
        accuracies = [
            chance if each is None or each.accuracy is None or not math.isfinite(each.loss) else each.accuracy
            for each in seen
        ]
        scores.append(Score(*accuracies, outcome=record.outcome.kind))
    return scores
