"""What the page says of a run, in words."""

import dataclasses
from pathlib import Path

from compared import comparison

from surefoot.config import Config, Recipe
from surefoot.record.baseline import class_baseline
from surefoot.record.decision import Decision
from surefoot.record.run import Row
from surefoot.record.stored import Stored
from surefoot.report.run_folder import RunFolder
from surefoot.report.run_section import LIST_COLUMNS, listed, pins_of, run_section, summary, unchecked

ROW = Row(
    step=10, epoch=1.0, examples=640, lr=0.1, train_loss=1.5, train_accuracy=0.4, val_loss=1.2, val_accuracy=0.5,
    grad_norm=1.0, update_ratio=1e-3, losses=(2.0,), seconds=1.0, examples_per_second=640.0,
)  # fmt: skip
RESULT = {
    "outcome": "finished", "reason": "all 10 steps were done", "test_accuracy": 0.9, "test_examples": 100,
    "train_seconds": 3.0, "epochs": 1.0, "steps": 10, "cost": {"trainings": 1.5, "budget": "60s"},
}  # fmt: skip


def decision(name, verdict="pass", **more):
    words = {"step": 1, "claim": "c", "reason": f"{name} seen", "value": {}, "evidence": {}, "seconds": 1.0}
    return Decision(name=name, verdict=verdict, **(words | more))


def contents(result=RESULT, rows=(ROW,), **more):
    config = dataclasses.replace(Config(), data="digits", recipe=Recipe(lr=0.1))
    run = Stored(folder=Path("it"), config=config, command="", environment={"data_fingerprint": "f00d"}, rows=rows,
                 result=result, training=False)  # fmt: skip
    return RunFolder(stored=run, name="it", **more)


def test_the_test_result_comes_first_with_its_wilson_interval():
    lines = summary(contents())
    # Wilson 1927 for 90 of 100: the textbook's interval, 82.56 % to 94.48 %.
    assert lines[0].startswith("90.00% of the 100 examples")
    assert "95 % interval 82.56% to 94.48%" in lines[0]
    assert any("1.50 final trainings, budget 60s" in line for line in lines)


def test_the_simplest_answers_stand_beside_the_result_and_are_the_answer_without_a_test_part():
    y = [0] * 97 + [1] * 3
    beside = class_baseline("validation", [True] * 97 + [False] * 3, [-0.1] * 100, y, {"a": 97, "b": 3}).to_dict()
    with_test = summary(contents(RESULT | {"baseline": beside | {"part": "test"}}))
    assert "no better than always answering 'a' (97.0%)" in with_test[1]
    without = summary(contents(RESULT | {"test_accuracy": None, "baseline": beside}))
    assert without[0].startswith("97.0% of the 100 examples of the validation part (there is no test part")


def test_without_test_part_and_simple_answers_the_validation_part_is_the_answer():
    nothing = {"test_accuracy": None, "test_loss": None, "baseline": None}
    assert summary(contents(RESULT | nothing | {"val_accuracy": 0.5}))[0].startswith(
        "50.00% are right on the validation"
    )
    numbers = summary(contents(RESULT | nothing | {"val_accuracy": None, "val_loss": 0.25}))
    assert numbers[0].startswith("The loss is 0.25 on the validation part")


def test_how_sure_it_is_names_what_did_not_pass():
    lines = summary(contents(decisions=(decision("wiring"), decision("refine", "suspect"))))
    assert "How sure: 1 of 2 steps passed; in doubt: refine (suspect)." in lines
    assert not any("How sure" in line for line in summary(contents()))


def test_a_run_that_is_not_done_says_where_it_is():
    assert summary(contents(result=None)) == ["This run is not done (unfinished); it has come to epoch 1."]
    assert "its beginning" in summary(contents(result=None, rows=()))[0]


def test_a_step_alone_answers_with_its_reason_and_a_search_with_what_failed():
    one = decision("batch-size", reason="batch size 64", advice="find lr")
    alone = RunFolder(stored=None, name="it", decisions=(one,))
    assert summary(alone) == ["Batch size 64.", "find lr."]
    stopped = RunFolder(stored=None, name="it", decisions=(decision("wiring"), decision("initial-loss", "fail")))
    assert summary(stopped) == ["Step 1, initial-loss, fails: initial-loss seen."]


