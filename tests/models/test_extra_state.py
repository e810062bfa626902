"""Extra state of a model: what is plain is saved and comes back as it was, and all else is refused before training."""

import dataclasses
import json
import math

import pytest
import torch
from small import contents, differing, images
from torch import nn

import surefoot
from surefoot.errors import ConfigError
from surefoot.optim.plan import plan
from surefoot.training.configure import Objects, resolve
from surefoot.training.loop import advance, start
from surefoot.training.make import task
from surefoot.training.open import open_run
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import Way
from surefoot.training.state import named_tensors, packed_extra_state, restore_extra_state
from surefoot.training.weights import load_trained

CONFIG = resolve({"data": "in-memory", "model": "in-memory", "recipe": {"steps": 8, "batch_size": 12, "lr": 0.01}})
CONFIG = dataclasses.replace(CONFIG, device="cpu", precision="fp32", threads=1, checkpoint_seconds=0.0)


class Counting(nn.Module):
    """A layer that scales by a running figure which it keeps in no buffer, as some quantised layers do."""

    def __init__(self):
        super().__init__()
        self.calls, self.scale = 0, torch.ones(3)

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.scale = 0.9 * self.scale + 0.1 * x.detach().abs().mean(0)
        return x / (self.scale + 0.01 * self.calls)

    def get_extra_state(self):
        return {"calls": self.calls, "scale": self.scale, "notes": [None, True, "a", 0.1, math.inf, {"tensor": "b"}]}

    def set_extra_state(self, state):
        assert state["notes"] == [None, True, "a", 0.1, math.inf, {"tensor": "b"}]
        self.calls, self.scale = state["calls"], state["scale"]


def net(layer=Counting):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3), layer(), nn.Linear(3, 3))


def opened(folder, name="a", **recipe):
    config = dataclasses.replace(CONFIG, recipe=dataclasses.replace(CONFIG.recipe, **recipe))
    return open_run(config, name=name, runs_dir=folder, objects=Objects(data=images(), model=net()))


def test_it_comes_back_bit_for_bit_through_json():
    model, other = net(), net()
    model.train()(torch.rand(5, 3, 8, 8))
    packed, tensors = packed_extra_state(model)
    restore_extra_state(other, json.loads(json.dumps(packed, allow_nan=False)), tensors)
    assert tensors == {}
    assert other[2].calls == 1
    assert torch.equal(other[2].scale, model[2].scale)
    assert "2._extra_state" not in named_tensors(model)
    assert packed_extra_state(nn.Linear(1, 1)) == ({}, {})


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_run_that_is_stopped_ends_as_if_it_had_not_been(ema, tmp_path):
    ends = []
    for name, stops in (("whole", ()), ("stopped", (3, 1))):
        for steps in stops:
            with opened(tmp_path, name, ema_decay=ema) as run:
                run.advance(steps)
        with opened(tmp_path, name, ema_decay=ema) as run:
            while not run.done:
                run.advance()
            state, result = run.state, run.finish()
        ends.append((state, result))
    (whole, first), (stopped, second) = ends
    assert not differing(contents(whole), contents(stopped))
    assert (whole.model[2].calls, stopped.model[2].calls) == (8, 8)
    assert torch.equal(whole.model[2].scale, stopped.model[2].scale)
    files = [(each.folder / "model.safetensors").read_bytes() for each in (first, second)]
    assert files[0] == files[1]
    trained = load_trained(second.folder, net())
    assert trained.model.net[2].calls == 8
    assert torch.equal(trained.model.net[2].scale, whole.model[2].scale)
    assert surefoot.evaluate(second, images()).accuracy == second.summary["test_accuracy"]


@pytest.mark.parametrize("way", [Way("loop", 1, 1), Way("stacked", 2, 1), Way("loop", 1, 2)])
def test_members_keep_theirs_apart(way):
    work = task(images(), net(), device="cpu", precision="fp32", threads=1)
    members = [Member(work, plan(dataclasses.replace(CONFIG.recipe, lr=lr), 60)) for lr in (0.01, 0.02)]
    states, _ = advance_many(members, start_many(members), 8, engine=Engine(way))
    for member, state in zip(members, states, strict=True):
        alone, _ = advance(work, member.plan, start(work, member.plan), 8)
        assert state.model[2].calls == 8
        assert torch.equal(state.model[2].scale, alone.model[2].scale)


@pytest.mark.parametrize("value", [object(), {(1, 2): 3}, {"a": [{3}]}, b"bytes", torch.nn.ReLU()])
def test_what_is_not_plain_is_refused_before_training(value):
    class Odd(Counting):
        def get_extra_state(self):
            return value

    with pytest.raises(ConfigError, match=r"2\._extra_state.* of type .*pickles are not"):
        task(images(), net(Odd))


def test_what_cannot_be_set_again_is_refused_before_training():
    class Forgetful(nn.Identity):
        def get_extra_state(self):
            return 1

    with pytest.raises(ConfigError, match="Forgetful has get_extra_state and no set_extra_state"):
        task(images(), net(Forgetful))
