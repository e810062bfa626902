"""CIFAR-10 in each of the layouts in which people have it."""

import os
import pickle  # only to write the release for Python, as its author did
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

from surefoot.data import cifar
from surefoot.data.load import load
from surefoot.errors import DataError

from .conftest import CLASSES, RECORDS


def reference(home: Path, name: str) -> np.ndarray:
    return np.frombuffer((home / name).read_bytes(), dtype=np.uint8).reshape(RECORDS, 3073)


def write_python_layout(home: Path, target: Path, protocol: int = 2) -> Path:
    """Write the same records as the release for Python does."""
    target.mkdir(parents=True)
    for name in cifar.FILES:
        table = reference(home, name)
        batch = {
            "batch_label": b"training batch",
            "labels": table[:, 0].tolist(),
            "data": table[:, 1:].copy(),
            "filenames": [f"{i}.png".encode() for i in range(len(table))],
        }
        (target / name.removesuffix(".bin")).write_bytes(pickle.dumps(batch, protocol=protocol))
    meta = {"num_cases_per_batch": RECORDS, "label_names": CLASSES, "num_vis": 3072}
    (target / cifar.PYTHON_META).write_bytes(pickle.dumps(meta, protocol=protocol))
    return target


def write_archive(home: Path, path: Path) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:]}") as tar:
        tar.add(home, arcname=home.name)
    return path


def assert_same_as(home: Path, data):
    expected = np.concatenate([reference(home, name) for name in list(cifar.FILES)[:5]])
    assert torch.equal(data.train.x, torch.from_numpy(expected[:, 1:].reshape(-1, 3, 32, 32).copy()))
    assert data.train.y.tolist() == expected[:, 0].tolist()
    assert torch.equal(
        data.test.x.reshape(RECORDS, -1), torch.from_numpy(reference(home, "test_batch.bin")[:, 1:].copy())
    )
    assert data.classes == tuple(CLASSES)
    assert data.train.name_of(7) == "train image 7"


def cifar10(place, **options):
    return load("cifar10", data_dir=place, validation=0, **options)


def test_every_layout_gives_the_same_data(small_cifar, tmp_path, cache):
    wanted = cifar10(small_cifar)
    assert_same_as(small_cifar, wanted)
    python = write_python_layout(small_cifar, tmp_path / "py" / cifar.PYTHON_FOLDER)
    (tmp_path / "gz").mkdir()
    places = [
        small_cifar.parent,
        python,
        python.parent,
        write_archive(small_cifar, tmp_path / "gz" / "cifar-10-binary.tar.gz"),
        write_archive(small_cifar, tmp_path / "any name.tar.xz"),
        write_archive(python, tmp_path / "cifar-10-python.tar.gz"),
        tmp_path / "gz",
    ]
    for place in places:
        shutil.rmtree(cache, ignore_errors=True)
        assert cifar10(place).fingerprint == wanted.fingerprint, place


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_the_release_for_python_is_read_in_every_binary_protocol(small_cifar, tmp_path, protocol):
    assert_same_as(small_cifar, cifar10(write_python_layout(small_cifar, tmp_path / "py", protocol)))


def test_an_archive_is_unpacked_once_and_then_read_from_the_cache(small_cifar, tmp_path, cache, monkeypatch):
    packed = write_archive(small_cifar, tmp_path / "cifar-10-binary.tar.gz")
    first = cifar10(packed)
    assert {path.name for path in (cache / cifar.FOLDER).iterdir()} == {*cifar.FILES, cifar.META}
    monkeypatch.setattr(cifar, "archived", lambda path: pytest.fail("unpacked again"))
    assert cifar10(packed).fingerprint == first.fingerprint
    assert load("cifar10", validation=0).fingerprint == first.fingerprint
    assert not list(cache.rglob("*.tmp"))


def test_a_cache_that_cannot_be_written_is_no_obstacle_to_reading_an_archive(small_cifar, tmp_path, monkeypatch):
    packed = write_archive(small_cifar, tmp_path / "cifar-10-binary.tar.gz")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUREFOOT_CACHE", str(tmp_path / "file"))
    assert_same_as(small_cifar, cifar10(packed))


def damaged(home: Path, name: str, change) -> Path:
    content = bytearray((home / name).read_bytes())
    (home / name).write_bytes(bytes(change(content) or content))
    return home


def flip_a_bit(content):
    content[100] ^= 1


def label_ten(content):
    content[3073 * 4] = 10


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("data_batch_3.bin", flip_a_bit, r"data_batch_3\.bin: md5 \w+ is wrong"),
        ("test_batch.bin", lambda content: content[:-1], r"test_batch\.bin: has 61,459 bytes of records, not 61,460"),
        ("data_batch_2.bin", lambda content: content + b"x", r"data_batch_2\.bin: has 61,461 bytes"),
        ("data_batch_1.bin", label_ten, r"data_batch_1\.bin record 4: label 10 is out of range"),
        ("batches.meta.txt", lambda content: content[:20], r"batches\.meta\.txt: names \d classes"),
    ],
)
def test_a_wrong_file_is_named(small_cifar, name, change, message):
    with pytest.raises(DataError, match=message):
        cifar10(damaged(small_cifar, name, change))