def test_a_comparison_answers_with_the_lowest_loss_and_its_range():
    seen = comparison()
    lines = summary(RunFolder(stored=None, name="it", comparison=seen))
    finals = {rule.name: sorted(rule.final_losses)[len(rule.final_losses) // 2] for rule in seen.rules}
    assert lines[0].startswith(f"Lowest training loss at the end: {min(finals, key=finals.__getitem__)}, ")
    assert f"over {len(seen.seeds)} seeds" in lines[0]


def test_what_nobody_looked_at_is_said():
    said = unchecked(contents(decisions=(decision("wiring"),)))
    assert "Not checked: the wiring." not in said
    assert "Not checked: the initial loss." in said
    assert said[-1] == "Not checked: other seeds."
    part = run_section(contents(result=RESULT | {"unchecked": ["other schedules"]}), 0)
    assert part["unchecked"] == ["other schedules"]
    assert ("data_fingerprint", "f00d") in part["about"]


def test_pins_are_taken_from_the_evidence_and_what_is_none_is_left_out():
    pins = [{"step": 4, "finding": "spike"}, {"step": None, "finding": "x"}, {"finding": "x"}, "x"]
    assert pins_of((decision("curves", evidence={"pins": pins}),)) == [{"step": 4, "finding": "spike"}]


def test_an_interval_of_the_rate_stands_in_the_recipe():
    refined = decision("refine", value={"lr": 0.1, "lr_low": 0.05, "lr_high": 0.2})
    recipe = dict(run_section(contents(decisions=(refined,)), 0)["recipe"])
    assert recipe["lr"] == "0.1"
    assert recipe["lr, as good within the noise"] == "0.05 to 0.2"


def test_what_is_as_good_within_the_noise_stands_in_the_recipe_by_setting():
    alike = [{"lr": 0.1, "momentum": 0.9, "weight_decay": wd} for wd in (1e-4, 1e-3)]
    alike += [{"lr": 0.9, "momentum": 0.0, "weight_decay": 1e-2}, {"lr": "?"}]
    refined = decision("refine", value={"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "alike": alike})
    recipe = dict(run_section(contents(decisions=(refined,)), 0)["recipe"])
    assert recipe["weight_decay, as good at this lr and momentum"] == "0.0001 to 0.001"
    assert recipe["momentum, as good with a fitting lr and weight_decay"] == "0, 0.9"


def test_a_step_that_a_search_did_without_is_a_line_of_its_overview():
    done = tuple(decision(f"step {n}", step=n) for n in (0, 1, 3, 4, 5, 6))
    part = run_section(contents(result=RESULT | {"unchecked": ["step 2, a sample: too dear", "x"]}, decisions=done), 0)
    assert [line[0] for line in part["overview"]] == list(range(7))
    assert part["overview"][2] == (2, "overfit-sample", "not done", "-", "step 2, a sample: too dear")
    assert len(run_section(contents(decisions=done), 0)["overview"]) == 6, "a training alone promised no steps"


def test_a_comparison_says_where_it_ran_and_on_which_data():
    about = dict(run_section(RunFolder(stored=None, name="it", comparison=comparison()), 0)["about"])
    assert about == {"threads": "1", "data_fingerprint": "ff00"}


def test_a_comparison_says_what_it_did_not_look_at():
    said = run_section(RunFolder(stored=None, name="it", comparison=comparison()), 0)["unchecked"]
    assert any("other data than" in line for line in said)
    assert any("other batch sizes" in line for line in said)


def test_nested_values_are_said_in_words():
    step = decision("refine", value={"alike": [{"lr": 0.1, "momentum": 0.9}, {"lr": 0.2, "momentum": 0.9}]})
    (made,) = run_section(contents(decisions=(step,)), 0)["steps"]
    assert made["value"] == [("alike", "lr 0.1, momentum 0.9; lr 0.2, momentum 0.9")]


def test_a_line_of_the_table_has_a_cell_for_each_column():
    line = dict(zip(LIST_COLUMNS, listed(contents()), strict=True))
    assert (line["run"], line["state"], line["test"], line["best validation"]) == ("it", "finished", "0.9", "0.5")
    assert len(listed(RunFolder(stored=None, name="it"))) == len(LIST_COLUMNS)


def test_of_which_step_the_weights_are_and_where_they_started_is_said():
    best = {"step": 8, "metric": "val_loss", "value": 0.25}
    said = summary(contents(RESULT | {"weights": "best", "weights_from_step": 8, "best": best}))
    assert "The weights are those of step 8, the best on the validation part: val_loss 0.25." in said
    said = summary(contents(RESULT | {"weights": "last", "weights_from_step": 10, "best": best}))
    assert any("step 10; the best" in line and "0.25 at step 8, lie beside them in best.safetensors" in line
               for line in said)  # fmt: skip
    said = summary(contents(RESULT | {"started_from": {"from": "runs/first", "step": 1200}}))
    assert "It started from the weights of runs/first, step 1,200." in said
    assert not any("weights" in line for line in summary(contents())), "a run of an older version"
