"""A stack is tried against its members alone before it is trusted; what it gets wrong is left to the loop."""

import math

import numpy as np
import pytest
import torch
from small import BatchNormDropoutNet, bare, contents, images
from torch import Tensor, nn

import surefoot
from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.training.loop import fit
from surefoot.training.make import reseeded
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import fit_many
from surefoot.training.population.member import Member, groups
from surefoot.training.population.strategy import Way
from surefoot.training.population.workload import refusal


class OwnNorm(nn.Module):
    """A norm as people write it: its running mean is put in the place of the buffer, `how` says how."""

    how = "rebound"

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(math.prod(input_shape)))
        self.head = nn.Linear(math.prod(input_shape), outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            fresh = 0.9 * self.mean + 0.1 * x.detach().mean(0)
            if self.how == "rebound":
                self.mean = fresh
            elif self.how == "in place":
                self.mean.copy_(fresh)
            else:
                self.mean.data = fresh
        return self.head(x - self.mean)


class OtherData(OwnNorm):
    how = "data"


class InPlace(OwnNorm):
    how = "in place"


class Recurrent(nn.Module):
    """An LSTM, for which vmap has no rule."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_shape[-1], 6, batch_first=True)
        self.head = nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.flatten(1, 2))[0][:, -1])


class Masked(nn.Module):
    """An infinity in a buffer, as in attention masks, and a parameter that takes no part."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((4, outputs), -math.inf).triu(outputs))
        self.spare = nn.Parameter(torch.ones(3))
        self.head = nn.Linear(math.prod(input_shape), outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1)) + self.mask[0]


class Counted(nn.Module):
    """Keeps what it saw in an attribute that is no buffer, and uses it in the next step."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(input_shape), outputs)
        self.last = torch.zeros(outputs)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.head(x.flatten(1)) + self.last
        self.last = outputs.detach().mean(0)
        return outputs


def members_of(model, steps=60, count=8):
    work = surefoot.task(images(), model, threads=1, precision="fp32")
    recipes = [Recipe(lr=0.01 * 1.2**k, steps=steps, batch_size=20) for k in range(count)]
    return [Member(work, surefoot.plan(recipe, work.data.examples)) for recipe in recipes]


@pytest.mark.parametrize("model", [OwnNorm, OtherData, Counted, Recurrent])
def test_what_a_stack_would_compute_otherwise_is_computed_alone_bit_for_bit(model):
    members = members_of(model)
    states, records = fit_many(members)
    assert refusal(members) is not None
    assert records[0].computed.startswith("loop")
    for member, state, record in zip(members, states, records, strict=True):
        alone, lone = fit(member.task, member.plan)
        assert contents(state) == contents(alone)
        assert bare(record.rows) == bare(lone.rows)


def test_a_rebound_buffer_is_named():
    assert (refusal(members_of(OwnNorm)) or "").startswith("the model puts another tensor in place of a buffer")


@pytest.mark.parametrize("model", ["linear", "mlp", "cnn", "resnet20", BatchNormDropoutNet, InPlace, Masked])
def test_what_a_stack_computes_right_is_trusted(model):
    members = members_of(model)
    assert refusal(members) is None
    others = [Member(reseeded(m.task, seed), m.plan) for seed, m in enumerate(members)]
    assert refusal(others) is None


def test_a_stack_of_a_module_with_its_own_norm_gives_what_each_gives_alone():
    """A field case: 32 members, nothing forced; the stack's validation loss was more than twice that of each alone."""
    members = members_of(OwnNorm, steps=100, count=32)
    _, records = fit_many(members)
    for k in (0, 31):
        alone = fit(members[k].task, members[k].plan)[1]
        assert records[k].rows[-1].val_loss == alone.rows[-1].val_loss


def test_the_check_changes_nothing_and_draws_from_no_generator_of_the_users():
    members = members_of(BatchNormDropoutNet)
    before, weights = torch.get_rng_state(), contents(fit(members[0].task, members[0].plan)[0])
    refusal(members)
    assert torch.equal(before, torch.get_rng_state())
    assert contents(fit(members[0].task, members[0].plan)[0]) == weights


def test_a_way_that_was_given_is_taken_without_a_check():
    members = members_of("mlp", steps=2)
    engine = Engine(Way("stacked", 8))
    fit_many(members, engine)
    assert engine.computed(members) == ["stacked by 8"] * 8


class DrawsFromNumPy(InPlace):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (float(np.random.rand()) if self.training else 1.0)


def test_members_that_draw_from_numpy_are_stacked_by_seed():
    members = members_of(DrawsFromNumPy, steps=60, count=2)
    pair = [members[0], Member(reseeded(members[1].task, 1), members[1].plan)]
    assert len(groups(members)) == 1
    assert len(groups(pair)) == 2


@pytest.mark.parametrize("model", [OwnNorm, OtherData, Recurrent])
def test_a_stack_that_is_asked_for_is_refused_where_it_would_compute_something_else(model):
    with pytest.raises(ConfigError, match="cannot be stacked"):
        fit_many(members_of(model, steps=3, count=2), Engine(Way("stacked", 2)))
