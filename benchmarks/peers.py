"""The usual ways to choose a rate, a weight decay and a momentum: search methods and range tests, by their defaults.

Every search draws from the box that the truth's map covers, sees the validation part alone, and may process as many
examples as it is given. Optuna is a dependency of this benchmark only: pip install optuna.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from tasks import Subject
from truth import AXES

import surefoot
from surefoot.config import Recipe
from surefoot.steps.lr_range.range_test import ramp, suggestions
from surefoot.training.task import Task

REDUCTION = 3
"""Of successive halving: the eta of Hyperband (Li et al. 2018, arXiv 1603.06560, section 3.6), Optuna's default too."""
RANGE_STEPS = 100
"""Of a range test: `num_it` of fastai's lr_find, `num_training` of Lightning's."""
FASTAI_RAMP, LIGHTNING_RAMP = (1e-7, 10.0), (1e-8, 1.0)
"""First and last rate of a range test, the defaults of either."""
RULES = ("valley", "steep", "slide", "minimum/10", "lightning")


@dataclass(frozen=True)
class Choice:
    """What a method chose.

    Attributes:
        recipe: to be trained to its end.
        cost: examples processed by updates, over those of one complete training.
        said: what was tried or read, for the record.
    """

    recipe: Recipe
    cost: float
    said: dict[str, Any] = field(default_factory=dict)


Method = Callable[[Subject, int, int], Choice]
"""(task, budget in complete trainings, seed) -> choice."""


@cache
def seen_task(subject: Subject, seed: int) -> Task:
    """Return the task as a method sees it: without the test part."""
    return surefoot.task(seen_data(subject), subject.model, seed=seed, precision="fp32", threads=1)


def seen_data(subject: Subject) -> surefoot.DataSet:
    """Return the data as a method sees it."""
    return dataclasses.replace(subject.data(), test=None)


class Trial:
    """One training by the full-length schedule that may be paused after any epoch."""

    def __init__(self, subject: Subject, seed: int, recipe: Recipe) -> None:
        self.task, self.recipe = seen_task(subject, seed), recipe
        self.plan = surefoot.plan(recipe, self.task.data.examples)
        self.state = surefoot.start(self.task, self.plan)
        self.epochs, self.accuracy = 0, 0.0

    def train(self, until_epoch: int) -> float:
        """Go on to the end of this epoch and return the validation accuracy; 0 where the run has diverged."""
        self.state, rows = surefoot.advance(self.task, self.plan, self.state, until_epoch * self.plan.steps_per_epoch)
        self.epochs = until_epoch
        self.accuracy = 0.0 if self.diverged or rows[-1].val_accuracy is None else rows[-1].val_accuracy
        return self.accuracy

    @property
    def diverged(self) -> bool:
        return self.state.outcome is not None and self.state.outcome.kind == "diverged"

    @property
    def steps(self) -> int:
        """Updates that it has cost. A run that diverged costs no more than it did until then."""
        return self.state.step + self.diverged

    def said(self) -> dict[str, Any]:
        recipe = self.recipe
        return {"lr": recipe.lr, "weight_decay": recipe.weight_decay, recipe.update_rule.memory: recipe.memory,
                "epochs": self.epochs, "diverged": self.diverged, "val_accuracy": self.accuracy}  # fmt: skip


def random_search(subject: Subject, budget: int, seed: int) -> Choice:
    """As many complete trainings as the budget allows; the best on validation (Bergstra & Bengio 2012)."""
    rng, trials = np.random.default_rng(_draw_seed(subject, seed)), list[Trial]()
    steps = _final_steps(subject)
    while sum(trial.steps for trial in trials) <= (budget - 1) * steps:
        trials.append(Trial(subject, seed, _drawn(subject, rng)))
        trials[-1].train(subject.epochs)
    return _best(subject, trials, trials)


def halving(subject: Subject, budget: int, seed: int) -> Choice:
    """One bracket of successive halving with as many recipes as fit into the budget.

    All are trained for one epoch of the full-length schedule, the best third goes on to three, and so on to the end:
    ASHA's rungs (Li et al. 2018, arXiv 1810.05934, section 3) with one worker that waits for a rung to be full.
    """
    rungs, rng = halving_rungs(subject.epochs), np.random.default_rng(_draw_seed(subject, seed))
    count = halving_size(rungs, budget * subject.epochs)
    trials = [Trial(subject, seed, _drawn(subject, rng)) for _ in range(count)]
    kept = trials
    for rung in rungs:
        kept = sorted(kept, key=lambda trial: -trial.accuracy)[: _survivors(len(kept))] if rung > rungs[0] else kept
        for trial in kept:
            trial.train(rung)
    return _best(subject, kept, trials)