def test_missing_files_are_all_named(small_cifar):
    for name in ("data_batch_2.bin", "test_batch.bin", "batches.meta.txt"):
        (small_cifar / name).unlink()
    with pytest.raises(DataError) as caught:
        cifar10(small_cifar)
    assert all(name in str(caught.value) for name in ("3 problems", "data_batch_2", "test_batch", "batches.meta"))


def test_a_folder_without_the_set_says_what_it_should_hold(tmp_path):
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz"):
        cifar10(tmp_path)
    with pytest.raises(DataError, match="Check the path"):
        cifar10(tmp_path / "nowhere")


class Executed(Exception):
    pass


class Malicious:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks():
    yield "system", Malicious(os.system, "true")
    yield "eval", Malicious(eval, "1")
    yield "import", Malicious(__import__, "this")
    yield "nested", {"data": [Malicious(os.getcwd)]}
    yield "numpy", Malicious(np.load, "x")
    yield "object array", {"data": np.array([1, None]), "labels": [1]}
    yield "floats", {"data": np.zeros((1, 3072)), "labels": [1]}
    yield "nothing", {}
    yield "list", [1, 2]
    yield "one label short", {"data": np.zeros((2, 3072), np.uint8), "labels": [1]}
    yield "label ten", {"data": np.zeros((1, 3072), np.uint8), "labels": [10]}
    itself: list = []
    itself.append(itself)
    yield "itself", {"labels": itself}


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize(("name", "thing"), list(attacks()), ids=[name for name, _ in attacks()])
def test_nothing_in_a_pickle_is_ever_executed(small_cifar, tmp_path, name, thing, protocol, capfd):
    home = write_python_layout(small_cifar, tmp_path / "py")
    (home / "data_batch_1").write_bytes(pickle.dumps(thing, protocol=protocol))
    events = []

    def hook(event, arguments):
        if active and event in ("pickle.find_class", "os.system", "exec", "compile", "subprocess.Popen"):
            events.append((event, arguments))

    active = True
    sys.addaudithook(hook)
    try:
        with pytest.raises(DataError, match=r"data_batch_1: "):
            cifar10(home)
    finally:
        active = False
    assert not events


def test_a_damaged_pickle_is_named(small_cifar, tmp_path):
    home = write_python_layout(small_cifar, tmp_path / "py")
    good = (home / "data_batch_1").read_bytes()
    generator = np.random.default_rng(0)
    for trial in range(40):
        content = bytearray(good[: generator.integers(0, len(good))] if trial % 2 else good)
        for place in generator.integers(0, max(1, len(content)), 5) if content else ():
            content[place] = generator.integers(0, 256)
        (home / "data_batch_1").write_bytes(content)
        with pytest.raises(DataError, match="data_batch_1"):
            cifar10(home)


def test_an_unreachable_download_says_which_file_to_put_where(cache, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(pooch, "retrieve", unreachable)
    with pytest.raises(DataError) as caught:
        load("cifar10")
    text = str(caught.value)
    assert "the download failed (ConnectionError)" in text
    assert cifar.URL in text
    assert cifar.ARCHIVE_MD5 in text
    assert str(cache / "downloads" / "cifar-10-binary.tar.gz") in text


def test_a_download_of_something_else_says_so(monkeypatch):
    def wrong(*_, **__):
        raise ValueError("MD5 hash of downloaded file does not match")

    monkeypatch.setattr(pooch, "retrieve", wrong)
    with pytest.raises(DataError, match="the md5 is wrong"):
        load("cifar10")


def test_a_file_put_where_the_message_says_is_used_without_a_network(small_cifar, cache, monkeypatch):
    (cache / "downloads").mkdir(parents=True)
    packed = write_archive(small_cifar, cache / "downloads" / "cifar-10-binary.tar.gz")
    monkeypatch.setattr(cifar, "ARCHIVE_MD5", pooch.file_hash(str(packed), alg="md5"))
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", lambda *_, **__: pytest.fail("went to the network"))
    assert_same_as(small_cifar, load("cifar10", validation=0))


def real_files() -> Path | None:
    shared = Path(__file__).parents[3] / "shared" / "data"
    place = Path(os.environ.get("SUREFOOT_CIFAR10", shared))
    return place if place.exists() else None


def test_the_real_data_set_has_its_published_mean_and_deviation():
    place = real_files()
    if place is None:
        pytest.skip("CIFAR-10 is not here: set SUREFOOT_CIFAR10 to its folder")
    if not any(path.is_file() for path in (place / "data_batch_1.bin", place / cifar.FOLDER / "data_batch_1.bin")):
        pytest.skip("CIFAR-10 is here only packed, which takes 15 s to read: unpack it, set SUREFOOT_CIFAR10")
    data = cifar10(place)
    assert data.train.x.shape == (50_000, 3, 32, 32)
    assert len(data.test.y) == 10_000
    torch.testing.assert_close(data.mean, torch.tensor([0.49139968, 0.48215841, 0.44653091]), rtol=0, atol=1e-7)
    torch.testing.assert_close(data.std, torch.tensor([0.24703223, 0.24348513, 0.26158784]), rtol=0, atol=1e-7)
