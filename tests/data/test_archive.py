"""Archives that try to do harm, or are damaged, are refused before a byte is kept; nothing is unpacked."""

import io
import tarfile

import pytest

from surefoot.data.archive import MOST_BYTES, MOST_MEMBERS, members
from surefoot.errors import DataError

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
    assert members(path, LIMITS) == {"a.bin": b"12345", "b.bin": b"1"}


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
        (("bomb", bytes(MOST_BYTES + 1)), "more than 1,000,000"),
    ],
)
def test_a_member_that_no_data_archive_has_is_refused(tmp_path, entry, message):
    path = written(tmp_path / "x.tar.gz", ("set/b.bin", b"1"), entry)
    with pytest.raises(DataError, match=message):
        members(path, LIMITS)
    assert [each.name for each in tmp_path.iterdir()] == ["x.tar.gz"]


def test_the_same_file_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="twice"):
        members(written(tmp_path / "x.tar.gz", ("a.bin", b"1"), ("x/a.bin", b"2")), LIMITS)


def test_a_flood_of_members_is_refused(tmp_path):
    path = written(tmp_path / "x.tar.gz", *((f"{i}", b"") for i in range(MOST_MEMBERS + 1)))
    with pytest.raises(DataError, match="more than 1000 members"):
        members(path, LIMITS)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_truncated_or_damaged_archive_is_refused(tmp_path, suffix):
    path = written(tmp_path / f"x.tar{suffix}", ("a.bin", b"0123456789"), ("b.bin", b"12345"))
    whole = path.read_bytes()
    for content in (b"", b"not an archive", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.tar"):
            members(path, LIMITS)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        members(tmp_path / "x.tar.gz", LIMITS)
