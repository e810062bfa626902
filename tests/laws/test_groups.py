"""The law: groups are torch.optim's parameter groups, alone and in a population; what is frozen stands still as a
whole, for ever or for so many epochs; a run with groups resumes bit for bit.
"""

import itertools

import pytest
import torch
from small import BatchNormDropoutNet, contents, differing, images
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.data.batches import batch_indices, fetch
from surefoot.errors import ConfigError
from surefoot.rules import update_rules
from surefoot.training import checkpoint
from surefoot.training.loop import advance, fit, start
from surefoot.training.make import task
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import fit_many
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import Way
from surefoot.training.population.workload import refusal


class Net(nn.Module):
    """A body with batch norm and dropout, and a head."""

    def __init__(self, input_shape, outputs):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(input_shape[0], 6, 3, 2, 1), nn.BatchNorm2d(6), nn.Flatten(), nn.Dropout(0.2)
        )
        self.head = nn.Linear(6 * 16, outputs)

    def forward(self, x):
        return self.head(self.body(x))


class Plain(nn.Module):
    """Nothing that draws or counts, so that a population computes it in every way."""

    def __init__(self, input_shape, outputs):
        super().__init__()
        self.body, self.head = nn.Linear(192, 12), nn.Linear(12, outputs)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x.flatten(1))))


MULTIPLIERS = {"head": {"lr": 5}, "*.bias": {"lr": 0.5, "weight_decay": 0}, "body.weight": {"weight_decay": 3}}
RULES = [
    {"momentum_form": "pytorch", "dampening": 0.5},
    {"momentum_form": "nesterov", "weight_decay_form": "decoupled"},
    {"momentum_form": "sutskever", "dampening": 0.3},
    {"momentum": 0.0, "weight_decay_form": "decoupled"},
    *({"rule": name, "lr": 0.003} for name in update_rules() if name != "sgd"),
]
TORCH = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def work_of(model=Plain, **settings):
    return task(images(), model, precision="fp32", threads=1, **settings)


def plan_of(work, **changes):
    settings = {"lr": 0.02, "steps": 12, "batch_size": 20, "weight_decay": 0.01} | changes
    return surefoot.plan(Recipe(**settings), work.data.examples)


def torch_run(work, plan, groups):
    """Train by torch.optim with a parameter group for each of `groups`: names, and factors of rate and decay."""
    recipe, model = plan.recipe, work.fresh_model()
    values = {name: value for name, value in recipe.rule_values.items() if name != "momentum_form"}
    if recipe.rule in ("adam", "adamw"):
        values["betas"] = (values.pop("beta1"), values.pop("beta2"))
    if recipe.rule == "sgd":
        assert values.pop("weight_decay_form") == "coupled"
        values["nesterov"] = recipe.momentum_form == "nesterov"
    decay = values.pop("weight_decay")
    named = dict(model.named_parameters())
    optimizer = TORCH[recipe.rule](
        [
            {"params": [named[name] for name in names], "weight_decay": decay * of_decay}
            for names, _, of_decay in groups
        ],
        **values,
    )
    for step in range(plan.steps):
        epoch, rows = batch_indices(plan.examples, plan.batch_size, work.seed, step)
        x, y = fetch(work.data, work.data.train, rows, seed=work.seed, epoch=epoch)
        optimizer.zero_grad()
        work.training_loss(model(x), y)[0].backward()
        for group, (_, of_rate, _) in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = float(plan.lr[step]) * of_rate
        optimizer.step()
    return model


