"""A run on disk: `open_run` begins it or goes on with it, `Run.advance` trains, `Run.finish` writes the result.

    run = open_run(config)
    while not run.done:
        run.advance()
    result = run.finish()

A run that was killed anywhere goes on from its newest checkpoint when it is opened again, and ends with the
bits that it would have had.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import time
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from surefoot.config import Config
from surefoot.data.load import load
from surefoot.errors import CheckpointError, ConfigError
from surefoot.models.build import Factory
from surefoot.record import store
from surefoot.record.run import Outcome, Record, Row
from surefoot.settings import differences, from_dict, read_toml, to_toml
from surefoot.sgd.plan import Plan, plan
from surefoot.train import checkpoint
from surefoot.train.evaluate import Evaluation, evaluate_part
from surefoot.train.loop import advance, start
from surefoot.train.state import State
from surefoot.train.task import Loss, Task, task
from surefoot.train.weights import save_weights

SCHEMA = 1
IN_MEMORY = "in-memory"
"""What a configuration says for data or a model that was given as an object."""

_SLICE_SECONDS = 0.25
"""How long one `Run.advance` trains, about: long beside its own cost, short beside a person's patience."""


@dataclass(frozen=True)
class Given:
    """Objects that a configuration cannot hold: they stand in for its text where they are not None."""

    data: Any = None
    model: nn.Module | Factory | None = None
    loss: Loss | None = None
    augment: Any = None


@dataclass(frozen=True)
class Result:
    """A finished run: what it came to, its record, and the trained model."""

    summary: dict[str, Any]
    record: Record
    config: Config
    model: nn.Module
    folder: Path


@dataclass
class Run:
    """A run in progress. Made by `open_run`; close it (or use `with`) to free its folder."""

    folder: Path
    config: Config
    task: Task
    plan: Plan
    state: State
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    _lock: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _saved_at: float = field(default_factory=time.monotonic)
    _step_seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.state.outcome is not None

    def advance(self) -> list[Row]:
        """Train for about a quarter of a second, or to the next row; record the new rows; checkpoint when due."""
        next_row = next((step for step in self.plan.row_steps if step > self.state.step), self.plan.steps)
        steps = max(1, int(_SLICE_SECONDS / self._step_seconds)) if self._step_seconds else 1
        before, began = self.state.step, time.perf_counter()
        self.state, rows = advance(self.task, self.plan, self.state, min(next_row, before + steps))
        taken = self.state.step - before
        self._step_seconds = (time.perf_counter() - began) / taken if taken else self._step_seconds
        self.rows += rows
        store.append_rows(self.folder, rows)
        if not self.done and time.monotonic() - self._saved_at >= self.config.checkpoint_seconds:
            self.save()
        return rows

    def save(self) -> Path | None:
        """Write a checkpoint, unless the run diverged: the last finite one is then kept."""
        self._saved_at = time.monotonic()
        if self.state.outcome is not None and self.state.outcome.kind == "diverged":
            return None
        store.flush_rows(self.folder)
        return checkpoint.save(self.folder, self.task, self.state)

    def finish(self) -> Result:
        """Write the last checkpoint, the weights and the result, and return it. The test part is used here, once."""
        assert self.state.outcome is not None, "finish comes after the last advance"
        self.save()
        outcome = self.state.outcome
        kept = self.state
        if outcome.kind == "diverged":
            earlier, notes = checkpoint.load_newest(self.folder, self.task)
            self.notes += notes
            kept = earlier or start(self.task, self.plan)
        test = self.task.data.test
        judged = evaluate_part(self.task, kept.model, kept.weights, test) if test is not None else None
        save_weights(self.folder, self.config, self.task, kept)
        summary = _summary(self, outcome, kept, judged)
        store.write_json(self.folder / store.RESULT, summary)
        model = kept.model
        checkpoint.load_weights(model, {name: value.clone() for name, value in kept.weights.items()}, "the average")
        record = Record(rows=tuple(self.rows), outcome=outcome)
        return Result(summary=summary, record=record, config=self.config, model=model.eval(), folder=self.folder)

    def close(self) -> None:
        """Free the run's folder for other processes."""
        self._lock.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_run(
    config: Config,
    *,
    name: str | None = None,
    runs_dir: str | Path = "runs",
    given: Given | None = None,
    command: str = "library",
) -> Run:
    """Begin a run, or go on with the unfinished one of that name.

    Args:
        config: all settings.
        name: the run's folder under `runs_dir`; a new name from date, data and model if left out.
        runs_dir: where runs lie; made if missing.
        given: objects in place of the configuration's data, model, loss or augmentation.
        command: what to write down as the command.

    Raises:
        ConfigError: settings cannot be used, or differ from those of the run of that name.
        CheckpointError: the run is held by another process, is finished, or cannot be loaded.
        DataError: the data cannot be used.
    """
    given = given or Given()
    runs = Path(runs_dir)
    if name is None:
        name = store.new_name(config.data, config.model, runs, datetime.now().strftime("%Y%m%d-%H%M%S"))
    folder = runs / store.check_name(name)
    exists = (folder / store.CONFIG).is_file()
    if folder.exists() and not exists and any(folder.iterdir()) and not _abandoned(folder):
        raise ConfigError(f"{folder} holds other files", "a run has a folder of its own", "choose another name")
    if exists:
        config = _agreed(config, read_config(folder), folder)
    with contextlib.ExitStack() as cleaner:
        _make(folder)
        cleaner.enter_context(store.locked(folder))
        work = _task(config, given)
        plan_ = plan(config.recipe, work.data.examples, config.rows_per_epoch)
        config = _resolved(config, work)
        notes = _identify(folder, config, work, command)
        state, damage = checkpoint.load_newest(folder, work)
        notes += damage + checkpoint.changed_since(folder, work)
        state = start(work, plan_) if state is None else state
        rows = list(store.keep_rows(folder, state.step))
        return Run(folder, config, work, plan_, state, rows, notes, cleaner.pop_all())


