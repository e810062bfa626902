import json

import numpy as np
import pytest
import torch
from torch import nn

import surefoot
from surefoot.errors import ConfigError
from surefoot.search.tune import asked_for

KEPT = {"epochs": 3, "batch_size": 64, "schedule": "linear"}
PLACE = {"threads": 1, "precision": "fp32"}


def test_a_step_that_fails_ends_the_search_unless_forced():
    class Dead(nn.Module):
        """No logit depends on the input."""

        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            return self.head(x.flatten(1) * 0)

    found = surefoot.tune("digits", Dead(), budget="6x", final=False, **KEPT, **PLACE)
    assert found.recipe is None
    assert found.decisions[-1].verdict == "fail"
    forced = surefoot.tune("digits", Dead(), budget="6x", final=False, force=True, **KEPT, **PLACE)
    assert forced.recipe is not None


def test_a_model_that_is_trained_already_is_tuned_further(tmp_path):
    """A head that knows its classes begins far under chance: no step takes that for a fault."""
    trained = surefoot.train("digits", "mlp", epochs=4, name="before", runs_dir=tmp_path, **PLACE)
    tuned = surefoot.tune("digits", trained.model, budget="3x", name="after", runs_dir=tmp_path, **KEPT, **PLACE)
    assert tuned.result is not None, [each.reason for each in tuned.decisions]
    assert tuned.result.summary["test_accuracy"] >= trained.summary["test_accuracy"] - 0.01


def test_a_loss_of_ones_own_is_what_is_minimised(tmp_path):
    def squared(outputs, targets):
        return ((outputs - nn.functional.one_hot(targets, 10)) ** 2).sum(1)

    tuned = surefoot.tune("digits", "mlp", loss=squared, budget="3x", name="a", runs_dir=tmp_path, **KEPT, **PLACE)
    assert tuned.result is not None, [each.reason for each in tuned.decisions]
    assert tuned.result.summary["test_accuracy"] > 0.75  # after 60 updates, from a rate that ruins it
    assert tuned.result.summary["test_loss"] < 0.6  # of the squared distance, which is 1 where nothing is said


def test_a_module_is_left_as_it_was():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    torch_state = torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    surefoot.tune("digits", model, budget="1x", final=False, **KEPT, **PLACE)
    assert all(bool((value == before[name]).all()) for name, value in model.state_dict().items())
    assert model.training
    assert bool((torch.get_rng_state() == torch_state).all())


def test_a_regression_is_tuned():
    x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    y = x @ torch.arange(5.0) + 1
    found = surefoot.tune(
        (x, y), "linear", budget="4x", final=False, target="numbers", epochs=4, batch_size=32, **PLACE
    )
    assert found.recipe is not None
    assert found.cost["trainings"] <= 4.1


def test_without_a_validation_part_nothing_can_be_chosen():
    with pytest.raises(ConfigError, match="validation"):
        surefoot.tune("digits", "linear", final=False, validation=0.0)


def test_the_final_training_is_a_run_with_recipe_decisions_and_cost(tmp_path):
    tuned = surefoot.tune("digits", "linear", budget="2x", name="a", runs_dir=tmp_path, **KEPT, **PLACE)
    saved = json.loads((tmp_path / "a" / "result.json").read_text())
    assert saved == tuned.result.summary
    assert {"recipe", "decisions", "cost", "unchecked", "test_accuracy"} <= saved.keys()
    assert saved["recipe"]["lr"] == tuned.recipe.lr
    again = surefoot.train("digits", config=tmp_path / "a" / "config.toml", name="b", runs_dir=tmp_path)
    assert again.summary["test_accuracy"] == saved["test_accuracy"]


def test_a_search_keeps_its_settings(tmp_path):
    surefoot.tune("digits", "linear", budget="1x", name="a", runs_dir=tmp_path, **KEPT, **PLACE)
    with pytest.raises(ConfigError, match="started with other settings"):
        surefoot.tune("digits", "linear", budget="2x", name="a", runs_dir=tmp_path, **KEPT, **PLACE)
    with pytest.raises(ConfigError, match="seed"):
        surefoot.tune("digits", "linear", budget="1x", name="a", runs_dir=tmp_path, seed=1, **KEPT, **PLACE)
    surefoot.train("digits", "linear", epochs=1, name="b", runs_dir=tmp_path)
    with pytest.raises(ConfigError, match="not tuned"):
        surefoot.tune("digits", "linear", budget="1x", name="b", runs_dir=tmp_path, **KEPT, **PLACE)


def test_on_a_table_the_weight_decay_that_fits_it_stays_at_every_rate():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 4)).astype(np.float32)
    data = (x, x[:, 0] - x[:, 1])
    found = surefoot.tune(data, "mlp", target="numbers", budget="2x", epochs=20, final=False, **PLACE)
    assert found.recipe.weight_decay == pytest.approx(3 / 180, rel=1e-2)
    assert found.recipe.lr != 0.1
    for given in (0.5, "auto"):
        words = {"data": "a.csv"}
        start, terms = asked_for(words, {"weight_decay": given}, None, "2x", force=False)
        assert (start.recipe.weight_decay, terms.fixed, terms.given) == (given, {"weight_decay"}, set())


@pytest.mark.parametrize("choice", ["balanced_accuracy", "mine:min"])
def test_what_chooses_is_what_was_asked_for(choice, tmp_path):
    def mine(outputs, y):
        return float((outputs.argmax(1) != y).double().mean())

    asked = {"metrics": {"mine": mine}, "choose_by": choice, "weights": "best"}
    tuned = surefoot.tune("digits", "linear", budget="2x", name="a", runs_dir=tmp_path, **asked, **KEPT, **PLACE)
    assert tuned.result is not None, [each.reason for each in tuned.decisions]
    assert tuned.result.summary["best"]["metric"] == choice
    assert tuned.result.summary["test_accuracy"] > 0.85
    trials = [json.loads(line) for line in (tmp_path / "a" / "members.jsonl").read_text().splitlines()]
    assert all(each["chosen_by"] == choice for each in trials if "chosen_by" in each)
    assert all("mine" in each["metrics"] for each in trials if each.get("outcome") == "finished")
    said = next(each for each in tuned.decisions if each.name == "coarse-grid").reason
    assert choice.partition(":")[0] in said