@pytest.mark.parametrize("rule", TORCH)
def test_500_steps_are_torch_s_with_parameter_groups(rule):
    work = work_of()
    rate = {"sgd": 0.02}.get(rule, 0.001)
    plan = plan_of(work, rule=rule, steps=500, lr=rate, groups=MULTIPLIERS, **({} if rule == "sgd" else {"eps": 1e-4}))
    groups = [(["body.weight"], 1, 3), (["body.bias"], 0.5, 0), (["head.weight"], 5, 1), (["head.bias"], 0.5, 0)]
    theirs, (ours, _) = torch_run(work, plan, groups), fit(work, plan)
    for a, b in zip(ours.model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # 500 float32 steps of two kernels
    other, _ = fit(work, plan_of(work, rule=rule, steps=500, lr=rate))
    assert (other.model.head.weight - theirs.head.weight).abs().max() > 1e-2, "without groups it is another run"


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("way", ["stacked", "compiled", "loop"])
def test_a_member_with_groups_is_the_run_alone(rule, way):
    work = work_of()
    members = [Member(work, plan_of(work, groups=MULTIPLIERS, **({"lr": lr} | rule))) for lr in (0.02, 0.05)]
    together, records = fit_many(members, Engine(Way(way, 2) if way != "loop" else Way("loop")))
    assert all(way in record.computed for record in records)
    for member, state in zip(members, together, strict=True):
        alone, _ = fit(member.task, member.plan)
        for a, b in zip(alone.model.parameters(), state.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


FREEZING = [
    {"body": "frozen"},
    {"*": "frozen", "head": "trained"},
    {"body.0": "frozen", "head": {"frozen_epochs": 1}},
    {"body": {"frozen_epochs": 2, "lr": 0.1}},
    {"body.0": {"frozen_epochs": 2}, "body.1": {"frozen_epochs": 1}},
]


@pytest.mark.parametrize("groups", FREEZING, ids=str)
@pytest.mark.parametrize(
    "rule", [{"momentum_form": "sutskever", "dampening": 0.4}, {"rule": "adamw", "lr": 0.003, "eps": 1e-3}], ids=str
)
def test_a_member_with_frozen_groups_is_the_run_alone(groups, rule):
    work = work_of(Net)
    members = [Member(work, plan_of(work, groups=groups, **({"lr": lr} | rule))) for lr in (0.02, 0.05)]
    assert refusal(members) is None
    together, records = fit_many(members, Engine(Way("stacked", 2)))
    assert all("stacked" in record.computed for record in records)
    for member, state in zip(members, together, strict=True):
        alone, _ = fit(member.task, member.plan)
        mine, theirs = contents(alone).keys(), contents(state).keys()
        assert mine == theirs
        for a, b in zip(alone.model.state_dict().values(), state.model.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [MULTIPLIERS, *FREEZING], ids=str)
@pytest.mark.parametrize("rule", RULES[::2], ids=str)
def test_a_run_with_groups_resumes_bit_for_bit(groups, rule, tmp_path):
    groups = {name.replace("body.weight", "body.0"): value for name, value in groups.items()}
    work = work_of(Net)
    plan = plan_of(work, groups=groups, ema_decay=0.8, clip_norm=1.0, **({"lr": 0.02} | rule))
    whole, _ = advance(work, plan, start(work, plan), plan.steps)
    for at in (2, 3, 5, 7):
        state, _ = advance(work, plan, start(work, plan), at)
        folder = tmp_path / str(at)
        folder.mkdir()
        checkpoint.save(folder, work, state)
        resumed, _ = checkpoint.load_newest(folder, work, plan.recipe)
        ended, _ = advance(work, plan, resumed, plan.steps)
        assert not differing(contents(ended), contents(whole))


def test_what_is_frozen_stands_still_with_its_statistics_and_its_dropout():
    work = work_of(Net)
    plan = plan_of(work, groups={"body": "frozen"}, weight_decay_form="decoupled")
    state, _ = fit(work, plan)
    before = work.fresh_model().state_dict()
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, before[name]) is name.startswith("body"), name
    assert len(state.slots["velocity"]) == 2, "what is never trained has no state"
    assert not any(module.training for module in state.model.body.modules())
    assert all(parameter.requires_grad for parameter in work.template.parameters()), "the task's model is as it was"


def test_a_body_thaws_at_its_epoch():
    work = work_of(Net)
    plan = plan_of(work, groups={"body": {"frozen_epochs": 2}}, rule="adamw", lr=0.01)  # 3 steps an epoch
    before = work.fresh_model().state_dict()
    state, _ = advance(work, plan, start(work, plan), 6)
    now = state.model.state_dict()
    assert all(torch.equal(now[name], before[name]) is name.startswith("body") for name in now)
    assert [float(each) for each in state.slots["updates"]] == [0, 0, 0, 0, 6, 6]
    state, _ = advance(work, plan, state, 7)
    moved = {name for name, value in state.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(before), "with the seventh update all of it moves, and batch norm counts"
    assert [float(each) for each in state.slots["updates"]] == [1, 1, 1, 1, 7, 7]
    assert all(module.training for module in state.model.modules())


def test_batch_norm_of_a_frozen_body_goes_on_where_it_is_asked_to():
    work = work_of(Net)
    state, _ = fit(work, plan_of(work, groups={"body": "frozen", "body.1": "trained"}))
    before = work.fresh_model()
    assert torch.equal(state.model.body[0].weight, before.body[0].weight)
    assert not torch.equal(state.model.body[1].running_mean, before.body[1].running_mean)
    assert not torch.equal(state.model.body[1].weight, before.body[1].weight)


def test_modes_that_a_given_body_has_stay():
    model = Net((3, 8, 8), 3)
    model.body[1].eval()
    for parameter in model.body[1].parameters():
        parameter.requires_grad = False
    work = work_of(model)
    state, _ = fit(work, plan_of(work, groups={"body.0": {"lr": 0.1, "frozen_epochs": 1}}))
    assert torch.equal(state.model.body[1].running_mean, model.body[1].running_mean)
    assert not state.model.body[1].training
    assert state.model.body[3].training, "dropout beside it goes on"
    assert not torch.equal(state.model.body[0].weight, model.body[0].weight)


def test_a_tied_weight_has_both_of_its_names():
    class Tied(nn.Module):
        def __init__(self, input_shape, outputs):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(192, 192), nn.Linear(192, 192), nn.Linear(192, outputs)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.head(self.second(self.first(x.flatten(1)).tanh()).tanh())

    work = work_of(Tied)
    state, _ = fit(work, plan_of(work, groups={"second": "frozen"}))
    before = work.fresh_model()
    assert torch.equal(state.model.first.weight, before.first.weight)
    assert not torch.equal(state.model.first.bias, before.first.bias)


def test_a_population_of_other_groups_is_computed_apart():
    work = work_of()
    recipes = [{"head": {"lr": 2}}, {"head": {"lr": 4}}, None]
    members = [Member(work, plan_of(work, groups=groups)) for groups in recipes for _ in range(2)]
    together, _ = fit_many(members)
    for member, state in itertools.islice(zip(members, together, strict=True), 0, None, 2):
        alone, _ = fit(member.task, member.plan)
        for a, b in zip(alone.model.parameters(), state.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_compiled_step_does_not_thaw():
    work = work_of()
    members = [Member(work, plan_of(work, groups={"body": {"frozen_epochs": 1}})) for _ in range(2)]
    with pytest.raises(ConfigError, match="compiled step with groups that are frozen at first"):
        fit_many(members, Engine(Way("compiled", 2)))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"haed": {"lr": 2}}, "'haed': no parameter and no module that has some is called so. Did you mean 'head'"),
        ({"weight": {"lr": 2}}, r"Did you mean '\*\.weight'"),
        ({"zzz": {"lr": 2}}, "Choose among body, head and what lies below"),
        ({"body.3": {"lr": 2}}, "'body.3': no parameter"),
        ({"*": "frozen"}, "freeze all parameters for ever"),
        ({"body": "frozen", "head": {"frozen_epochs": 2}}, "freeze all parameters for the first 2 epochs"),
        ({"head": {"lr": 2}, "*": {"lr": 3}}, "'head' has no effect"),
        ({"head": {"lr": 2}, "head.*": "frozen"}, "'head' has no effect"),
        ({"head": "trained", "*": "frozen", "body.1": "trained"}, "'head' has no effect"),
    ],
)
def test_what_does_not_fit_the_model_is_said(groups, message):
    work = work_of(Net)
    with pytest.raises(ConfigError, match=message):
        start(work, plan_of(work, groups=groups))


def test_what_the_model_itself_has_frozen_has_no_rate():
    model = Net((3, 8, 8), 3)
    model.body.requires_grad_(False)
    work = work_of(model)
    with pytest.raises(ConfigError, match="'body': the model itself has frozen all that it matches"):
        start(work, plan_of(work, groups={"body": {"lr": 2}}))
    start(work, plan_of(work, groups={"body": "frozen"}))


def test_a_whole_run_frozen_is_called_frozen(tmp_path):
    with pytest.raises(ConfigError, match="frozen_epochs = 3, in a run of 2"):
        surefoot.train("digits", "mlp", epochs=2, groups={"head": {"frozen_epochs": 3}}, runs_dir=tmp_path)
    assert not list(tmp_path.glob("*/config.toml"))


def test_with_dropout_and_all_that_a_state_holds():
    work = task(images(), BatchNormDropoutNet, precision="fp32", threads=1, augment="flip")
    plan = plan_of(work, groups={"*.bias": {"weight_decay": 0}, "conv": {"frozen_epochs": 1}}, ema_decay=0.9)
    state, record = fit(work, plan)
    assert record.outcome.kind == "finished"
    assert not torch.equal(state.model.conv.weight, work.template.conv.weight)
