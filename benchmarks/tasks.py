"""Small tasks in two halves: what the benchmarks of choosing learn, and how a recipe is scored.

A task is small enough that thousands of its recipes can be trained on one core. Its length in epochs is fixed; rate,
batch size, weight decay and momentum are free. The development half is there to be looked at; the test half is scored
once, at the end. A family is data x architecture x difficulty, and none is in both halves; nor is any data, but for
CIFAR-10, of which the development half has the animals and the test half the vehicles.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import task_data
import task_models
import torch
from task_data import some_of_cifar
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.data.dataset import DataSet
from surefoot.rules import update_rule
from surefoot.training.evaluate import evaluate_part
from surefoot.training.make import reseeded
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import Member, fit_many
from surefoot.training.task import Task

Half = Literal["development", "test"]
ANIMALS, VEHICLES = (2, 3, 4, 5, 6, 7), (0, 1, 8, 9)
"""Classes of CIFAR-10."""
DECAYS = (0.1, 1.0, 10.0)
"""Total decays of the maps: a tenth, all and ten times what e-folds a weight over the run, see `coordinates`."""
MEMORIES = {"sgd": (0.0, 0.9), "adamw": (0.95, 0.999)}
"""Momenta of SGD; of AdamW beta2, which is what it has in its place."""
PER_DECADE = 4
"""Rates of the maps per factor of 10."""
BATCH_STEPS = {"sgd": 0.25, "adamw": 0.125}
"""Decades by which the window of rates moves with each doubling of the batch: SGD's rate goes with the batch, AdamW's
with its root (`surefoot.rules`), a little less than that."""
NEAR_CELLS = 4
"""Rates of a window on either side of its middle, before it is widened: a decade."""


class Cell(NamedTuple):
    """A recipe of a map.

    Attributes:
        batch_size: examples per update.
        step: the effective rate in quarter decades: 10^(step / 4).
        decay: total, over the whole run.
        memory: momentum, or what the rule has in its place.
    """

    batch_size: int
    step: int
    decay: float
    memory: float


@dataclass(frozen=True)
class Subject:
    """A task of the benchmark: its data with all three parts, its model, and what is fixed for every method.

    Attributes:
        name: of the task.
        half: that it belongs to.
        family: data, architecture, difficulty.
        kinds: what it is an example of.
        data: returns the data with a test part.
        model: as in `surefoot.task`.
        batch_sizes: that may be chosen, rising.
        epochs: of every complete training. The schedule is the recipe's default, cosine to 0.
        middle: effective rate in the middle of the map's window, at the middle batch size. Chosen by hand: the window
            is widened until the best rate lies inside.
        rule: that updates the weights.
    """

    name: str
    half: Half
    family: tuple[str, str, str]
    kinds: frozenset[str]
    data: Callable[[], DataSet]
    model: Any
    batch_sizes: tuple[int, ...]
    epochs: int
    middle: float
    rule: str = "sgd"

    @property
    def default(self) -> Recipe:
        """The library's default recipe at this length."""
        return Recipe(rule=self.rule, batch_size="auto", epochs=self.epochs)

    @property
    def memories(self) -> tuple[float, ...]:
        return MEMORIES[self.rule]

    def steps(self, batch_size: int) -> int:
        """Updates of a complete training."""
        return self.epochs * (self.data().examples // batch_size)

    def window(self, batch_size: int) -> range:
        """Return the rates that a map begins with, in quarter decades."""
        moved = BATCH_STEPS[self.rule] * math.log2(batch_size / self.batch_sizes[len(self.batch_sizes) // 2])
        middle = round(PER_DECADE * (math.log10(self.middle) + moved))
        return range(middle - NEAR_CELLS, middle + NEAR_CELLS + 1)

    def recipe(self, cell: Cell, share: float = 1.0) -> Recipe:
        """Return the recipe of a run of a share of the final length, with the weight decay that the final run has."""
        rule = update_rule(self.rule)
        values = {**rule.defaults, rule.memory: cell.memory}
        lr = 10 ** (cell.step / PER_DECADE) * rule.per_rate(values)
        steps = self.steps(cell.batch_size)
        decay = cell.decay / (lr / rule.per_shrink(values) * steps)
        changes: dict[str, Any] = {rule.memory: cell.memory}
        return Recipe(
            rule=self.rule, lr=lr, weight_decay=decay, batch_size=cell.batch_size,
            steps=max(1, math.floor(share * steps + 1e-6)), **changes,
        )  # fmt: skip


def subjects(cifar10: str | None, half: Half | None = None) -> dict[str, Subject]:
    """Return the tasks by name.

    Args:
        cifar10: folder or archive of CIFAR-10; None leaves its tasks out.
        half: None for both.
    """
    found = _development(cifar10) + _test(cifar10)
    return {subject.name: subject for subject in found if half in (None, subject.half)}


def _subject(half: Half, name: str, difficulty: str, kinds: str, data: Any, model: Any, *rest: Any) -> Subject:
    source, architecture = name.split(", ", 1)
    return Subject(name, half, (source, architecture, difficulty), frozenset(kinds.split(", ")), data, model, *rest)


def _development(cifar10: str | None) -> list[Subject]:
    mlp, made = task_models.mlp, partial(_subject, "development")
    found = [
        made("cancer, mlp", "few rows", "table, no norm, batch 8", task_data.breast_cancer,
             mlp((64,)), (8, 16, 32), 15, 0.3),
        made("digits of 60, mlp", "60 images", "image, small, no norm, batch 8", task_data.few_digits,
             mlp((128,)), (8, 16, 32), 60, 0.3),
        made("flipped digits, tanh mlp", "20 % flipped", "image, tanh, label noise, no norm, batch 8",
             partial(task_data.noisy_digits, 0.2, True), mlp((64, 64), nn.Tanh), (8, 32, 128), 10, 0.3),
        made("digits, cnn with norm", "clean", "image, norm", task_data.digits,
             task_models.small_cnn(True, (8, 16, 32)), (16, 64, 256), 6, 1.0),
        made("clusters, mlp with norm", "imbalance", "table, norm, imbalance, large, batch 512, label noise",
             task_data.clusters, mlp((64,), norm=True), (32, 128, 512), 2, 1.0),
        made("hastie, deep mlp", "deep", "table, deep, no norm, batch 8", task_data.hastie,
             mlp((32,) * 6), (8, 32, 128), 10, 0.3),
        made("friedman, mlp", "regression", "table, regression, no norm, batch 8", task_data.friedman,
             mlp((64, 64)), (8, 32, 128), 25, 0.1),
        made("ascents, conv", "clean", "sequence, no norm", task_data.ascents,
             task_models.small_conv1d(False), (16, 64, 256), 6, 0.3),
        made("texts, attention", "adamw", "sequence, norm, adamw", task_data.texts,
             task_models.attention(8), (16, 64, 256), 6, 0.01, "adamw"),
        made("categories, mlp", "adamw", "table, no norm, adamw, batch 8", task_data.categories,
             mlp((64,)), (8, 32, 128), 10, 0.005, "adamw"),
    ]  # fmt: skip
    if cifar10 is not None:
        some = partial(some_of_cifar, cifar10)
        found += [
            made("animals, cnn without norm", "clean", "image, no norm", partial(some, ANIMALS, (1500, 1500, 4000), 12),
                 task_models.small_cnn(False, (12, 24, 48)), (16, 64, 256), 8, 1.0),
            made("animals, frozen body", "head", "image, frozen, no norm, batch 8",
                 partial(some, ANIMALS[3:], (600, 600, 3000), 12),
                 task_models.frozen_body(partial(some, ANIMALS[:3], (1500, 300, 600), 12)), (8, 32, 128), 8, 0.3),
        ]  # fmt: skip
    return found


def _test(cifar10: str | None) -> list[Subject]:
    mlp, made = task_models.mlp, partial(_subject, "test")
    found = [
        made("quantiles, mlp", "10 % flipped", "table, label noise, no norm, batch 8", task_data.quantiles,
             mlp((64,)), (8, 32, 128), 25, 0.3),
        made("gratings of 60, cnn", "60 images", "image, small, no norm, batch 8",
             partial(task_data.gratings, (60, 40, 3000), 60.0), task_models.small_cnn(False, (8, 16)), (8, 16, 32),
             40, 0.3),
        made("gratings, deep cnn", "deep", "image, deep, no norm, batch 8",
             partial(task_data.gratings, (700, 700, 4000), 60.0), task_models.deep_cnn(16, 5), (8, 32, 128), 10, 0.3),
        made("spirals, mlp with norm", "imbalance", "table, norm, imbalance, large, batch 512", task_data.spirals,
             mlp((32, 32), norm=True), (32, 128, 512), 2, 1.0),
        made("topics, linear", "many words", "table, no norm, batch 8", task_data.topics,
             "linear", (8, 32, 128), 10, 0.3),
        made("waves, conv with norm", "20 % flipped", "sequence, norm, label noise", task_data.waves,
             task_models.small_conv1d(True), (16, 64, 256), 6, 0.3),
        made("oscillations, deep tanh mlp", "regression", "sequence, regression, tanh, deep, no norm, batch 8",
             task_data.oscillations, mlp((32,) * 4, nn.Tanh), (8, 32, 128), 12, 0.1),
        made("firsts, attention", "adamw", "sequence, norm, label noise, adamw, batch 8", task_data.firsts,
             task_models.attention(6), (8, 32, 128), 12, 0.01, "adamw"),
        made("rules, mlp", "adamw", "table, label noise, no norm, adamw, batch 8", task_data.rules,
             mlp((64, 64)), (8, 32, 128), 8, 0.005, "adamw"),
    ]  # fmt: skip
    if cifar10 is not None:
        some = partial(some_of_cifar, cifar10)
        found += [
            made("vehicles, cnn with norm", "clean", "image, norm", partial(some, VEHICLES, (1200, 1200, 4000), 12),
                 task_models.small_cnn(True, (12, 24, 48)), (16, 64, 256), 6, 1.0),
            made("flipped vehicles, tanh mlp", "40 % flipped", "image, tanh, label noise, no norm, batch 8",
                 partial(some, VEHICLES, (1500, 1500, 4000), 8, 0.4), mlp((64, 64), nn.Tanh), (8, 32, 128), 10, 0.1),
            made("ships and trucks, frozen body", "head", "image, frozen, no norm, batch 8",
                 partial(some, VEHICLES[2:], (300, 300, 2000), 12),
                 task_models.frozen_body(partial(some, VEHICLES[:2], (1200, 300, 600), 12)), (8, 32, 128), 12, 0.3),
        ]  # fmt: skip
    return found


@dataclass(frozen=True)
class Score:
    """One complete training, or a shorter one.

    Attributes:
        val_loss, val_accuracy: on the validation part; None where the run diverged, and accuracy for a regression.
        train_loss: over the run; None where it diverged.
        test: in points: accuracy, or R2 of a regression; of a run that diverged that of guessing. None where it was not
            asked for.
    """

    val_loss: float | None
    val_accuracy: float | None
    train_loss: float | None
    test: float | None


def first_task(subject: Subject) -> Task:
    """Return the task with all of its parts, of which `trained` makes one for every seed."""
    return surefoot.task(subject.data(), subject.model, precision="fp32", threads=1)


def initial_loss(first: Task) -> float:
    """Return the validation loss before training."""
    assert first.data.validation is not None
    model = first.fresh_model()
    return evaluate_part(first, model, model.state_dict(), first.data.validation).loss


def guessing(data: DataSet) -> float:
    """Return the points of an answer that looks at no input, on the test part: the commonest class, or the mean."""
    assert data.test is not None
    if data.classes is None:
        return 0.0
    commonest = int(torch.bincount(data.train.y).argmax())
    return 100 * float((data.test.y == commonest).float().mean())


def points(data: DataSet, loss: float, accuracy: float | None) -> float:
    """Return a test score in points: accuracy, or of a regression R2, 1 - mean squared error / variance, at least 0."""
    assert data.test is not None
    if accuracy is not None:
        return 100 * accuracy
    return max(0.0, 100 * (1 - loss / float(data.test.y.double().var(correction=0))))


def trained(
    first: Task, runs: Sequence[tuple[Recipe, int]], *, test: bool = False, engine: Engine | None = None
) -> list[Score]:  # fmt: skip
    """Train recipes to their end, each with the weights and batches of its seed, and return the scores.

    Args:
        first: from `first_task`.
        runs: [K] of recipe and seed; those of one length and batch size are computed as one.
        test: whether the test part is looked at.
        engine: of earlier calls, which need not choose anew.
    """
    tasks = {seed: reseeded(first, seed) for seed in {seed for _, seed in runs}}
    bare = {seed: dataclasses.replace(task, data=dataclasses.replace(task.data, validation=None, test=None))
            for seed, task in tasks.items()}  # fmt: skip
    members = []
    for recipe, seed in runs:
        made = surefoot.plan(recipe, first.data.examples)
        members.append(Member(bare[seed], dataclasses.replace(made, row_steps=(made.steps,))))
    states, records = fit_many(members, engine or Engine())
    scores = []
    for (_, seed), state, record in zip(runs, states, records, strict=True):
        task, worst = tasks[seed], guessing(first.data) if test else None
        score = Score(None, None, None, worst)
        if record.outcome.kind == "finished":
            assert task.data.validation is not None
            seen = evaluate_part(task, state.model, state.weights, task.data.validation)
            if math.isfinite(seen.loss):
                end = worst
                if test and task.data.test is not None:
                    tested = evaluate_part(task, state.model, state.weights, task.data.test)
                    end = points(first.data, tested.loss, tested.accuracy) if math.isfinite(tested.loss) else worst
                score = Score(seen.loss, seen.accuracy, record.rows[-1].train_loss, end)
        scores.append(score)
    return scores
