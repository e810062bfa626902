"""Opening a run: `open_run` begins it or goes on with it; `train` opens one and trains it to its end.

    with open_run(config) as run:
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
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from surefoot.config import Config, __version__
from surefoot.data.dataset import DataSet
from surefoot.errors import CheckpointError, ConfigError, nearest
from surefoot.models.build import Factory
from surefoot.optim.plan import USUAL_BATCH, plan, said_of_batch
from surefoot.record import store
from surefoot.record.lock import is_held, locked
from surefoot.record.measures import ACCURACY, LOSS, metric_name, rises
from surefoot.record.run import truncate_rows
from surefoot.record.stored import IN_MEMORY, made_in, read_config, run_folders
from surefoot.settings import (
    differences,
    merged,
    nested,
    read_toml,
    to_dict,
    to_toml,
)
from surefoot.switches import usual_switches
from surefoot.training import checkpoint
from surefoot.training.call import Forward, LossFn
from surefoot.training.configure import (
    Objects,
    left_to_data,
    make_task,
    resolve,
    separated,
    settled,
)
from surefoot.training.figures import figures_of
from surefoot.training.groups import check_lengths
from surefoot.training.identity import WEIGHTS, another, differing, identity
from surefoot.training.loop import start
from surefoot.training.losses import Loss
from surefoot.training.make import remarks
from surefoot.training.metrics import OF
from surefoot.training.optimizer import OptimizerFactory, check_rule
from surefoot.training.place import run_place
from surefoot.training.run import Result, Run
from surefoot.training.start_from import Origin, found_place, read_origin
from surefoot.training.task import Task
from surefoot.training.test_time import check_tta
from surefoot.training.weights import calls_written

_OVER_THE_WHOLE_RUN = ("cosine", "linear", "polynomial", "one-cycle", "wsd", "sgdr", "preset")
_NAMED = 8
"""Most lost rows that a note names. Chosen by hand."""


@usual_switches
def train(
    data: Any = None,
    model: str | nn.Module | Factory | None = None,
    *,
    loss: Loss | str | None = None,
    augment: Any = None,
    forward: Forward | str | None = None,
    loss_fn: LossFn | str | None = None,
    metrics: Any = None,
    optimizer: OptimizerFactory | None = None,
    config: str | Path | None = None,
    name: str | None = None,
    runs_dir: str | Path = "runs",
    **settings: Any,
) -> Result:
    """Train a model by SGD to the end and return its result; `surefoot train` in Python.

    Args:
        data: whatever `surefoot.load` takes: a named set, a path, arrays, tensors, a PyTorch Dataset. None: what the
            file says, else the digits.
        model: a shipped name, "package.module:factory", a factory, or a module, which is copied and stays as it is.
        loss: "mse", "mae" or "huber" for numbers, "cross-entropy" for classes, "bce" for either; or a function
            (outputs, targets) -> scalar, [B] or (sum, count), which gets targets in their own unit; None chooses by the
            targets. It, `forward` and `loss_fn` may also be named as "package.module:function".
        augment: a name of an augmentation, a callable on a batch of images, or a list of these.
        forward: (model, inputs) -> outputs, where the model is not called by the form of its inputs, see
            `training.call.called`.
        loss_fn: (model, batch) -> a loss, in place of `forward` and `loss`; a batch is (x, y), or the mapping that an
            example was.
        metrics: that rows have of the validation part, as `surefoot.task` takes them: ["f1"], {"mine": function}.
        optimizer: in place of an update rule, a function of parameters that makes a `torch.optim.Optimizer`, or such a
            class. Its own rate is the peak, which the schedule multiplies; with several parameter groups `lr` is that
            of the first, and the others keep their ratio to it.
        config: a TOML file of settings, under the ones given here.
        name: the run's folder under `runs_dir`. The same call with the same name goes on with an unfinished run.
        runs_dir: where runs lie.
        settings: any field of `Config`, `Recipe` or `Schedule` by its name: lr=0.2, epochs=5, seed=1; from_run="first"
            starts from the weights of that run, whose settings hold where none are given.

    Raises:
        ConfigError, DataError, CheckpointError: as `open_run`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = train("digits", "linear", epochs=3, lr=0.1, runs_dir=folder)
    >>> result.record.outcome.kind, result.summary["test_accuracy"] > 0.8
    ('finished', True)
    """
    functions = {"forward": forward, "loss_fn": loss_fn, "metrics": metrics, "optimizer": optimizer}
    objects, words = separated(data, model, augment, loss=loss, **functions)
    file = read_toml(config) if config else {}
    if (start_from := settings.get("from_run")) is not None:  # a Result too
        settings["from_run"] = str(found_place(start_from, runs_dir))
    given = merged(file, nested(words | settings))
    chosen = resolve(given, data, standard_loss=objects.standard_loss, runs_dir=runs_dir)
    with open_run(chosen, name=name, runs_dir=runs_dir, objects=objects) as run:
        while not run.done:
            run.advance()
        return run.finish()


@usual_switches
def open_run(
    config: Config,
    *,
    name: str | None = None,
    runs_dir: str | Path = "runs",
    objects: Objects | None = None,
    command: str = "library",
    resumed: bool = False,
) -> Run:
    """Begin a run, or go on with the unfinished one of that name.

    Args:
        config: all settings.
        name: the run's folder under `runs_dir`; a new name from date, data and model if left out.
        runs_dir: where runs lie; made if missing.
        objects: in place of the configuration's data, model, loss or augmentation.
        command: what to write down as the command.
        resumed: relative paths are read as where the run was begun, and not as here.

    Raises:
        ConfigError: settings cannot be used, or they, the data, model, loss or augmentation differ from those of the
            run of that name.
        CheckpointError: the run is held by another process, or cannot be loaded.
        DataError: the data cannot be used.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     config = resolve({"data": "digits", "model": "linear", "recipe": {"epochs": 1}})
    ...     with open_run(config, name="first", runs_dir=folder) as run:
    ...         while not run.done:
    ...             rows = run.advance()
    ...         run.finish().summary["outcome"]
    'finished'
    """
    folder = run_place(config, name, runs_dir)
    with contextlib.ExitStack() as cleaner:
        cleaner.enter_context(locked(folder))
        cleaner.callback(store.discard_if_empty, folder)
        store.sweep(folder)
        begun = (folder / store.CONFIG).is_file()
        if begun:
            config = agreed_config(config, folder)
        objects, origin = objects or Objects(), _origin(config, folder if begun else None, runs_dir)
        work = make_task(config, dataclasses.replace(objects, origin=origin), folder if resumed else None)
        cleaner.callback(work.close)
        check_choice(config, work)
        check_rule(work.optimizer, config.recipe)
        told, fitted = said_of_batch(config.recipe, work.data.examples), left_to_data(config)
        config = settled(config, work)
        plan_ = plan(config.recipe, work.data.examples, config.rows_per_epoch)
        check_lengths(plan_)
        first = None if begun else start(work, plan_)  # what cannot be trained leaves no run behind
        if begun:
            told += check_identity(folder, work)
        else:
            told += _unfinished_alike(folder, config, work) if name is None else []
            if origin is not None:
                origin.write(folder)
            _identify(folder, config, work, command, fitted=fitted, origin=origin)
        state, notes = checkpoint.load_newest(folder, work, plan_.recipe)
        notes = [*work.data.notes, *notes, *told, *remarks(work), *_said_of_stopping(config)]
        notes += [why for why in (figures_of(work.machine.device)[1],) if why is not None]
        state = state or first or start(work, plan_)
        rows = list(truncate_rows(folder, state.step))
        lost = {step for step in plan_.row_steps if step <= state.step} - {row.step for row in rows}
        if lost:
            steps = ", ".join(map(str, sorted(lost)[:_NAMED])) + (", ..." if len(lost) > _NAMED else "")
            notes.append(
                f"{store.METRICS} has lost {len(lost)} of its rows, of step {steps}; the weights are not touched by it"
            )
        source = None if origin is None else origin.source
        return Run(folder, config, work, plan_, state, rows, notes, source, cleaner.pop_all())


def _origin(config: Config, begun: Path | None, runs_dir: str | Path) -> Origin | None:
    """Return the weights that a run starts from: of one that has begun those that lie in its folder."""
    if config.from_run is None:
        return None
    return read_origin(found_place(config.from_run, runs_dir)) if begun is None else Origin.of_run(begun)


def _unfinished_alike(folder: Path, config: Config, work: Task) -> list[str]:
    """Return which run beside a new one has the same settings and data and was stopped: perhaps it was meant."""
    if IN_MEMORY in (config.data, config.model):
        return []
    for other in reversed(run_folders(folder.parent)):
        if not (other / store.RESULT).is_file() and (other / store.ENVIRONMENT).is_file() and not is_held(other):
            with contextlib.suppress(CheckpointError):
                begun = store.read_sealed(other / store.ENVIRONMENT)
                if (begun.get("settings"), begun.get("data_fingerprint")) == (to_dict(config), work.data.fingerprint):
                    return [
                        f"{other} has the same settings and is not finished: surefoot resume {other} goes on with it"
                    ]
    return []


def check_choice(config: Config, work: Task) -> None:
    """Raise ConfigError where weights are to be chosen by a number that the rows of a task have not, or its examples
    have no views to be averaged.
    """
    asked = {
        "choose_by": config.choose_by, "weights": "best" if config.weights == "best" else None,
        "early_stopping_epochs": config.early_stopping_epochs,
    }  # fmt: skip
    name, value = next(((name, value) for name, value in asked.items() if value is not None), ("", None))
    if value is not None and work.data.validation is None:
        raise ConfigError(
            f"{name} = {value if isinstance(value, str) else f'{value:g}'} without validation data",
            "weights are chosen, and runs stopped, by what they do on held-out examples",
            f"set validation = 0.1, or leave {name} out",
        )
    if config.choose_by is not None:
        _check_measure(work, config.choose_by)
    check_tta(work, config.tta)


def _check_measure(work: Task, choice: str) -> None:
    """Raise ConfigError where rows of a task will not have a number, or its direction is not what was said."""
    name, functions = metric_name(choice), work.metrics.functions
    have = [
        LOSS,
        *([ACCURACY] if work.counts_right else []),
        *(each for each in work.metrics.every if each != ACCURACY),
    ]
    if name not in have:
        possible = OF[work.data.target] if work.counts_right or work.data.target == "numbers" else ()
        every = list(dict.fromkeys((*have, *(each for each in possible if each != ACCURACY))))
        raise ConfigError(
            f"choose_by = {choice!r} for targets that are {work.data.target}",
            f"what chooses is one of {', '.join(every)}, or a metric of your own that metrics has",
            near if (near := nearest(name, every)).endswith("?") else "leave it out for the loss",
        )
    if choice != name and name not in functions:
        raise ConfigError(
            f"choose_by = {choice!r}", f"of {name} {'more' if rises(name) else 'less'} is better", f"write {name}"
        )
    if (way := getattr(functions.get(name), "higher_is_better", None)) in (True, False) and way != rises(choice):
        raise ConfigError(
            f"choose_by = {choice!r}", f"the metric says that {'more' if way else 'less'} of it is better",
            f"write {name}:{'max' if way else 'min'}",
        )  # fmt: skip


def _said_of_stopping(config: Config) -> list[str]:
    """Return what is to be said where a run may stop before its schedule has lowered the rate."""
    kind = config.recipe.schedule.kind
    if config.early_stopping_epochs is None or kind not in _OVER_THE_WHOLE_RUN:
        return []
    return [
        f"schedule {kind} lowers the learning rate over the whole run, so a run that stops early ends at a rate that "
        "has not come down; constant and plateau do not count on the length"
    ]


def agreed_config(config: Config, folder: Path) -> Config:
    """Return the settings of the run in `folder`, after checking that `config` asks for the same.

    Raises:
        ConfigError: they differ; every difference is named.
    """
    there = read_config(folder)
    changes: dict[str, Any] = {}
    if config.device == "auto":
        changes["device"] = there.device
    if config.precision == "auto":
        changes["precision"] = there.precision
    if config.threads is None:
        changes["threads"] = there.threads
    if config.target == "auto":
        changes["target"] = there.target
    fitted = _fitted(folder, there)
    changes["recipe"] = dataclasses.replace(
        config.recipe, **{name: getattr(there.recipe, name) for name in left_to_data(config) if name in fitted}
    )
    if config.image_size is None:  # chosen by a rule then, and by the same now
        changes["image_size"] = there.image_size
    asked = dataclasses.replace(config, **changes)
    found = differences(there, asked, ignore=("checkpoint_seconds", "workers"))
    if found:
        raise ConfigError(
            f"{folder} was started with other settings: {', '.join(found)}",
            "a run keeps its settings from beginning to end",
            "choose another name, or give the same settings",
        )
    return asked


def _fitted(folder: Path, there: Config) -> list[str]:
    """Return what nobody gave of a run's settings; before that was written down, a batch of 128 was the default."""
    environment = store.read_sealed(folder / store.ENVIRONMENT) if (folder / store.ENVIRONMENT).is_file() else {}
    return environment.get("fitted", ["batch_size"] if there.recipe.batch_size == USUAL_BATCH else [])


