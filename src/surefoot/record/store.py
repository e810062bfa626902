"""The folder of a run on disk: what lies where, and how it is written so that a kill loses nothing.

runs/NAME/
  config.toml        every setting, resolved; `surefoot train --config` takes it
  command.txt        the command line, or "library"
  environment.json   versions, machine, data fingerprint
  metrics.jsonl      one row a line: see `record.run`
  noise.jsonl        gradient noise at some rows, where it is measured: see `record.noise`
  progress.json      how far it is, until it is done: see `record.progress`
  checkpoints/       step-00000180/, ...: see `training.checkpoint`
  start.safetensors  the weights that it started from, if these are another run's; start.json: what they learned with
  model.safetensors  the finished weights; model.json: what is needed to use them
  best.safetensors   the best weights, where those of the result are the last; or last.safetensors, the other way round
  result.json        the result; its presence says that the run is done
  lock               held by the process that writes here

A run that a search ends in has besides:

  tune.toml          what was asked for
  decisions.jsonl    one decision a line: see `record.decision`
  members.jsonl      one finished trial a line: see `record.trial`
  timings.json       what was timed, by name
  members/           trials in progress, until they are done
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from surefoot.errors import CheckpointError, ConfigError, nearest

SCHEMA = 1
"""Of a run's files, see docs/record.md: raised when a field goes or changes its meaning. New fields do not raise it."""
CONFIG, COMMAND, ENVIRONMENT = "config.toml", "command.txt", "environment.json"
METRICS, RESULT, CHECKPOINTS = "metrics.jsonl", "result.json", "checkpoints"
WEIGHTS, MODEL, LOCK = "model.safetensors", "model.json", "lock"
TUNE, DECISIONS, TRIALS, TIMINGS, MEMBERS = (
    "tune.toml", "decisions.jsonl", "members.jsonl", "timings.json", "members"
)  # fmt: skip
START, START_ABOUT = OF_A_START = ("start.safetensors", "start.json")
SEALED = (
    CONFIG, COMMAND, ENVIRONMENT, METRICS, MODEL, START_ABOUT, "scores.json", "noise.jsonl", TUNE, DECISIONS, TRIALS,
    TIMINGS,
)  # fmt: skip
"""Files of a finished run whose hashes are in its result; the hash of the weights is in `MODEL`."""
OF_A_SEARCH = (TUNE, DECISIONS, TRIALS, TIMINGS, MEMBERS)
SEAL = "seal"
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
    if os.name == "nt":
        return  # folders cannot be opened there, and renames are journalled
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as `write_bytes` does."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def finished_at(folder: Path) -> str:
    """Return when the result of a run was written, in local time, in words."""
    return f"{datetime.fromtimestamp((folder / RESULT).stat().st_mtime):%H:%M, %d %B %Y}"


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


def write_sealed(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Write a JSON object with a `seal`, the SHA-256 over all its other values, and return it so."""
    sealed = with_seal({name: value for name, value in values.items() if name != SEAL})
    write_json(path, sealed)
    return sealed


def read_sealed(path: Path) -> dict[str, Any]:
    """Return a JSON object that `write_sealed` wrote; one of an older version has no seal and is taken as it is.

    Raises:
        CheckpointError: the file is missing, damaged or no object, or its seal is that of other values.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}", "it must hold a JSON object", "restore it from a copy")
    if not seal_holds(values):
        raise _changed(path)
    return values


def with_seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values with a `seal` over them."""
    return {**values, SEAL: _seal_of(values)}


def seal_holds(values: Mapping[str, Any]) -> bool:
    """Return whether JSON values have the seal of these values, or none.

    >>> seal_holds(with_seal({"a": 1})), seal_holds(with_seal({"a": 1}) | {"a": 2}), seal_holds({"a": 1})
    (True, False, True)
    """
    return SEAL not in values or values[SEAL] == _seal_of({k: v for k, v in values.items() if k != SEAL})


def is_sealed(values: dict[str, Any]) -> bool:
    """Return whether a JSON object has a seal."""
    return SEAL in values


def digests(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return the SHA-256 of each of these files that is there, by name."""
    return {name: sha256((folder / name).read_bytes()) for name in names if (folder / name).is_file()}


def check_finished(folder: Path, *names: str) -> None:
    """Raise CheckpointError where one of these files of a finished run is not as its result says, or the result is."""
    if (folder / RESULT).is_file():
        files = read_sealed(folder / RESULT).get("files")
        if isinstance(files, dict):
            check_digests(folder, {name: files[name] for name in names if name in files})


def begun_with(folder: Path) -> dict[str, Any]:
    """Return what was written down when a run, or the search that ends in it, was begun; empty where nothing was.

    Raises:
        CheckpointError: it is damaged.
    """
    paths = [folder / name for name in (ENVIRONMENT, TIMINGS) if (folder / name).is_file()]
    return read_sealed(paths[0]) if paths else {}


def check_begun(folder: Path, *names: str) -> None:
    """Raise CheckpointError where one of these files is not as it was when the run or search was begun."""
    files = begun_with(folder).get("files")
    if isinstance(files, dict):
        check_digests(folder, {name: files[name] for name in names if name in files})


def check_digests(folder: Path, recorded: dict[str, str]) -> None:
    """Raise CheckpointError for the first file whose SHA-256 is not the one that was recorded."""
    there = digests(folder, tuple(recorded))
    for name, digest in recorded.items():
        if name not in there:
            raise CheckpointError(
                f"{folder / name} is gone", "it must be as the run wrote it",
                "restore it from a copy, or train again under another name",
            )  # fmt: skip
        if there[name] != digest:
            raise _changed(folder / name)


def _seal_of(values: Mapping[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode())


def sha256(content: bytes) -> str:
    """Return the SHA-256 of bytes as text."""
    return hashlib.sha256(content).hexdigest()


def _changed(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} was damaged or changed after the run wrote it", "it must be as the run wrote it",
        "restore it from a copy, or train again under another name",
    )  # fmt: skip


def sweep(folder: Path) -> None:
    """Remove what processes that were killed while writing left in a run's folder. For the holder of its lock."""
    for left in folder.glob(".*.tmp-*"):
        left.unlink(missing_ok=True)


def discard_if_empty(folder: Path) -> None:
    """Remove a folder in which no run has begun. For the holder of its lock."""
    if not (folder / CONFIG).exists():
        with contextlib.suppress(OSError):
            for name in (*OF_A_START, ENVIRONMENT, COMMAND, LOCK):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def run_folder(run: str | Path, runs_dir: str | Path = "runs", *, searches: bool = False) -> Path:
    """Return the folder of a run that was given as a path or as a name under `runs_dir`.

    Args:
        run: path or name.
        runs_dir: where runs lie.
        searches: also that of a search whose final training has not begun.

    Raises:
        CheckpointError: there is none.
    """
    for folder in (Path(run), Path(runs_dir) / run):
        if (folder / CONFIG).is_file() or (searches and (folder / TUNE).is_file()):
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
        near = _plain(unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()).strip(".-")
        raise ConfigError(
            f"name = {name!r}",
            "a run's name holds letters a to z, digits, '.', '_' and '-', begins with no dot, and has at most 80",
            f"try {near or 'first'}",
        )
    return name


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in text)[:80]
