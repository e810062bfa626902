"""What the engine asks for and remembers; that it computes what each member computes alone is held by the laws."""

import dataclasses
import subprocess
import sys

import pytest

import surefoot
from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.training.population import engine as module
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import FIGURES, Figures, Way
from surefoot.training.population.workload import work_of

TASK = surefoot.task(surefoot.load("digits"), "linear", threads=1)


def members(count, steps):
    recipes = [Recipe(lr=0.01 * (k + 1), steps=steps, batch_size=16) for k in range(count)]
    return [Member(TASK, surefoot.plan(recipe, TASK.data.examples)) for recipe in recipes]


def test_a_way_that_is_none_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match="a way is a Way"):
        Engine(way="loop")  # pyright: ignore[reportArgumentType]


def test_a_group_is_looked_at_once_and_nobody_else(monkeypatch):
    looked = []
    plain = module.work_of
    monkeypatch.setattr(module, "work_of", lambda *given: looked.append(given) or plain(*given))
    engine, some, few = Engine(), members(16, 100), members(2, 3)
    states = start_many(some)
    for until in (2, 50, 100, 100):
        states, _ = advance_many(some, states, until, engine)
    advance_many(few, start_many(few), 3, engine)
    assert len(looked) == 1
    assert engine.computed(some) == ["stacked by 16"] * 16
    assert engine.computed([*some[:1], *few]) == ["loop"] * 3


def test_small_calls_of_a_forked_way_make_no_forks_unless_it_was_asked_for(monkeypatch):
    forks = []
    plain = module.advance_spread
    monkeypatch.setattr(module, "advance_spread", lambda *given: forks.append(1) or plain(*given))
    some = members(4, 100)
    engine = Engine()
    monkeypatch.setattr(module, "strategy", lambda work, figures: Way("loop", processes=2))
    advance_many(some, start_many(some), 100, engine)
    assert engine.computed(some)[0] == "loop in 2 processes"
    assert not forks
    advance_many(some, start_many(some), 2, Engine(Way("loop", processes=2)))
    assert forks


def test_a_compiler_that_does_not_work_is_done_without(monkeypatch):
    class Broken:
        ready = False

        def __call__(self, *given):
            raise RuntimeError("no compiler")

    monkeypatch.setattr(module, "CompiledStep", Broken)
    chosen = module.strategy
    monkeypatch.setattr(
        module, "strategy", lambda work, figures: Way("compiled", 4) if work.compilable else chosen(work, figures)
    )
    some, engine = members(4, 300), Engine()
    states, _ = advance_many(some, start_many(some), 300, engine)
    assert {state.step for state in states} == {300}
    assert engine.computed(some)[0].endswith("; not compiled: RuntimeError")


def test_a_stack_does_not_load_the_compiler():
    """It was 1.4 s for each process, and 0.4 s more for the loss."""
    code = """
import sys, surefoot
task = surefoot.task(surefoot.load("digits"), "mlp", threads=1)
plans = [surefoot.plan(surefoot.Recipe(lr=0.01 * k, steps=50), task.data.examples) for k in range(1, 17)]
_, records = surefoot.fit_many([surefoot.Member(task, plan) for plan in plans])
assert records[0].computed == "stacked by 16", records[0].computed
assert "torch._dynamo" not in sys.modules and "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_choice_goes_by_the_figures_that_were_given_or_measured(monkeypatch):
    """Where a call costs next to nothing, nothing is gained by making one for many."""
    some = members(16, 100)
    quick = Figures(call_seconds=1e-12, numbers_per_call=1e-3, stack_numbers=6e6)
    monkeypatch.setattr(module, "rule_figures", lambda device: quick)
    for engine in (Engine(figures=quick), Engine()):
        advance_many(some, start_many(some), 2, engine)
        assert engine.computed(some) == ["loop"] * 16


def test_members_that_go_alone_hold_graphs_only_as_long_as_these_fit_into_memory():
    group = members(3, steps=4)
    states, work = start_many(group), dataclasses.replace(work_of(group[0], 3), fitting=2)
    for state in states:
        state.stepper = "a graph"
    choice = module._Choice(group[0], FIGURES["cpu"], module._Recent(), work=work)
    module._here(choice, group, states, 2)
    assert [state.stepper for state in states] == ["a graph", "a graph", None]
