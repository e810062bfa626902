"""Names of numbers, and which way is better: of rows and of trials alike."""

import dataclasses
import math

import pytest
from invented import came_to, trial

from surefoot.record.measures import RISES, is_better, number_of, rises
from surefoot.record.trial import TrialResult
from surefoot.training.metrics import OF

SEEN = dataclasses.replace(came_to(trial(0.1), -1.0), val_accuracy=0.75, metrics={"f1": 0.5, "mine": math.nan})


@pytest.mark.parametrize(
    ("choice", "value"),
    [("loss", math.exp(-1)), ("accuracy", 0.75), ("f1", 0.5), ("mine", None), ("other", None), ("f1:max", 0.5)],
)
def test_a_number_is_found_by_its_name(choice, value):
    assert number_of(SEEN, choice) == value


def test_every_shipped_metric_has_its_direction():
    assert {name for names in OF.values() for name in names} == set(RISES) - {"loss"}
    assert [rises(name) for name in ("rmse", "r2", "perplexity", "iou", "mine", "mine:min", "mine:max")] == [
        False, True, False, True, True, False, True,
    ]  # fmt: skip
    assert is_better(2.0, 3.0, "mine:min")
    assert not is_better(2.0, 3.0, "mine")


def test_a_trial_keeps_its_metrics_and_one_of_an_older_version_has_none():
    plain = dataclasses.replace(SEEN, chosen_by="f1").to_dict()
    again = TrialResult.from_dict(plain)
    assert again.metrics["f1"] == 0.5
    assert math.isnan(again.metrics["mine"])
    assert again.chosen_by == "f1"
    for name in ("metrics", "chosen_by"):
        del plain[name]
    assert TrialResult.from_dict(plain).chosen_by is None
