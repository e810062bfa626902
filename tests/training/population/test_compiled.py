"""The compiled step's budget; that it computes the stacked step is held by tests/laws/test_population.py."""

import pytest
import torch
from kinds import KINDS

import surefoot
from surefoot.config import Recipe
from surefoot.training.population.compiled import CompiledStep, shape
from surefoot.training.population.many import start_many
from surefoot.training.population.member import Member
from surefoot.training.population.stack import advance_stack
from surefoot.training.population.workload import work_of

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


def test_what_cannot_be_compiled_leaves_nothing_of_its_transforms_behind():
    class Table(torch.nn.Embedding):
        def forward(self, x):
            return super().forward(x[:, 0].long())

    x = torch.full((60, 1), 9.0)  # without a place in the table, but for the two rows that a task is tried with
    x[:2] = 0.0
    data = surefoot.load((x, torch.arange(60) % 2), normalise=False, validation=0)
    work = surefoot.task(data, lambda *_: Table(5, 2), threads=1)
    plan = surefoot.plan(Recipe(steps=3, batch_size=20), work.data.examples)
    pair = [Member(work, plan)] * 2
    with pytest.raises(Exception, match="out of range"):
        advance_stack(pair, start_many(pair), 1, CompiledStep("eager"))
    other = KINDS["dict"].task()
    assert work_of(Member(other, surefoot.plan(Recipe(steps=3, batch_size=20), other.data.examples)), 2).calls
