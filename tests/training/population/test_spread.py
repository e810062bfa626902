"""Forks: what they load, and what they leave. tests/laws/test_population.py holds that their numbers are the loop's."""

import json
import os
import subprocess
import sys

import torch

import surefoot
from surefoot.config import Recipe
from surefoot.training.loop import advance
from surefoot.training.population.many import start_many
from surefoot.training.population.member import Member
from surefoot.training.population.spread import advance_spread

_FORK = """
import json, pathlib, sys
import surefoot
from surefoot.config import Recipe
from surefoot.training.loop import advance
from surefoot.training.population.many import start_many
from surefoot.training.population.member import Member
from surefoot.training.population.spread import advance_spread

task = surefoot.task(surefoot.load("digits"), "linear", threads=1)
members = [Member(task, surefoot.plan(Recipe(lr=lr, steps=4), task.data.examples)) for lr in (0.01, 0.02)]

def noted(own, states, until):
    rows = [advance(m.task, m.plan, s, until)[1] for m, s in zip(own, states, strict=True)]
    pathlib.Path(sys.argv[1], str(own[0].plan.recipe.lr)).write_text(json.dumps("torch._dynamo" in sys.modules))
    return rows

states = start_many(members)
advance_spread([([member], [state]) for member, state in zip(members, states)], 2, noted)
"""


def members(count: int) -> list[Member]:
    task = surefoot.task(surefoot.load("digits"), "linear", threads=1)
    return [Member(task, surefoot.plan(Recipe(lr=0.01 * 2**k, steps=4), task.data.examples)) for k in range(count)]


def test_a_fork_does_not_load_the_compiler(tmp_path):
    """It did once, for a second in each fork."""
    subprocess.run([sys.executable, "-c", _FORK, str(tmp_path)], check=True)
    assert {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()} == {"0.01": False, "0.02": False}


def test_a_fork_that_fails_costs_no_member():
    own, here = members(3), os.getpid()
    parent = []

    def failing(some, states, until):
        if os.getpid() != here and len(some) == 2:
            raise RuntimeError("in the fork")
        parent.append(len(some))
        return [advance(m.task, m.plan, s, until)[1] for m, s in zip(some, states, strict=True)]

    states = start_many(own)
    found = advance_spread([(own[:2], states[:2]), (own[2:], states[2:])], 3, failing)
    assert [None if rows is None else len(rows) for rows in found] == [None, 1]
    assert [state.step for state in states] == [0, 0, 3], "the engine computes those of a fork that died itself"
    failing(own[:2], states[:2], 3)
    alone = start_many(own)
    for member, state in zip(own, alone, strict=True):
        advance(member.task, member.plan, state, 3)
    assert parent == [2]
    for ours, theirs in zip(states, alone, strict=True):
        assert ours.step == theirs.step == 3
        for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
            assert torch.equal(a, b)


def test_rows_come_out_of_a_fork_as_they_are_made():
    own = members(2)
    wanted = [advance(m.task, m.plan, state, 4)[1] for m, state in zip(own, start_many(own), strict=True)]
    found = advance_spread([([one], [state]) for one, state in zip(own, start_many(own), strict=True)], 4, _alone)
    for ours, theirs in zip([rows for (rows,) in filter(None, found)], wanted, strict=True):
        assert [row.layers for row in ours] == [row.layers for row in theirs]
        assert all(type(pair) is tuple for row in ours for pair in row.layers.values())
        assert ours[-1].layers


def _alone(own, states, until):
    return [advance(m.task, m.plan, state, until)[1] for m, state in zip(own, states, strict=True)]
