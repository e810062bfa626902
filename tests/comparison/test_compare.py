"""`compare` end to end on small tasks: one start, one budget, rates searched alike, nothing of the caller's touched."""

import math
import statistics

import numpy as np
import pytest
import small
import torch

import surefoot
from surefoot.comparison.compare import step_costs
from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.record.comparison import Comparison
from surefoot.record.progress import Progress, finished
from surefoot.steps.batch_size.measure import ROUNDS

NUMBERS = surefoot.load(small.number_arrays(64), target="numbers")
QUICK = {"epochs": 3, "seeds": 2, "slice_points": None, "surfaces": False, "threads": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def found() -> Comparison:
    rules = ["gradient-descent", "mini-batch", "momentum", "sutskever", "momentum lr=0.05 schedule=cosine label=given"]
    return surefoot.compare(
        "linear", {"train": small.image_arrays(60), "test": small.image_arrays(30, 1)}, rules=rules, batch_size=9,
        **QUICK | {"slice_points": 4},
    )  # fmt: skip


def test_every_rule_starts_alike_and_sees_as_many_examples(found):
    starts = {tuple(run[0] for run in rule.losses) for rule in found.rules}
    assert len(starts) == 1
    assert {rule.steps * rule.batch_size for rule in found.rules} == {found.budget_examples}
    assert found.examples * 3 == found.budget_examples


def test_rates_are_found_on_one_grid_and_lie_inside_it(found):
    searched = [rule for rule in found.rules if not rule.given]
    common = set.intersection(*({trial.lr for trial in rule.tried} for rule in searched))
    assert len(common) >= 6
    for rule in searched:
        scores = {trial.lr: trial.score for trial in rule.tried}
        assert scores[rule.lr] == min(scores.values())
        assert min(scores) < rule.lr < max(scores) or any(each.name == "rate-inside" for each in found.findings)


def test_a_rate_that_was_given_is_not_searched(found):
    given = found.rules[-1]
    assert (given.name, given.lr, given.tried, given.given) == ("given", 0.05, (), True)
    assert given.settings["schedule"]["kind"] == "cosine"


def test_momentum_of_both_forms_is_one_rule_while_the_rate_is_constant(found):
    a, b = (next(rule for rule in found.rules if rule.name == name) for name in ("momentum", "sutskever"))
    assert a.lr == b.lr
    np.testing.assert_allclose(a.final_losses, b.final_losses, rtol=1e-3)
    assert "one-rule" in [finding.name for finding in found.findings]


def test_the_data_is_known_by_its_fingerprint(found):
    data = surefoot.load({"train": small.image_arrays(60), "test": small.image_arrays(30, 1)})
    assert found.data_fingerprint == data.fingerprint


def test_seconds_noise_accuracy_and_target_are_there(found):
    noise = {rule.name: rule.direction.variance for rule in found.rules}
    assert noise["gradient-descent"] == 0
    assert noise["mini-batch"] > noise["momentum"] > 0
    for rule in found.rules:
        assert 0 < rule.step_seconds_range[0] <= rule.step_seconds <= rule.step_seconds_range[1]
        assert all(0 <= accuracy <= 1 for accuracy in rule.accuracies)
    reached = [None not in rule.steps_to_target for rule in found.rules]
    assert sum(reached) >= len(reached) - 1
    assert found.accuracy_on == "test"


def test_the_paths_begin_at_one_point_of_the_slice(found):
    assert len({path[0] for path in found.slice.paths}) == 1
    assert len(found.slice.losses) == len(found.slice.losses[0]) == 4


def test_averaging_brings_steps_nearer_to_the_gradient(found):
    seen = found.averaging
    spread = [np.array(points)[:, 1].std() for points in (seen.gradients, seen.steps)]
    assert spread[1] < spread[0]
    assert seen.gradient_cosines[0] == pytest.approx(seen.step_cosines[0])


def test_nothing_of_the_callers_is_touched_and_a_module_is_the_start_of_all():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    seen = surefoot.compare(model, NUMBERS, rules=["mini-batch lr=0.01", "momentum lr=0.01"], **QUICK)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert len(seen.untouched) == 64
    assert seen.accuracy_on is None
    assert len({run[0] for rule in seen.rules for run in rule.losses}) == 1


def test_a_rule_that_diverges_is_a_record_and_not_a_crash():
    seen = surefoot.compare("linear", NUMBERS, rules=["mini-batch lr=0.01", "momentum lr=900"],
                            batch_size=8, **QUICK | {"slice_points": 3})  # fmt: skip
    assert all(math.isinf(loss) for loss in seen.rules[1].final_losses)
    assert "learns" in [finding.name for finding in seen.findings]
    assert seen.slice.rules == ("mini-batch lr=0.01",)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"seeds": 0}, {"examples": 10**6}, {"low": 2.0}, {"target_loss": -1.0}, {"slice_points": 1},
     {"rules": ["sgdd"]}, {"rules": ["mini-batch batch_size=100000"]}],
)  # fmt: skip
def test_a_setting_out_of_range_is_named(wrong):
    with pytest.raises(ConfigError) as error:
        surefoot.compare("linear", NUMBERS, **QUICK | wrong)
    name, value = next(iter(wrong.items()))
    assert (value[0].split()[-1].split("=")[0] if name == "rules" else name) in str(error.value)


def test_a_step_of_more_examples_costs_more_and_each_is_repeated():
    task = surefoot.task(surefoot.load("digits"), "mlp", threads=1)
    recipes = [Recipe(batch_size=1), Recipe(batch_size="full")]
    before = task.template.head.weight.clone()
    small, large = finished(step_costs(task, recipes, Progress(0, 0)))
    assert len(small) == len(large) == ROUNDS
    assert 0 < statistics.median(small) < statistics.median(large)
    assert bool((task.template.head.weight == before).all())
