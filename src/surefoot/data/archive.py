"""Reading chosen files out of a tar archive into memory. Nothing is ever unpacked to disk."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from surefoot.errors import DataError

MOST_MEMBERS = 1000
"""An archive of more members is refused. CIFAR-10's have 9. Chosen by hand."""

MOST_BYTES = 10**6
"""Largest size of a member that is not asked for: read over, but never kept. Chosen by hand."""


def members(path: Path, limits: Mapping[str, int]) -> dict[str, bytes]:
    """Return the contents of the wanted files of a .tar, .tar.gz, .tar.bz2 or .tar.xz, by their last name.

    The archive is read once from front to back, member by member, each against its limit before a byte of it is
    decompressed, so neither paths, links nor bombs in it can do anything.

    Args:
        path: of the archive.
        limits: the most bytes that each wanted file may have, by its name.

    Raises:
        DataError: it is no archive, is damaged, or has a member that no data archive has: a link or device, an
            absolute path or one with "..", a file larger than its limit, the same file twice.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|*") as tar:
            for count, member in enumerate(tar):
                if count >= MOST_MEMBERS:
                    raise _refused(path, f"more than {MOST_MEMBERS} members")
                name = _checked(path, member, limits)
                if member.isfile() and name in limits:
                    if name in found:
                        raise _refused(path, f"{member.name!r} is there twice")
                    file = tar.extractfile(member)
                    found[name] = file.read() if file is not None else b""
                    if len(found[name]) != member.size:
                        raise EOFError("it ends early")
    except (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise DataError(
            f"{path}: {error}", "it must be a whole .tar.gz or .tar.xz archive", "download it again"
        ) from None
    return found


def _checked(path: Path, member: tarfile.TarInfo, limits: Mapping[str, int]) -> str:
    """Return the member's last name, or raise DataError where it is no plain file or folder of a fit size."""
    inside = PurePosixPath(member.name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in member.name or "\0" in member.name:
        raise _refused(path, f"{member.name!r} leads out of the archive")
    if not (member.isfile() or member.isdir()):
        raise _refused(path, f"{member.name!r} is a link or a device")
    limit = limits.get(inside.name, MOST_BYTES)
    if member.size > limit:
        raise _refused(path, f"{member.name!r} has {member.size:,} bytes, more than {limit:,}")
    return inside.name


def _refused(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path}: {reason}", "the archive of a data set holds plain files inside one folder", "download it again"
    )
