"""What is written row by row comes back as one array, from memory or from a file that has no name."""

import shutil

import numpy as np
import pytest

from surefoot.data import mapped, spool
from surefoot.data.spool import Spool
from surefoot.errors import DataError

ROWS = np.random.default_rng(0).normal(size=(40, 3, 2))


def written(title="the stream"):
    found = Spool(title)
    for row in ROWS[:15]:
        found.add(row)
    found.extend(ROWS[15:30])
    for row in ROWS[30:]:
        found.add(row)
    return found


@pytest.mark.parametrize("block", [1, 100, 2**26])
@pytest.mark.parametrize("in_memory", [0, 500, 2**30])
def test_rows_come_back_in_order(block, in_memory, monkeypatch, cache):
    monkeypatch.setattr(spool, "_BLOCK_BYTES", block)
    monkeypatch.setattr(mapped, "IN_MEMORY", in_memory)
    found = written()
    array = found.array()
    assert np.array_equal(array, ROWS)
    assert len(found) == 40
    assert mapped.on_disk(array) == (in_memory < ROWS.nbytes)
    assert not list(cache.rglob("*.tmp"))  # it has no name, so nothing can be left behind


def test_nothing_is_an_empty_array():
    assert Spool("a").array().shape == (0, 1)


def test_a_disk_without_room_is_said(monkeypatch, cache):
    monkeypatch.setattr(mapped, "IN_MEMORY", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("", (), {"free": 10**6}))
    with pytest.raises(
        DataError, match=r"the stream, of which 15 examples .*0\.0 GB of its disk are free.*SUREFOOT_CACHE"
    ):
        written()


def test_a_cache_that_cannot_be_written_to_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(mapped, "IN_MEMORY", 0)
    (tmp_path / "file").touch()
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cache folder .*Set SUREFOOT_CACHE"):
        written()
