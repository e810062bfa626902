"""Step 3 on problems whose answer is known, and its promises."""

import json
import math

import numpy as np
import pytest
import torch
from small import images
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.record.decision import Decision
from surefoot.record.progress import finished
from surefoot.steps.lr_range.find_lr import find_lr, searching
from surefoot.steps.lr_range.measure import LrSearch
from surefoot.training.population.engine import Engine
from surefoot.training.population.strategy import LOOP

QUICK = {"steps": 40, "seeds": 2, "points_per_decade": 3, "threads": 1, "precision": "fp32"}


def quadratic(scale):
    """A linear least-squares problem: its loss is a quadratic whose Hessian's largest eigenvalue is known."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 6)).astype(np.float32)
    y = (x @ rng.normal(size=6)).astype(np.float32)
    data = surefoot.load((x, y), target="numbers", validation=0)
    inputs = scale * (data.train.x - data.mean) / data.std
    with_bias = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    largest = float(torch.linalg.eigvalsh(2 * with_bias.T @ with_bias / len(inputs))[-1])
    return data, largest


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale, self.head = scale, nn.Linear(6, 1)

    def forward(self, x):
        return self.head(self.scale * x)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_upper_end_is_the_planted_edge_of_stability(scale, momentum):
    """Heavy-ball descent on a quadratic is stable up to 2 (1 + momentum) / largest eigenvalue; batches are all of N."""
    data, largest = quadratic(scale)
    edge = 2 * (1 + momentum) / largest
    found = find_lr(Scaled(scale), data, batch_size=128, momentum=momentum, weight_decay=0.0, range_test=False,
                    clip_norm=None, seeds=2, precision="fp32", threads=1)  # fmt: skip
    assert found.value["high"] / 2 <= edge <= found.value["high"] * 2
    assert found.value["high_interval"][0] <= edge <= found.value["high_interval"][1] * 1.01


@pytest.mark.parametrize("target", ["numbers", "auto"])
def test_numbers_are_clipped_as_train_clips_them(target):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3))
    data = surefoot.load((x, 1e5 * x[:, 0] + 350_000.5), target=target)
    quick = QUICK | {"range_test": False}
    found, clipped, not_clipped = (find_lr("mlp", data, **quick, **more)
                                   for more in ({}, {"clip_norm": 1.0}, {"clip_norm": None}))  # fmt: skip
    assert found.value == clipped.value
    assert found.value != not_clipped.value


@pytest.fixture(scope="module")
def mlp():
    return find_lr("mlp", "digits", **QUICK)


def test_the_value_is_a_bracket_and_the_evidence_redraws_it(mlp):
    value = mlp.value
    assert mlp.verdict == "pass", mlp.findings
    assert value["low"] < value["lr"] < value["high"]
    assert value["lr"] == pytest.approx(math.sqrt(value["low"] * value["high"]))
    assert value["low_interval"][0] <= value["low"] <= value["low_interval"][1]
    assert value["high_interval"][0] <= value["high"] <= value["high_interval"][1]
    back = Decision.from_dict(json.loads(json.dumps(mlp.to_dict(), allow_nan=False)))
    assert back.value == value
    assert {len(rate["curve"]) for rate in back.evidence["rates"]} == {len(back.evidence["curve_steps"])}
    assert set(back.evidence["range_test"]["suggestions"]) == {"steep", "minimum/10", "valley", "slide", "lightning"}


def test_the_same_seed_gives_the_same_decision(mlp):
    """Up to rounding: how a population is computed may be chosen by timing, and sums in another order differ."""
    again = find_lr("mlp", "digits", **QUICK)
    assert [rate["word"] for rate in again.evidence["rates"]] == [rate["word"] for rate in mlp.evidence["rates"]]
    for name, value in mlp.value.items():
        assert again.value[name] == pytest.approx(value, rel=1e-3)


def test_rates_that_diverge_are_words_and_raise_nothing(mlp):
    found = find_lr("linear", "digits", low=10.0, high=100.0, **QUICK)
    assert {rate["word"] for rate in found.evidence["rates"]} >= {"too high", "drops"}
    assert any(rate["word"] in ("too high", "diverged") for rate in mlp.evidence["rates"])


def test_a_model_that_cannot_learn_fails():
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return self.bias + 0 * x.flatten(1)[:, :3]

    found = find_lr(Blind(), images(60), steps=20, seeds=2, points_per_decade=1, range_test=False, threads=1)
    assert found.verdict == "fail"
    assert found.value is None


def test_nothing_is_touched():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    found = find_lr(model, images(), steps=10, seeds=1, points_per_decade=1, threads=1)
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert found.untouched is not None
    assert found.evidence["batch_size"] == 16, "of 60 training examples"


def test_settings_out_of_range_are_errors():
    for settings in ({"low": 1.0, "high": 0.1}, {"steps": 1}, {"seeds": 0}, {"points_per_decade": 0}, {"low": 1e-9},
                     {"seeds": 1.5}, {"low": "1e-4"}, {"steps": True}):  # fmt: skip
        with pytest.raises(surefoot.ConfigError):
            LrSearch(**settings)


@pytest.mark.parametrize(("most", "cut"), [(150, True), (250, True), (600, False), (None, False)])
def test_no_more_updates_are_done_than_granted(most, cut):
    """The first grid is 5 rates of 20 steps and 20 at rate 0; the best of the linear model lies beyond it."""
    task = surefoot.task(surefoot.load("digits"), "linear", precision="fp32", threads=1)
    search = LrSearch(low=1e-5, high=1e-3, points_per_decade=2, steps=20, seeds=3, range_test=False, most_updates=most)
    found = finished(searching(task, Recipe(batch_size=32), search, Engine(LOOP)))
    evidence = found.evidence
    updates = evidence["trained_examples"] / 32
    assert updates == 20 * (sum(len(rate["final_losses"]) for rate in evidence["rates"]) + len(evidence["seeds"]))
    assert most is None or updates <= most
    assert evidence["cut"] == cut
    if not cut:
        assert (evidence["rates"][-1]["lr"] > 0.1, len(evidence["seeds"])) == (True, 3)


@pytest.mark.parametrize(
    ("asked", "held"),
    [({"preset": "roberta"}, {"rule": "adamw", "beta2": 0.98, "eps": 1e-6}),
     ({"preset": "bert", "eps": 1e-8}, {"rule": "adamw", "beta2": 0.999, "eps": 1e-8}),
     ({"preset": "bert", "rule": "sgd"}, {"rule": "sgd", "momentum": 0.9}),
     ({"preset": "resnet-step"}, {"rule": "sgd", "momentum_form": "nesterov", "weight_decay": 1e-4})],
)  # fmt: skip
def test_the_update_of_a_preset_is_held_at_every_rate(asked, held):
    found = find_lr("linear", "digits", steps=10, seeds=1, range_test=False, **asked)
    assert {name: found.evidence[name] for name in held} == held


def test_a_preset_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'bert'"):
        find_lr("linear", "digits", preset="brt")
