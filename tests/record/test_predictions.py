"""Predictions keep their order, and an example that could not be read is an error in its place."""

import numpy as np

from surefoot.inference.predict import Predictions, joined

CLASSES = Predictions(
    names=("a", "b", "c"), outputs=np.array([[0.2, 0.5, 0.3], [np.nan] * 3, [0.4, 0.4, 0.2]]), classes=("x", "y", "z"),
    errors=(None, "is empty", None),
)  # fmt: skip
NUMBERS = Predictions(names=("n",), outputs=np.array([[1.5]]), classes=None, errors=(None,))


def test_the_most_probable_classes_come_first_and_of_equal_ones_the_first():
    assert CLASSES.top(0, 2) == [("y", 0.5), ("z", 0.3)]
    assert CLASSES.labels == ("y", None, "x")
    assert CLASSES.failed == 1


def test_json_has_a_label_or_numbers_or_an_error():
    rows = CLASSES.to_dicts(k=2)
    assert rows[0] == {"name": "a", "label": "y", "probability": 0.5, "top": [["y", 0.5], ["z", 0.3]]}
    assert rows[1] == {"name": "b", "error": "is empty"}
    assert NUMBERS.to_dicts() == [{"name": "n", "values": [1.5]}]
    assert (NUMBERS.labels, NUMBERS.top(0, 1)) == ((None,), [])


def test_pieces_are_joined_in_order():
    whole = joined([CLASSES, CLASSES])
    assert (len(whole), whole.names[3:], whole.failed) == (6, CLASSES.names, 2)
    np.testing.assert_array_equal(whole.outputs[:3], CLASSES.outputs)
