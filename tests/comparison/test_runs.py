"""The loss along runs: at which steps, on which examples, and the weights on the way."""

import math

import numpy as np
import pytest
import small
import torch

import surefoot
from surefoot.comparison.runs import Runs, flat, log_marks, parameters_from, part_of
from surefoot.config import Recipe, Schedule
from surefoot.record.progress import finished
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import advance, start
from surefoot.training.population.engine import Engine
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import LOOP


@pytest.mark.parametrize(("steps", "points"), [(1, 5), (2, 9), (100, 5), (26_000, 25)])
def test_marks_begin_at_0_rise_and_end_at_the_last_step(steps, points):
    marks = log_marks(steps, points)
    assert (marks[0], marks[-1]) == (0, steps)
    assert list(marks) == sorted(set(marks))
    assert len(marks) <= points + 1


def test_a_part_has_the_same_mix_of_classes_and_is_the_same_every_time():
    data = small.images(60)
    few = part_of(data, data.train, 15, "few")
    assert len(few) == 15
    assert np.bincount(few.y.numpy()).tolist() == [5, 5, 5]
    assert torch.equal(few.x, part_of(data, data.train, 15, "few").x)
    assert few.name_of(0) in {data.train.name_of(i) for i in range(60)}
    assert part_of(data, data.train, 60, "few") is data.train


@pytest.fixture(scope="module")
def work():
    return surefoot.task(small.images(), "linear", precision="fp32", threads=1)


@pytest.fixture
def runs(work):
    return Runs(work, work.data.train, epochs=2, points=3, engine=Engine(way=LOOP))


def member_of(runs, lr):
    recipe = Recipe(lr=lr, batch_size=10, momentum=0.9, schedule=Schedule(kind="constant"))
    return Member(runs.task, runs.plan(recipe))


def test_what_is_followed_is_the_run_itself(work, runs):
    member = member_of(runs, 0.01)
    marks, paths = finished(runs.follow([member] * 2, "twice", keep=[0]))
    assert marks == (0, 1, 3, 12)
    state = start(work, member.plan)
    assert paths[0].losses[0] == evaluate_part(work, state.model, state.weights, work.data.train).loss
    state, _ = advance(work, member.plan, state, 3)
    assert paths[0].losses[2] == evaluate_part(work, state.model, state.weights, work.data.train).loss
    assert torch.equal(paths[0].weights[2], flat(state.model))
    assert paths[0].weights.shape == (4, 3 * 64 * 3 + 3)
    assert paths[1].weights is None
    assert paths[1].losses == paths[0].losses
    assert paths[1].state.outcome.kind == "finished"
    assert runs.done == 2 * 12


def test_a_run_that_diverges_is_infinite_from_there_and_counts_as_done(runs):
    _, (fine, lost) = finished(runs.follow([member_of(runs, lr) for lr in (0.01, 1e38)], "two"))
    assert all(map(math.isfinite, fine.losses))
    assert math.isfinite(lost.losses[0])
    assert lost.losses[-1] == math.inf
    assert runs.done == 2 * 12


def test_parameters_come_back_from_their_vector(work):
    model = work.template
    found = parameters_from(model, flat(model))
    assert found.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(found[name], parameter) for name, parameter in model.named_parameters())
