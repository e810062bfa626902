"""Step 2 on real, small models: sound ones pass in seconds, planted faults are named."""

import math

import numpy as np
import pytest
import torch
from small import image_arrays, images, number_arrays
from torch import nn

import surefoot
from surefoot.errors import ConfigError
from surefoot.record.decision import cost_in_examples
from surefoot.record.progress import finished
from surefoot.rules import update_rule, update_rules
from surefoot.steps.overfit.check import look_examples, overfit_sample, overfitting_sample
from surefoot.steps.overfit.sample import measure_sample, sample_task
from surefoot.training.population.engine import Engine
from surefoot.training.population.strategy import LOOP


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


@pytest.mark.parametrize("rule", [*update_rules()][1:])
def test_every_rule_learns_digits_by_heart_at_rates_of_its_own(rule):
    found = overfit_sample("mlp", "digits", rule=rule, threads=1)
    assert found.verdict == "pass", found.reason
    assert found.evidence["rule"] == rule
    rates = [each["lr"] for each in found.evidence["runs"]]
    assert rates[0] == pytest.approx(10 * update_rule(rule).lr_range[0], rel=0.01)


def test_a_rule_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="rule = 'adamm'"):
        overfit_sample("mlp", "digits", rule="adamm")


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
    assert names(whole)["learns-by-heart"] == "pass", "all that the labels allow"
    assert whole.verdict == "suspect"


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "bce"])
def test_identical_rows_of_a_table_with_other_targets_are_no_failure_of_the_model(loss):
    """As in each table of few categories: what is the same twice cannot be learned by heart, and need not be."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (128, 3)).astype(np.float32)
    y = x[:, 0] + 0.3 * rng.normal(size=128)
    y = (y > 0.5).astype(np.float32) if loss == "bce" else y
    data = surefoot.load((x, y), target="numbers", validation=0)
    found = overfit_sample("mlp", data, loss, threads=1)
    assert names(found)["learns-by-heart"] == "pass", found.reason
    assert found.verdict == "suspect"


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


EXAMPLES = 64


def whole(model, x=None, y=None, target="classes", loss=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 4)).astype(np.float32) if x is None else x
    y = np.arange(EXAMPLES) % 2 if y is None else y
    data = surefoot.load((x, y), validation=0, target=target)
    return surefoot.task(data, model, loss=loss, augment=(), precision="fp32", threads=1)


def mlp(*last, dropout=0.0):
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 2), *last)


def test_the_sample_is_its_own_validation_without_dropout_and_the_task_stays_as_it_was():
    task = whole(mlp(dropout=0.5))
    small = sample_task(task, 10)
    assert small.data.examples == 10
    assert small.data.validation is small.data.train
    assert [each.p for each in small.template.modules() if isinstance(each, nn.Dropout)] == [0.0]
    assert [each.p for each in task.template.modules() if isinstance(each, nn.Dropout)] == [0.5]
    known = {row.numpy().tobytes() for row in task.data.train.x}
    assert len({row.numpy().tobytes() for row in small.data.train.x} & known) == 10


def test_contradictions_are_named_and_bound_what_can_be_right():
    x = np.zeros((EXAMPLES, 4), dtype=np.float32)
    x[4:] = np.random.default_rng(0).normal(size=(EXAMPLES - 4, 4))
    found = measure_sample(sample_task(whole(mlp(), x=x), EXAMPLES), 16)  # four equal inputs, two of each class
    assert len(found.contradictions) == 1
    assert len(found.contradictions[0]) == 4
    assert found.best_accuracy == pytest.approx((EXAMPLES - 2) / EXAMPLES)


def test_probabilities_and_noise_inside_are_seen_and_plain_logits_are_neither():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x):
            return self.net(nn.functional.dropout(x, 0.5, self.training))

    plain, soft, noisy = (
        measure_sample(sample_task(whole(model), 32), 16) for model in (mlp(), mlp(nn.Softmax(dim=1)), Noisy())
    )
    assert (plain.probabilities, plain.functional_dropout) == (False, False)
    assert (soft.probabilities, soft.functional_dropout) == (True, False)
    assert (noisy.probabilities, noisy.functional_dropout) == (False, True)
    for last in (nn.ReLU(), nn.Linear(2, 2)):  # at least 0 without the sum, and neither
        assert not measure_sample(sample_task(whole(mlp(last)), 32), 16).probabilities
    assert plain.parameters == 4 * 64 + 64 + 64 * 2 + 2
    assert plain.initial_loss == pytest.approx(math.log(2), abs=0.2)


def test_of_a_regression_the_variance_of_the_targets_is_known():
    y = np.random.default_rng(1).normal(3, 2, EXAMPLES).astype(np.float32)
    small = sample_task(whole(nn.Linear(4, 1), y=y, target="numbers"), 32)
    found = measure_sample(small, 16)
    assert found.target_variance == pytest.approx(float(small.data.train.y.var(correction=0)), rel=1e-5)
    assert (found.best_accuracy, found.probabilities) == (None, False)


def test_training_stops_when_one_rate_has_learned_and_says_so_of_the_others():
    def work():
        return overfitting_sample(task, 2, 8, [1e-6, 0.1], 2000, engine=Engine(LOOP))  # the same bits twice

    task = whole(mlp())
    steps, found = [now.steps_done for now in work()], finished(work())
    assert steps == sorted(steps)
    slow, quick = found.evidence["runs"]
    assert (found.verdict, found.value["lr"]) == ("pass", 0.1)
    assert slow["outcome"] == quick["outcome"] == "interrupted"
    assert steps[-1] == slow["steps"][-1] + quick["steps"][-1] < 2 * 2000
    assert quick["steps"] == list(range(2, quick["steps"][-1] + 1, 2)), "a row for each pass of 2 steps"


def test_no_look_is_begun_that_would_cost_more_than_granted_and_all_is_booked():
    task, most = whole(mlp()), 1000
    found = finished(overfitting_sample(task, 2, 8, [1e-6, 1e-5], 2000, most_examples=most))
    assert names(found) == {"unfinished": "suspect"}
    trained, evaluated = found.evidence["trained_examples"], found.evidence["evaluated_examples"]
    assert trained - 16 == 8 * sum(run["updates"] for run in found.evidence["runs"]) > 0
    assert cost_in_examples(trained, evaluated) <= most < cost_in_examples(trained, evaluated) + look_examples(16, 2)
