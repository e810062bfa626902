"""With a budget in final trainings nothing depends on a clock, all that is trained is booked, and shares are kept."""

import dataclasses
import json
import time

import numpy as np
import pytest
import torch
from torch import nn

import surefoot
from surefoot.config import Config, Recipe, Schedule
from surefoot.record.decision import cost_in_examples
from surefoot.search.budget import Terms, budget
from surefoot.search.procedure import CHECK_SHARE, MOST_BRACKET_SHARE
from surefoot.search.search import open_search
from surefoot.training import loop
from surefoot.training.configure import Objects
from surefoot.training.population.engine import Engine
from surefoot.training.population.strategy import LOOP

PLACE = {"threads": 1, "precision": "fp32"}
GRADIENTS = 2 * 128
"""Examples of step 0 whose gradients are taken outside the loop: of one batch each in `reach` and `descent`."""


class Net(nn.Module):
    """A network whose forward pass may be made to wait."""

    wait = 0.0

    def __init__(self, hidden=()):
        super().__init__()
        sizes = (64, *hidden)
        body = [each for a, b in zip(sizes, hidden, strict=False) for each in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(nn.Flatten(), *body, nn.Linear(sizes[-1], 10))

    def forward(self, x):
        time.sleep(self.wait) if self.wait else None
        return self.net(x)


def mlp():
    return Net((128,))


def deep():
    """PyTorch's initialisation stands still for long in a network so deep: sound, but slow to learn by heart."""
    return Net((64,) * 8)


def digits(shuffled=False):
    data = surefoot.load("digits")
    if shuffled:
        order = torch.from_numpy(np.random.default_rng(0).permutation(data.examples))
        data = dataclasses.replace(data, train=dataclasses.replace(data.train, y=data.train.y[order]))
    return data


def without_clock(value):
    if isinstance(value, dict):
        return {name: without_clock(each) for name, each in value.items() if name not in ("seconds", "untouched")}
    return [without_clock(each) for each in value] if isinstance(value, list) else value


def search(data, model, text, epochs, fixed=()):
    start = Recipe(lr=0.01, epochs=epochs, batch_size=64, schedule=Schedule(kind="linear"))
    terms = Terms(budget=budget(text), fixed=frozenset({"batch_size", *fixed}))
    objects = Objects(data=data, model=model)
    return open_search(Config(recipe=start, **PLACE), terms, runs_dir=None, objects=objects, engine=Engine(LOOP))


def ended(search):
    while not search.done:
        search.advance()
    return search


def everything(*asked):
    """Return recipe, decisions and trials of a search, as text without what a clock wrote."""
    found = ended(search(*asked))
    values = [*found.decisions, *found.journal.history.results.values()]
    return json.dumps([repr(found.recipe), *(without_clock(each.to_dict()) for each in values)], indent=1)


def leaping(monkeypatch):
    """A second passes between any two looks at the clock, more each time."""
    now = [0.0, 1.0]

    def clock():
        now[0] += now[1]
        now[1] *= 1.01
        return now[0]

    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr(time, "monotonic", clock)


WHOLE = ("lr", "momentum", "weight_decay", "schedule")


@pytest.mark.parametrize("disturbance", ["a slow forward pass", "a clock that leaps"])
@pytest.mark.parametrize(
    ("model", "shuffled", "epochs", "text", "fixed"),
    [(Net, False, 3, "2x", ()), (mlp, False, 10, "2x", ()), (mlp, False, 12, "5x", ()), (mlp, True, 50, "6x", WHOLE)],
)
def test_the_speed_of_the_machine_changes_nothing(model, shuffled, epochs, text, fixed, disturbance, monkeypatch):
    """In the last no label depends on an input: step 0 takes all looks that it may, and plants targets; with everything
    fixed steps 0 to 2 are all there is, so that a slow forward pass takes seconds.
    """
    data = digits(shuffled)
    quiet = everything(data, model, text, epochs, fixed)
    if disturbance == "a slow forward pass":
        monkeypatch.setattr(Net, "wait", 0.002)
    else:
        leaping(monkeypatch)
    assert everything(data, model, text, epochs, fixed) == quiet


@dataclasses.dataclass
class Counted:
    """Examples that the loop was trained on, by the step of the procedure in which it was."""

    examples: int = 0


@pytest.fixture
def counted(monkeypatch):
    count, plain = Counted(), loop._do

    def do(runs, states, stretches, *others):
        plain(runs, states, stretches, *others)
        count.examples += sum(runs[stretch.run][1].batch_size * stretch.done for stretch in stretches)

    monkeypatch.setattr(loop, "_do", do)
    return count


def granted(found, share, name):
    """Return what a step was granted: its share of what was left before it."""
    spent = 0
    for decision in found.decisions:
        if decision.name == name:
            break
        spent += decision.evidence["cost_examples"]
    return share * (found.ledger.budget.trainings * found.ledger.final.examples - spent)


def named(found, name):
    return next(each for each in found.decisions if each.name == name)


def booked(decision):
    return decision.evidence["trained_examples"], decision.evidence["cost_examples"]


@pytest.mark.parametrize("text", ["2x", "4x", "12x"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_all_that_a_search_trains_is_booked_and_every_share_is_kept(shuffled, text, counted):
    found = ended(search(digits(shuffled), mlp, text, 12))
    assert found.ledger.cost <= budget(text).trainings
    names = ("wiring", "initial-loss", "overfit-sample", "learning-rate")
    first = [each for each in found.decisions if each.name in names]
    rest = sum(each.evidence["cost_examples"] for each in found.decisions if each.name not in names)
    assert counted.examples + GRADIENTS == rest + sum(each.evidence.get("trained_examples", 0) for each in first)
    for name, share in {**CHECK_SHARE, "learning-rate": MOST_BRACKET_SHARE}.items():
        for decision in first:
            if decision.name == name:
                evidence = decision.evidence
                cost = cost_in_examples(evidence.get("trained_examples", 0), evidence.get("evaluated_examples", 0))
                assert evidence["cost_examples"] == cost <= granted(found, share, name)


def test_step_0_books_both_of_its_trainings_where_labels_are_shuffled(counted):
    running = search(digits(shuffled=True), mlp, "6x", 50)
    while not running.advance().doing.startswith("step 1"):
        pass
    running.close()
    wiring = surefoot.check_wiring(mlp, digits(shuffled=True), most_examples=38_400, engine=Engine(LOOP), **PLACE)
    # A tenth of six times 50 epochs is 38,400 examples.
    assert counted.examples == 2 * (wiring.evidence["trained_examples"] - GRADIENTS)
    looks = wiring.evidence["dependence"]["looks"]
    assert [look["steps"] for look in looks if not look["planted"]] == [10, 30, 60, 100, 150]
    assert [look["steps"] for look in looks if look["planted"]] == [10]
    assert wiring.evidence["trained_examples"] == GRADIENTS + 3 * (150 + 10) * 64
    assert (wiring.verdict, wiring.findings[-1].name) == ("suspect", "dependence")


def test_step_2_ends_where_its_share_ends_and_says_so(counted):
    found = ended(search(digits(), deep, "7x", 10))
    overfit = named(found, "overfit-sample")
    trained, cost = booked(overfit)
    share = granted(found, CHECK_SHARE["overfit-sample"], "overfit-sample")
    assert 0.5 * share < cost <= share
    assert trained == sum(run["updates"] for run in overfit.evidence["runs"]) * 16 + 128
    assert overfit.findings[-1].name == "unfinished"
    assert overfit.verdict != "fail"
    assert any("step 2" in text for text in found.end.unchecked)
