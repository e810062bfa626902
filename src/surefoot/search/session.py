"""A search on disk: its folder, its journal, and the final training that it ends in.

    with open_session(config, search) as session:
        for progress in session.search():
            ...
    run = session.open_final()

The folder is that of the final run. Until that begins it holds `tune.toml`, what was asked for, and the journal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import tomllib
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from surefoot.config import Config
from surefoot.curves.read import read_curves
from surefoot.errors import CheckpointError, ConfigError
from surefoot.record import store
from surefoot.record.progress import Progress, ProgressFile
from surefoot.search.budget import Ledger, budget
from surefoot.search.journal import Journal, open_journal
from surefoot.search.tuner import tuning
from surefoot.search.work import Found, Search
from surefoot.settings import differences, from_dict, to_dict
from surefoot.training.open import Objects, make_task, open_run, run_place
from surefoot.training.population.engine import Engine
from surefoot.training.run import Result, Run
from surefoot.training.task import Task


@dataclass
class Session:
    """A search in progress. Made by `open_session`; close it (or use `with`) to free its folder.

    Attributes:
        folder: where everything lies.
        config: what was asked for; its recipe is the one that the search starts from.
        wanted: budget, and what is fixed.
        task: what is learned.
        journal: what has been found so far.
        found: what the search came to, once it is done.
        now: how far it is; also in its folder, at most once a second.
    """

    folder: Path
    config: Config
    wanted: Search
    task: Task
    journal: Journal
    given: Objects
    command: str
    found: Found | None = None
    now: Progress | None = None
    _lock: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def search(self, engine: Engine | None = None) -> Generator[Progress, None, Found]:
        """Search, a piece at a time; the generator's value, also kept in `found`, is what was found."""
        model = self.config.model if self.given.model is None else self.given.model
        ledger, file = Ledger(self.wanted.budget), ProgressFile(self.folder)
        began, decided = time.monotonic(), 0
        search = tuning(
            self.task, self.config.recipe, self.wanted, self.journal,
            given=(model, self.task.data, self.given.loss), engine=engine, ledger=ledger,
        )  # fmt: skip
        with contextlib.closing(search):  # which saves what is being trained, where this is stopped
            while True:
                try:
                    seen = next(search)
                except StopIteration as end:
                    self.found = end.value
                    file.remove()
                    return end.value
                if decided != self.journal.replayed:
                    began, decided = time.monotonic(), self.journal.replayed
                self.now = ledger.progress(seen, time.monotonic() - began)
                if file.due:
                    file.write(self.now)
                yield seen

    @property
    def final_config(self) -> Config:
        """The settings of the final training."""
        assert self.found is not None
        assert self.found.recipe is not None
        return dataclasses.replace(self.config, recipe=self.found.recipe)

    def open_final(self) -> Run:
        """Free the folder and open the final run in it, from its newest checkpoint if it has begun."""
        self.close()
        return open_run(
            self.final_config, name=self.folder.name, runs_dir=self.folder.parent, objects=self.given,
            command=self.command,
        )  # fmt: skip

    def complete(self, result: Result, run: Run) -> dict[str, Any]:
        """Add recipe, decisions (the last reads the final run's curves) and cost to its result, and return that."""
        found = self.found
        assert found is not None
        curves = read_curves(result.record.rows, result.record.outcome)
        summary = {
            **result.summary,
            "recipe": to_dict(run.config.recipe),
            "decisions": [each.to_dict() for each in (*found.decisions, curves)],
            "cost": cost(found),
            "unchecked": found.unchecked,
        }
        store.write_json(self.folder / store.RESULT, summary)
        return summary

    def close(self) -> None:
        """Free the folder for other processes."""
        self._lock.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def cost(found: Found) -> dict[str, Any]:
    """Return what a search has cost, as JSON values: in examples, in final trainings, in seconds, and by step."""
    ledger = found.ledger
    return {
        "budget": str(ledger.budget),
        "search_examples": ledger.examples,
        "final_examples": ledger.final_examples,
        "trainings": ledger.cost,
        "search_seconds": ledger.seconds,
        "steps": {name: {"examples": examples, "seconds": seconds}
                  for name, (examples, seconds) in ledger.parts.items()},
    }  # fmt: skip


