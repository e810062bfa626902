"""The folder of a run on disk: what lies where, and how it is written so that a kill loses nothing.

runs/NAME/
  config.toml        every setting, resolved; `surefoot train --config` takes it
  command.txt        the command line, or "library"
  environment.json   versions, machine, data fingerprint
  metrics.jsonl      one row a line
  heartbeat.json     how far it is, until it is done: see `record.heartbeat`
  checkpoints/       step-00000180/, ...: see `training.checkpoint`
  model.safetensors  the finished weights; model.json: what is needed to use them
  result.json        the result; its presence says that the run is done
  lock               held by the process that writes here

A run that a search ends in has besides:

  tune.toml          what was asked for
  decisions.jsonl    one decision a line: see `record.decision`
  members.jsonl      one finished trial a line: see `record.tried`
  timings.json       what was timed, by name
  members/           trials in progress, until they are done
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from surefoot.errors import CheckpointError, ConfigError, nearest
from surefoot.record.run import Row

SCHEMA = 1
"""Of a run's files, see docs/record.md: raised when a field goes or changes its meaning. New fields do not raise it."""
CONFIG, COMMAND, ENVIRONMENT = "config.toml", "command.txt", "environment.json"
METRICS, RESULT, CHECKPOINTS = "metrics.jsonl", "result.json", "checkpoints"
WEIGHTS, MODEL, LOCK = "model.safetensors", "model.json", "lock"
TUNE, DECISIONS, TRIED, TIMINGS, MEMBERS = (
    "tune.toml", "decisions.jsonl", "members.jsonl", "timings.json", "members"
)  # fmt: skip
OF_A_SEARCH = (TUNE, DECISIONS, TRIED, TIMINGS, MEMBERS)
_NAMED = 8
"""Most runs that a message names. Chosen by hand."""


def write_bytes(path: Path, content: bytes) -> None:
    """Put content at path so that a reader finds the old file or the new one, whole, whenever the power fails.

    Written under another name, flushed to the disk, renamed over the old one, and the folder flushed.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # Ctrl-C too must not leave the temporary file; it is raised again
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make the names inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as `write_bytes` does."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}", "this file must exist", "give the folder of a run that has it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}", f"it must be readable JSON ({error})", "restore it, or train again under another name"
        ) from None


_held: set[TextIO] = set()


def _forked() -> None:
    """Close a child's copies of the locks: a lock lasts as long as any copy is open. Closing one frees no other."""
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_forked)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder for the block. The kernel frees the lock when the process ends, however it ends.

    A fork of the process does not hold it: a child that outlives its parent keeps nobody from going on.

    Raises:
        CheckpointError: another process holds it.
    """
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(folder / LOCK)):
                raise BlockingIOError  # the file was removed by a holder that left no run, and made anew by another
        except (BlockingIOError, FileNotFoundError):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise CheckpointError(
                f"{folder} is in use by process {holder}",
                "one process at a time may write a run",
                "wait for it, or use another name",
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)


def sweep(folder: Path) -> None:
    """Remove what processes that were killed while writing left in a run's folder. For the holder of its lock."""
    for left in folder.glob(".*.tmp-*"):
        left.unlink(missing_ok=True)


def discard_if_empty(folder: Path) -> None:
    """Remove a folder in which no run has begun. For the holder of its lock."""
    if not (folder / CONFIG).exists():
        with contextlib.suppress(OSError):
            for name in (ENVIRONMENT, COMMAND, LOCK):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def append_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Add rows to the run's metrics."""
    text = "".join(json.dumps(row.to_dict(), allow_nan=False) + "\n" for row in rows)
    if text:
        with (folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()


def flush_rows(folder: Path) -> None:
    """Make the metrics durable, so that no checkpoint outlives the rows before it."""
    with (folder / METRICS).open("a") as file:
        os.fsync(file.fileno())


def read_rows(folder: Path) -> tuple[Row, ...]:
    """Return the rows of a run. A last line that a kill cut short is left out.

    Raises:
        CheckpointError: a line before the last is damaged.
    """
    path = folder / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(str(path), f"it must be readable ({error})", "restore it from a copy") from None
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(Row.from_dict(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if number < len(lines):
                raise CheckpointError(
                    f"{path}, line {number}", f"it must be a row of metrics ({error})", "restore it from a copy"
                ) from None
    return tuple(rows)


def keep_rows(folder: Path, until_step: int) -> tuple[Row, ...]:
    """Drop the rows after a step, which a run that goes on from there will write again, and return the others."""
    rows = tuple(row for row in read_rows(folder) if row.step <= until_step)
    text = "".join(json.dumps(row.to_dict(), allow_nan=False) + "\n" for row in rows)
    write_bytes(folder / METRICS, text.encode())
    return rows


def run_folder(run: str | Path, runs_dir: str | Path = "runs") -> Path:
    """Return the folder of a run that was given as a path or as a name under `runs_dir`.

    Raises:
        CheckpointError: there is none.
    """
    for folder in (Path(run), Path(runs_dir) / run):
        if (folder / CONFIG).is_file():
            return folder
    known = sorted(path.parent.name for path in Path(runs_dir).glob(f"*/{CONFIG}"))
    advice = nearest(Path(run).name, known) if known else "start one with surefoot train"
    if not advice.endswith("?") and len(known) > _NAMED:
        advice = f"list the {len(known)} runs with surefoot show"
    raise CheckpointError(
        f"'{run}' is not a run", f"a run is a folder with a {CONFIG}, or its name under {runs_dir}/", advice
    )


def new_name(data: str, model: str, runs_dir: Path, moment: str) -> str:
    """Return a name that no run has yet: moment-data-model, with -2, -3, ... where that is taken.

    Args:
        data, model: as configured; what cannot stand in a file name is replaced.
        runs_dir: where the runs lie.
        moment: for example "20261123-194200".
    """
    stem = "-".join([moment, _plain(Path(data).name), _plain(model.rpartition(":")[2])])
    number, name = 1, stem
    while (runs_dir / name).exists():
        number += 1
        name = f"{stem}-{number}"
    return name


def check_name(name: str) -> str:
    """Return a run's name if it can be a folder's.

    Raises:
        ConfigError: it cannot.
    """
    if not name or name != _plain(name) or name.startswith("."):
        raise ConfigError(
            f"name = {name!r}",
            "a run's name holds letters, digits, '.', '_' and '-'",
            f"try {_plain(name).strip('.') or 'first'}",
        )
    return name


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in text)[:80]
