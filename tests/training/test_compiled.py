"""A compiled step of one run is its step, up to rounding, and its own bits whatever the calls and resumptions."""

import math

import pytest
import torch
from kinds import KINDS
from small import bare, contents, images
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.optim.plan import plan
from surefoot.training import run as run_module
from surefoot.training.alone import Alone
from surefoot.training.compiled import Compiled
from surefoot.training.loop import advance, advance_alike, start
from surefoot.training.make import task
from surefoot.training.population import workload
from surefoot.training.population.workload import compiles_alone

RECIPES = {
    "plain": {},
    "sutskever": {"momentum_form": "sutskever", "weight_decay_form": "decoupled", "clip_norm": 0.5, "dampening": 0.3},
    "nesterov": {"momentum_form": "nesterov", "ema_decay": 0.8, "label_smoothing": 0.1, "decay_on": "weights"},
    "adamw": {"rule": "adamw", "lr": 0.01, "groups": {"*bias": {"lr": 3}}},
    "muon": {"rule": "muon", "lr": 0.01, "groups": {"*bias": {"lr": 3}}},
}
COMPILED = ("dict", "tokens", "tokens, is_causal", "multilabel", "sum and count", "several heads")


class Reads(nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.head = nn.Linear(192, outputs)

    def forward(self, x):
        outputs = self.head(x.flatten(1))
        return outputs * (2.0 if float(outputs.detach().mean()) > 0 else 1.0)


def job(model="mlp", **recipe):
    work = task(images(), model, seed=2, precision="fp32", threads=1, augment=["flip"])
    return work, plan(Recipe(**{"epochs": 3, "batch_size": 9, "lr": 0.05} | recipe), work.data.examples)


def trained(work, made, cuts, stepper):
    state, rows = start(work, made), []
    by = stepper(work, made, state)
    for until in cuts:
        if until < 0:  # the process ended here, and another goes on
            state = state.clone()
            by = stepper(work, made, state)
            continue
        rows += advance_alike([(work, made)], [state], until, by)[0]
    return state, rows


def eagerly(work, made, state):
    return Compiled(work, made, state, backend="eager")


def close(a, b):
    for x, y in zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_a_compiled_run_is_the_run(name):
    work, made = job(**RECIPES[name])
    (plain, rows), (ours, own) = (trained(work, made, (made.steps,), way) for way in (Alone, eagerly))
    close(plain, ours)
    assert ours.computed == "compiled"
    assert ours.outcome == plain.outcome
    for a, b in zip(rows, own, strict=True):
        assert (a.step, a.lr, a.train_accuracy) == (b.step, b.lr, b.train_accuracy)
        assert b.train_loss == pytest.approx(a.train_loss, rel=1e-5)
        assert b.grad_norm == pytest.approx(a.grad_norm, rel=1e-4)
        assert b.update_ratio == pytest.approx(a.update_ratio, rel=1e-3)
        assert list(a.layers) == list(b.layers) != []


@pytest.mark.parametrize("name", COMPILED)
def test_so_it_is_for_each_kind_of_batch_and_target_that_may_be_compiled(name):
    work = KINDS[name].task(threads=1)
    made = plan(Recipe(steps=4, batch_size=20, lr=0.01), work.data.examples)
    (plain, _), (ours, _) = (trained(work, made, (4,), way) for way in (Alone, eagerly))
    assert ours.computed == "compiled"
    close(plain, ours)


def test_calls_and_resumptions_change_no_bit():
    work, made = job(ema_decay=0.9)
    whole, rows = trained(work, made, (made.steps,), eagerly)
    pieces, own = trained(work, made, (1, 4, -1, 5, 9, -1, made.steps), eagerly)
    assert contents(whole) == contents(pieces)
    assert bare(rows) == bare(own)


def test_compiled_anew_it_has_the_same_bits():
    work, made = job("linear")
    whole, _ = trained(work, made, (made.steps,), Compiled)
    assert whole.computed == "compiled"
    assert contents(whole) == contents(trained(work, made, (7, -1, made.steps), Compiled)[0])


def test_a_run_that_diverges_keeps_the_weights_from_before():
    work, made = job(lr=1e6, momentum=0.0)
    (plain, _), (ours, _) = (trained(work, made, (made.steps,), way) for way in (Alone, eagerly))
    assert plain.outcome.kind == "diverged"
    assert ours.outcome == plain.outcome
    assert 1 < ours.step < made.steps
    assert all(math.isfinite(loss) for loss in ours.tally.losses)


def test_what_cannot_be_compiled_is_not_and_says_why():
    work, made = job(Reads)
    (plain, rows), (ours, own) = (trained(work, made, (5, made.steps), way) for way in (Alone, eagerly))
    assert ours.computed.startswith("loop; not compiled: ")
    assert contents(ours) == contents(plain)
    assert bare(own) == bare(rows)


def test_only_what_is_long_enough_and_plain_is_compiled(monkeypatch):
    monkeypatch.setattr("surefoot.training.population.strategy.SETUP_WEIGHT", 1e-4)
    monkeypatch.setattr(workload, "_LONG_STEPS", 10)
    assert compiles_alone(*job())
    assert not compiles_alone(*job(steps=9, epochs=None))
    assert not compiles_alone(*job("cnn"))
    assert not compiles_alone(*job(micro_batch_size=4))
    monkeypatch.undo()
    assert not compiles_alone(*job())


def test_a_command_compiles_a_long_run_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "compiles_alone", lambda task, plan: True)
    monkeypatch.setattr(run_module.Compiled.__init__, "__defaults__", ("eager",))
    result = surefoot.train("digits", model="linear", epochs=1, batch_size=64, runs_dir=tmp_path)
    assert result.summary["computed"] == "compiled"


def test_the_loop_goes_on_with_the_stepper_that_a_run_has():
    work, made = job()
    state = start(work, made)
    state.stepper = eagerly(work, made, state)
    advance(work, made, state, made.steps)
    assert state.computed == "compiled"
    assert contents(state) == contents(trained(work, made, (made.steps,), eagerly)[0])
