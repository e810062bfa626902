"""What the engine asks for and remembers; that it computes what each member computes alone is held by the laws."""

import dataclasses
import functools
import subprocess
import sys

import pytest
import torch
from small import images

import surefoot
from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.models.cnn import Cnn
from surefoot.training.make import task
from surefoot.training.population import engine as module
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.population.stack import Stack
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


RATES = (0.05, 1e30, 0.1, 1e4)
"""Of which two diverge, one in the first step."""


def small_cnn(input_shape, outputs):
    return Cnn(input_shape, outputs, widths=(8, 12))


def trained(engine):
    work = task(images(), small_cnn, seed=2, precision="fp32", threads=1)
    recipes = [Recipe(lr=lr, steps=40, batch_size=14, ema_decay=0.9) for lr in RATES]
    some = [Member(work, surefoot.plan(recipe, work.data.examples)) for recipe in recipes]
    states, rows = start_many(some), [[] for _ in some]
    for until in (10, 40):
        states, new = advance_many(some, states, until, engine)
        rows = [old + more for old, more in zip(rows, new, strict=True)]
    return states, rows, set(engine.computed(some))


@functools.cache
def alone():
    return trained(Engine(Way("loop")))


def in_the_update(stack, plain, fails, moved):
    try:
        fails()
    except RuntimeError:
        next(iter(stack.weights.values())).add_(1.0)  # half of it is done
        raise
    return plain(stack, moved)


def before_it(stack, plain, fails, *given):
    fails()
    return plain(stack, *given)


def after_it(stack, plain, fails):
    found = plain(stack)  # which has changed the statistics of batch norm
    fails()
    return found


@pytest.mark.parametrize(
    ("name", "how", "step"),
    [
        ("_fill", before_it, 0), ("_fill", before_it, 10), ("_tabulate", before_it, 16), ("gradient", after_it, 0),
        ("gradient", after_it, 13), ("mask", in_the_update, 0), ("mask", in_the_update, 13),
        ("mask", in_the_update, 25),
        ("_measure", before_it, 0), ("_measure", before_it, 30),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("most", "words"), [(2, "stacked by 2; not stacked by 4"), (1, "loop; not stacked by 2")])
def test_a_stack_for_which_memory_is_too_small_is_halved_and_nothing_is_lost(monkeypatch, name, how, step, most, words):
    (wanted, others, _), plain, failed = alone(), getattr(Stack, name), []

    def planted(stack, *given):
        def fails():
            if len(stack.states) > most and max(stack.at, stack.states[0].step) >= step:
                failed.append(stack.at)
                raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory")

        return how(stack, plain, fails, *given)

    monkeypatch.setattr(module, "refusal", lambda members: None)  # which makes a stack of two
    monkeypatch.setattr(Stack, name, planted)
    states, rows, computed = trained(Engine(Way("stacked", 8)))
    assert len(failed) == 3 - most
    assert computed == {f"{words}: out of memory"}
    for ours, theirs in zip(rows, others, strict=True):
        assert [(row.step, row.train_accuracy) for row in ours] == [(row.step, row.train_accuracy) for row in theirs]
        assert [row.train_loss for row in ours] == pytest.approx([row.train_loss for row in theirs], rel=1e-3)
        assert all(row.layers for row in ours)
    for ours, theirs in zip(states, wanted, strict=True):
        assert ours.outcome == theirs.outcome
        for key, value in ours.weights.items() if ours.outcome.kind == "finished" else ():
            torch.testing.assert_close(value, theirs.weights[key], rtol=1e-3, atol=1e-4)


def test_members_of_a_fork_that_had_no_memory_are_computed_here_in_narrower_stacks(monkeypatch):
    (wanted, others, _), plain = alone(), Stack.gradient

    def gradient(stack):
        if len(stack.states) > 1 and stack.states[0].outcome is None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(stack)

    monkeypatch.setattr(module, "refusal", lambda members: None)
    monkeypatch.setattr(Stack, "gradient", gradient)
    states, rows, computed = trained(Engine(Way("stacked", 8, processes=2)))
    assert computed == {"loop in 2 processes; not stacked by 2 in 2 processes: out of memory"}
    assert [[row.step for row in ours] for ours in rows] == [[row.step for row in theirs] for theirs in others]
    assert [state.outcome for state in states] == [state.outcome for state in wanted]
