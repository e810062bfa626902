"""What a module carries in attributes is found in its code, and saved: a stopped run ends as one that was not."""

import dataclasses

import pytest
import torch
from small import bare, contents, differing, images
from torch import nn

from surefoot.optim.plan import plan
from surefoot.training.attributes import carried
from surefoot.training.configure import Objects, resolve
from surefoot.training.loop import advance, start
from surefoot.training.make import task
from surefoot.training.open import open_run
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import Way
from surefoot.training.weights import load_trained

CONFIG = resolve({"data": "in-memory", "model": "in-memory", "recipe": {"steps": 8, "batch_size": 12, "lr": 0.01}})
CONFIG = dataclasses.replace(CONFIG, device="cpu", precision="fp32", threads=1, checkpoint_seconds=0.0)


class Warms(nn.Module):
    """A temperature that falls with every call, a phase, and a running mean, none of them a buffer."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.phase, self.mean, self.last, self.sizes = "first", None, None, [3, 4]

    def forward(self, x):
        self.features = x
        self.features = self.features + 0  # read, but set before: a feature map for others to look at
        self.last = float(self.features.detach().sum())
        if self.training:
            self.remember(x)
        return x / (1 + 0.1 * self.calls * (self.phase == "later")) - 0.1 * (0 if self.mean is None else self.mean)

    def remember(self, x):
        self.calls += 1
        self.phase = "later" if self.phase == "first" and self.calls > 2 else self.phase
        self.mean = x.detach().mean(0) if self.mean is None else 0.9 * self.mean + 0.1 * x.detach().mean(0)

    def reset(self):
        self.sizes = [*self.sizes, 1]


class Drawing(Warms):
    def __init__(self):
        super().__init__()
        self.draws = torch.Generator()

    def remember(self, x):
        self.calls = self.calls + 1
        self.draws = self.draws.clone_state()


def net(layer=Warms):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the fork alone
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 3), layer(), nn.Linear(3, 3))


def trained(folder, name, stops=(), layer=Warms):
    for steps in (*stops, None):
        with open_run(CONFIG, name=name, runs_dir=folder, objects=Objects(data=images(), model=net(layer))) as run:
            if steps is not None:
                run.advance(steps)
                continue
            while not run.done:
                run.advance()
            return run, run.finish()


def test_what_is_read_before_it_is_set_is_carried_and_nothing_else():
    module = Warms().train()
    assert carried(module) == {"calls": 0, "mean": None, "phase": "first"}
    module(torch.ones(2, 3))
    assert (carried(module)["calls"], set(carried(module))) == (1, {"calls", "mean", "phase"})
    assert all(carried(each) == {} for each in nn.Sequential(nn.BatchNorm1d(2), nn.LSTM(2, 2), nn.Dropout()).modules())


def test_a_run_that_is_stopped_ends_as_if_it_had_not_been(tmp_path):
    (whole, first), (stopped, second) = trained(tmp_path, "whole"), trained(tmp_path, "stopped", (3, 1))
    assert not differing(contents(whole.state), contents(stopped.state))
    assert bare(whole.rows) == bare(stopped.rows)
    layer, other = whole.state.model[2], stopped.state.model[2]
    assert (layer.calls, layer.phase) == (other.calls, other.phase) == (8, "later")
    assert torch.equal(layer.mean, other.mean)
    assert first.summary["val_loss"] == second.summary["val_loss"]
    assert not any("changes in forward" in note for note in second.notes)
    loaded = load_trained(second.folder, net()).model.net[2]
    assert (loaded.calls, loaded.phase) == (8, "later")
    assert torch.equal(loaded.mean, layer.mean)


def test_what_cannot_be_saved_is_said_once(tmp_path):
    _, result = trained(tmp_path, "a", (3, 1), Drawing)
    assert [note for note in result.notes if "Drawing.draws changes in forward, and a Generator" in note] != []
    assert len(set(result.notes)) == len(result.notes)


@pytest.mark.parametrize("way", [Way("loop"), Way("stacked", 2), Way("loop", 1, 2)])
def test_members_keep_theirs_apart(way):
    work = task(images(), net(), device="cpu", precision="fp32", threads=1)
    made = plan(CONFIG.recipe, work.data.examples)
    members = [Member(work, made), Member(work, dataclasses.replace(made))]
    states = start_many(members)
    for until in (3, 8):
        states, _ = advance_many(members, states, until, engine=Engine(way))
    alone, _ = advance(work, made, start(work, made), 8)
    for state in states:
        assert state.model[2].calls == 8
        assert not differing(contents(state), contents(alone))