def check_data(folder: Path, data: DataSet) -> None:
    """Raise ConfigError where `data` is not that of the run in `folder`."""
    if store.read_sealed(folder / store.ENVIRONMENT).get("data_fingerprint") != data.fingerprint:
        raise ConfigError(
            f"the data of {folder} has changed since the run began",
            "a run keeps its data from beginning to end",
            "restore the data, or choose another name",
        )


def check_identity(folder: Path, work: Task) -> list[str]:
    """Return what is to be said of a run that is opened again.

    Weights of a module that was built anew differ by chance; an unfinished run goes on with those of its checkpoint.

    Raises:
        ConfigError: its data, its model's code, its loss or its augmentation is another now; or its initial weights
            are, and it is finished.
    """
    check_data(folder, work.data)
    environment = store.read_sealed(folder / store.ENVIRONMENT)
    here, finished = identity(work), (folder / store.RESULT).is_file()
    changed = differing(environment.get("identity", here), here)
    if not finished and not any((folder / store.CHECKPOINTS).glob("step-*")):
        store.write_sealed(folder / store.ENVIRONMENT, environment | {"identity": here})  # nothing of it is left
        return []
    if changed and (finished or changed != [WEIGHTS]):
        raise another(folder, changed)
    if changed:
        return ["the initial weights given here differ from those there; it goes on with those of its checkpoint"]
    return [f"nothing was trained: this is the finished run of {store.finished_at(folder)}"] if finished else []


def _identify(
    folder: Path, config: Config, work: Task, command: str, *, fitted: list[str], origin: Origin | None
) -> None:
    """Write down what the run is, on its first opening."""
    words = (command + "\n").encode()
    environment = {
        "schema": store.SCHEMA,
        "surefoot": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "data_fingerprint": work.data.fingerprint,
        "identity": identity(work),
        "directory": str(made_in(folder) or Path.cwd()),
        "folder": str(folder.resolve()),
        **checkpoint.fingerprint(work),
        "fitted": fitted,
        "calls": calls_written(config, work),
        "started_from": None if origin is None else origin.source,
        "files": {store.COMMAND: store.sha256(words)},
        "settings": to_dict(config),
    }
    store.write_sealed(folder / store.ENVIRONMENT, environment)
    store.write_bytes(folder / store.COMMAND, words)
    store.write_bytes(folder / store.CONFIG, to_toml(config).encode())  # last: its presence makes the folder a run
