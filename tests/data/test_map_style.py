"""Which Datasets are read anew in each epoch, and what is said of those that cannot be."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from surefoot.data.batches import fetch
from surefoot.data.load import inspect, load
from surefoot.errors import DataError
from surefoot.training.make import task

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


class Rows:
    def __init__(self, get):
        self.get, self.generator, self.reads = get, np.random.default_rng(0), 0

    def __len__(self):
        return 30

    def __getitem__(self, i):
        self.reads += 1
        return self.get(self, i)


def numbers(get):
    return Rows(lambda self, i: (get(self, i), i % 2))


def test_what_draws_nothing_is_read_once():
    source = numbers(lambda _, i: X[i])
    data = load(source)
    assert source.reads == 30 + 8  # the first four twice, to see that they are the same
    assert (data.train.reader, data.notes) == (None, ())
    assert task(data, "linear").augment is None


@pytest.mark.parametrize("unlucky", [0, 29])
def test_one_example_that_draws_is_enough(unlucky):
    def get(_, i):
        return X[i] + random.random() if i == unlucky else X[i]

    assert load(numbers(get)).train.reader is not None


def test_a_generator_of_the_datasets_own_is_read_once_and_said():
    source = numbers(lambda self, i: X[i] + self.generator.normal())
    problems = inspect(source).problems
    assert "random in a way that no seed reaches" in problems.warnings[0]
    assert load(source).train.reader is None


def test_a_random_test_part_is_read_once_and_said():
    source = numbers(lambda _, i: X[i] + np.random.rand())
    data = load({"train": numbers(lambda _, i: X[i]), "test": source})
    assert data.notes == ("test: the Dataset draws at random: it is read once, and keeps what was drawn",)
    assert data.test.reader is None


def test_targets_of_a_regression_are_drawn_with_their_inputs():
    def get(self, i):
        sign = 1 if torch.rand(()) < 0.5 else -1
        return sign * X[i], float(sign * X[i].sum())

    data = load(Rows(get), target="numbers", validation=0)
    moves = task(data, "linear").augment
    x, y = fetch(data, data.train, np.arange(30), augment=moves, epoch=1)
    plain = x * data.std + data.mean
    assert torch.allclose(plain.sum(1), y.double() * data.target_std + data.target_mean, atol=1e-4)
    assert (torch.sign(plain[:, 0].double()) != torch.sign(torch.from_numpy(X[:, 0]).double())).any()


def test_a_random_label_and_a_changing_shape_are_refused_by_name():
    def label(_, i):
        return X[i], int(torch.randint(0, 2, ()))

    def shape(_, i):
        return X[i][: 4 if torch.rand(()) < 0.5 or not ready else 3], i % 2

    ready = False  # draws, but without effect, until the data is loaded
    for get, message in ((label, "has the label"), (shape, r"has x \(3,\)")):
        ready = False
        data = load(Rows(get), validation=0)
        moves, ready = task(data, "linear").augment, True
        with pytest.raises(DataError, match=rf"row \d+, in epoch 3: {message}"):
            fetch(data, data.train, np.arange(30), augment=moves, epoch=3)


def test_integers_stay_in_the_type_of_the_part():
    data = load(numbers(lambda _, i: (X[i] * 10).astype(np.int64) + np.random.randint(3)), validation=0)
    moves = task(data, "linear").augment
    stored, fresh = fetch(data, data.train, np.arange(30))[0], fetch(data, data.train, np.arange(30), augment=moves)[0]
    assert (fresh.dtype, fresh.shape) == (stored.dtype, stored.shape)


def test_of_a_loader_the_dataset_is_used_and_that_is_said():
    rows = TensorDataset(torch.from_numpy(X), torch.arange(30) % 2)
    plain = load(rows)
    loader = DataLoader(rows, batch_size=7, sampler=WeightedRandomSampler([1.0] * 30, 9))
    data = load(loader)
    assert data.fingerprint == plain.fingerprint
    assert data.notes[0].startswith("of the DataLoader the Dataset is used")
    assert "collate_fn" not in data.notes[0]
    pair = load({"train": loader, "val": DataLoader(rows, batch_size=3, collate_fn=lambda rows: rows)})
    assert "its collate_fn not called" in pair.notes[1]


def test_an_example_that_is_a_mapping_without_a_label_is_said():
    with pytest.raises(DataError, match="a mapping with 'image', 'kind', none of labels, label, targets, target, y"):
        load(Rows(lambda _, i: {"image": X[i], "kind": 0}))


def test_an_example_that_is_a_mapping_with_a_label_is_read():
    data = load(Rows(lambda _, i: {"image": X[i], "label": i % 2}))
    assert (data.input_shape, data.label_name, data.outputs) == ({"image": X[0].shape}, "label", 2)


def test_many_examples_of_other_shapes_are_one_line():
    with pytest.raises(DataError, match=r"row 1: has x \(3,\) .* \(and 14 more are unlike it\)"):
        load(numbers(lambda _, i: X[i][: 4 - i % 2]))
