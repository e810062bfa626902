"""A run read back from its folder, without torch: what `show` prints and a report is made from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from surefoot.config import Config, Recipe
from surefoot.errors import CheckpointError, ConfigError, DataError
from surefoot.record import store
from surefoot.record.lock import is_held
from surefoot.record.run import Row, read_rows
from surefoot.settings import differences, flat_settings, from_dict, read_toml, to_dict

IN_MEMORY = "in-memory"
"""What a configuration says for data or a model that was given as an object in Python."""

_MACHINE = ("device", "precision", "threads")
"""Settings that a run writes down as it resolved them; they say where it ran, not what was chosen."""

_SHOWN = 40
"""Letters of a wrong value that a message shows. Chosen by hand."""

_OLDER = {"standardise_targets": False}
"""What older versions did that do not say so."""

_MAY_CHANGE = ("data", "data_dir", "checkpoint_seconds", "device", "threads", "workers")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A run on disk at the moment of reading.

    Attributes:
        folder: where it lies.
        config: all settings.
        command: the command line, or "library".
        environment: versions, machine and data fingerprint; empty if the file is missing.
        rows: what has been recorded so far.
        result: the result, or None while the run is not done.
        training: whether a process is training it now.
    """

    folder: Path
    config: Config
    command: str
    environment: dict[str, Any]
    rows: tuple[Row, ...]
    result: dict[str, Any] | None
    training: bool

    @property
    def state(self) -> Literal["finished", "diverged", "training", "unfinished"]:
        """How it stands: its outcome where it has one, else whether somebody works on it."""
        if self.result is not None:
            return "diverged" if self.result.get("outcome") == "diverged" else "finished"
        return "training" if self.training else "unfinished"

    @property
    def sealed(self) -> bool:
        """Whether damage of its result would be seen; runs of older versions have no seal."""
        return self.result is None or store.is_sealed(self.result)

    @property
    def from_python(self) -> bool:
        """Whether its data or model was an object, so that no command line can bring it back."""
        return IN_MEMORY in (self.config.data, self.config.model)


def read_run(folder: Path) -> Stored:
    """Return the run in a folder.

    Raises:
        CheckpointError: config.toml is missing, or one of its files is damaged.
    """
    result = _result(folder) if (folder / store.RESULT).is_file() else None
    store.check_begun(folder, store.COMMAND)
    environment = store.read_sealed(folder / store.ENVIRONMENT) if (folder / store.ENVIRONMENT).is_file() else {}
    return Stored(
        folder=folder,
        config=read_config(folder),
        command=_text(folder / store.COMMAND),
        environment={
            name: value
            for name, value in environment.items()
            if name not in ("settings", "seal", "folder", "files", "started_from")
        },
        rows=read_rows(folder),
        result=result,
        training=result is None and is_held(folder),
    )


def run_folders(runs_dir: str | Path) -> list[Path]:
    """Return the folders of the runs under `runs_dir`, the oldest first."""
    found = [path for path in Path(runs_dir).glob(f"*/{store.CONFIG}") if path.is_file()]
    return [path.parent for path in sorted(found, key=lambda path: (path.stat().st_mtime, path.parent.name))]


def changed_settings(config: Config) -> dict[str, Any]:
    """Return the settings that differ from the defaults of `Config`, by their flat names.

    Device, precision and threads are left out: a run resolves them for its machine.

    >>> changed_settings(Config(model="mlp", seed=3, device="cpu"))
    {'model': 'mlp', 'seed': 3}
    """
    given, default = to_dict(config), to_dict(Config(recipe=Recipe(rule=config.recipe.rule)))
    default["recipe"]["rule"] = Recipe.rule
    found: dict[str, Any] = {}
    for name, setting in flat_settings().items():
        value, usual = given, default
        for step in setting.path:
            value = value.get(step) if isinstance(value, dict) else None
            usual = usual.get(step) if isinstance(usual, dict) else None
        if value != usual and name not in _MACHINE:
            found[name] = value
    return found


