"""A cache folder of its own for each test, and small CIFAR-10 files with the real layout."""

import hashlib

import numpy as np
import pytest

from surefoot.data import cifar

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
RECORDS = 20


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("SUREFOOT_CACHE", str(folder))
    return folder


def content_of(name: str) -> bytes:
    """Records of one file: every class twice, random pixels that depend on the name alone."""
    generator = np.random.default_rng(sum(name.encode()))
    table = generator.integers(0, 256, (RECORDS, 3073), dtype=np.uint8)
    table[:, 0] = generator.permutation(np.arange(RECORDS) % 10)
    return table.tobytes()


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """A folder with the binary layout, 20 records a file, whose md5s the reader is told."""
    home = tmp_path / "given" / cifar.FOLDER
    home.mkdir(parents=True)
    contents = {name: content_of(name) for name in cifar.FILES}
    for name, content in contents.items():
        (home / name).write_bytes(content)
    (home / cifar.META).write_text("\n".join(CLASSES) + "\n\n", encoding="ascii")
    monkeypatch.setattr(cifar, "RECORDS", RECORDS)
    monkeypatch.setattr(cifar, "FILES", {name: hashlib.md5(content).hexdigest() for name, content in contents.items()})
    return home
