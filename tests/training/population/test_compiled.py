"""The compiled step's budget; that it computes the stacked step is held by tests/laws/test_population.py."""

import pytest
import torch

import surefoot
from surefoot.config import Recipe
from surefoot.training.population.compiled import CompiledStep, shape
from surefoot.training.population.many import start_many
from surefoot.training.population.member import Member
from surefoot.training.population.stack import advance_stack

TASK = surefoot.task(surefoot.load("digits"), "linear", threads=1)


def members(count, **recipe):
    given = {"lr": 0.01, "steps": 2, "batch_size": 8} | recipe
    return [Member(TASK, surefoot.plan(Recipe(**given), TASK.data.examples)) for _ in range(count)]


@pytest.mark.filterwarnings("ignore")
def test_any_number_of_shapes_is_compiled_in_one_process():
    """The compiler refuses the ninth shape of one function; the backend does not matter for that."""
    limit = torch._dynamo.config.recompile_limit
    for count in range(2, limit + 4):
        some = members(count)
        states, step = start_many(some), CompiledStep(backend="eager")
        advance_stack(some, states, 2, step)
        assert step.ready
        assert all(state.step == 2 for state in states)


def test_what_is_compiled_depends_on_the_number_of_members_and_the_parts_of_the_rule():
    assert shape(members(3)) == shape(members(3, lr=0.1))
    others = [members(4), members(3, momentum=0.0), members(3, label_smoothing=0.1), members(3, clip_norm=1.0)]
    assert len({shape(members(3)), *map(shape, others)}) == 5
