import math

import numpy as np
import pytest

import surefoot
from surefoot.steps.follow import follow, rate_plan, without_validation
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import Member, fit_many
from surefoot.training.population.strategy import LOOP


@pytest.fixture(scope="module")
def members():
    digits = surefoot.task(surefoot.load("digits"), "linear")
    recipes = [surefoot.Recipe(lr=lr, steps=20, batch_size=64) for lr in (0.1, 1e12)]
    return [Member(digits, surefoot.plan(recipe, digits.data.examples)) for recipe in recipes]


def test_every_mark_is_looked_at_where_all_stand_or_have_ended(members):
    looks = [look for look in follow(members, [0, 3, 3, 10, 20]) if look.mark is not None]
    assert [look.mark for look in looks] == [0, 3, 3, 10, 20]
    assert looks[-1].states[0].outcome.kind == "finished"
    assert looks[-1].states[1].outcome.kind == "diverged"
    assert looks[-1].alive == 0


def test_what_is_computed_does_not_depend_on_the_marks(members):
    way = Engine(LOOP)
    wanted, records = fit_many(members, way)
    *_, last = follow(members, range(21), way)
    for state, other, rows, record in zip(last.states, wanted, last.rows, records, strict=True):
        assert [row.train_loss for row in rows] == [row.train_loss for row in record.rows]
        for name, value in state.model.state_dict().items():
            assert value.equal(other.model.state_dict()[name])


def test_the_steps_of_all_looks_are_those_that_were_done(members):
    *looks, last = follow(members, [5, 20])
    assert sum(look.steps for look in [*looks, last]) == sum(state.step for state in last.states)


def test_looks_come_between_marks_where_steps_are_slow(members, monkeypatch):
    monkeypatch.setattr("surefoot.steps.follow.steps_at_once", lambda _: 2)
    looks = [look.states[0].step for look in follow(members[:1], [20]) if look.mark is None]
    assert looks == [2, 4, 6, 8, 10, 12, 14, 16, 18]


def test_it_goes_on_from_states_and_stops_when_nobody_asks(members):
    look = next(each for each in follow(members[:1], [4, 20]) if each.mark == 4)
    assert look.states[0].step == 4
    (look,) = (each for each in follow(members[:1], [9], states=look.states) if each.mark is not None)
    assert look.states[0].step == 9
    assert math.isfinite(look.states[0].tally.loss)


def test_a_table_of_rates_must_fit_the_data_and_validation_is_left_out(members):
    task = members[0].task
    with pytest.raises(surefoot.ConfigError, match="batch_size"):
        rate_plan(surefoot.Recipe(batch_size=task.data.examples + 1), task.data.examples, np.full(3, 0.1))
    assert without_validation(task).data.validation is None
    assert task.data.validation is not None
