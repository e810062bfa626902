"""Lists, tuples and mappings as people nest them, read as trees of arrays."""

from collections import OrderedDict, UserDict, namedtuple

import numpy as np
import pytest
import torch
from PIL import Image

from surefoot.data import tree
from surefoot.data.load import load
from surefoot.data.nested import example_tree
from surefoot.errors import ConfigError, DataError

N = 40
A = np.random.default_rng(0).normal(size=(N, 5)).astype("float32")
B = np.random.default_rng(1).normal(size=(N, 3)).astype("float32")
Y = (A[:, 0] > 0).astype(int)
Pair = namedtuple("Pair", "a b")


def loaded(source, **settings):
    return load(source, validation=0, **settings)


@pytest.mark.parametrize(
    "inputs",
    [(A, B), [A, B], [torch.from_numpy(A), torch.from_numpy(B)], Pair(A, B), (A.tolist(), B.tolist())],
    ids=["tuple", "list", "list of tensors", "named tuple", "lists of numbers"],
)
def test_several_arrays_are_several_inputs(inputs):
    found = loaded((inputs, Y)).train.x
    assert isinstance(found, tuple)
    assert [bool(np.allclose(leaf, each)) for leaf, each in zip(found, (A, B), strict=True)] == [True, True]


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict])
def test_a_mapping_of_any_kind_holds_inputs_and_their_targets(kind):
    found = loaded(kind(a=A.tolist(), b=B, labels=Y.tolist()))
    assert tree.shapes(found.train.x) == {"a": (5,), "b": (3,)}
    assert (found.label_name, found.classes) == ("labels", ("0", "1"))


def test_a_list_of_arrays_inside_a_mapping_is_several_inputs_and_one_of_examples_is_one():
    found = loaded(({"both": [A, B], "rows": list(A)}, Y)).train.x
    assert tree.shapes(found) == {"both": ((5,), (3,)), "rows": (5,)}


def test_examples_of_lists_are_arrays():
    rows = [{"ids": A[i].tolist(), "box": [torch.from_numpy(A[i]), B[i]], "labels": int(Y[i])} for i in range(N)]
    assert tree.shapes(loaded(rows).train.x) == {"ids": (5,), "box": ((5,), (3,))}


@pytest.mark.parametrize("test_rows", [N, 30], ids=["as many", "fewer"])
def test_pairs_of_arrays_are_a_training_and_a_test_part(test_rows):
    found = loaded(((A, Y), (A[:test_rows], Y[:test_rows])))
    assert (found.classes, len(found.test), found.input_shape) == (("0", "1"), test_rows, (5,))


def test_two_inputs_beside_two_targets_are_no_parts():
    found = loaded(((A, A), (Y, Y)))
    assert (found.target, found.test) == ("any", None)


def test_parts_have_their_inputs_in_any_order():
    found = loaded({"train": {"a": A, "b": B, "label": Y}, "test": {"b": B[:9], "label": Y[:9], "a": A[:9]}})
    assert list(found.test.x) == ["a", "b"]
    assert np.array_equal(found.test.x["b"], B[:9])


def test_pictures_and_pixels_in_a_mapping_are_images():
    pixels = np.random.default_rng(0).integers(0, 256, (N, 6, 7, 3)).astype("uint8")
    for images in (pixels, [Image.fromarray(each) for each in pixels]):
        found = loaded(({"image": images, "a": A}, Y)).train.x
        assert (found["image"].dtype, tuple(found["image"].shape[1:])) == (torch.uint8, (3, 6, 7))


def test_zeros_and_ones_in_floating_point_stay_what_they_are():
    mask = (np.arange(6) < np.arange(N)[:, None] % 6 + 1).astype("float32")
    found = loaded(({"x": A, "mask": mask, "third": mask / 2}, Y))
    assert float(found.mean["mask"].abs().sum()) == 0
    assert bool((found.std["mask"] == 1).all())
    assert float(found.mean["third"].abs().sum()) > 0


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_floating_point_of_any_width_is_read(dtype):
    values = torch.from_numpy(A).to(getattr(torch, dtype))
    found = loaded(({"a": values, "b": B}, values[:, 0]), target="numbers").train
    assert found.x["a"].dtype == found.y.dtype == torch.float32


def without(rows, **change):
    return [{"a": A[i], "b": B[i], "labels": int(Y[i]), **{k: v(i) for k, v in change.items()}} for i in range(rows)]


def bad(array, at):
    array = array.copy()
    array[at] = np.nan
    return array


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (({"a": A, "n": {"b": bad(B, (7, 2))}}, Y), r"row 7: holds nan at feature 2 of n\.b"),
        (({"a": A, "b": bad(B[:, 0], 7)}, Y), "row 7: holds nan in b"),
        (({"a": A, "b": B}, {"q": bad(B, (5, 1)), "r": Y}), r"row 5: holds nan at feature 1 of y\.q"),
        (({"a": A, "b": B}, (Y, bad(A[:, 0], 5))), r"row 5: holds nan in y\.1"),
        (({"a": A, "b": np.array(["red"] * N)}, Y), r"x\.b: holds text: arrays hold numbers\. Leave it out"),
        (without(N, b=lambda i: "red"), r"x\.b: holds text"),
        (({"a": A, "b": None}, Y), r"x\.b: is None: arrays hold numbers\. Leave it out"),
        ({"a": A, "b": None, "labels": Y}, r"x\.b: is None"),
        (((A, None), Y), r"x\.1: is None"),
        (without(N, b=lambda i: None), r"row 0: cannot be read \(ValueError: b is None: leave it out"),
        (({"a": [[1] * (1 + i % 3) for i in range(N)]}, Y), r"x\.a: is no array \(its lists have several lengths\)"),
        (without(N, b=lambda i: [1] * (1 + i % 3)), r"row 1: has .*x\.b \(2,\).*the first has .*x\.b \(1,\)"),
        (without(N, b=lambda i: [[1], [1, 2]]), "row 0: cannot be read .*b is ragged: pad"),
        (({"a": A, "b": B[:-1]}, Y), r"arrays of other lengths \(x\.a 40, x\.b 39, y 40\)"),
        (((A, B), (Y[:-1], Y[:-1])), r"arrays of other lengths \(x\.0 40, x\.1 40, y\.0 39, y\.1 39\)"),
        ({"train": {"a": A, "label": Y}, "test": {"b": B, "label": Y}}, "test inputs: are b here, and a in train"),
        ([{"a": A[i], "b": B[i]} for i in range(N)], "a mapping with 'a', 'b', none of labels, label"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_row_and_key(source, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        loaded(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (({"a.b": A, "a": {"b": B}}, Y), "two arrays named a.b"),
        (({0: A, "0": B}, Y), "keys 0, '0'"),
        ({"a": A, "outcome": Y}, "data with a part 'a'.*of inputs by name one is the targets: labels, label"),
    ],
)
def test_keys_that_cannot_be_told_apart_or_understood_are_named(source, message):
    with pytest.raises(ConfigError, match=message):
        loaded(source)


def test_the_name_of_none_is_its_path():
    with pytest.raises(ValueError, match=r"a\.1 is None"):
        example_tree({"a": (1, None)}, np.asarray)
