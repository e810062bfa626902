"""The embedded digits are scikit-learn's, value for value."""

import gzip

import numpy as np
import pytest
from sklearn.datasets import load_digits

from surefoot.data import digits
from surefoot.errors import DataError


def test_every_image_and_label_is_scikit_learns():
    reference = load_digits()
    for part in digits.read().parts.values():
        rows = [int(part.source.name_of(i).removeprefix("row ")) - 1 for i in range(len(part.y))]
        assert np.array_equal(part.x[:, 0] / digits.LEVEL, reference.images[rows])
        assert np.array_equal(part.y, reference.target[rows])


def test_every_class_gives_a_fifth_to_the_test_part():
    parts = digits.read().parts
    for name in range(10):
        total = sum((part.y == name).sum() for part in parts.values())
        assert abs((parts["test"].y == name).sum() - 0.2 * total) < 1


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"1,2,3\n"), gzip.compress(b"a,b\n")],
    ids=["empty", "no gzip", "three columns", "no numbers"],  # gzip writes the time, and workers must agree on names
)
def test_a_damaged_file_is_named(tmp_path, monkeypatch, content):
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(content)
    monkeypatch.setattr(digits, "file", lambda: path)
    with pytest.raises(DataError, match=r"digits\.csv\.gz"):
        digits.read()


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(digits, "file", lambda: None)
    with pytest.raises(DataError, match="install scikit-learn"):
        digits.read()