def open_session(
    config: Config,
    wanted: Search,
    *,
    name: str | None = None,
    runs_dir: str | Path = "runs",
    given: Objects | None = None,
    command: str = "library",
) -> Session:
    """Begin a search, or go on with the one of that name.

    Args:
        config: all settings; its recipe is the one to start from.
        wanted: budget, and what is fixed.
        name: the folder under `runs_dir`; a new name from date, data and model if left out.
        runs_dir: where runs lie; made if missing.
        given: objects in place of the configuration's data, model, loss or augmentation.
        command: what to write down as the command.

    Raises:
        ConfigError: settings cannot be used, or differ from those of the search of that name; there is no validation
            part.
        CheckpointError: the folder is held by another process, or its journal is damaged.
        DataError: the data cannot be used.
    """
    given = given or Objects()
    folder = run_place(config, name, Path(runs_dir))
    with contextlib.ExitStack() as cleaner:
        cleaner.enter_context(store.locked(folder))
        cleaner.callback(_discard_if_empty, folder)
        store.sweep(folder)
        begun = (folder / store.TUNE).is_file()
        if begun:
            _agree(folder, config, wanted)
        elif (folder / store.CONFIG).is_file():
            raise ConfigError(
                f"{folder} is a run that was not tuned", "a search has a folder of its own", "choose another name"
            )
        task = make_task(config, given)
        if task.data.validation is None:
            raise ConfigError(
                "data without a validation part", "recipes are compared by what they do on held-out examples",
                "leave --validation out, or give it a share such as 0.1",
            )  # fmt: skip
        journal = open_journal(folder)
        fingerprint = journal.timed("data_fingerprint", lambda: task.data.fingerprint)
        if fingerprint != task.data.fingerprint:
            raise ConfigError(
                f"the data of {folder} has changed since the search began",
                "a search keeps its data from beginning to end", "restore the data, or choose another name",
            )  # fmt: skip
        if not begun:
            store.write_bytes(folder / store.COMMAND, (command + "\n").encode())
            store.write_bytes(folder / store.TUNE, asked(config, wanted).encode())
        return Session(folder, config, wanted, task, journal, given, command, _lock=cleaner.pop_all())


def asked(config: Config, wanted: Search) -> str:
    """Return what was asked for as TOML."""
    more = {"budget": str(wanted.budget), "fixed": sorted(wanted.fixed), "force": wanted.force}
    return tomli_w.dumps({"tune": more, "start": to_dict(config)})


def read_asked(folder: Path) -> tuple[Config, Search]:
    """Return what the search in a folder was asked for.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = folder / store.TUNE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        more = values["tune"]
        wanted = Search(budget=budget(more["budget"]), fixed=frozenset(more["fixed"]), force=more["force"])
        return from_dict(Config, values["start"]), wanted
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(str(path), f"it must be as the search wrote it ({error})", "restore it") from None


def _agree(folder: Path, config: Config, wanted: Search) -> None:
    there, before = read_asked(folder)
    found = differences(there, config, ignore=("checkpoint_seconds",))
    if before != wanted:
        found.append(f"budget, fixed settings or force ({before.budget} there, {wanted.budget} here)")
    if found:
        raise ConfigError(
            f"{folder} was started with other settings: {', '.join(found)}",
            "a search keeps its settings from beginning to end", "choose another name, or give the same settings",
        )  # fmt: skip


def _discard_if_empty(folder: Path) -> None:
    if not (folder / store.TUNE).is_file():
        store.discard_if_empty(folder)
