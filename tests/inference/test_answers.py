import numpy as np
import pytest

from surefoot.inference.answers import joined_answers


def test_pieces_are_joined_leaf_by_leaf():
    whole = joined_answers([(np.zeros((2, 3)), {"a": np.ones(2)}), (np.ones((1, 3)), {"a": np.zeros(1)})])
    assert whole[0].shape == (3, 3)
    assert whole[1]["a"].tolist() == [1, 1, 0]


def test_one_piece_is_itself():
    assert joined_answers([np.arange(3)]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("width", [1, 4])
def test_a_piece_without_examples_adds_none(width):
    assert joined_answers([np.zeros((0, width)), np.ones((2, width))]).shape == (2, width)
