"""What a probe takes: all that `surefoot.load` takes, and loaders, whose batches are used as they are."""

import numpy as np
import pytest
import torch
from kinds import KINDS, by_name, module
from small import bits, image_arrays
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import surefoot
from surefoot.errors import ConfigError, DataError
from surefoot.steps.probe import lenient_data, probe_data, probe_task


def loader(examples=50, **settings):
    x = torch.arange(examples * 3.0).view(examples, 3)
    return DataLoader(TensorDataset(x, torch.arange(examples) % 4), 8, **settings)


def test_a_loader_is_used_as_it_is_and_split_by_class():
    found = probe_data(loader())
    x = torch.cat([found.train.x, found.validation.x])
    assert sorted(x[:, 0].tolist()) == [3.0 * i for i in range(50)]
    assert torch.equal(surefoot.data.batches.normalised(found, x), x)
    assert found.classes == ("0", "1", "2", "3")
    assert len(found.validation) == 5
    assert found.kind == "numbers"


def test_what_a_shuffling_loader_draws_is_a_function_of_our_seed_alone_and_disturbs_nobody():
    mine = loader(shuffle=True)
    torch.manual_seed(1)
    before = bits(torch.get_rng_state())
    first = probe_data(mine)
    assert bits(torch.get_rng_state()) == before
    torch.manual_seed(2)
    assert probe_data(mine).fingerprint == first.fingerprint
    assert probe_data(mine, seed=1).fingerprint != first.fingerprint


def test_reading_ends_at_the_most_examples():
    class Endless(IterableDataset):
        def __iter__(self):
            while True:
                yield torch.rand(3), 1.5

    found = probe_data(DataLoader(Endless(), 8), most_examples=20)
    assert found.examples + len(found.validation) == 20
    assert found.classes is None
    assert found.target_mean is None, "its owner's training does not standardise them"


@pytest.mark.parametrize(
    "batches",
    [
        [(np.zeros((4, 2), np.float32), np.arange(4) % 2)] * 3,
        [[torch.zeros(4, 2), torch.arange(4) % 2]] * 3,
        tuple([(torch.zeros(4, 2), torch.arange(4) % 2)] * 3),
    ],
)
def test_a_list_of_batches_is_read(batches):
    found = probe_data(batches)
    assert found.examples + len(found.validation or []) == 12


def test_what_load_takes_is_still_loaded():
    x, y = image_arrays(30)
    assert probe_data((x, y)).kind == "images"
    assert probe_data(list(zip(torch.from_numpy(x), y.tolist(), strict=True))).examples == 27
    assert probe_data("digits").name == "digits"
    assert probe_task("linear", surefoot.load("digits")).classifies


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (iter(loader()), "only once"),
        ((each for each in loader()), "only once"),
        ([(torch.zeros(2, 3), torch.zeros(2)), (torch.zeros(2, 4), torch.zeros(2))], "batch 1"),
        (DataLoader([torch.zeros(3)] * 9, 3), "batch 0"),
        (DataLoader([(torch.zeros(3), 1)] * 9, batch_size=None), "batch 0"),
        (DataLoader([(torch.zeros(3), "a")] * 9, 3), "numbers"),
    ],
)
def test_what_cannot_be_read_is_refused_in_three_parts(data, says):
    with pytest.raises(ConfigError, match=says):
        probe_data(data)


@pytest.mark.parametrize("x", [torch.full((4, 2), float("nan")), torch.zeros(1, 2)])
def test_bad_values_and_empty_loaders_are_data_errors(x):
    with pytest.raises(DataError):
        probe_data([(x, torch.zeros(len(x), dtype=torch.long))])


def test_labels_with_gaps_can_be_looked_at():
    x, y = image_arrays(60)
    found, refused = lenient_data((x, np.arange(60) % 20 * 3 + 1))
    assert found.kind == "images"
    assert found.train.y.min() == 1
    assert "class '0', '2'" in refused
    assert lenient_data((x, y))[1] is None
    with pytest.raises(DataError):
        lenient_data((x, np.arange(60) % 20 * 3))


def in_batches(given, size=16):
    """Return a mapping or pair of arrays as a list of batches of tensors."""
    from surefoot.data import tree

    rows = range(0, 96, size)
    return [tree.map_leaves(lambda leaf: torch.from_numpy(leaf[at : at + size]), tree.as_tree(given)) for at in rows]  # noqa: B023  # called now


@pytest.mark.parametrize("name", ["dict", "tuple", "mapping and loss_fn", "segmentation", "tokens", "multilabel"])
def test_batches_of_every_kind_are_told_by_their_form_as_arrays_are(name):
    whole, found = surefoot.load(KINDS[name].data), probe_data(in_batches(KINDS[name].data))
    assert (found.target, found.kind if name != "segmentation" else whole.kind, found.label_name) == (
        whole.target, whole.kind, whole.label_name,
    )  # fmt: skip
    assert found.examples + len(found.validation) == 96
    assert found.outputs == whole.outputs
    made = probe_task(module(KINDS[name]), in_batches(KINDS[name].data), **KINDS[name].more)
    assert made.data.target == whole.target


def test_the_numbers_of_a_tree_in_batches_are_not_normalised():
    found = probe_data(in_batches(by_name()))
    x = surefoot.data.batches.normalised(found, found.train.x)
    assert set(x["numbers"].flatten().tolist()) <= set(by_name()[0]["numbers"].flatten().tolist())
    assert x["codes"].dtype == torch.int64


def test_a_pair_of_trees_is_the_inputs_and_the_targets_but_of_equal_batches_two_batches():
    a, b = (np.random.default_rng(0).normal(size=(20, width)).astype(np.float32) for width in (3, 5))
    y = np.arange(20) % 2
    found = probe_data(((a, b), (y, y.astype(np.float32))))
    assert found.kind == "tree"
    assert found.target == "any"
    assert probe_data(((a, y), (a + 1, y))).examples == 36


def test_batches_whose_sides_have_other_lengths_are_refused():
    with pytest.raises(ConfigError, match=r"batch 0 of the data has x \{ids: \(4, 3\), mask: \(3, 3\)\} and y \(4,\)"):
        probe_data(iter_again([{"ids": np.zeros((4, 3)), "mask": np.zeros((3, 3)), "labels": np.zeros(4)}]))


class iter_again:  # reads as what it does
    """A collection of batches that is no list."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)
