"""A stack's step as a graph is the step that the host watches, bit for bit; recorded operators stand in for graphs."""

import pytest
import torch
from recorded import recorded
from small import BatchNormDropoutNet, bare, contents, images
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.models.cnn import Cnn
from surefoot.training import graph
from surefoot.training.loop import advance, start
from surefoot.training.make import reseeded, task
from surefoot.training.population import engine as engine_module
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.population.stack import Stack, advance_stack
from surefoot.training.population.strategy import Way


@pytest.fixture(autouse=True)
def a_graph(monkeypatch):
    monkeypatch.setattr(graph, "captured", recorded)


def small_cnn(input_shape, outputs):
    return Cnn(input_shape, outputs, widths=(8, 12))


class Counts(nn.Module):
    """It remembers what no graph would."""

    def __init__(self, input_shape, outputs):
        super().__init__()
        self.head = nn.Linear(192, outputs)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.head(x.flatten(1))


class Tempered(nn.Module):
    """A parameter that is one number, of which a stack is [K]."""

    def __init__(self, input_shape, outputs):
        super().__init__()
        self.head = nn.Linear(192, outputs)
        self.warmth = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.head(x.flatten(1)) * self.warmth


RATES = (0.05, 1e30, 0.1, 1e4)


def members_of(model="mlp", seeds=(0, 0, 0, 0), same_batches=False, augment=None, steps=40, **recipe):
    work = task(images(), model, seed=2, precision="fp32", threads=1, augment=augment)
    plans = [
        surefoot.plan(Recipe(**{"steps": steps, "batch_size": 14, "lr": lr} | recipe), work.data.examples)
        for lr in RATES
    ]
    tasks = [reseeded(work, seed, same_batches=same_batches) if seed else work for seed in seeds]
    return [Member(of_one, plan) for of_one, plan in zip(tasks, plans, strict=True)]


def trained(members, cuts, graphed):
    states, rows = start_many(members), [[] for _ in members]
    replayed = 0
    for until in cuts:
        for step in sorted({state.step for state in states if state.outcome is None and state.step < until}):
            going = [i for i, s in enumerate(states) if s.outcome is None and s.step == step]
            stack = Stack(members, states, None, going, graphed=graphed)
            new = advance_stack(members, states, until, None, going, stack)
            rows = [old + more for old, more in zip(rows, new, strict=True)]
            assert stack.eager == ""
            replayed += stack._replay is not None
    assert replayed or not graphed
    return states, rows


def same(a, b):
    for ours, theirs in zip(a[0], b[0], strict=True):
        assert contents(ours) == contents(theirs)
        assert ours.outcome == theirs.outcome
    assert repr([bare(rows) for rows in a[1]]) == repr([bare(rows) for rows in b[1]])  # NaN is unequal to itself


CASES = {
    "plain": {},
    "sutskever": {"momentum_form": "sutskever", "weight_decay_form": "decoupled", "clip_norm": 0.5},
    "adamw": {"rule": "adamw", "ema_decay": 0.9},
    "muon": {"rule": "muon", "model": small_cnn},
    "pieces": {"micro_batch_size": 5, "ema_decay": 0.5, "label_smoothing": 0.1},
    "batch norm": {"model": small_cnn, "augment": ["flip", "crop:1"]},
    "dropout": {"model": BatchNormDropoutNet},
    "batches of their own": {"seeds": (0, 1, 0, 3), "augment": ["crop:1"]},
    "the same batches": {"seeds": (0, 1, 0, 3), "same_batches": True},
    "a number": {"model": Tempered, "clip_norm": 1.0},
    "groups": {"groups": {"stem": {"frozen_epochs": 2}, "head": {"lr": 3}}, "model": small_cnn},
}


@pytest.mark.parametrize("case", CASES)
def test_a_graph_computes_the_bits_that_the_host_sees(case):
    members = members_of(**CASES[case])
    watched = trained(members, (40,), graphed=False)
    assert {state.outcome.kind for state in watched[0]} == {"finished", "diverged"}
    same(watched, trained(members, (40,), graphed=True))
    same(watched, trained(members, (3, 11, 17, 40), graphed=True))


