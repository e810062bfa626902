"""The text of a schedule, executed, gives the rates of the plan: every kind in its options, and every preset."""

import math

import numpy as np
import pytest

from surefoot.config import Recipe, Schedule, ScheduleKind
from surefoot.optim.code import rate_lines
from surefoot.optim.plan import plan
from surefoot.optim.presets import PRESETS

KINDS = [
    {"kind": "constant"},
    {"kind": "cosine"},
    {"kind": "cosine", "end": 0.1},
    {"kind": "linear", "end": 0.05},
    {"kind": "polynomial"},
    {"kind": "polynomial", "power": 0.9, "end": 0.01},
    {"kind": "exponential"},
    {"kind": "exponential", "factor": 0.7},
    {"kind": "inverse-sqrt"},
    {"kind": "wsd"},
    {"kind": "wsd", "decay_epochs": 2.5, "end": 0.2},
    {"kind": "sgdr", "cycle_epochs": 1.0},
    {"kind": "sgdr", "cycle_epochs": 1.5, "cycle_mult": 1.0, "end": 0.1},
    {"kind": "sgdr", "cycle_epochs": 1.0, "cycle_mult": 1.3},
    {"kind": "step", "milestones_epochs": (4.0, 7.0)},
    {"kind": "step", "milestones_epochs": (2.5, 4.0, 7.0), "factor": 0.3},
    {"kind": "plateau"},
]
WARMUPS = [
    {},
    {"warmup_epochs": 1.0},
    {"warmup_epochs": 2.0, "warmup_start": 0.2},
    {"warmup_epochs": 1.5, "decay_from": "start"},
]
ALL = [Schedule(**kind, **warm) for kind in KINDS for warm in WARMUPS]
ALL += [Schedule(kind="one-cycle"), Schedule(kind="one-cycle", peak_epochs=2.0, end=0.001)]
ALL += [Schedule(kind="preset", preset=name) for name in PRESETS]


def rates(shape: Schedule, lr: float, steps: int, per_epoch: int) -> np.ndarray:
    scope = {"math": math}
    exec("\n".join(rate_lines(shape, lr, steps, per_epoch)), scope)
    return np.array([scope["rate"](t) for t in range(steps)])


def test_every_kind_is_tried():
    assert {shape.kind for shape in ALL} == set(ScheduleKind.__args__)


@pytest.mark.parametrize("shape", ALL, ids=str)
@pytest.mark.parametrize("lr", [0.3, 1 / 3e3])
def test_the_text_is_the_plan(shape, lr):
    epochs = 3000 if shape.kind == "preset" else 10  # their parts need a step each
    made = plan(Recipe(lr=lr, epochs=epochs, batch_size=4, schedule=shape), examples=48)
    assert rates(shape, lr, made.steps, made.steps_per_epoch) == pytest.approx(made.lr, rel=1e-9, abs=1e-12 * lr)


def test_a_run_of_one_step():
    for kind in ("one-cycle", "cosine", "wsd", "sgdr"):
        made = plan(Recipe(steps=1, batch_size=4, schedule=Schedule(kind=kind)), examples=4)
        assert rates(made.recipe.schedule, 0.1, 1, 1) == pytest.approx(made.lr)
