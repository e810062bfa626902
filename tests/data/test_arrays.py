"""What is in memory becomes images or numbers by its type and shape."""

import numpy as np
import pytest
import torch
from PIL import Image

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


@pytest.mark.parametrize("form", [Image.fromarray, np.asarray, torch.from_numpy])
def test_a_list_of_images_with_a_list_of_labels_is_a_pair(form):
    images = [form(image) for image in np.ascontiguousarray(BYTES.transpose(0, 2, 3, 1))]
    assert np.array_equal(load((images, Y.tolist()), validation=0).train.x, BYTES)
    parts = load({"train": (images, Y.tolist()), "test": (images[:3], [0, 1, 2])}, validation=0)
    assert len(parts.test) == 3
    with pytest.raises(DataError, match=r"x: is no array \(all input arrays must have the same shape"):
        load(([*images[:-1], form(np.zeros((2, 2, 3), np.uint8))], Y.tolist()))


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


PICTURES = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), dtype=np.uint8)


class Pictures:
    classes = ("cat", "dog")

    def __init__(self, n=20, broken=(), transform=Image.fromarray):
        self.n, self.broken, self.transform, self.reads = n, broken, transform, 0

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.reads += 1
        if i in self.broken:
            raise RuntimeError("disk on fire")
        return self.transform(PICTURES[i]), i % 2


def test_each_example_is_read_once_and_the_classes_are_known():
    source = Pictures()
    data = load(source, validation=0)
    assert source.reads == 20 + 8  # the first four twice, to see that they are the same
    assert data.classes == ("cat", "dog")
    assert np.array_equal(data.train.x.permute(0, 2, 3, 1), PICTURES)


def test_a_pair_is_train_and_test_and_a_mapping_names_its_parts():
    pair = load((Pictures(20), Pictures(6)))
    assert [len(part) for part in pair.parts.values()] == [18, 2, 6]
    mapping = load({"train": Pictures(20), "val": Pictures(4), "test": Pictures(6)})
    assert [len(part) for part in mapping.parts.values()] == [20, 4, 6]


def test_a_list_of_examples_is_a_dataset():
    assert load([(torch.tensor([float(i), 1.0]), i % 2) for i in range(10)], validation=0).input_shape == (2,)


def test_a_tensor_dataset_of_a_regression():
    source = torch.utils.data.TensorDataset(torch.arange(20.0).view(10, 2), torch.arange(10.0))
    assert load(source, target="numbers", validation=0).outputs == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Pictures(broken=(3, 7)), r"row 3: cannot be read \(RuntimeError: disk on fire.*row 7"),
        (Pictures(transform=lambda x: Image.fromarray(x[: 2 + x[0, 0, 0] % 2])), r"row \d+: has x"),
        ([(torch.zeros(2), 0), torch.zeros(3)], r"row 1: cannot be read"),
        (Pictures(0), "train: has no examples"),
    ],
    ids=["broken", "shapes", "no pair", "empty"],
)
def test_a_broken_dataset_is_named_by_row(source, message):
    import re

    with pytest.raises(DataError) as caught:
        load(source)
    assert re.search(message, str(caught.value), re.S), str(caught.value)


def test_a_dataset_that_is_broken_throughout_is_given_up():
    source = Pictures(20_000, broken=range(20_000))
    with pytest.raises(DataError, match="20 problems"):
        load(source)
    assert source.reads == 20


def test_random_transforms_leave_the_generators_alone_and_are_the_same_each_time():
    source = Pictures(transform=lambda x: torch.from_numpy(x) + torch.randint(0, 9, (), dtype=torch.uint8))
    before = torch.get_rng_state()
    first, second = load(source), load(source)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.fingerprint == second.fingerprint
