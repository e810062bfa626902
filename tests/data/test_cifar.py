"""CIFAR-10 in each of the layouts in which people have it."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

from surefoot.data import cifar, store
from surefoot.data.load import load
from surefoot.data.statistics import image_statistics
from surefoot.errors import DataError

from .conftest import CLASSES, RECORDS


def reference(home: Path, name: str) -> np.ndarray:
    return np.frombuffer((home / name).read_bytes(), dtype=np.uint8).reshape(RECORDS, 3073)


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
    (tmp_path / "gz").mkdir()
    places = [
        small_cifar.parent,
        write_archive(small_cifar, tmp_path / "gz" / "cifar-10-binary.tar.gz"),
        write_archive(small_cifar, tmp_path / "any name.tar.xz"),
        tmp_path / "gz",
    ]
    for place in places:
        shutil.rmtree(cache, ignore_errors=True)
        assert cifar10(place).fingerprint == wanted.fingerprint, place


@pytest.mark.parametrize("form", ["folder", "above it", "archive", "folder of the archive"])
def test_the_release_for_python_is_refused_unread_and_the_other_is_named(tmp_path, form):
    home = tmp_path / "py" / "cifar-10-batches-py"
    home.mkdir(parents=True)
    for name, size in (("data_batch_4", cifar.MOST_BYTES), ("data_batch_1", cifar.MOST_BYTES), ("batches.meta", 0)):
        (home / name).write_bytes(b"cos\nsystem\n(S'true'\ntR." + bytes(size))
    packed = tmp_path / "gz" / "cifar-10-python.tar.gz"
    packed.parent.mkdir()
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(home, arcname=home.name)
    place = {"folder": home, "above it": home.parent, "archive": packed, "folder of the archive": packed.parent}[form]
    with pytest.raises(DataError, match=r"for Python: its files are pickles.*cifar-10-binary\.tar\.gz"):
        cifar10(place)


def test_an_archive_is_unpacked_once_and_then_read_from_the_cache(small_cifar, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(store, "_TICK_SECONDS", 0)
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


LIMITS = {"a.bin": 10, "b.bin": 5}


def written(path, *entries):
    with tarfile.open(path, f"w:{path.suffix[1:]}") as tar:
        for name, content, *kind in entries:
            info = tarfile.TarInfo(name)
            info.type = kind[0] if kind else tarfile.REGTYPE
            info.linkname = "/etc/passwd" if kind else ""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
def test_the_wanted_files_are_read_from_whatever_folder_they_are_in(tmp_path, suffix):
    path = written(tmp_path / f"x.tar{suffix}", ("set/a.bin", b"12345"), ("set/readme.html", b"hello"), ("b.bin", b"1"))
    assert cifar.members(path, LIMITS) == {"a.bin": b"12345", "b.bin": b"1"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("../a.bin", b"1"), "leads out"),
        (("set/../../a.bin", b"1"), "leads out"),
        (("/etc/a.bin", b"1"), "leads out"),
        (("set\\..\\a.bin", b"1"), "leads out"),
        (("a.bin", b"", tarfile.SYMTYPE), "link or a device"),
        (("a.bin", b"", tarfile.LNKTYPE), "link or a device"),
        (("other", b"", tarfile.SYMTYPE), "link or a device"),
        (("a.bin", b"", tarfile.FIFOTYPE), "link or a device"),
        (("a.bin", b"", tarfile.CHRTYPE), "link or a device"),
        (("a.bin", b"", tarfile.BLKTYPE), "link or a device"),
        (("a.bin", b"x" * 11), "more than 10"),
        (("bomb", bytes(cifar.MOST_BYTES + 1)), "more than 1,000,000"),
    ],
)
def test_a_member_that_no_data_archive_has_is_refused(tmp_path, entry, message):
    path = written(tmp_path / "x.tar.gz", ("set/b.bin", b"1"), entry)
    with pytest.raises(DataError, match=message):
        cifar.members(path, LIMITS)
    assert [each.name for each in tmp_path.iterdir()] == ["x.tar.gz"]


def test_the_same_file_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="twice"):
        cifar.members(written(tmp_path / "x.tar.gz", ("a.bin", b"1"), ("x/a.bin", b"2")), LIMITS)


def test_a_flood_of_members_is_refused(tmp_path):
    path = written(tmp_path / "x.tar.gz", *((f"{i}", b"") for i in range(cifar.MOST_MEMBERS + 1)))
    with pytest.raises(DataError, match="more than 1000 members"):
        cifar.members(path, LIMITS)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_truncated_or_damaged_archive_is_refused(tmp_path, suffix):
    path = written(tmp_path / f"x.tar{suffix}", ("a.bin", b"0123456789"), ("b.bin", b"12345"))
    whole = path.read_bytes()
    for content in (b"", b"not an archive", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.tar"):
            cifar.members(path, LIMITS)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        cifar.members(tmp_path / "x.tar.gz", LIMITS)


def test_facts_of_the_same_content_are_found_once(small_cifar, cache, monkeypatch):
    first = cifar10(small_cifar)
    monkeypatch.setattr(cifar, "level_counts", lambda x: pytest.fail("counted again"))
    monkeypatch.setattr(cifar._Table, "md5", lambda self, name: pytest.fail("its md5 was taken again"))
    again = cifar10(small_cifar)
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.mean, first.mean)


@pytest.mark.parametrize("validation", [0, 0.3])
def test_statistics_by_the_levels_of_the_whole_are_those_of_the_training_part(small_cifar, validation):
    data = load("cifar10", data_dir=small_cifar, validation=validation)
    mean, std = image_statistics(data.train.x.numpy())
    assert torch.equal(data.mean, mean)
    assert torch.equal(data.std, std)


def test_a_file_that_changed_in_the_cache_is_found(small_cifar, tmp_path, cache):
    """Its facts are of another content: what is read is hashed, and not believed."""
    packed = write_archive(small_cifar, tmp_path / "cifar-10-binary.tar.gz")
    cifar10(packed)
    damaged(cache / cifar.FOLDER, "data_batch_3.bin", flip_a_bit)
    with pytest.raises(DataError, match=r"data_batch_3\.bin: md5 \w+ is wrong"):
        load("cifar10", validation=0)


def test_a_damaged_cache_is_written_anew_from_the_archive(small_cifar, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(store, "_TICK_SECONDS", 0)
    packed = write_archive(small_cifar, tmp_path / "cifar-10-binary.tar.gz")
    first = cifar10(packed)
    damaged(cache / cifar.FOLDER, "data_batch_3.bin", flip_a_bit)
    assert cifar10(packed).fingerprint == first.fingerprint
    assert load("cifar10", validation=0).fingerprint == first.fingerprint


def test_an_archive_that_changed_is_read_and_not_served_from_the_cache(small_cifar, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(store, "_TICK_SECONDS", 0)
    packed = write_archive(small_cifar, tmp_path / "cifar-10-binary.tar.gz")
    cifar10(packed)
    write_archive(damaged(small_cifar, "data_batch_3.bin", flip_a_bit), packed)
    with pytest.raises(DataError, match=r"data_batch_3\.bin: md5 \w+ is wrong"):
        cifar10(packed)
