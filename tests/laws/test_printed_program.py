"""The law: the printed program, executed on the same batches, ends at the weights of our run; random recipes."""

import numpy as np
import pytest
import torch
from printed import Net, batches_of, data_of, off, random_case
from torch import nn

import surefoot
from surefoot.config import Config, Recipe, Schedule, ScheduleKind
from surefoot.data.batches import fetch
from surefoot.report.loss_code import Calls
from surefoot.report.pytorch_code import program_of, pytorch_code
from surefoot.rules import update_rules
from surefoot.training.call import batch_of
from surefoot.training.loop import advance, start
from surefoot.training.make import task
from surefoot.training.weights import calls_written

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


class Takes(nn.Module):
    """Takes one or two tensors, and gives answers of every kind."""

    def __init__(self, outputs=3, wrap=None):
        super().__init__()
        self.table, self.head, self.more, self.wrap = nn.Embedding(9, 4), nn.Linear(4, outputs), nn.Linear(2, 4), wrap

    def forward(self, ids, more=None):
        words = self.table(ids)
        found = self.head(torch.tanh(words if more is None else words + self.more(more)[:, None]))
        return {"logits": found} if self.wrap == "logits" else {"scores": found} if self.wrap else found


DRAW = np.random.default_rng(0)
IDS, MORE = DRAW.integers(0, 9, (80, 5)), DRAW.normal(size=(80, 2)).astype(np.float32)
NEXT = np.where(DRAW.random((80, 5)) < 0.4, -100, IDS % 3)
NEXT[:12, 1:] = -100  # some batches count few
LABELS = np.c_[MORE[:, 0] > 0, MORE[:, 1] > 0, MORE.sum(1) > 0].astype(int)
PIXELS = DRAW.normal(size=(80, 2, 4, 4)).astype(np.float32)


def count_loss(outputs, y):
    """Return a loss as the sum over what counts, and its count."""
    counted = y != -100
    each = nn.functional.cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="none", ignore_index=-100)
    return each.sum(), counted.sum()


def of_batch(model, batch):
    """Return the loss of a mapping that holds its targets."""
    return count_loss(model(batch["ids"], batch["more"])["scores"], batch["labels"])


def of_pair(model, batch):
    """Return a loss for each example."""
    (ids, more), y = batch
    return (model(ids, more).mean((1, 2)) - y["a"]) ** 2 + (y["b"] ** 2).mean(1) * model(ids).mean((1, 2))


KINDS = {
    "tokens": ((IDS, NEXT), lambda: Takes(9), {"target": "tokens"}, {}),
    "tokens of a mapping with logits": (
        ({"ids": IDS, "more": MORE}, NEXT), lambda: Takes(9, "logits"), {"target": "tokens"}, {"label_smoothing": 0.1},
    ),
    "masks": ((PIXELS, (PIXELS[:, 0] > 0).astype(int)), lambda: nn.Conv2d(2, 2, 3, padding=1), {}, {}),
    "labels": ((MORE, LABELS), lambda: nn.Linear(2, 3), {}, {"clip_norm": 0.05}),
    "a tuple": (((IDS, MORE), IDS[:, 0] % 3), lambda: nn.Sequential(Both(), nn.Linear(4, 3)), {}, {}),
    "forward": (
        ({"ids": IDS, "more": MORE}, NEXT), lambda: Takes(9, "scores"),
        {"target": "tokens", "forward": lambda model, x: model(x["ids"], x["more"])["scores"]}, {},
    ),
    "a loss that counts": (((IDS, MORE), NEXT), lambda: Takes(9), {"target": "tokens", "loss": count_loss}, {}),
    "a loss of a batch": (
        {"ids": IDS, "more": MORE, "labels": NEXT}, lambda: Takes(9, "scores"),
        {"target": "tokens", "loss_fn": of_batch}, {},
    ),
    "anything": (
        ((IDS, MORE), {"a": MORE[:, 0], "b": MORE}), Takes, {"target": "any", "loss_fn": of_pair}, {},
    ),
    "a loss in the targets' shape": (
        (MORE, MORE[:, 0] * 2), lambda: nn.Linear(2, 1), {"target": "numbers", "loss": nn.L1Loss()}, {},
    ),
}  # fmt: skip


class Both(nn.Module):
    """Takes two tensors by place."""

    def __init__(self):
        super().__init__()
        self.table, self.more = nn.Embedding(9, 4), nn.Linear(2, 4)

    def forward(self, ids, more):
        return torch.tanh(self.table(ids).sum(1) + self.more(more))


class Chain(nn.Sequential):
    """Gives what it is called with to its first."""

    def forward(self, *args):
        for module in self:
            args = (module(*args),)
        return args[0]


@pytest.mark.parametrize("more", [
    {}, {"batch_size": 20, "micro_batch_size": 7, "rule": "adamw", "lr": 0.01, "eps": 1e-3},
    {"schedule": Schedule(kind="plateau", patience_epochs=0, factor=0.3), "ema_decay": 0.9, "epochs": 4},
])  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_targets_and_way_of_calling(kind, more):
    data, net, settings, recipe = KINDS[kind]
    settings = dict(settings)
    made = surefoot.load(data, target=settings.pop("target", "auto"), validation=0.25)
    model = Chain(*net()) if kind == "a tuple" else net()
    work = task(made, model, threads=1, precision="fp32", **settings)
    plan = surefoot.plan(Recipe(**{"lr": 0.1, "epochs": 2, "batch_size": 12} | recipe | more), work.data.examples)
    calls = calls_written(Config(), work)
    config = Config(target=work.data.target, loss="mse" if "loss" in settings and kind.endswith("shape") else None)
    code = program_of(config, plan.recipe, plan.steps_per_epoch, Calls.of({"calls": calls}, work.data.target))
    of_user = {"forward": work.forward, "loss_fn": work.loss_fn, "loss_of": work.loss}
    rows = np.arange(len(work.data.validation))
    validation = [fetch(work.data, work.data.validation, rows)]
    label = work.data.label_name
    batches = [
        [batch_of(*pair, label) for pair in pairs] if work.loss_fn is not None else pairs
        for pairs in (batches_of(work, plan), validation)
    ]
    given = work.fresh_model()
    scope = {"model": given, "batches": batches[0], "validation": batches[1]}
    exec(compile(code, "printed program", "exec"), scope | {n: f for n, f in of_user.items() if f is not None})
    state, _ = advance(work, plan, start(work, plan), plan.steps)
    assert state.outcome.kind == "finished"
    for mine, theirs in zip(given.parameters(), state.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6, msg=lambda text: f"{text}\n{code}")
    assert not all(torch.equal(a, b) for a, b in zip(given.parameters(), work.template.parameters(), strict=True))


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