def read_config(folder: Path) -> Config:
    """Return the settings of a run on disk.

    Of a run that is not done the place of its data and the machine may be changed: the data's fingerprint and notes
    stand for them.

    Raises:
        CheckpointError: its config.toml is missing or damaged, or was changed after the run began.
    """
    path, environment = folder / store.CONFIG, folder / store.ENVIRONMENT
    if not path.is_file():
        raise CheckpointError(f"{path}", "this file must exist", "give the folder of a run that has it")
    if not environment.is_file() and any((folder / name).exists() for name in (store.MODEL, store.CHECKPOINTS)):
        raise CheckpointError(
            f"{environment} is gone", "it holds what the run was begun with", "restore it from a copy"
        )
    begun = store.read_sealed(environment).get("settings") if environment.is_file() else None
    try:
        config = from_dict(Config, _OLDER | read_toml(path))
        if begun is None:  # of an older version
            return config
        done = (folder / store.RESULT).is_file()
        changed = differences(from_dict(Config, _OLDER | begun), config, ignore=() if done else _MAY_CHANGE)
    except ConfigError as error:
        given = error.given if error.given.startswith(str(path)) else f"{path}: {error.given}"
        raise CheckpointError(given, error.allowed, "restore it from a copy") from None
    if changed:
        raise CheckpointError(
            f"{path} was changed after the run began: {', '.join(changed)}",
            f"a run keeps its settings, which {store.ENVIRONMENT} holds too, from beginning to end",
            "restore it, or train with it under another name",
        )
    return config


def made_in(folder: Path) -> Path | None:
    """Return the folder from which a run or search was begun, by which its relative paths are read; None if unknown."""
    directory = store.begun_with(folder).get("directory")
    return Path(directory) if isinstance(directory, str) and Path(directory).is_dir() else None


def located(config: Config, folder: Path, named: Collection[str]) -> Config:
    """Return the settings of a run with the places of its data as they are reached from here.

    A relative path is that from the folder in which the run was begun, and where nothing is there from this one. For a
    run that was moved or copied it is the other way round: its data may have come along.

    Args:
        config: the settings.
        folder: of the run.
        named: the named data sets, which lie in no place.

    Raises:
        DataError: the data is in neither place.
    """
    directory, found = made_in(folder), dict[str, str]()
    if directory is None:
        return config
    for name in ("data", "data_dir"):
        path = getattr(config, name)
        if path is None or path == IN_MEMORY or Path(path).expanduser().is_absolute():
            continue
        there, came_along = directory / path, code_in(folder) is None and Path(path).exists()
        if directory != Path.cwd() and there.exists() and not came_along:
            found[name] = str(there)
        elif not Path(path).exists() and path not in named:
            raise DataError(
                f"the {name} of {folder} is neither at {there} nor at {Path.cwd() / path}"
                if directory != Path.cwd()
                else f"the {name} of {folder} is no longer at {there}",
                "a run goes on with its own data, wherever that lies now",
                "point to it with --data",
            )
    return dataclasses.replace(config, **found) if found else config


def code_in(folder: Path) -> Path | None:
    """Return the folder from which the code of a run's model may be imported: that in which it was begun.

    Only while the run lies where it was begun: a folder that somebody sent names no code of this machine.
    """
    return made_in(folder) if store.begun_with(folder).get("folder") == str(folder.resolve()) else None


_SHARES = ("test_accuracy", "val_accuracy", "train_accuracy")
_COUNTS = ("test_examples", "steps", "parameters")
_NUMBERS = ("test_loss", "val_loss", "train_loss", "train_seconds", "epochs")
"""Fields of a result that are a number or null: those that are shown."""


def _result(folder: Path) -> dict[str, Any]:
    path = folder / store.RESULT
    result = store.read_sealed(path)
    wrong = [name for name in ("outcome", "reason") if not isinstance(result.get(name), str)]
    wrong += [name for name in (*_SHARES, *_COUNTS, *_NUMBERS) if not _right(name, result.get(name))]
    if "files" in result and not isinstance(result["files"], dict):
        wrong.append("files")
    if wrong:
        raise CheckpointError(
            f"{path}: {wrong[0]} = {str(result.get(wrong[0]))[:_SHOWN]}", "it must be as the run wrote it",
            "restore it from a copy",
        )  # fmt: skip
    store.check_digests(folder, result.get("files", {}))
    return result


def _right(name: str, value: Any) -> bool:
    """Return whether a field of a result holds null, or a number that it may hold."""
    if value is None:
        return True
    if name in _COUNTS:
        return type(value) is int and 0 <= value < 2**63
    return type(value) in (int, float) and abs(value) < math.inf and (name not in _SHARES or 0 <= value <= 1)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
