"""What a result says of test-time augmentation, in words."""

import pytest

from surefoot.record.test_time import words_of

SEEN = {"tta": "flip", "part": "test", "accuracy": 0.5, "loss": 1.25, "examples": 100, "metrics": {}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "with flip 50.00% accuracy (95 % interval 40.38% to 59.62%), loss 1.25"),
        ({"accuracy": None}, "with flip loss 1.25"),
        ({"loss": None, "accuracy": None}, "with flip loss not finite"),
        ({"part": "validation", "accuracy": None}, "with flip loss 1.25, on the validation part"),
    ],
)
def test_words(change, words):
    assert words_of({"tta": SEEN | change}) == words


def test_a_result_without_it_says_nothing():
    assert words_of({"tta": None}) is None
    assert words_of({}) is None  # one of an older version
