"""Map-style Datasets, known by what they can do and not by their class."""

import numpy as np
import pytest
import torch
from PIL import Image

from surefoot.data.load import load
from surefoot.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), dtype=np.uint8)


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
        return self.transform(X[i]), i % 2


def test_each_example_is_read_once_and_the_classes_are_known():
    source = Pictures()
    data = load(source, validation=0)
    assert source.reads == 20
    assert data.classes == ("cat", "dog")
    assert np.array_equal(data.train.x.permute(0, 2, 3, 1), X)


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
