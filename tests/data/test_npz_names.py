import numpy as np
import pytest

import surefoot
from surefoot.data.npz_names import Named, keys_for, named_parts
from surefoot.errors import DataError

DRAW = np.random.default_rng(0)
IDS, MORE, Y = DRAW.integers(0, 9, (40, 5)), DRAW.normal(size=(40, 3)), np.arange(40) % 2


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        (["x", "y"], {"train": Named("x", "y")}),
        (["X_Train", "Y_train", "x_val", "y_val"],
         {"train": Named("X_Train", "Y_train"), "validation": Named("x_val", "y_val")}),
        (["x", "y", "note", "ids"], {"train": Named("x", "y")}),
        (["x.ids", "x.mask", "y"], {"train": Named({"ids": "x.ids", "mask": "x.mask"}, "y")}),
        (["x.0", "x.1", "y"], {"train": Named(("x.0", "x.1"), "y")}),
        (["x_test.a.0", "x_test.a.1", "x_test.b", "y_test.one", "y_test.two"],
         {"test": Named({"a": ("x_test.a.0", "x_test.a.1"), "b": "x_test.b"},
                        {"one": "y_test.one", "two": "y_test.two"})}),
        (["ids", "mask", "labels", "classes"], {"train": Named({"ids": "ids", "mask": "mask"}, "labels", "labels")}),
        (["ids", "label", "labels_of"], {"train": Named({"ids": "ids", "labels_of": "labels_of"}, "label", "label")}),
        (["train_ids", "train_labels", "test_ids", "test_labels"],
         {"train": Named({"ids": "train_ids"}, "train_labels", "labels"),
          "test": Named({"ids": "test_ids"}, "test_labels", "labels")}),
        (["ids", "labels", "ids_test", "labels_test"],
         {"train": Named({"ids": "ids"}, "labels", "labels"),
          "test": Named({"ids": "ids_test"}, "labels_test", "labels")}),
        (["y", "ids"], {"train": Named({"ids": "ids"}, "y", "y")}),
    ],
)  # fmt: skip
def test_names_say_what_arrays_are(keys, parts):
    assert named_parts(keys) == (parts, [])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["x"], "has no y beside it"),
        (["y_test"], "has no x beside it"),
        (["x", "x_train", "y"], "one x and one y"),
        (["x", "x.ids", "y"], "one x and one y"),
        (["labels"], "has no input beside it"),
        (["a", "b"], "inputs beside labels"),
        (["ids_val", "labels_val", "ids_valid", "labels_valid"], "a part has one target"),
    ],
)
def test_what_is_wrong_with_names_is_one_message(keys, message, tmp_path):
    np.savez(tmp_path / "a.npz", **dict.fromkeys(keys, Y))
    with pytest.raises(DataError, match=message):
        surefoot.load(tmp_path / "a.npz")


@pytest.mark.parametrize("names", ["plain", "dotted", "folder"])
def test_an_archive_of_several_inputs_is_the_mapping_that_it_holds(names, tmp_path):
    given = {"ids": IDS, "more": MORE}
    path = tmp_path / "a.npz"
    if names == "plain":
        np.savez(path, **given, labels=Y)
    elif names == "dotted":
        np.savez(path, **{f"x.{name}": each for name, each in given.items()}, y=Y)
    else:
        path = tmp_path
        for name, each in (given | {"labels": Y}).items():
            np.save(tmp_path / f"{name}.npy", each)
    found, expected = surefoot.load(path), surefoot.load({**given, "labels": Y})
    assert found.input_shape == expected.input_shape
    assert found.label_name == (None if names == "dotted" else "labels")
    assert {name: leaf.tolist() for name, leaf in found.train.x.items()} == {
        name: leaf.tolist() for name, leaf in expected.train.x.items()
    }


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (["ids", "mask", "labels"], {"ids": "ids", "mask": "mask"}),
        (["x.ids", "x.mask"], {"ids": "x.ids", "mask": "x.mask"}),
        (["ids_test", "mask_test", "ids_train", "mask_train"], {"ids": "ids_test", "mask": "mask_test"}),
        (["ids"], None),
        ([], None),
    ],
)
def test_inputs_are_found_by_the_names_that_the_model_has(keys, found):
    assert keys_for({"ids": 0, "mask": 0}, keys) == found


def test_inputs_by_place_are_those_that_savez_numbers():
    assert keys_for((0, 0), ["arr_0", "arr_1"]) == ("arr_0", "arr_1")
    assert keys_for((0, 0), ["x.0", "x.1", "y"]) == ("x.0", "x.1")
