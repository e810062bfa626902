"""The pictures of the steps from invented decisions and trials."""

import copy

import pytest

from surefoot.config import Recipe
from surefoot.record.decision import Decision
from surefoot.record.trial import Trial, TrialResult
from surefoot.report.look import save_chart
from surefoot.report.steps import batch_size_chart, members_of, step_figure


def tried(lr, loss, *, decay=1e-3, seed=0, stage="coarse-grid", momentum=0.9):
    trial = Trial(stage=stage, recipe=Recipe(lr=lr, weight_decay=decay, momentum=momentum), seed=seed, share=0.1)
    return TrialResult(trial=trial, outcome="diverged" if loss is None else "finished", examples=10, train_loss=loss,
                 val_loss=loss, val_accuracy=None, seconds=1.0)  # fmt: skip


def decision(name, **evidence):
    return Decision(step=4, name=name, verdict="pass", claim="c", reason="r", value={}, evidence=evidence, seconds=1.0)


def test_a_decision_is_drawn_from_its_own_members():
    first, second = tried(0.1, 1.0), tried(0.2, 2.0)
    assert members_of(decision("refine", members=[second.trial.key]), [first, second]) == [second]
    assert members_of(decision("coarse-grid"), [first, tried(0.3, 1.0, stage="refine")]) == [first]


def test_the_map_counts_its_trainings():
    figure = step_figure(decision("coarse-grid"), [tried(0.1, 1.0), tried(0.2, 1.5)], "step-4")
    assert figure.name == "step-4"
    assert figure.caption.startswith("2 short trainings")


def test_the_sample_shows_each_run_and_leaves_out_what_is_not_positive():
    runs = [{"lr": 0.1, "steps": [1, 2, 3], "losses": [2.0, 0.1, None]}, {"lr": 0.2, "steps": [1], "losses": [1.0]}]
    figure = step_figure(decision("overfit-sample", runs=runs), [], "x")
    found = [(each["run"], each["step"], each["loss"]) for each in figure.chart.to_dict()["data"]["values"]]
    assert found == [("0: lr 0.1", 1, 2.0), ("0: lr 0.1", 2, 0.1), ("1: lr 0.2", 1, 1.0)]


def test_schedules_show_each_training():
    figure = step_figure(decision("schedule"), [tried(0.1, 1.0, stage="schedule"), tried(0.1, None, stage="schedule")],
                         "x")  # fmt: skip
    plain = figure.chart.to_dict()
    assert len(plain.get("data", plain["layer"][0].get("data"))["values"]) == 1


def test_schedules_are_drawn_in_the_quantity_that_was_compared():
    one = tried(0.1, 1.0, stage="schedule")
    made = decision("schedule", errors={one.trial.key: 0.25}, measure="geometric mean")
    plain = step_figure(made, [one], "x").chart.to_dict()
    assert plain.get("data", plain["layer"][0].get("data"))["values"][0]["loss"] == 0.25
    assert "geometric mean" in str(plain)


NOTHING = ("unknown", "learning-rate", "overfit-sample", "coarse-grid")


@pytest.mark.parametrize("each", [decision("batch-size", sizes=3), *map(decision, NOTHING)])
def test_evidence_that_is_missing_or_of_another_version_has_no_picture_and_no_error(each):
    assert step_figure(each, [], "x") is None


BATCH_SIZE = {
    "value": {"batch_size": 64, "noise_scale": 300.0, "noise_scale_interval": [200.0, None]},
    "evidence": {
        "batch_size": 64, "target_loss": 0.5, "steps": 100,
        "sizes": [
            {"batch_size": size, "step_seconds": [0.01 * size, 0.011 * size], "examples_per_second": 95.0,
             "steps": [100.0, 90.0, 120.0], "seconds": [size * 1.0, size * 0.8, size * 1.3]}
            for size in (16, 64, 256)
        ],
        "noise": [
            {"step": 10, "total": {"noise_scale": [300.0, 200.0, 400.0]}},
            {"step": 50, "total": {"noise_scale": [None, 500.0, None]}},
        ],
    },
}  # fmt: skip


def test_there_are_three_panels():
    assert len(batch_size_chart(BATCH_SIZE).to_dict()["vconcat"]) == 3


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_it_can_be_written(tmp_path, ending):
    assert save_chart(batch_size_chart(BATCH_SIZE), tmp_path / f"noise.{ending}").stat().st_size > 1000


def test_an_open_interval_is_drawn_to_the_top_with_an_arrow():
    panel = batch_size_chart(BATCH_SIZE).to_dict()["vconcat"][2]
    arrows = [layer for layer in panel["layer"] if layer["mark"].get("shape") == "triangle-up"]
    assert [point["step"] for point in arrows[0]["data"]["values"]] == [50]
    assert arrows[0]["data"]["values"][0]["high"] == 1500.0


def test_noise_that_is_open_throughout_can_be_drawn(tmp_path):
    hidden = copy.deepcopy(BATCH_SIZE)
    hidden["evidence"]["noise"] = [{"step": 10, "total": {"noise_scale": [None, None, None]}}]
    assert save_chart(batch_size_chart(hidden), tmp_path / "noise.svg").stat().st_size > 1000
