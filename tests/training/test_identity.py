"""The same name is the same run: what is told apart, and what is not."""

import functools

import pytest
import torch
import torch.nn.functional as F
from small import images
from torch import nn

import surefoot
from surefoot.errors import ConfigError
from surefoot.record import store
from surefoot.training.configure import Objects, resolve
from surefoot.training.identity import differing, identity
from surefoot.training.make import task
from surefoot.training.open import open_run


def net(activation, width=8):
    def make():
        return nn.Sequential(nn.Flatten(), nn.Linear(192, width), activation(), nn.Linear(width, 3))

    return make


class Scaled(nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor, self.calls = factor, 0
        self.head = nn.Linear(192, 3)

    def forward(self, x):
        self.calls += 1
        return self.factor * self.head(x.flatten(1))


class Focal:
    def __init__(self, gamma):
        self.gamma, self.seen = gamma, []

    def __call__(self, outputs, targets):
        each = F.cross_entropy(outputs, targets, reduction="none")
        self.seen.append(float(each.detach().mean()))
        return (1 - (-each).exp()) ** self.gamma * each


def seeded(module, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return module()


def brighter(by):
    return lambda x: x + by


def share(of):
    return lambda outputs, targets: float((outputs.argmax(1) == targets).float().mean()) * of


WEIGHTED = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
KINDS = {
    "a captured class": ({"model": net(nn.ReLU)}, {"model": net(nn.Tanh)}, "the model's code"),
    "a width": ({"model": net(nn.ReLU)}, {"model": net(nn.ReLU, 9)}, "the model's code"),
    "an attribute": ({"model": Scaled}, {"model": functools.partial(Scaled, 2.0)}, "the model's code"),
    "weights": ({"model": seeded(Scaled)}, {"model": seeded(Scaled, 1)}, "the initial weights"),
    "a loss or none": ({}, {"loss": F.cross_entropy}, "the loss"),
    "another function": ({"loss": F.cross_entropy}, {"loss": F.multi_margin_loss}, "the loss"),
    "code": ({"loss": lambda o, t: F.nll_loss(o, t)}, {"loss": lambda o, t: F.nll_loss(2 * o, t)}, "the loss"),
    "class weights": ({"loss": nn.CrossEntropyLoss()}, {"loss": WEIGHTED}, "the loss"),
    "a number it holds": ({"loss": Focal(1.0)}, {"loss": Focal(2.0)}, "the loss"),
    "augmentation": ({"augment": brighter(0.1)}, {"augment": brighter(0.2)}, "the augmentation"),
    "a metric": ({"metrics": {"mine": share(0.1)}}, {"metrics": {"mine": share(0.2)}}, "the metrics"),
}


def trained(folder, given):
    given = {"model": "linear", **given}
    return surefoot.train(images(), epochs=1, batch_size=10, name="a", runs_dir=folder, **given)


@pytest.mark.parametrize(("first", "other", "what"), KINDS.values(), ids=KINDS)
def test_a_name_that_is_used_again_for_something_else_is_refused(first, other, what, tmp_path):
    done = trained(tmp_path, first)
    assert done.notes == ()
    again = trained(tmp_path, first)
    assert again.summary["val_loss"] == done.summary["val_loss"]
    assert again.notes == (f"nothing was trained: this is the finished run of {store.finished_at(done.folder)}",)
    with pytest.raises(ConfigError, match=f"something else: {what} given here|with other settings: model"):
        trained(tmp_path, other)


def test_what_code_does_while_it_runs_makes_no_other_identity():
    scaled, focal = Scaled(), Focal(2.0)
    before = identity(task(images(), scaled, loss=focal))
    surefoot.task(images(), scaled, loss=focal)
    scaled(torch.zeros(1, 192))
    focal(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))
    scaled.eval()
    assert identity(task(images(), scaled, loss=focal)) == before
    assert identity(task(images(), "linear", augment=["flip"])) == {}


def test_bytecode_of_another_python_is_not_compared():
    there = {"the loss": "a", "the initial weights": "c", "python": "3.1"}
    assert differing(there, {"the loss": "b", "the initial weights": "c", "python": "3.99"}) == []
    assert differing(there, {"the loss": "b", "the initial weights": "d", "python": "3.99"}) == ["the initial weights"]


def opened(folder, module, loss=None):
    config = resolve({"model": "in-memory", "data": "in-memory", "recipe": {"epochs": 2, "lr": 0.1, "batch_size": 10}})
    return open_run(config, name="a", runs_dir=folder, objects=Objects(images(), module, loss))


def test_an_unfinished_run_goes_on_with_the_weights_of_its_checkpoint(tmp_path):
    with opened(tmp_path, seeded(Scaled)) as run:
        run.advance(1)  # and nothing of it is kept
    with opened(tmp_path, seeded(Scaled, 1)) as run:
        assert (run.state.step, run.notes) == (0, [])
        run.advance(2)
        run.save()
    with opened(tmp_path, seeded(Scaled, 2)) as run:
        assert run.state.step == 2
        assert "the initial weights given here differ" in run.notes[0]
    with pytest.raises(ConfigError, match="something else: the loss given here"):
        opened(tmp_path, seeded(Scaled, 1), F.cross_entropy)


def test_a_search_keeps_its_loss(tmp_path):
    given = {"data": images(), "model": "linear", "budget": "2x", "epochs": 1, "batch_size": 10}
    surefoot.tune(**given, name="a", runs_dir=tmp_path, loss=Focal(1.0))
    surefoot.tune(**given, name="a", runs_dir=tmp_path, loss=Focal(1.0))
    with pytest.raises(ConfigError, match="something else: the loss given here"):
        surefoot.tune(**given, name="a", runs_dir=tmp_path, loss=Focal(2.0))
