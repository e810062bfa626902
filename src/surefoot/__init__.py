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

from surefoot.config import __version__

_HOMES = {
    "Adam": "optim.faces",
    "AdamW": "optim.faces",
    "CheckpointError": "errors",
    "Checkup": "checkup.doctor",
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
    "Muon": "optim.faces",
    "Noise": "record.noise",
    "Outcome": "record.run",
    "Part": "data.dataset",
    "Plan": "optim.plan",
    "Recipe": "config",
    "RMSProp": "optim.faces",
    "Record": "record.run",
    "Row": "record.run",
    "SGD": "optim.optimizer",
    "Schedule": "config",
    "State": "training.state",
    "SurefootError": "errors",
    "Task": "training.task",
    "advance": "training.loop",
    "advance_many": "training.population.many",
    "check_initial_loss": "steps.initial_loss.check",
    "check_wiring": "steps.wiring.check",
    "compare": "comparison.compare",
    "doctor": "checkup.doctor",
    "evaluate": "inference.evaluate",
    "find_lr": "steps.lr_range.find_lr",
    "fit": "training.loop",
    "fit_many": "training.population.many",
    "gradient_noise": "steps.batch_size.noise",
    "load": "data.load",
    "load_trained": "training.weights",
    "lr_scheduler": "optim.optimizer",
    "noise_at": "steps.batch_size.noise",
    "open_run": "training.open",
    "overfit_sample": "steps.overfit.check",
    "plan": "optim.plan",
    "predict": "inference.predict",
    "reseeded": "training.make",
    "start": "training.loop",
    "start_many": "training.population.many",
    "task": "training.make",
    "train": "training.open",
    "tune": "search.tune",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]  # one list of names, not two

if TYPE_CHECKING:
    from surefoot.checkup.doctor import Checkup, doctor
    from surefoot.comparison.compare import compare
    from surefoot.config import Config, Recipe, Schedule
    from surefoot.data.dataset import DataSet, Part
    from surefoot.data.load import load
    from surefoot.errors import CheckpointError, ConfigError, DataError, SurefootError
    from surefoot.inference.evaluate import evaluate
    from surefoot.inference.predict import predict
    from surefoot.optim.faces import Adam, AdamW, Muon, RMSProp
    from surefoot.optim.optimizer import SGD, lr_scheduler
    from surefoot.optim.plan import Plan, plan
    from surefoot.record.comparison import Comparison
    from surefoot.record.decision import Decision, Finding
    from surefoot.record.noise import Estimate, LayerNoise, Noise
    from surefoot.record.run import Outcome, Record, Row
    from surefoot.search.tune import tune
    from surefoot.steps.batch_size.noise import gradient_noise, noise_at
    from surefoot.steps.initial_loss.check import check_initial_loss
    from surefoot.steps.lr_range.find_lr import find_lr
    from surefoot.steps.overfit.check import overfit_sample
    from surefoot.steps.wiring.check import check_wiring
    from surefoot.training.loop import advance, fit, start
    from surefoot.training.make import reseeded, task
    from surefoot.training.open import open_run, train
    from surefoot.training.population.engine import Engine
    from surefoot.training.population.many import advance_many, fit_many, start_many
    from surefoot.training.population.member import Member
    from surefoot.training.state import State
    from surefoot.training.task import Task
    from surefoot.training.weights import load_trained


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"surefoot.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'surefoot' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
