"""One door for all sources; the fingerprint changes if and only if the data does."""

import dataclasses
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot.data.load import default_model, inspect, load
from surefoot.errors import ConfigError

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 3


def pairs(**changes):
    data = {"train": (X.copy(), Y.copy()), "test": (X[:12] + 1, Y[:12].copy())}
    return data | changes


def test_the_same_data_has_the_same_fingerprint_in_whatever_form():
    wanted = load((X, Y)).fingerprint
    assert len(wanted) == 64
    for same in [
        (torch.from_numpy(X), torch.from_numpy(Y)),
        (X.astype(np.float64), Y.astype(np.int16)),
        (X.tolist(), Y.tolist()),
        torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
        {"training": (X, Y)},
    ]:
        assert load(same).fingerprint == wanted


def changed():
    x = X.copy()
    x[17, 2] = np.nextafter(x[17, 2], 9, dtype=np.float32)
    y = Y.copy()
    y[[0, 1]] = y[[1, 0]]
    yield "one value", pairs(train=(x, Y)), {}
    yield "two labels", pairs(train=(X, y)), {}
    yield "order", pairs(train=(X[::-1].copy(), Y[::-1].copy())), {}
    yield "a test value", pairs(test=(X[:12] + 2, Y[:12])), {}
    yield "no test part", {"train": (X, Y)}, {}
    yield "other part", {"train": (X, Y), "validation": (X[:12] + 1, Y[:12])}, {}
    yield "one example less", pairs(train=(X[:-1], Y[:-1])), {}
    yield (
        "class names",
        pairs(train=(X, np.array(["a", "b", "c"])[Y]), test=(X[:12] + 1, np.array(["a", "b", "c"])[Y[:12]])),
        {},
    )
    yield "other split", pairs(), {"seed": 1}
    yield "other share", pairs(), {"validation": 0.2}
    yield "regression", pairs(), {"target": "numbers"}


@pytest.mark.parametrize(("data", "options"), [each[1:] for each in changed()], ids=[each[0] for each in changed()])
def test_the_fingerprint_changes_with_the_data(data, options):
    assert load(pairs()).fingerprint == load(pairs()).fingerprint
    assert load(data, **options).fingerprint != load(pairs()).fingerprint


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 59), st.integers(0, 3), st.floats(-5, 5, width=32))
def test_any_change_of_any_value_changes_the_fingerprint(row, column, value):
    x = X.copy()
    x[row, column] = value
    assert (load((x, Y)).fingerprint == load((X, Y)).fingerprint) == np.array_equal(x, X)


def test_validation_is_the_sources_own_or_a_tenth_or_what_was_asked():
    own = load(pairs(validation=(X[:9], Y[:9])))
    assert (own.examples, len(own.validation)) == (60, 9)
    tenth = load(pairs())
    assert (tenth.examples, len(tenth.validation), len(tenth.test)) == (54, 6, 12)
    assert load(pairs(), validation=0).validation is None
    assert len(load(pairs(), validation=0.25).validation) == 15
    asked = load(pairs(validation=(X[:9], Y[:9])), validation=0.25)
    assert (asked.examples, len(asked.validation)) == (45, 15)


def test_an_example_keeps_its_name_through_the_split():
    data = load(pairs())
    for part in (data.train, data.validation):
        for i in range(len(part)):
            row = int(part.name_of(i).removeprefix("train row "))
            assert np.array_equal(part.x[i], X[row])


def test_mean_and_deviation_are_of_the_training_part_after_the_split():
    data = load(pairs())
    np.testing.assert_allclose(data.mean, data.train.x.double().mean(0), atol=1e-6)
    np.testing.assert_allclose(data.std, data.train.x.double().std(0, unbiased=False), atol=1e-6)


def test_a_constant_feature_has_deviation_1():
    x = X.copy()
    x[:, 1] = 0.1
    data = load((x, Y))
    assert data.std[1] == 1
    assert data.mean[1] == np.float32(0.1)


def test_a_regression_may_have_one_or_several_targets():
    one, several = load((X, X[:, 0]), target="numbers"), load((X, X[:, :2]), target="numbers")
    assert (one.outputs, one.classes, several.outputs) == (1, None, 2)
    assert one.train.y.dtype == torch.float32
    assert one.target_mean.shape == ()
    assert several.target_std.shape == (2,)


def test_a_data_set_comes_back_as_it_is():
    data = load("digits")
    assert load(data) is data


def test_digits_are_split_the_same_for_every_seed_and_levels_are_exact():
    a, b = load("digits", seed=0), load("digits", seed=9)
    assert torch.equal(a.test.x, b.test.x)
    assert not torch.equal(a.validation.x, b.validation.x)
    assert sorted(a.train.x.unique().tolist()) == [15 * level for level in range(17)]
    sizes = [len(part) for part in a.parts.values()]
    assert sizes == [1294, 144, 359]


