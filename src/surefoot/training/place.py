"""The folder of a run: the one of its name, or a new one that no other process has."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from surefoot.config import Config
from surefoot.errors import ConfigError
from surefoot.record import store
from surefoot.record.progress import PROGRESS


def run_place(config: Config, name: str | None, runs_dir: str | Path) -> Path:
    """Return the folder of the run of that name, or one that no other process has, made if missing.

    Raises:
        ConfigError: the name cannot be a folder's, or the folder holds other files or cannot be written to.
    """
    if not isinstance(runs_dir, str | Path):
        raise ConfigError(
            f"runs_dir = {runs_dir!r}", "a run is written down, in a folder of runs_dir", "give a path, or leave it out"
        )
    runs = Path(runs_dir)
    if name is not None:
        folder = runs / store.check_name(name)
        if folder.is_dir() and not (folder / store.CONFIG).is_file() and not _abandoned(folder):
            raise ConfigError(f"{folder} holds other files", "a run has a folder of its own", "choose another name")
        _make(folder, exist_ok=True)
        return folder
    while True:
        moment = datetime.now().strftime("%Y%m%d-%H%M%S")
        folder = runs / store.new_name(config.data, config.model, runs, moment)
        try:
            _make(folder, exist_ok=False)
            return folder
        except FileExistsError:  # another process was quicker
            continue


def _make(folder: Path, *, exist_ok: bool) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=exist_ok)
    except OSError as error:
        if isinstance(error, FileExistsError) and not exist_ok and folder.is_dir():
            raise
        raise ConfigError(
            f"the run's folder {folder} ({error.strerror})",
            "it must be a folder that can be written to",
            "choose another --runs-dir",
        ) from None


def _abandoned(folder: Path) -> bool:
    """Whether a folder holds only what a run killed in its first moment leaves, or a search without its final run."""
    first = {store.LOCK, store.ENVIRONMENT, store.COMMAND, PROGRESS, *store.OF_A_START, *store.OF_A_SEARCH}  # no config
    return all(path.name in first or path.name.startswith(".") for path in folder.iterdir())
