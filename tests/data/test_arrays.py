"""What is in memory becomes images or numbers by its type and shape."""

import numpy as np
import pytest
import torch

from surefoot.data.load import load
from surefoot.errors import DataError

GENERATOR = np.random.default_rng(0)
BYTES = GENERATOR.integers(0, 256, (12, 3, 6, 5), dtype=np.uint8)
Y = np.arange(12) % 3


def loaded(x, y=Y, **options):
    return load((x, y), validation=0, **options)


@pytest.mark.parametrize(
    "same",
    [
        BYTES.transpose(0, 2, 3, 1),
        torch.from_numpy(BYTES),
        BYTES.astype(np.float32) / 255,
        torch.from_numpy(BYTES).float() / 255,
        torch.from_numpy(BYTES).double() / 255,
    ],
    ids=["NHWC", "tensor", "floats", "float tensor", "double tensor"],
)
def test_images_in_every_usual_form_are_the_same_bytes(same):
    data = loaded(same)
    assert data.kind == "images"
    assert np.array_equal(data.train.x, BYTES)


def test_images_without_a_channel_are_grey():
    assert loaded(BYTES[:, 0]).input_shape == (1, 6, 5)


def test_images_are_images_only_if_all_parts_are():
    data = load({"train": (BYTES / 255.0, Y), "test": (BYTES / 255.0 + 0.3, Y)}, validation=0)
    assert data.kind == "numbers"
    assert data.mean.shape == (3, 1, 1)


@pytest.mark.parametrize(
    "x",
    [
        GENERATOR.normal(size=(12, 3, 6, 5)),
        GENERATOR.integers(-5, 5, (12, 4)),
        GENERATOR.integers(0, 256, (12, 4), dtype=np.uint8),
        GENERATOR.random(12) > 0.5,
        GENERATOR.normal(size=(12, 7, 2)).astype(np.float16),
        torch.randn(12, 4, generator=torch.Generator().manual_seed(0)).bfloat16(),
    ],
    ids=["float images", "integers", "byte features", "booleans", "sequences", "bfloat16"],
)
def test_everything_else_is_numbers_in_float32(x):
    data = loaded(x)
    assert data.kind == "numbers"
    assert data.train.x.dtype == torch.float32
    assert data.examples == 12


def test_text_labels_are_classes_in_order():
    names = np.array(["dog", "cat", "eel"])[Y]
    data = loaded(BYTES, names)
    assert data.classes == ("cat", "dog", "eel")
    assert [data.classes[i] for i in data.train.y] == names.tolist()


def test_columns_of_labels_and_booleans_are_labels():
    assert loaded(BYTES, Y[:, None]).outputs == 3
    assert loaded(BYTES, Y > 1).outputs == 2
    assert loaded(BYTES, Y.astype(np.float64)).train.y.dtype == torch.int64


def test_npz_with_names_of_classes_and_all_parts(tmp_path):
    path = tmp_path / "a.npz"
    parts = {
        f"{letter}_{part}": value for part in ("train", "val", "test") for letter, value in (("x", BYTES), ("y", Y))
    }
    np.savez(path, **parts, classes=np.array(["a", "b", "c"]))
    data = load(path)
    assert data.classes == ("a", "b", "c")
    assert list(data.parts) == ["train", "validation", "test"]
    assert data.test.name_of(3) == "test row 3"


def test_a_table_of_columns_is_taken_as_what_it_converts_to():
    class Frame:
        def __init__(self, values):
            self.values = values

        def to_numpy(self):
            return self.values

    assert np.array_equal(loaded(Frame(BYTES), Frame(Y)).train.x, BYTES)


def test_lists_of_unequal_length_are_named():
    with pytest.raises(DataError, match=r"x: is no array|cannot be read"):
        load(([[1.0, 2.0], [3.0]], [0, 1]))


def test_a_pickle_called_npz_is_not_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a\.npz"):
        load(tmp_path / "a.npz")


def test_the_users_arrays_are_never_written_to():
    x, y = BYTES.copy(), Y.copy()
    x.setflags(write=False)
    y.setflags(write=False)
    data = load((x, y))
    assert data.train.x.numpy().flags.writeable
