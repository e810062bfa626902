"""The law: the printed program, executed on the same batches, ends at the weights of our run; random recipes."""

import pytest
import torch
from printed import Net, batches_of, data_of, off, random_case
from torch import nn

import surefoot
from surefoot.config import Recipe, Schedule, ScheduleKind
from surefoot.report.pytorch_code import pytorch_code
from surefoot.rules import update_rules
from surefoot.training.loop import advance, start
from surefoot.training.task import task

SEEDS = range(60)
"""More are tried in soak/printed_programs.py."""


@pytest.mark.parametrize("first", range(0, len(SEEDS), 10))
def test_random_recipes_end_at_the_same_weights(first):
    for seed in SEEDS[first : first + 10]:
        difference, code = off(random_case(seed))
        assert difference < 1e-5, f"seed {seed}: {difference}\n{code}"


def test_all_kinds_of_recipes_are_among_them():
    recipes = [random_case(seed)["recipe"] for seed in SEEDS]
    assert {recipe.rule for recipe in recipes} == set(update_rules())
    assert {recipe.schedule.kind for recipe in recipes} == set(ScheduleKind.__args__)
    assert {recipe.momentum_form for recipe in recipes} == {None, "pytorch", "sutskever", "nesterov"}
    assert 20 < sum(bool(recipe.groups) for recipe in recipes) < 40
    assert {recipe.weight_decay_form for recipe in recipes} == {None, "coupled", "decoupled"}


EDGES = {
    "sutskever, damped": {"momentum_form": "sutskever", "dampening": 0.4, "weight_decay": 0.02, "decay_on": "weights"},
    "sutskever, decoupled": {"momentum_form": "sutskever", "weight_decay_form": "decoupled", "weight_decay": 0.1},
    "sutskever without momentum": {"momentum_form": "sutskever", "momentum": 0.0, "dampening": 0.5},
    "short gradients clipped": {"clip_norm": 1e-4, "lr": 10.0},
    "many digits": {"lr": 0.0123456789012, "weight_decay": 0.00123456789, "momentum": 0.87654321},
    "plateau on the average": {
        "schedule": Schedule(kind="plateau", patience_epochs=0, factor=0.3), "ema_decay": 0.9, "epochs": 6, "lr": 1.0,
    },
    "pieces that are not equal": {"batch_size": 20, "micro_batch_size": 7},
    "all examples": {"batch_size": "full", "micro_batch_size": 16},
    "groups, damped, thawing": {
        "groups": {"first": {"frozen_epochs": 1}, "last": {"lr": 3}}, "dampening": 0.4, "momentum_form": "pytorch",
    },
    "groups, sutskever, damped, thawing": {
        "groups": {"first": {"frozen_epochs": 1}, "last": {"lr": 3}}, "dampening": 0.4, "momentum_form": "sutskever",
    },
    "groups, decoupled": {
        "groups": {"*.bias": {"weight_decay": 0, "lr": 2}, "last.weight": {"weight_decay": 5}}, "weight_decay": 0.1,
        "weight_decay_form": "decoupled",
    },
    "groups, all but the head frozen": {"groups": {"*": "frozen", "last": "trained"}, "clip_norm": 0.1},
    "groups, the norm goes on": {"groups": {"first": "frozen", "norm": "frozen"}, "ema_decay": 0.9},
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_at_the_edges(name):
    recipe = Recipe(**{"lr": 0.05, "epochs": 2, "batch_size": 12} | EDGES[name])
    difference, code = off({"recipe": recipe, "kind": "classes", "loss": "cross-entropy", "precision": "fp32"})
    assert difference < 1e-5, code


@pytest.mark.parametrize(
    "more",
    [{}, {"label_smoothing": 0.2}, {"batch_size": 20, "micro_batch_size": 7},
     {"rule": "adamw", "lr": 0.01, "eps": 1e-3},
     {"schedule": Schedule(kind="plateau", patience_epochs=0, factor=0.3), "label_smoothing": 0.1, "epochs": 6}],
)  # fmt: skip
def test_weighted_classes(more):
    recipe = Recipe(**{"lr": 0.05, "epochs": 2, "batch_size": 12} | more)
    case = {"recipe": recipe, "kind": "classes", "loss": None, "precision": "fp32", "class_weights": "balanced"}
    difference, code = off(case)
    assert difference < 1e-5, code
    assert "#   weight_of" in code
    unweighted, _ = off(case | {"class_weights": None})
    assert unweighted < 1e-5


def test_a_loss_of_the_readers_is_brought_and_said():
    loss = nn.SmoothL1Loss(reduction="none")
    work = task(data_of("numbers"), Net, loss=loss, threads=1)
    plan = surefoot.plan(Recipe(lr=0.01, epochs=2, batch_size=12), work.data.examples)
    code = pytorch_code(plan.recipe, plan.steps, plan.steps_per_epoch, loss="smooth")
    assert "#   loss_of" in code
    model = work.fresh_model()
    scope = {"model": model, "batches": batches_of(work, plan), "loss_of": lambda out, y: loss(out.reshape(y.shape), y)}
    exec(compile(code, "printed program", "exec"), scope)
    state, _ = advance(work, plan, start(work, plan), plan.steps)
    for mine, theirs in zip(model.parameters(), state.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)
