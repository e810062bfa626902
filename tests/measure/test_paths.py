"""The loss along runs: at which steps, on which examples, and the weights on the way."""

import math

import numpy as np
import pytest
import small
import torch

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.measure.paths import flat, follow, log_marks, part_of, unseen_rows
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import advance, start
from surefoot.training.population.engine import Engine
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import LOOP
from surefoot.tuning.progress import finished


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


def plan_of(work, lr):
    recipe = Recipe(lr=lr, steps=9, batch_size=10, momentum=0.9, schedule=Schedule(kind="constant"))
    return unseen_rows(surefoot.plan(recipe, work.data.examples))


def test_what_is_followed_is_the_run_itself(work):
    plan = plan_of(work, 0.01)
    paths = finished(follow([Member(work, plan)] * 2, (0, 1, 4, 9), work.data.train, Engine(way=LOOP), keep=[0]))
    state = start(work, plan)
    assert paths[0].losses[0] == evaluate_part(work, state.model, state.weights, work.data.train).loss
    state, _ = advance(work, plan, state, 4)
    assert paths[0].losses[2] == evaluate_part(work, state.model, state.weights, work.data.train).loss
    assert torch.equal(paths[0].weights[2], flat(state.model))
    assert paths[0].weights.shape == (4, 3 * 64 * 3 + 3)
    assert paths[1].weights is None
    assert paths[1].losses == paths[0].losses


def test_a_run_that_diverges_is_infinite_from_there(work):
    members = [Member(work, plan_of(work, lr)) for lr in (0.01, 1e38)]
    fine, lost = finished(follow(members, (0, 1, 4, 9), work.data.train, Engine(way=LOOP)))
    assert all(map(math.isfinite, fine.losses))
    assert math.isfinite(lost.losses[0])
    assert lost.losses[-1] == math.inf
