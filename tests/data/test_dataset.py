"""Parts name their examples; a data set knows its shape and its outputs."""

import numpy as np
import torch

from surefoot.data.dataset import DataSet, Part, Source


def test_names_follow_an_example_through_two_selections():
    source = Source("row ", first=2).taken(np.array([5, 7, 9])).taken(np.array([2, 0]))
    assert [source.name_of(i) for i in range(2)] == ["row 11", "row 7"]
    named = Source(names=("a", "b", "c")).taken(np.array([2, 1]))
    assert named.name_of(0) == "c"


def test_shape_outputs_and_parts():
    part = Part(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), Source())
    data = DataSet("x", "images", part, None, part, ("a", "b"), torch.zeros(3), torch.ones(3), "")
    assert (data.input_shape, data.outputs, data.examples, list(data.parts)) == ((3, 8, 8), 2, 4, ["train", "test"])
