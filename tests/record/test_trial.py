import json

from surefoot.config import Recipe, Schedule
from surefoot.record.trial import Trial, TrialResult

TRIAL = Trial(
    stage="coarse-grid", recipe=Recipe(lr=0.3, steps=20, schedule=Schedule(kind="linear")), seed=1, share=0.25
)


def tried(**changes):
    values = {
        "outcome": "finished",
        "examples": 640,
        "train_loss": 0.4,
        "val_loss": 0.5,
        "val_accuracy": 0.9,
        "seconds": 1,
    }
    return TrialResult(trial=TRIAL, **{**values, **changes})


def test_a_record_comes_back_from_json():
    for each in (tried(), tried(outcome="diverged", train_loss=None, val_loss=None, val_accuracy=None)):
        assert TrialResult.from_dict(json.loads(json.dumps(each.to_dict(), allow_nan=False))) == each


def test_a_loss_that_is_not_finite_does_not_count_as_finished():
    assert tried().finished
    assert not tried(val_loss=float("nan")).finished
    assert not tried(outcome="diverged", val_loss=None).finished
    assert tried(val_loss=float("inf")).to_dict()["val_loss"] is None


def test_the_key_is_that_of_the_training_not_of_who_asks_for_it():
    same = Trial(stage="refine", recipe=TRIAL.recipe, seed=1, share=0.3)
    assert same.key == TRIAL.key
    other_seed = Trial(stage="coarse-grid", recipe=TRIAL.recipe, seed=2, share=0.25)
    other_rate = Trial(stage="coarse-grid", recipe=Recipe(lr=0.31, steps=20), seed=1, share=0.25)
    assert len({TRIAL.key, other_seed.key, other_rate.key}) == 3
