"""The law: an optimizer of the caller's moves the weights as in a loop of one's own, at the rates of the schedule; a
run with it resumes bit for bit, and is a member of a population.
"""

import functools
import json

import numpy as np
import pytest
import torch
from small import bits, images
from torch import nn, optim

import surefoot
from surefoot.config import Recipe
from surefoot.data.batches import batch_indices, fetch
from surefoot.errors import ConfigError
from surefoot.report.pytorch_code import pytorch_code
from surefoot.training import checkpoint
from surefoot.training.checkpoint import scalars_of, tensors_beside_model
from surefoot.training.loop import advance, fit, start
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import fit_many
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import Way
from surefoot.training.task import task


class Plain(nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.body, self.head = nn.Linear(192, 12), nn.Linear(12, outputs)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x.flatten(1))))


class Langevin(optim.SGD):
    """Draws at every step, as stochastic gradient Langevin dynamics does."""

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(torch.randn_like(parameter), alpha=group["lr"] * 0.1)


def two_groups(params):
    return optim.SGD([{"params": params[:2], "lr": 0.02}, {"params": params[2:], "lr": 0.1}], momentum=0.9)


OPTIMIZERS = {
    "NAdam": lambda params: optim.NAdam(params, lr=2e-3),
    "RAdam": functools.partial(optim.RAdam, lr=2e-3),
    "AdamW amsgrad": lambda params: optim.AdamW(params, lr=2e-3, amsgrad=True),
    "Adagrad": functools.partial(optim.Adagrad, lr=0.02),
    "Adadelta": optim.Adadelta,
    "Adamax": optim.Adamax,
    "Adafactor": optim.Adafactor,
    "ASGD": optim.ASGD,
    "Rprop": optim.Rprop,
    "RMSprop centered": lambda params: optim.RMSprop(params, lr=1e-3, centered=True, momentum=0.5),
    "SGD fused": lambda params: optim.SGD(params, lr=0.05, momentum=0.9, fused=True),
    "two groups": two_groups,
    "surefoot.AdamW": lambda params: surefoot.AdamW(params, lr=2e-3, clip_norm=1.0),
    "surefoot.RMSProp": functools.partial(surefoot.RMSProp, momentum=0.9),
    "surefoot.SGD": lambda params: surefoot.SGD(params, lr=0.05, momentum=0.9, momentum_form="sutskever"),
    "draws": lambda params: Langevin(params, lr=0.02),
}


def work_of(optimizer, model=Plain, **settings):
    return task(images(), model, optimizer=optimizer, precision="fp32", threads=1, **settings)


def plan_of(work, lr=2e-3, **changes):
    settings = {"rule": "optimizer", "lr": lr, "steps": 12, "batch_size": 20} | changes
    return surefoot.plan(Recipe(**settings), work.data.examples)


