"""Image files are read again only where they have changed, whatever size and time say."""

import os

import numpy as np
import pytest
from PIL import Image

from surefoot.data import contents, store
from surefoot.data.load import load


@pytest.fixture
def pets(tmp_path):
    for i in range(6):
        path = tmp_path / "pets" / ("cats", "dogs")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pets"


def test_files_that_have_not_changed_are_not_read_again(pets, monkeypatch):
    monkeypatch.setattr(store, "_TICK_SECONDS", 0)
    first = load(pets, validation=0)
    monkeypatch.setattr(contents, "hash_of", lambda path: pytest.fail("hashed again"))
    assert load(pets, validation=0).fingerprint == first.fingerprint


def swapped(pets):
    one, other, aside = pets / "cats" / "0.png", pets / "cats" / "2.png", pets / "aside"
    for source, target in ((one, aside), (other, one), (aside, other)):
        source.rename(target)


def rewritten(pets):
    path = pets / "cats" / "0.png"
    times = path.stat()
    path.write_bytes((pets / "dogs" / "1.png").read_bytes().ljust(times.st_size, b"\0"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [swapped, rewritten, lambda pets: (pets / "cats" / "0.png").unlink()])
def test_a_change_is_seen_whatever_size_and_time_say(pets, change, monkeypatch):
    monkeypatch.setattr(store, "_TICK_SECONDS", 0)
    first = load(pets, validation=0)
    change(pets)
    seen = load(pets, validation=0)
    assert seen.fingerprint != first.fingerprint
    monkeypatch.setattr(store, "recalled", lambda what: None)
    assert load(pets, validation=0).fingerprint == seen.fingerprint
