import itertools

import pytest

import surefoot
from surefoot.errors import ConfigError
from surefoot.training.accuracy import _table, by_accuracy
from surefoot.training.configure import resolve


def asked(target, **more):
    return resolve({"data": "cifar10", "model": "fast", "device": "cpu", "target": target, **more})


def test_each_accuracy_has_settings_for_either_kind_of_device():
    rows = [(row["accuracy"], row["device"]) for row in _table()["rows"]]
    assert sorted(rows) == sorted(itertools.product((0.9, 0.94, 0.95, 0.96), ("cpu", "cuda")))
    for row in _table()["rows"]:
        assert row["reached"], "each row says in words what was measured"


def test_an_accuracy_chooses_network_and_length():
    low, high = asked(0.9), asked(0.94)
    assert (low.model, high.model) == ("fast", "fast-wide")
    assert low.recipe.progressive_resizing != high.recipe.progressive_resizing
    assert low.target == "auto", "what was asked for has become settings; the kind of targets is the data's to say"


def test_without_an_accuracy_it_is_that_of_the_device():
    assert resolve({"data": "cifar10", "model": "fast", "device": "cpu"}) == asked(0.9)
    assert resolve({"data": "cifar10", "model": "fast", "device": "cpu", "target": "classes"}).model == "fast"


def test_what_is_given_goes_before_the_table():
    found = asked(0.96, recipe={"epochs": 3.0, "lr": 0.3}, validation=0.1, augment=["flip"])
    assert (found.recipe.epochs, found.recipe.lr, found.validation, found.augment) == (3.0, 0.3, 0.1, ("flip",))
    whole = asked(0.96).recipe
    assert found.recipe.schedule.warmup_epochs < whole.schedule.warmup_epochs, "the schedule shrinks with the run"
    assert found.recipe.progressive_resizing == whole.progressive_resizing


def test_another_rule_has_settings_of_its_own_at_the_length_of_the_row():
    row, sgd, adamw = (asked(0.9, recipe=recipe).recipe for recipe in ({}, {"rule": "sgd"}, {"rule": "adamw"}))
    assert row.rule == "muon"
    assert {found.epochs for found in (row, sgd, adamw)} == {row.epochs}
    assert (sgd.lr, sgd.momentum_form, sgd.groups[0].lr) == (0.375, "nesterov", 64)
    assert (adamw.lr, adamw.groups) == (surefoot.Recipe(rule="adamw").lr, ()), "400 times AdamW's rate means nothing"
    assert adamw.progressive_resizing == row.progressive_resizing
    assert (asked(0.94).recipe.lr, asked(0.94).recipe.batch_size) == (0.14, 512)
    found = asked(0.94, recipe={"rule": "sgd"}).recipe
    assert (found.lr, found.batch_size) == (0.375, 256), "the row's rate is muon's"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "cnn", "target": 0.94}, "target = 0.94 with model cnn: .* Set model = fast, or leave target out"),
        ({"model": "fast-wide", "target": 0.94}, "target = 0.94 with model fast-wide"),
        ({"target": 0.93}, r"there for 0\.9, 0\.94, 0\.95, 0\.96\. Set target = 0\.94, the next above it"),
        ({"target": 0.97}, "Give epochs and widths of your own"),
        ({"target": 94}, r"an accuracy is in \(0, 1\).* Write 0\.94 for 94 %"),
        ({"target": 0}, r"an accuracy is in \(0, 1\)"),
        ({"target": 1.0}, r"an accuracy is in \(0, 1\)"),
        ({"target": -0.9}, r"an accuracy is in \(0, 1\)"),
        ({"target": float("nan")}, r"an accuracy is in \(0, 1\)"),
        ({"data": "digits", "target": 0.94}, "target = 0.94 with data digits: .* Leave target out"),
        ({"target": 0.94, "from_run": "weights.safetensors"}, "target = 0.94 with from_run"),
        ({"target": True}, "target = True"),
        ({"target": "0.94"}, "target = '0.94'"),
    ],
)
def test_other_accuracies_are_refused(given, said, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"")
    given = {"data": "cifar10", "model": "fast", **given}
    if "from_run" in given:
        given["from_run"] = str(file)
    with pytest.raises(ConfigError, match=said):
        resolve(given)


def test_a_configuration_by_hand_takes_the_kind_of_targets_alone():
    with pytest.raises(ConfigError, match=r"target = 0\.94"):
        surefoot.Config(target=0.94)  # pyright: ignore[reportArgumentType]  # on purpose


def test_other_data_have_the_defaults_with_model_fast():
    assert by_accuracy({}, "digits", "fast") == ({}, None)
    assert resolve({"data": "digits", "model": "fast"}).recipe.groups == ()