@pytest.fixture
def on_a_card(monkeypatch):
    """Stacks go as graphs here too; what was captured is counted."""
    made, captures = [], []

    def stack(*given):
        made.append(Stack(*given, graphed=True))
        return made[-1]

    def capturing(*given):
        captures.append(1)
        return recorded(*given)

    monkeypatch.setattr(engine_module, "Stack", stack)
    monkeypatch.setattr(graph, "captured", capturing)
    return made, captures


def test_a_stack_stays_with_its_graph_for_the_calls_to_come(on_a_card):
    made, captures = on_a_card
    members = [member for member in members_of() if member.plan.recipe.lr < 1]
    engine, states = Engine(Way("stacked", 2)), start_many(members)
    for until in (3, 9, 10, 30, 40):
        states, _ = advance_many(members, states, until, engine)
    assert (len(made), len(captures)) == (1, 1)
    assert engine.computed(members) == ["stacked by 2 as graphs"] * 2
    whole, _ = trained(members, (40,), graphed=False)
    assert [contents(state) for state in states] == [contents(state) for state in whole]


def test_it_takes_the_values_that_its_members_have_now(on_a_card):
    """As where a search exchanges the weights of one for those of another between two calls."""
    made, _ = on_a_card
    members = [member for member in members_of() if member.plan.recipe.lr < 1]
    engine, states, plain = Engine(Way("stacked", 2)), start_many(members), start_many(members)
    for until in (9, 30):
        for of_way, way in ((states, engine), (plain, Engine(Way("stacked", 2)))):
            advance_many(members, of_way, until, way)
            for parameter in of_way[1].model.parameters():
                parameter.data.mul_(0.5)
        assert [contents(state) for state in states] == [contents(state) for state in plain]
    assert made[0]._replay is not None


def test_stacks_that_together_would_take_too_much_go_and_others_are_made(on_a_card):
    _, captures = on_a_card
    engine = Engine(Way("stacked", 2))
    for rule in ("sgd", "adam", "adamw", "sgd"):
        members = members_of(rule=rule, steps=12)[::2]
        members = [Member(member.task, member.plan) for member in members]
        advance_many(members, start_many(members), 12, engine)
    assert len(engine._recent.stacks) == 2
    assert len(captures) == 4


def test_what_cannot_be_a_graph_is_computed_without_one_and_says_why(on_a_card):
    for model, augment, reason in (
        (Counts, None, "a module counts or remembers something outside of its buffers"),
        ("mlp", [lambda x: x + 0], "the augmentation calls a function, which may do what a graph cannot hold"),
    ):
        members = members_of(model, augment=augment, steps=12)[::2]
        states, others = start_many(members), start_many(members)
        stack = Stack(members, states, graphed=True)
        advance_stack(members, states, 12, stack=stack)
        assert stack.eager == reason
        advance_stack(members, others, 12)
        assert [contents(state) for state in states] == [contents(state) for state in others]


def test_members_that_have_ended_leave_and_are_as_they_were():
    members = members_of(steps=40)
    states = start_many(members)
    stack = Stack(members, states)
    assert stack.rows == [0, 1, 2, 3]
    advance_stack(members, states, 40, stack=stack)
    assert stack.rows == [0, 2]
    assert [state.outcome.kind for state in states if state.outcome] == ["finished", "diverged", "finished", "diverged"]


def test_an_interrupted_step_leaves_the_members_at_the_step_before(monkeypatch):
    members = members_of(small_cnn)[::2]
    states, whole = start_many(members), start_many(members)
    advance_stack(members, whole, 5)
    plain, calls = Stack.gradient, []

    def interrupted(stack):
        found = plain(stack)
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Stack, "gradient", interrupted)
    with pytest.raises(KeyboardInterrupt):
        advance_stack(members, states, 40)
    assert [state.step for state in states] == [5, 5]
    assert [contents(state) for state in states] == [contents(state) for state in whole]


def test_a_parameter_that_is_one_number_is_trained_as_alone():
    members = members_of(Tempered)[::2]
    states = start_many(members)
    advance_stack(members, states, 3)
    for member, state in zip(members, states, strict=True):
        alone, _ = advance(member.task, member.plan, start(member.task, member.plan), 3)
        for name, value in alone.model.state_dict().items():
            torch.testing.assert_close(state.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)
