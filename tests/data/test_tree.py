import numpy as np
import pytest
import torch

from surefoot.data import tree

FORMS = [
    torch.arange(6).reshape(3, 2),
    (torch.zeros(3), torch.ones(3, 1)),
    {"ids": torch.zeros(3, 4), "pair": (torch.ones(3), {"deep": torch.ones(3, 2)})},
]


@pytest.mark.parametrize("form", FORMS)
def test_leaves_come_back_by_their_names(form):
    again = tree.from_named(form, dict(tree.named_leaves(form)))
    assert tree.same_form(form, again)
    assert all(a is b for a, b in zip(tree.leaves(form), tree.leaves(again), strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_a_tree_comes_back_from_json_values(form):
    plain = tree.to_plain(form, lambda leaf: list(leaf.shape[1:]))
    assert tree.from_plain(plain, tuple) == tree.shapes(form)


def test_a_function_gets_the_same_leaf_of_each_tree():
    made = tree.map_leaves(lambda a, b, c: a + b + c, {"x": (1, 2)}, {"x": (10, 20)}, {"x": (100, 200)})
    assert made == {"x": (111, 222)}
    with pytest.raises(ValueError, match="argument"):
        tree.map_leaves(lambda a, b: a, (1, 2), (1,))


def test_lists_are_tuples_and_mappings_dicts():
    class Encoding(dict):
        pass

    assert tree.as_tree([Encoding(ids=[1, 2])]) == ({"ids": (1, 2)},)


def test_arrays_that_cannot_be_written_to_are_copied_and_others_shared():
    held, fixed = np.zeros(3), np.zeros(3)
    fixed.setflags(write=False)
    shared, copied = tree.leaves(tree.of_arrays((held, fixed)))
    held[0] = 1
    assert shared[0] == 1
    assert copied.tolist() == [0, 0, 0]