def finished_summary(folder: Path) -> dict[str, Any] | None:
    """Return the result of a run that is finished, else None."""
    return store.read_json(folder / store.RESULT) if (folder / store.RESULT).is_file() else None


def read_config(folder: Path) -> Config:
    """Return the settings of a run on disk.

    Raises:
        CheckpointError: its config.toml is missing or damaged.
    """
    try:
        return from_dict(Config, read_toml(folder / store.CONFIG))
    except ConfigError as error:
        raise CheckpointError(
            f"{folder / store.CONFIG}: {error.given}", error.allowed, "restore it from a copy"
        ) from None


def agreed_config(config: Config, folder: Path) -> Config:
    """Return the settings of the run in `folder`, after checking that `config` asks for the same.

    Raises:
        ConfigError: they differ; every difference is named.
    """
    return _agreed(config, read_config(folder), folder)


def _agreed(config: Config, there: Config, folder: Path) -> Config:
    changes: dict[str, Any] = {}
    if config.device == "auto":
        changes["device"] = there.device
    if config.precision == "auto":
        changes["precision"] = there.precision
    if config.threads is None:
        changes["threads"] = there.threads
    asked = dataclasses.replace(config, **changes)
    found = differences(there, asked, ignore=("checkpoint_seconds",))
    if found:
        raise ConfigError(
            f"{folder} was started with other settings: {', '.join(found)}",
            "a run keeps its settings from beginning to end",
            "choose another name, or give the same settings",
        )
    return asked


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / store.LOCK).touch()
    except OSError as error:
        raise ConfigError(
            f"the run's folder {folder}", f"it must be writable ({error.strerror})", "choose another --runs-dir"
        ) from None


def _abandoned(folder: Path) -> bool:
    """Whether a folder holds only what a run killed in its first moment leaves."""
    return all(path.name == store.LOCK or path.name.startswith(".") for path in folder.iterdir())


def _task(config: Config, given: Given) -> Task:
    data = load(
        config.data if given.data is None else given.data,
        data_dir=config.data_dir,
        validation=config.validation,
        seed=config.seed,
        image_size=config.image_size,
        label=config.label,
        target=config.target,
    )
    return task(
        data,
        config.model if given.model is None else given.model,
        loss=given.loss,
        augment=config.augment if given.augment is None else given.augment,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
        threads=config.threads,
    )


def _resolved(config: Config, work: Task) -> Config:
    place = work.machine
    return dataclasses.replace(config, device=str(place.device), precision=place.precision, threads=place.threads)


def _identify(folder: Path, config: Config, work: Task, command: str) -> list[str]:
    """Write what the run is on its first opening; later, hold that the data is still the same."""
    if (folder / store.CONFIG).is_file():
        saved = store.read_json(folder / store.ENVIRONMENT)
        if saved.get("data_fingerprint") != work.data.fingerprint:
            raise ConfigError(
                f"the data of {folder} has changed since the run began",
                "a run keeps its data from beginning to end",
                "restore the data, or choose another name",
            )
        return []
    environment = {
        "surefoot": version("surefoot"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "data_fingerprint": work.data.fingerprint,
        **checkpoint.fingerprint(work),
    }
    store.write_json(folder / store.ENVIRONMENT, environment)
    store.write_bytes(folder / store.COMMAND, (command + "\n").encode())
    store.write_bytes(folder / store.CONFIG, to_toml(config).encode())  # last: its presence makes the folder a run
    return []


def _summary(run: Run, outcome: Outcome, kept: State, test: Evaluation | None) -> dict[str, Any]:
    last = run.rows[-1] if run.rows else None
    work, state = run.task, run.state
    return {
        "schema": SCHEMA,
        "run": run.folder.name,
        "folder": str(run.folder),
        "outcome": outcome.kind,
        "reason": outcome.reason,
        "test_accuracy": test.accuracy if test else None,
        "test_loss": _finite(test.loss) if test else None,
        "test_examples": test.examples if test else None,
        "val_accuracy": last.val_accuracy if last else None,
        "val_loss": _finite(last.val_loss) if last else None,
        "train_accuracy": last.train_accuracy if last else None,
        "train_loss": _finite(last.train_loss) if last else None,
        "train_seconds": state.seconds,
        "epochs": state.step / run.plan.steps_per_epoch,
        "steps": state.step,
        "weights_from_step": kept.step,
        "examples_per_second": last.examples_per_second if last else None,
        "parameters": sum(parameter.numel() for parameter in kept.model.parameters()),
        "data": run.config.data,
        "model": run.config.model,
        "seed": run.config.seed,
        "device": str(work.machine.device),
        "precision": work.machine.precision,
        "threads": work.machine.threads,
        "torch": torch.__version__,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
