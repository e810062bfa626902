"""Step 2 on real, small models: sound ones pass in seconds, planted faults are named."""

import numpy as np
import pytest
import torch
from small import image_arrays, images, number_arrays
from torch import nn

import surefoot
from surefoot.steps.overfit.check import overfit_sample


class Broken(nn.Module):
    """A small network for 3 x 8 x 8 images, with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.hidden, self.head = nn.Linear(192, 64), nn.Linear(64, 3)
        self.norm = nn.BatchNorm1d(64, momentum=0.0 if fault == "statistics" else 0.1)
        if fault == "dead":
            nn.init.constant_(self.hidden.bias, -1e4)

    def forward(self, x):
        x = x.flatten(1)
        if self.fault == "blind":
            x = x * 0
        x = self.hidden(x) - (50 if self.fault == "statistics" else 0)  # in evaluation mode all units are dead
        x = self.norm(x).relu() if self.fault == "statistics" else x.relu()
        if self.fault == "functional dropout":
            x = nn.functional.dropout(x, 0.1, self.training)
        x = self.head(x)
        return x.softmax(1) if self.fault == "softmax" else x


def names(decision):
    return {finding.name: finding.verdict for finding in decision.findings}


@pytest.mark.parametrize("model", ["linear", "mlp", "cnn"])
def test_shipped_models_learn_digits_by_heart(model):
    found = overfit_sample(model, "digits", threads=1)
    assert found.verdict == "pass", found.reason
    assert found.value["steps"] <= 800
    assert found.evidence["sample"]["examples"] >= 64


@pytest.mark.parametrize(
    ("fault", "name"),
    [("dead", "does-not-fall"), ("blind", "does-not-fall"), ("softmax", "softmax-before-loss"),
     ("statistics", "statistics"), ("functional dropout", "noise-inside")],
)  # fmt: skip
def test_planted_faults_are_named(fault, name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Broken(fault)
    found = overfit_sample(model, images(), max_steps=200, threads=1)
    assert names(found).get(name) in ("suspect", "fail"), found.findings


def test_contradicting_labels_are_found_and_named():
    x, y = image_arrays(64)
    x[1], y[1] = x[0], (y[0] + 1) % 3
    found = overfit_sample("mlp", {"train": (x, y), "test": image_arrays(21, 2)}, max_steps=80, threads=1)
    if "contradicting-labels" in names(found):  # a sample without one of the two holds no contradiction
        assert found.evidence["sample"]["best_accuracy"] < 1
    whole = overfit_sample("mlp", surefoot.load((x, y), validation=0), batches=8, batch_size=8, max_steps=80, threads=1)
    assert names(whole)["contradicting-labels"] == "suspect"
    assert names(whole)["plateau"] == "fail" if "plateau" in names(whole) else "still-falling" in names(whole)


def test_dropout_modules_are_off_in_the_copy_and_stay_on_in_the_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Dropout(0.9), nn.Linear(64, 3))
    found = overfit_sample(model, images(), threads=1)
    assert found.verdict == "pass", found.reason
    assert model[3].p == 0.9


def test_a_regression_passes():
    data = surefoot.load(number_arrays(200), target="numbers")
    found = overfit_sample("mlp", data, threads=1)
    assert found.verdict == "pass", found.reason


def test_a_rate_beyond_the_grid_is_found():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 3)

        def forward(self, x):
            return self.head(x.flatten(1)) * 300

    found = overfit_sample(Scaled(), images(), max_steps=240, lrs=None, threads=1)
    assert found.verdict == "pass", found.reason


def test_nothing_is_touched_and_the_same_seed_gives_the_same_decision():
    model = Broken("none")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, data = torch.get_rng_state(), images()
    found = [overfit_sample(model, data, seed=1, threads=1).to_dict() for _ in range(2)]
    # Losses up to rounding: how a population is computed may be chosen by timing.
    first, second = ([(run["lr"], run["fate"], run["steps"]) for run in each["evidence"]["runs"]] for each in found)
    assert first == second
    assert [found[0][name] for name in ("verdict", "value", "untouched")] == [
        found[1][name] for name in ("verdict", "value", "untouched")
    ]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert len(found[0]["untouched"]) == 64


def test_settings_out_of_range_are_errors():
    for settings in ({"batches": 0}, {"lrs": []}, {"lrs": [-1.0]}, {"max_steps": 0}, {"lrs": [np.inf]}):
        with pytest.raises(surefoot.ConfigError):
            overfit_sample("linear", "digits", **settings)