def halving_rungs(epochs: int) -> list[int]:
    """Return the epochs after which recipes are dropped, and the last.

    >>> halving_rungs(9), halving_rungs(6)
    ([1, 3, 9], [1, 3, 6])
    """
    return [rung for rung in (REDUCTION**k for k in range(epochs)) if rung < epochs] + [epochs]


def halving_size(rungs: Sequence[int], epochs: int) -> int:
    """Return how many recipes a bracket can start with, when it may take this many epochs in all.

    >>> halving_size([1, 3, 9], 18)  # 8 x 1 + 2 x 2 + 1 x 6
    8
    """

    def cost(count: int) -> int:
        total, before = 0, 0
        for rung in rungs:
            total += count * (rung - before)
            count, before = _survivors(count), rung
        return total

    return max(count for count in range(1, epochs + 1) if cost(count) <= epochs)


def _survivors(count: int) -> int:
    return max(1, count // REDUCTION)


def optuna_search(subject: Subject, budget: int, seed: int) -> Choice:
    """Optuna's TPE sampler with its Hyperband pruner, both at their defaults, told the accuracy after every epoch.

    The answer is the best completed trial, or where the pruner let none complete, the best that was reported.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        study_name=f"{subject.name} {seed}",  # the pruner draws each trial's bracket from the study's name
        sampler=optuna.samplers.TPESampler(seed=_draw_seed(subject, seed)),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=subject.epochs),
    )
    trials, most = list[Trial](), budget * _final_steps(subject)
    lrs, decays, memories = _box(subject)

    def spent() -> int:
        return sum(trial.steps for trial in trials)

    while spent() < most:
        asked = study.ask()
        recipe = subject.recipe(
            asked.suggest_float("lr", *lrs, log=True),
            asked.suggest_float("weight_decay", *decays, log=True),
            asked.suggest_float("memory", *memories),
        )
        trial, pruned = Trial(subject, seed, recipe), False
        trials.append(trial)
        while spent() < most and trial.epochs < subject.epochs and not (pruned or trial.diverged):
            asked.report(trial.train(trial.epochs + 1), step=trial.epochs)
            pruned = asked.should_prune()
        whole = trial.epochs == subject.epochs
        study.tell(asked, trial.accuracy if whole else None, None if whole else optuna.trial.TrialState.PRUNED)
    completed = [trial for trial in trials if trial.epochs == subject.epochs]
    return _best(subject, completed or trials, trials)


def by_rule(rule: str) -> Method:
    """Return the method that takes the rate of a range test's rule, with the default weight decay and momentum.

    A rule that gives no answer leaves the default rate. A range test costs the same whatever the budget.
    """

    def choose(subject: Subject, budget: int, seed: int) -> Choice:
        lr = _read(subject, seed, LIGHTNING_RAMP if rule == "lightning" else FASTAI_RAMP)[rule]
        recipe = subject.default if lr is None else dataclasses.replace(subject.default, lr=lr)
        return Choice(recipe, RANGE_STEPS / _final_steps(subject), {"answered": lr is not None})

    return choose


def default(subject: Subject, budget: int, seed: int) -> Choice:
    """The library's default recipe: nothing is searched."""
    return Choice(subject.default, 0.0)


@cache
def _read(subject: Subject, seed: int, ends: tuple[float, float]) -> dict[str, float | None]:
    return suggestions(*ramp(seen_task(subject, seed), subject.default, *ends, RANGE_STEPS))


def _final_steps(subject: Subject) -> int:
    return surefoot.plan(subject.default, subject.data().examples).steps


def _draw_seed(subject: Subject, seed: int) -> int:
    """Return the seed of what is drawn, another for each task: two lucky draws shall not serve all tasks."""
    return zlib.crc32(f"{subject.name} {seed}".encode())


def _drawn(subject: Subject, rng: np.random.Generator) -> Recipe:
    lrs, decays, memories = _box(subject)
    lr, decay = (float(np.exp(rng.uniform(*np.log(ends)))) for ends in (lrs, decays))
    return subject.recipe(lr, decay, float(rng.uniform(*memories)))


def _box(subject: Subject) -> list[tuple[float, float]]:
    """Return the search space: rate and decay log-uniform, memory uniform, between the ends of the truth's map."""
    axes = AXES[subject.rule]
    return [(values[0], values[-1]) for values in (axes.lrs, axes.weight_decays, axes.memories)]


def _best(subject: Subject, among: Sequence[Trial], trials: Sequence[Trial]) -> Choice:
    best = max(among, key=lambda trial: trial.accuracy)
    cost = sum(trial.steps for trial in trials) / _final_steps(subject)
    return Choice(best.recipe, cost, {"trials": [trial.said() for trial in trials]})


PEERS: dict[str, Method] = {"random": random_search, "halving": halving, "optuna": optuna_search}
"""Those that are the better, the more they may spend."""
FIXED: dict[str, Method] = {**{rule: by_rule(rule) for rule in RULES}, "default": default}
"""Those that cost what they cost."""