def test_loading_leaves_every_random_generator_as_it_was():
    np_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    load("digits")
    assert np.array_equal(np.random.get_state()[1], np_state)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_a_data_set_cannot_be_changed_by_mistake():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load("digits").name = "other"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("digit", {}, "Did you mean 'digits'"),
        ("cifar100", {}, "Did you mean 'cifar10'"),
        ("digits", {"data_dir": "x"}, "only cifar10"),
        ("digits", {"image_size": 8}, "only a folder's images"),
        ("digits", {"label": "y"}, "only a table"),
        ("digits", {"validation": -0.1}, "validation must be in"),
        ("digits", {"target": "numbers"}, "are classes"),
        (7, {}, "data is a name, a path"),
        ({"train": 7}, {}, "data is a name, a path"),
        ({"trian": (X, Y)}, {}, "parts are train, validation and test"),
        ((X, Y, X), {}, "data is a name, a path"),
    ],
)
def test_a_source_or_setting_that_means_nothing_is_refused(source, options, message):
    with pytest.raises(ConfigError, match=message):
        load(source, **options)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems take the home folder from HOME")
def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    assert load("~/a.npz", validation=0).examples == 60


NUMBERS = np.random.default_rng(0).normal(size=(30, 4))
LABELS = np.arange(30) % 3


def test_counts_by_class_and_part():
    found = inspect({"train": (NUMBERS, LABELS), "test": (NUMBERS[:5] + 1, LABELS[:5])})
    assert not found.problems.count
    assert found.problems.warnings == []
    assert found.counts("train") == {"0": 10, "1": 10, "2": 10}
    assert found.counts("test") == {"0": 2, "1": 2, "2": 1}


def test_examples_in_two_parts_are_named():
    found = inspect({"train": (NUMBERS, LABELS), "test": (np.concatenate([NUMBERS[7:9], NUMBERS[:4] + 1]), LABELS[:6])})
    assert found.problems.warnings == [
        "2 examples of test are also in train: test row 0 = train row 7, test row 1 = train row 8"
    ]


def test_equal_examples_with_different_labels_are_named():
    x, y = NUMBERS.copy(), LABELS.copy()
    x[4] = x[2]
    assert "1 equal examples have different labels: row 4 = row 2" in inspect((x, y)).problems.warnings


def test_a_strong_imbalance_and_a_lone_example_are_warned_of():
    x = np.random.default_rng(1).normal(size=(201, 2))
    warnings = inspect((x, np.array([0] * 200 + [1]))).problems.warnings
    assert any("200 times" in text for text in warnings)
    assert any("'1' has 1 example" in text for text in warnings)


def test_a_regression_has_no_counts():
    found = inspect((NUMBERS, NUMBERS[:, 0]), target="numbers")
    assert found.counts("train") == {}
    assert not found.problems.count


def test_wrong_labels_and_wrong_values_are_found_together():
    x, y = NUMBERS.copy(), LABELS.copy()
    x[3, 1], y[5] = np.inf, -1
    found = inspect((x, y))
    assert [each.where for each in found.problems.items] == ["row 3", "row 5"]


class Pairs:
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], i % 2


@pytest.mark.parametrize(
    ("source", "model"),
    [
        ("t.tsv", "mlp"),
        ("t.CSV.gz", "mlp"),
        ("t.npz", "mlp"),
        ("digits", "cnn"),
        ((np.zeros((4, 2)), [0, 1, 0, 1]), "mlp"),
        ((np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1]), "cnn"),
        (({"train": (np.zeros((4, 3, 8, 8), np.float32), [0, 1, 0, 1])}), "cnn"),
        (Pairs(torch.zeros(4, 5)), "mlp"),
        ((Pairs(torch.zeros(4, 1, 8, 8)), Pairs(torch.zeros(2, 1, 8, 8))), "cnn"),
    ],
)
def test_the_model_follows_from_the_data_where_none_is_named(source, model):
    assert default_model(source) == model


@pytest.mark.parametrize(
    ("y", "target", "held", "words"),
    [
        ([0, 1, 0, 1, 0], "classes", 0, "0.1 of 5 is less than one; validation = 0.5 holds out 2"),
        ([0.5, 1.5], "numbers", 0, "validation = 0.5 holds out 1"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "classes", 0, "no class has a second one"),
        ([0, 1] * 5, "classes", 1, None),
    ],
)
def test_a_default_share_of_less_than_an_example_holds_out_none_and_says_so(y, target, held, words):
    data = load((np.random.default_rng(0).normal(size=(len(y), 2)), np.array(y)), target=target)
    assert len(data.validation or ()) == held
    said = [note for note in data.notes if "held out for validation, " in note]
    assert (words is None and not said) or words in said[0]
    if not held:
        with pytest.raises(ConfigError, match="less than one example"):
            load((np.zeros((len(y), 2)) + np.arange(len(y))[:, None], np.array(y)), target=target, validation=0.01)