def everything(state):
    """All of a state, bit for bit, the optimizer's too."""
    tensors = dict(state.model.state_dict()) | tensors_beside_model(state)
    return json.dumps(scalars_of(state) | {"seconds": None, "tally": None}), {n: bits(v) for n, v in tensors.items()}


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "draws"])
def test_it_is_the_loop_of_one_s_own_with_its_rate_multiplied_by_the_schedule(name):
    work = work_of(OPTIMIZERS[name])
    plan = plan_of(work, lr=0.02)
    model = work.fresh_model()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    own = [group["lr"] for group in optimizer.param_groups]
    for step in range(plan.steps):
        epoch, rows = batch_indices(plan.examples, plan.batch_size, work.seed, step)
        x, y = fetch(work.data, work.data.train, rows, seed=work.seed, epoch=epoch)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        for group, rate in zip(optimizer.param_groups, own, strict=True):
            group["lr"] = float(plan.lr[step]) * (rate / own[0])
        optimizer.step()
    state, record = fit(work, plan)
    assert record.outcome.kind == "finished"
    assert not state.slots
    for a, b in zip(state.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(state.model.head.weight, work.template.head.weight)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_resumes_bit_for_bit(name, tmp_path):
    work = work_of(OPTIMIZERS[name])
    plan = plan_of(work, ema_decay=0.8, clip_norm=1.0)
    whole, _ = advance(work, plan, start(work, plan), plan.steps)
    for at in (1, 5):
        folder = tmp_path / str(at)
        folder.mkdir()
        state, _ = advance(work, plan, start(work, plan), at)
        checkpoint.save(folder, work, state)
        np.random.rand(3), torch.rand(3)
        resumed, _ = checkpoint.load_newest(folder, work, plan.recipe)
        assert everything(resumed) == everything(state)
        ended, _ = advance(work, plan, resumed, plan.steps)
        assert everything(ended) == everything(whole)


def test_without_its_state_it_goes_on_otherwise():
    work = work_of(OPTIMIZERS["NAdam"])
    plan = plan_of(work)
    state, _ = advance(work, plan, start(work, plan), 4)
    forgetful = state.clone()
    forgetful.optimizer.state.clear()
    whole, other = (advance(work, plan, each, plan.steps)[0] for each in (state, forgetful))
    assert everything(whole) != everything(other)


def test_a_clone_goes_its_own_way():
    work = work_of(OPTIMIZERS["NAdam"])
    plan = plan_of(work)
    state, _ = advance(work, plan, start(work, plan), 4)
    before, twin = everything(state), state.clone()
    ended, _ = advance(work, plan, twin, plan.steps)
    assert everything(state) == before
    again, _ = advance(work, plan, state, plan.steps)
    assert everything(again) == everything(ended)


def test_a_member_of_a_population_is_the_run_alone_and_the_reason_is_named(monkeypatch):
    monkeypatch.setattr("surefoot.training.population.engine.LEAST_STEPS", 0)
    monkeypatch.setattr("surefoot.training.population.strategy.SETUP_WEIGHT", 0.0)
    monkeypatch.setattr("surefoot.training.population.strategy.MARGIN", 0.01)
    work = work_of(OPTIMIZERS["NAdam"])
    members = [Member(work, plan_of(work, lr=lr)) for lr in (1e-3, 1e-2, 1e-1)]
    together, records = fit_many(members)
    assert all("not stacked: the optimizer is one of the caller's" in record.computed for record in records)
    for member, state in zip(members, together, strict=True):
        alone, _ = fit(member.task, member.plan)
        assert everything(alone) == everything(state)
    with pytest.raises(ConfigError, match="the optimizer is one of the caller's"):
        fit_many(members, Engine(Way("stacked", 3)))
    forked, _ = fit_many(members, Engine(Way("loop", 1, 2)))
    assert [everything(state)[1] for state in forked] == [everything(state)[1] for state in together]


def test_groups_multiply_what_it_has_and_freeze():
    work = work_of(lambda params: optim.AdamW(params, lr=2e-3, weight_decay=0.1))
    groups = {"head": {"lr": 10, "weight_decay": 0}, "body.bias": "frozen"}
    state, _ = fit(work, plan_of(work, groups=groups, schedule=surefoot.Schedule(kind="constant")))
    assert [(group["lr"], group["weight_decay"]) for group in state.optimizer.param_groups] == [
        (2e-3, 0.1),
        (2e-2, 0.0),
    ]
    assert torch.equal(state.model.body.bias, work.template.body.bias)
    thawing = plan_of(work, groups={"body": {"frozen_epochs": 2}})
    state, _ = advance(work, thawing, start(work, thawing), 6)
    assert torch.equal(state.model.body.weight, work.template.body.weight)
    state, _ = advance(work, thawing, state, 7)
    assert not torch.equal(state.model.body.weight, work.template.body.weight)


@pytest.mark.parametrize("groups", [None, {"head": {"lr": 3, "weight_decay": 0}}, {"body": {"frozen_epochs": 1}}])
@pytest.mark.parametrize("decay_on", ["all", "weights"])
def test_the_printed_program_ends_at_the_same_weights(groups, decay_on):
    def make(params):
        return optim.AdamW(params, lr=2e-3, weight_decay=0.1)

    work = work_of(make)
    plan = plan_of(work, groups=groups, decay_on=decay_on)
    code = pytorch_code(plan.recipe, plan.steps, plan.steps_per_epoch)
    assert "#   make_optimizer" in code
    model = work.fresh_model()
    batches = []
    for step in range(plan.steps):
        epoch, rows = batch_indices(plan.examples, plan.batch_size, work.seed, step)
        batches.append(fetch(work.data, work.data.train, rows, seed=work.seed, epoch=epoch))
    exec(compile(code, "printed program", "exec"), {"model": model, "batches": batches, "make_optimizer": make})
    state, _ = fit(work, plan)
    for a, b in zip(state.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_a_run_takes_its_rate_and_keeps_its_code(tmp_path):
    def train(optimizer, **settings):
        return surefoot.train(
            "digits", "linear", epochs=2, name="run", runs_dir=tmp_path, optimizer=optimizer, **settings
        )

    result = train(lambda params: optim.NAdam(params, lr=3e-3))
    assert (result.config.recipe.rule, result.config.recipe.lr) == ("optimizer", 3e-3)
    assert "nothing was trained" in train(lambda params: optim.NAdam(params, lr=3e-3)).notes[-1]
    with pytest.raises(ConfigError, match="the optimizer given here differ"):
        train(lambda params: optim.NAdam(params, lr=3e-3, betas=(0.8, 0.9)))
    with pytest.raises(ConfigError, match="rule = optimizer without an optimizer"):
        surefoot.train("digits", "linear", epochs=2, rule="optimizer", lr=3e-3, name="run", runs_dir=tmp_path)


def test_the_searches_scale_it():
    found = surefoot.find_lr("linear", "digits", optimizer=optim.NAdam, steps=20, seeds=1, range_test=False)
    assert found.evidence["rule"] == "optimizer"
    assert found.value is not None
    tuned = surefoot.tune("digits", "linear", optimizer=two_groups_of_two, epochs=3, final=False)
    assert tuned.recipe is not None
    assert tuned.recipe.rule == "optimizer"


def two_groups_of_two(params):
    return optim.NAdam([{"params": params[:1], "lr": 2e-3}, {"params": params[1:], "lr": 1e-3}])


class Keeps(optim.SGD):
    """An optimizer that keeps something which only a pickle could save."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            self.state[group["params"][0]]["kept"] = {1, 2}


class Forgets(optim.SGD):
    def load_state_dict(self, state_dict):
        super().load_state_dict({**state_dict, "state": {}})


def foreign(params):
    return optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (optim.LBFGS, "LBFGS: .*closure.*a step is step"),
        (optim.SparseAdam, "SparseAdam does not support dense gradients"),
        (functools.partial(Keeps, lr=0.1), "state/0/kept of the optimizer is of type set: .* pickles are not"),
        (functools.partial(Forgets, lr=0.1, momentum=0.9), "the state of Forgets: it is another after load_state_dict"),
        (foreign, "an optimizer of other parameters"),
        (optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1), "optimizer= is a SGD"),
        (lambda params: None, "optimizer= makes a NoneType"),
        ("adam", "'str' object is not callable"),
        (functools.partial(optim.SGD, lr=0.0), "an optimizer with lr = 0.0"),
        (functools.partial(optim.SGD, rate=0.1), "unexpected keyword argument 'rate'"),
    ],
)
def test_what_cannot_be_trained_by_or_saved_is_refused_at_the_start(optimizer, message):
    with pytest.raises(ConfigError, match=message):
        work_of(optimizer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": 0.1}, "weight_decay = 0.1 with optimizer="),
        ({"momentum": 0.9}, "momentum = 0.9 with rule optimizer"),
        ({"rule": "sgd"}, "rule = sgd and an optimizer="),
        ({"groups": {"head": {"weight_decay": 2}}, "optimizer": optim.Rprop}, "multiplier of weight_decay with Rprop"),
        (
            {"groups": {"head": {"lr": 2}}, "optimizer": two_groups_of_two},
            "called with parameter groups|makes 2 parameter",
        ),
    ],
)
def test_settings_that_are_the_optimizer_s_are_refused(settings, message, tmp_path):
    settings = {"optimizer": optim.NAdam} | settings
    with pytest.raises(ConfigError, match=message):
        surefoot.train("digits", "mlp", epochs=1, runs_dir=tmp_path, **settings)
    assert not list(tmp_path.glob("*/config.toml"))
