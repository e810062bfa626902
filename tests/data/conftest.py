"""A cache folder for each test, small CIFAR-10 files with the real layout, and images that Pillow cannot write."""

import hashlib
import struct
import zlib

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


@pytest.fixture
def png16():
    """Return a writer of PNG files of 16 bits: (levels [H, W] or [H, W, 2 to 4], the transparent level) -> bytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    def write(levels, clear=None):
        height, width, *channels = levels.shape
        kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels[0] if channels else 1]
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
        transparent = chunk(b"tRNS", struct.pack(">H", clear)) if clear is not None else b""
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + transparent + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

    return write


@pytest.fixture
def tiff():
    """Return a writer of grey TIFF files: (pixels as bytes, (height, width), bits, further short tags) -> bytes."""

    def write(content, shape, bits, **tags):
        numbers = {"sample_format": 339, "orientation": 274, "photometric": 262, "samples": 277}
        entries = {256: shape[1], 257: shape[0], 258: bits, 259: 1, 262: 1, 277: 1, 278: shape[0], 279: len(content)}
        entries |= {numbers[name]: value for name, value in tags.items()}
        start = 8 + 2 + 12 * (len(entries) + 1) + 4
        wide = {256, 257, 273, 278, 279}
        body = b"".join(
            struct.pack("<HHI", tag, 4 if tag in wide else 3, 1) + struct.pack("<I", value)
            for tag, value in sorted((entries | {273: start}).items())
        )
        return b"II*\0" + struct.pack("<IH", 8, len(entries) + 1) + body + b"\0" * 4 + content

    return write
