"""Surefoot chooses the settings of SGD by measurement and shows its evidence.

Train a model, on data and a model of your own or on what is shipped:

    import surefoot
    result = surefoot.train("digits", "mlp", lr=0.1, epochs=10)

or hold the loop yourself:

    task = surefoot.task(surefoot.load("digits"), "mlp")
    plan = surefoot.plan(surefoot.Recipe(lr=0.1, epochs=10), task.data.examples)
    state = surefoot.start(task, plan)
    while state.outcome is None:
        state, rows = surefoot.advance(task, plan, state, state.step + 100)

Names are imported when they are first used, so that the command line need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "CheckpointError": "errors",
    "Comparison": "record.comparison",
    "Config": "config",
    "ConfigError": "errors",
    "DataError": "errors",
    "DataSet": "data.dataset",
    "Decision": "record.decision",
    "Engine": "training.population.engine",
    "Estimate": "record.noise",
    "Finding": "record.decision",
    "LayerNoise": "record.noise",
    "Member": "training.population.member",
    "Noise": "record.noise",
    "Outcome": "record.run",
    "Part": "data.dataset",
    "Plan": "sgd.plan",
    "Recipe": "config",
    "Record": "record.run",
    "Row": "record.run",
    "SGD": "sgd.optimizer",
    "Schedule": "config",
    "State": "training.state",
    "SurefootError": "errors",
    "Task": "training.task",
    "advance": "training.loop",
    "advance_many": "training.population.many",
    "check_initial_loss": "tuning.initial_loss",
    "check_wiring": "tuning.wiring",
    "compare": "tuning.compare",
    "evaluate": "training.verbs",
    "find_lr": "tuning.find_lr",
    "fit": "training.loop",
    "fit_many": "training.population.many",
    "gradient_noise": "tuning.noise",
    "load": "data.load",
    "load_trained": "training.weights",
    "lr_scheduler": "sgd.lr_scheduler",
    "noise_at": "measure.noise",
    "open_run": "training.opening",
    "overfit_sample": "tuning.overfit",
    "plan": "sgd.plan",
    "predict": "training.verbs",
    "reseeded": "training.task",
    "start": "training.loop",
    "start_many": "training.population.many",
    "task": "training.task",
    "train": "training.opening",
    "tune": "tuning.tune",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]  # one list of names, not two

if TYPE_CHECKING:
    from surefoot.config import Config, Recipe, Schedule
    from surefoot.data.dataset import DataSet, Part
    from surefoot.data.load import load
    from surefoot.errors import CheckpointError, ConfigError, DataError, SurefootError
    from surefoot.measure.noise import noise_at
    from surefoot.record.comparison import Comparison
    from surefoot.record.decision import Decision, Finding
    from surefoot.record.noise import Estimate, LayerNoise, Noise
    from surefoot.record.run import Outcome, Record, Row
    from surefoot.sgd.lr_scheduler import lr_scheduler
    from surefoot.sgd.optimizer import SGD
    from surefoot.sgd.plan import Plan, plan
    from surefoot.training.loop import advance, fit, start
    from surefoot.training.opening import open_run, train
    from surefoot.training.population.engine import Engine
    from surefoot.training.population.many import advance_many, fit_many, start_many
    from surefoot.training.population.member import Member
    from surefoot.training.state import State
    from surefoot.training.task import Task, reseeded, task
    from surefoot.training.verbs import evaluate, predict
    from surefoot.training.weights import load_trained
    from surefoot.tuning.compare import compare
    from surefoot.tuning.find_lr import find_lr
    from surefoot.tuning.initial_loss import check_initial_loss
    from surefoot.tuning.noise import gradient_noise
    from surefoot.tuning.overfit import overfit_sample
    from surefoot.tuning.tune import tune
    from surefoot.tuning.wiring import check_wiring


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"surefoot.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'surefoot' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
