"""A store is whole or absent, whatever happens while it is built."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from surefoot.data import store
from surefoot.errors import DataError

SHAPE = (5, 3, 4, 4)
IMAGES = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


def fill(array):
    array[:] = IMAGES


def files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_what_is_built_is_found(cache):
    assert store.found("place", "listing") is None
    built, digest, _ = store.built("place", "listing", SHAPE, fill)
    found, again, _ = store.found("place", "listing")
    assert np.array_equal(built, IMAGES)
    assert np.array_equal(found, IMAGES)
    assert digest == again == store.sha256(IMAGES)
    assert [path.name for path in files(cache)] == ["images.npy", "meta.json"]


def test_a_store_whose_pixels_were_damaged_is_built_anew(cache):
    store.built("place", "listing", SHAPE, fill)
    (path,) = cache.rglob("images.npy")
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)
    assert store.found("place", "listing") is None
    again, *_ = store.built("place", "listing", SHAPE, fill)
    assert np.array_equal(again, store.found("place", "listing").images)


def test_pixels_are_hashed_once_and_again_when_the_file_has_changed(cache, monkeypatch):
    hashed, plain = [], store.sha256
    monkeypatch.setattr(store, "_TICK_SECONDS", 0)
    store.built("place", "listing", SHAPE, fill)
    monkeypatch.setattr(store, "sha256", lambda images: hashed.append(1) or plain(images))
    for _ in range(3):
        assert store.found("place", "listing") is not None
    assert len(hashed) == 1
    (path,) = cache.rglob("images.npy")
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert store.found("place", "listing") is None
    assert len(hashed) == 2


def test_writing_to_what_was_found_does_not_reach_the_disk():
    array, *_ = store.built("place", "listing", SHAPE, fill)
    array[:] = 0
    assert np.array_equal(store.found("place", "listing")[0], IMAGES)


def test_a_stale_store_is_replaced(cache):
    store.built("place", "old listing", SHAPE, fill)
    store.built("other place", "listing", SHAPE, fill)
    store.built("place", "new listing", SHAPE, fill)
    assert store.found("place", "old listing") is None
    assert store.found("other place", "listing") is not None
    assert len(files(cache)) == 4


@pytest.mark.parametrize("torn", ["images.npy", "meta.json"])
@pytest.mark.parametrize("how", ["cut", "gone", "empty", "other"])
def test_a_torn_store_is_rebuilt(cache, torn, how):
    store.built("place", "listing", SHAPE, fill)
    path = next(path for path in files(cache) if path.name == torn)
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": path.read_bytes()[:-20], "empty": b"", "other": b"{}" + b"x" * 500}[how])
    assert store.found("place", "listing") is None
    assert np.array_equal(store.built("place", "listing", SHAPE, fill)[0], IMAGES)
    assert np.array_equal(store.found("place", "listing")[0], IMAGES)
    assert len(files(cache)) == 2


def test_a_failure_leaves_no_trace(cache):
    def fails(array):
        array[:2] = 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.built("place", "listing", SHAPE, fails)
    assert store.found("place", "listing") is None
    assert files(cache) == []


def _build(start):
    start.wait()
    for _ in range(5):
        assert np.array_equal(store.built("place", "listing", SHAPE, fill)[0], IMAGES)


def test_builders_at_the_same_time_do_not_harm_each_other(cache):
    context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    start = context.Event()
    builders = [context.Process(target=_build, args=(start,)) for _ in range(4)]
    for builder in builders:
        builder.start()
    start.set()
    for builder in builders:
        builder.join(60)
    assert [builder.exitcode for builder in builders] == [0] * 4
    assert np.array_equal(store.found("place", "listing")[0], IMAGES)
    assert len(files(cache)) == 2


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="Set SUREFOOT_CACHE"):
        store.built("place", "listing", SHAPE, fill)


def test_a_full_disk_is_named(monkeypatch):
    def full(array):
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"No space left on device.*Make room for"):
        store.built("place", "listing", SHAPE, full)


def test_the_cache_is_the_platforms_unless_named(monkeypatch):
    monkeypatch.delenv("SUREFOOT_CACHE")
    assert store.cache_folder().name == "surefoot"


def test_facts_are_kept_by_what_they_are_of(cache):
    assert store.recalled("content") is None
    store.remember("content", {"md5": "1"})
    assert store.recalled("content") == {"md5": "1"}
    assert store.recalled("other content") is None
    assert not list(cache.rglob("*.tmp"))


@pytest.mark.parametrize("change", [lambda text: text.replace('"1"', '"2"'), lambda text: text[:-5], lambda text: "[]"])
def test_facts_that_are_damaged_are_none(change, cache):
    store.remember("content", {"md5": "1"})
    (path,) = files(cache)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert store.recalled("content") is None


def test_facts_that_cannot_be_written_are_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path / "file"))
    store.remember("content", {"md5": "1"})
    assert store.recalled("content") is None


def test_a_stamp_is_of_the_file_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert store.stamp(path) is None  # it may be written again within the same tick of the clock
    monkeypatch.setattr(store, "_TICK_SECONDS", 0)
    first, times = store.stamp(path), path.stat()
    assert store.stamp(path) == first
    path.write_bytes(b"two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as who hides a change of the same length does
    assert store.stamp(path) != first
    other = tmp_path / "other"
    other.write_bytes(b"two")
    assert store.stamp(other) != store.stamp(path)
