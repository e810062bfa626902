"""Archives of strangers: each ends in one sentence, in training and in predicting."""

import io
import os
import socket
import struct
import zipfile

import numpy as np
import pytest

from surefoot.data import mapped, npz
from surefoot.data.load import inspect, load
from surefoot.errors import DataError, SurefootError
from surefoot.inference.form import Expected
from surefoot.inference.inputs import batches

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = np.arange(12) % 2


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array))
    return stream.getvalue()


def header(declared: str, version=b"\x01\x00") -> bytes:
    text = declared.encode() + b"\n"
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text


def archive(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def good(**changes):
    return [(f"{name}.npy", npy(value)) for name, value in ({"x": X, "y": Y} | changes).items()]


def patched(path, offset_in_entry, value):
    """Write a short into the first member's local and central header."""
    content = bytearray(path.read_bytes())
    local, central = content.index(b"PK\x03\x04"), content.index(b"PK\x01\x02")
    content[local + offset_in_entry : local + offset_in_entry + 2] = struct.pack("<H", value)
    content[central + offset_in_entry + 2 : central + offset_in_entry + 4] = struct.pack("<H", value)
    path.write_bytes(content)
    return path


KINDS = {
    "encrypted": (lambda p: patched(archive(p, good()), 6, 1), "array x: is encrypted"),
    "unknown method": (lambda p: patched(archive(p, good()), 8, 99), "array x: is compressed by method 99"),
    "text in place of an array": (
        lambda p: archive(p, [("x.npy", b"1,2,3"), *good()[1:]]), r"array x: cannot be read \(",
    ),
    "cut array": (lambda p: archive(p, [("x.npy", npy(X)[:-5]), *good()[1:]]), r"array x: cannot be read \("),
    "empty member": (lambda p: archive(p, [("x.npy", b""), *good()[1:]]), r"array x: cannot be read \("),
    "huge header": (
        lambda p: archive(p, [("x.npy", header("{" + " " * 2_000_000, b"\x02\x00")), *good()[1:]]),
        r"array x: cannot be read \(Header info length",
    ),
    "a header that runs code": (
        lambda p: archive(p, [("x.npy", header("__import__('os').abort()")), *good()[1:]]), r"array x: cannot be read",
    ),
    "a terabyte declared": (
        lambda p: archive(
            p, [("x.npy", header("{'descr': '<f8', 'fortran_order': False, 'shape': (125000000000,), }")), *good()[1:]]
        ),
        "array x: declares 1,000,000,000,000 bytes and has",
    ),
    "objects": (lambda p: np.savez(p, x=np.array([{}] * 12), y=Y), "array x: holds Python objects"),
    "twice": (lambda p: archive(p, [*good(), ("x.npy", npy(X))]), "has 'x' twice"),
    "no arrays": (lambda p: archive(p, [("readme.txt", b"hello")]), "are named nothing|holds no array"),
    "an .npy by name of .npz": (lambda p: p.write_bytes(npy(X)), "is an .npy and no .npz"),
    "no archive": (lambda p: p.write_bytes(b"PK nothing"), "must be a whole .npz"),
    "complex": (lambda p: archive(p, good(x=X + 1j)), "type complex64"),
    "times": (lambda p: archive(p, good(x=np.zeros(12, "M8[s]"))), "type datetime64"),
    "no dimension": (lambda p: archive(p, good(x=np.float32(3))), r"shape \(\)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_odd_archive_is_one_problem_in_training_and_in_predicting(tmp_path, kind):
    make, message = KINDS[kind]
    make(tmp_path / "a.npz")
    problems = inspect(tmp_path / "a.npz").problems
    assert problems.count == 1, [str(item) for item in problems.items]
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.npz")
    with pytest.raises(SurefootError, match=message.replace("array x: ", "").replace(r"shape \(\)", "the model takes")):
        list(batches(tmp_path / "a.npz", Expected("numbers", (3,))))


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    archive(tmp_path / "a.npz", good(x=np.zeros((1000, 3))), zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(npz, "free_bytes", lambda: 24_000.0)
    with pytest.raises(DataError, match=r"array x: declares 0\.0 GB, and 0\.0 GB of memory are free"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_sound_archives_are_read_whatever_lies_beside(tmp_path, method):
    members = [("readme.txt", b"hello"), *good(classes=np.array([b"no", b"yes"])), ("huge.npy", b"no array")]
    data = load(archive(tmp_path / "a.npz", members, method), validation=0)
    assert data.classes == ("no", "yes")
    assert np.array_equal(data.train.x, X)


@pytest.mark.parametrize("array", [np.asfortranarray(X), X.astype(">f8"), X.astype(np.float16)])
def test_every_layout_of_numbers_is_read(tmp_path, array):
    archive(tmp_path / "a.npz", good(x=array))
    assert np.array_equal(npz.read_array(tmp_path / "a.npz", "x"), array)
    (tmp_path / "b.npy").write_bytes(npy(array))
    assert np.array_equal(npz.read_npy(tmp_path / "b.npy"), array)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": np.array(["only"])}, r"array classes: has the type <U4 and the shape \(1,\)"),
        ({"classes": np.array([["a", "b"]])}, "array classes: has the type <U1 and the shape"),
        ({"classes": np.array(["a", "a"])}, "array classes"),
        ({"classes": np.array([b"\xff", b"a"])}, "array classes"),
        ({"y": np.array([b"\xff", b"a"] * 6)}, "holds bytes that are no UTF-8"),
        ({"y": np.where(Y, np.nan, 0.0)}, "row 1: label is missing"),
        ({"y": np.where(Y, 2.0**62, 0.0)}, r"row 1: label 4\.6\d+e\+18"),
        ({"y": np.where(Y, 2**63 + 5, 0).astype(np.uint64)}, "row 1: label 9223372036854775813"),
        ({"y": np.where(Y, -(2**62), 0)}, "row 1: label -4611686018427387904"),
        ({"x_train": X}, "arrays x, y, x_train: are all of the train part"),
    ],
    ids=str,
)
def test_odd_labels_and_classes_are_named(tmp_path, changes, message):
    archive(tmp_path / "a.npz", good(**changes))
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.npz")


def test_one_array_alone_is_data_to_predict_and_none_to_train_on(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(X))
    with pytest.raises(DataError, match=r"one array, without labels.*numpy\.savez"):
        load(tmp_path / "a.npy")
    (found,) = batches(tmp_path / "a.npy", Expected("numbers", (3,)))
    assert np.array_equal(found.x, X)
    assert found.names[4] == f"{tmp_path / 'a.npy'}:4"


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_that_are_not_compressed_stay_on_disk(tmp_path, monkeypatch, order):
    x = np.asarray(np.random.default_rng(0).normal(size=(12, 3)), order=order)
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    np.savez_compressed(tmp_path / "b.npz", x=x, y=Y)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    there = [npz.read_array(tmp_path / "a.npz", "x"), npz.read_npy(tmp_path / "x.npy")]
    assert all(mapped.on_disk(each) and np.array_equal(each, x) for each in there)
    assert not mapped.on_disk(npz.read_array(tmp_path / "b.npz", "x"))
    assert load(tmp_path / "a.npz").fingerprint == load(tmp_path / "b.npz").fingerprint
    with pytest.raises(ValueError, match="read-only"):
        there[0][0] = 0
    (found,) = batches(tmp_path / "x.npy", Expected("numbers", (3,)))
    assert np.array_equal(found.x, x.astype(np.float32))


@pytest.mark.parametrize("kind", ["flipped bit", "cut", "declares more"])
def test_damage_of_arrays_on_disk_is_found(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    content = npy(X)
    if kind == "declares more":
        content = content.replace(b"(12, 3)", b"(13, 3)")
    path = archive(tmp_path / "a.npz", [("x.npy", content), *good()[1:]])
    raw = bytearray(path.read_bytes())
    if kind == "flipped bit":
        raw[raw.index(content) + 200] ^= 1
    (tmp_path / "x.npy").write_bytes(content[:-1] if kind == "cut" else content)
    np.save(tmp_path / "y.npy", Y)
    path.write_bytes(bytes(raw))
    if kind != "flipped bit":  # a file alone has no checksum
        with pytest.raises(DataError, match=r"x\.npy: declares"):
            load(tmp_path / "x.npy")
    if kind != "cut":
        with pytest.raises(DataError, match=r"array x: (cannot be read|declares)"):
            load(path)


@pytest.mark.parametrize("suffix", ["npz", "npy", "csv", "png"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, suffix, kind):
    path = tmp_path / f"a.{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        os.chdir(tmp_path)  # the path of a socket may have 108 characters
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="a pipe, a socket or a device"):
        load(path)
    assert inspect(path).problems.count == 1
    (found,) = batches(path, Expected("images", (1, 4, 4)))
    assert "a pipe, a socket or a device" in found.errors[0]
