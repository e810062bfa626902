"""The lock of a run's folder: one process at a time writes there, and it is free as soon as that process ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from surefoot.errors import CheckpointError
from surefoot.record.store import LOCK


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder for the block. The kernel frees the lock when the process ends, however it ends.

    A fork of the process does not hold it: a child that outlives its parent keeps nobody from going on. Where the file
    system has no locks (some network drives), the presence of the file is the lock.

    Raises:
        CheckpointError: another process holds it, or the folder cannot be locked.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise CheckpointError(
            f"{folder} is in use by {_holder(folder)}",
            "one process at a time may write a run",
            "wait for it, or use another name",
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"the run's folder {folder} ({error.strerror or error})", "it must be a folder that can be written to",
            "choose another --runs-dir",
        ) from None  # fmt: skip
    try:
        if not isinstance(lock, SoftFileLock):  # which writes that itself
            with contextlib.suppress(OSError):  # Windows lets nobody touch a locked file, its holder neither
                (folder / LOCK).write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Return whether a process holds the run, by asking the kernel; the process id in the file may be stale.

    For some microseconds the question is itself a lock, during which a training that starts would see the run in use.
    So nobody asks it of a run that is done.
    """
    if not (folder / LOCK).is_file():
        return False
    try:
        import fcntl
    except ImportError:  # on Windows
        from filelock import FileLock, Timeout

        try:
            with FileLock(folder / LOCK, timeout=0, thread_local=False):
                return False
        except Timeout:
            return True
        except OSError:
            return False
    try:
        with (folder / LOCK).open("rb") as file:  # to be read is enough: the run may be another account's
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _holder(folder: Path) -> str:
    try:
        holder = (folder / LOCK).read_text().partition("\n")[0].strip()
    except OSError:
        holder = ""
    return f"process {holder}" if holder.isdecimal() else "another process"
