"""A stack's step as a graph is the step that the host watches, bit for bit; operators recorded and replayed stand in."""

import pytest
import torch
from recorded import recorded
from small import BatchNormDropoutNet, bare, contents, images
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.models.cnn import Cnn
from surefoot.training import graph
from surefoot.training.make import reseeded, task
from surefoot.training.population import stack as module
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.population.stack import Stack, advance_stack, survivors
from surefoot.training.population.strategy import Way


@pytest.fixture(autouse=True)
def a_graph(monkeypatch):
    monkeypatch.setattr(graph, "captured", recorded)


def small_cnn(input_shape, outputs):
    return Cnn(input_shape, outputs, widths=(8, 12))


class Reads(nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.head = nn.Linear(192, outputs)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.head(x.flatten(1))


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
    "pieces": {"micro_batch_size": 5, "ema_decay": 0.5, "label_smoothing": 0.1},
    "batch norm": {"model": small_cnn, "augment": ["flip", "crop:1"]},
    "dropout": {"model": BatchNormDropoutNet},
    "batches of their own": {"seeds": (0, 1, 0, 3), "augment": ["crop:1"]},
    "the same batches": {"seeds": (0, 1, 0, 3), "same_batches": True},
    "groups": {"groups": {"stem": {"frozen_epochs": 2}, "head": {"lr": 3}}, "model": small_cnn},
}


@pytest.mark.parametrize("case", CASES)
def test_a_graph_computes_the_bits_that_the_host_sees(case):
    members = members_of(**CASES[case])
    watched = trained(members, (40,), graphed=False)
    assert {state.outcome.kind for state in watched[0]} == {"finished", "diverged"}
    same(watched, trained(members, (40,), graphed=True))
    same(watched, trained(members, (3, 11, 17, 40), graphed=True))
