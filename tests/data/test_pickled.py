"""The reader of the release for Python: see test_cifar for whole files, attacks and damage."""

import pickle  # only to write

import numpy as np
import pytest

from surefoot.data.pickled import read


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_data_comes_back(protocol):
    thing = {"a": [1, 300, 70_000, -5, 2**40], "b": "text", "c": None, "d": True, "e": 0.5, "f": b"bytes", "g": []}
    assert read(pickle.dumps(thing, protocol=protocol)) == thing | {"f": "bytes"}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_uint8_array_comes_back(protocol):
    array = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
    assert np.array_equal(read(pickle.dumps({"x": array}, protocol=protocol))["x"], array)


def test_a_file_that_python_2_wrote():
    # (dp0-like opcodes of cPickle, protocol 2: an array whose bytes are a SHORT_BINSTRING)
    content = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
        b"(K\x01K\x01K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x03\x00\x80\xfftbU\x06labels]q\x08(K\x06K\x09eu."
    )
    result = read(content)
    assert result["data"].tolist() == [[0, 128, 255]]
    assert result["labels"] == [6, 9]


@pytest.mark.parametrize(
    "content", [b"", b".", b"\x80\x02", b"\x80\x02.", b"N", b"\xff\xff", b"\x80\x02}b.", b"\x80\x02h\x01."]
)
def test_what_is_no_pickle_is_a_value_error(content):
    with pytest.raises(ValueError, match=r"pickle|is no|sets the state"):
        read(content)
