"""Random recipes, the program that is printed for each, executed on the very batches of our run, and how far off."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import surefoot
from surefoot.config import Config, Recipe, Schedule, ScheduleKind
from surefoot.data.batches import batch_indices, fetch
from surefoot.data.dataset import DataSet
from surefoot.errors import ConfigError
from surefoot.optim.plan import Plan
from surefoot.optim.presets import PRESETS
from surefoot.report.pytorch_code import program_of
from surefoot.rules import update_rules
from surefoot.training.groups import freeze_
from surefoot.training.loop import advance, start
from surefoot.training.make import task
from surefoot.training.task import Task


class Net(nn.Module):
    """Batch norm and two layers: parameters of one and two dimensions, buffers, a frozen one, and one never used."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(int(np.prod(input_shape)), 12)
        self.norm = nn.BatchNorm1d(12)
        self.last = nn.Linear(12, outputs)
        self.frozen = nn.Parameter(torch.ones(12), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(x.flatten(1)))) * self.frozen)


LOSSES_OF = {
    "classes": ("cross-entropy",), "pair": ("cross-entropy", "bce"), "numbers": ("mse", "mae", "huber"),
    "shares": ("bce", "mse"),
}  # fmt: skip
"""Kinds of targets, and the losses for them."""


def data_of(kind: str) -> DataSet:
    """Return 60 training and 20 validation examples of three classes, of two, of numbers, or of shares from 0 to 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6)).astype(np.float32)
    y = x @ rng.normal(size=(6, 3))
    numbers = (30 * y[:, 0] + 3 * rng.normal(size=80) + 50).astype(np.float32)
    labels = {"classes": y.argmax(1), "pair": y[:, :2].argmax(1), "numbers": numbers}.get(kind, numbers > 50)
    labels = labels.astype(np.float32) if kind == "shares" else labels
    parts = {"train": (x[:60], labels[:60]), "validation": (x[60:], labels[60:])}
    return surefoot.load(parts, target="numbers" if kind in ("numbers", "shares") else "classes")


def random_rule(draw: random.Random) -> dict[str, Any]:
    """Return a rule and settings that it reads."""
    rule = draw.choice(list(update_rules()))
    made: dict[str, Any] = {"rule": rule, "weight_decay": draw.choice([0.0, 1e-3, 0.1, draw.uniform(0, 0.05)])}
    made["lr"] = (0.1 if rule == "sgd" else 3e-3) * 10 ** draw.uniform(-1.5, 0)
    if rule == "sgd":
        made["momentum"] = draw.choice([0.0, 0.5, 0.9])
        made["momentum_form"] = draw.choice(["pytorch", "sutskever", "nesterov"])
        made["dampening"] = draw.choice([0.0, 0.0, draw.uniform(0, 1)])
        made["weight_decay_form"] = draw.choice(["coupled", "decoupled"])
    elif rule == "muon":
        made |= {"lr": made["lr"] * 10, "momentum": draw.choice([0.0, 0.6, 0.95])}
    elif rule == "rmsprop":
        made |= {
            "alpha": draw.choice([0.99, 0.9]),
            "momentum": draw.choice([0.0, 0.7]),
            "eps": draw.choice([1e-4, 1e-2]),
        }
    else:
        made |= {
            "beta1": draw.choice([0.0, 0.9]),
            "beta2": draw.choice([0.999, 0.95]),
            "eps": draw.choice([1e-5, 1e-2]),
        }
    return made


def random_schedule(draw: random.Random, epochs: int) -> Schedule:
    """Return a schedule of any kind with any of its options."""
    kind: Any = draw.choice(list(ScheduleKind.__args__))
    if kind == "preset":
        return Schedule(kind="preset", preset=draw.choice(list(PRESETS)))
    options: dict[str, Any] = {
        "end": draw.uniform(0, 0.5), "factor": draw.uniform(0.3, 0.95), "power": draw.uniform(0.5, 3),
        "cycle_epochs": draw.uniform(0.5, 1), "cycle_mult": draw.choice([1.0, 1.5, 2.0]),
        "decay_epochs": draw.uniform(0.5, 1), "peak_epochs": draw.uniform(0.5, 1),
        "patience_epochs": draw.choice([0, 1]),
    }  # fmt: skip
    chosen = {name: value for name, value in options.items() if kind in Schedule._READ_BY[name] and draw.random() < 0.6}
    if kind == "step":
        chosen["milestones_epochs"] = tuple(sorted({1.5, epochs - 0.5}))
    if kind == "plateau":
        chosen.setdefault("patience_epochs", 0)
    if kind != "one-cycle" and draw.random() < 0.5:
        chosen |= {
            "warmup_epochs": draw.uniform(0.2, 1), "warmup_start": draw.choice([0.0, draw.random()]),
            "decay_from": draw.choice(["warmup-end", "start"]),
        }  # fmt: skip
    return Schedule(kind=kind, **chosen)


def random_groups(draw: random.Random) -> dict[str, Any] | None:
    """Return groups for `Net`, of any kind; None as often as not."""
    if draw.random() < 0.5:
        return None
    found: dict[str, Any] = {
        "*": {"lr": draw.choice([1.0, draw.uniform(0.3, 2)])},
        "first": draw.choice(["frozen", {"frozen_epochs": draw.choice([0.5, 1.0]), "lr": 0.5}, {"weight_decay": 2.0}]),
        "*norm*": draw.choice([{"weight_decay": 0.0}, "frozen", {"frozen_epochs": 1.0}]),
        "last": {"lr": draw.uniform(0.5, 2), "frozen_epochs": 0},
        "*.bias": {"weight_decay": draw.choice([0.0, 2.0])},
    }
    return {name: value for name, value in found.items() if draw.random() < 0.7}


def random_case(seed: int) -> dict[str, Any]:
    """Return a recipe, a kind of target, a loss and a precision."""
    draw = random.Random(seed)
    while True:
        epochs = draw.choice([2, 3, 4])
        kind = draw.choice([*LOSSES_OF, "classes"])
        loss = draw.choice(LOSSES_OF[kind])
        try:
            recipe = Recipe(
                **random_rule(draw), epochs=epochs, batch_size=draw.choice([5, 12, 20, "full"]),
                micro_batch_size=draw.choice([2048, 2048, 7]), decay_on=draw.choice(["all", "weights"]),
                clip_norm=draw.choice([None, 0.05, 1.0]), ema_decay=draw.choice([None, None, 0.9, 0.99]),
                label_smoothing=draw.choice([0.0, 0.1]) if loss == "cross-entropy" else 0.0,
                schedule=random_schedule(draw, epochs), groups=random_groups(draw),
            )  # fmt: skip
            surefoot.plan(recipe, 60)
            freeze_(Net((6,), 3), recipe.groups)
        except ConfigError:  # lengths or forms that do not go together
            continue
        return {"recipe": recipe, "kind": kind, "loss": loss, "precision": draw.choice(["fp32"] * 4 + ["bf16"])}


def batches_of(work: Task, plan: Plan) -> list[tuple[Tensor, Tensor]]:
    """Return the batch of every update of our run."""
    found = []
    for step in range(plan.steps):
        epoch, indices = batch_indices(plan.examples, plan.batch_size, work.seed, step)
        found.append(fetch(work.data, work.data.train, indices, augment=work.augment, seed=work.seed, epoch=epoch))
    return found


def off(case: dict[str, Any]) -> tuple[float, str]:
    """Return how far the printed program ends from our run, relative to the weights, and the program."""
    weights = case.get("class_weights")
    work = task(
        data_of(case["kind"]), Net, loss=case["loss"], class_weights=weights, precision=case["precision"], threads=1
    )
    plan = surefoot.plan(case["recipe"], work.data.examples)
    target: Any = "classes" if work.classifies else "numbers"
    config = Config(target=target, loss=case["loss"], precision=case["precision"], class_weights=weights)
    code = program_of(config, case["recipe"], plan.steps_per_epoch)
    model = work.fresh_model()
    validation = work.data.validation
    assert validation is not None
    rows = np.arange(len(validation))
    scope: dict[str, Any] = {
        "model": model, "batches": batches_of(work, plan),
        "weight_of": work.class_weights,
        "validation": [fetch(work.data, validation, rows, augment=None, seed=0, epoch=0)],
    }  # fmt: skip
    with work.machine.computing():
        exec(compile(code, "printed program", "exec"), scope)
    state, _ = advance(work, plan, start(work, plan), plan.steps)
    assert state.outcome is not None
    pairs = list(zip(model.state_dict().values(), state.model.state_dict().values(), strict=True))
    if state.average is not None:
        pairs += [(scope["average"][name], value) for name, value in state.average.items()]
    ours, theirs = (torch.cat([pair[i].double().flatten() for pair in pairs]) for i in (0, 1))
    if state.outcome.kind != "finished":
        return float("nan"), code
    return float((ours - theirs).norm() / theirs.norm()), code
