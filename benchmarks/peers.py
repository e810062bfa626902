"""The usual ways to choose a rate, a weight decay, a momentum and a batch size, played on the maps of `truth.py`.

Every search draws from one box, sees the error of the validation part alone (`Map.error`: log loss and log error
rate), and may spend as many trainings as it is given. Where a search goes on with a shorter run it pays for the rest
alone, and is told what a complete run of the shorter length came to: better than what it would see in the middle of a
long one.

Optuna and SMAC are dependencies of this benchmark only: pip install optuna smac. ifBO fetches its weights when it is
used, so it is not here.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from maps import LENGTHS, Map
from played import Choice, Table
from tasks import DECAYS, Cell

from surefoot.config import Recipe
from surefoot.rules import update_rule

BOX = {
    "sgd": {"lr": (1e-3, 10.0), "weight_decay": (1e-5, 1e-1), "memory": (0.0, 0.95)},
    "adamw": {"lr": (1e-4, 1e-1), "weight_decay": (1e-3, 10.0), "memory": (0.9, 0.999)},
}
"""Rate and weight decay evenly in their logarithm; momentum, of AdamW beta2, evenly; batch sizes from the task's list.
Chosen by hand: LCBench (Zimmer, Lindauer & Hutter 2021, arXiv 2006.13799) has rates of 1e-4 to 1e-1 and decays of 1e-5
to 1e-1 for SGD, and half of its tasks are best at the border of 1e-1."""
DIVERGED = 10.0
"""Error of a run that diverged, for methods that need a number."""
Method = Callable[[Table, Sequence[float], int], dict[float, Choice]]
"""(map, budgets in complete trainings, seed) -> what it chooses at each."""


def drawn(table: Table, rng: np.random.Generator) -> Recipe:
    """Return a recipe of the box."""
    box = BOX[table.of.rule]
    lr, decay = (float(np.exp(rng.uniform(*np.log(box[name])))) for name in ("lr", "weight_decay"))
    memory = float(rng.uniform(*box["memory"]))
    return recipe_of(table, lr, decay, memory, int(rng.choice(table.of.batch_sizes)))


def recipe_of(table: Table, lr: float, decay: float, memory: float, size: int) -> Recipe:
    """Return the default recipe with these values."""
    changes: dict[str, Any] = {update_rule(table.of.rule).memory: memory}
    return dataclasses.replace(table.default, lr=lr, weight_decay=decay, batch_size=size, **changes)


def random_search(table: Table, budgets: Sequence[float], seed: int) -> dict[float, Choice]:
    """Complete trainings; the best on validation (Bergstra & Bengio 2012). Below one training the default recipe."""
    rng, seen = _generator(table, seed, "random"), list[tuple[float, Recipe]]()
    for _ in range(int(max(budgets))):
        recipe = drawn(table, rng)
        seen.append((table.error(recipe), recipe))
    return {budget: _best(table, seen[: int(budget)], float(int(budget))) for budget in budgets}


def halving(table: Table, budgets: Sequence[float], seed: int) -> dict[float, Choice]:
    """One bracket of successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943) from an eighth of the length."""
    rng = _generator(table, seed, "halving")
    return {budget: _halved(table, rng, budget, LENGTHS) for budget in budgets}


def hyperband(table: Table, budgets: Sequence[float], seed: int) -> dict[float, Choice]:
    """Four brackets of halving, from each length, that share the budget evenly (Li et al. 2018, arXiv 1603.06560)."""
    rng, found = _generator(table, seed, "hyperband"), {}
    for budget in budgets:
        made = [_halved(table, rng, budget / len(LENGTHS), LENGTHS[i:]) for i in range(len(LENGTHS))]
        ran = [choice for choice in made if choice.cost > 0]
        best = min(ran, key=lambda choice: choice.said["error"], default=Choice(table.default, 0.0))
        found[budget] = dataclasses.replace(best, cost=sum(choice.cost for choice in made))
    return found


def _halved(table: Table, rng: np.random.Generator, budget: float, lengths: Sequence[float]) -> Choice:
    """Halve as many recipes as the budget allows; all are seen at every rung, so the last one is a complete run."""
    count = max((n for n in range(1, 2000) if _cost(n, lengths) <= budget + 1e-9), default=0)
    if not count:
        return Choice(table.default, 0.0)
    alive = [drawn(table, rng) for _ in range(count)]
    errors: list[float] = []
    for share in lengths:
        errors = [table.error(recipe, share) for recipe in alive]
        order = np.argsort(errors, kind="stable")
        if share < lengths[-1]:
            alive = [alive[i] for i in order[: max(1, len(alive) // 2)]]
    return Choice(alive[int(np.argmin(errors))], _cost(count, lengths), {"error": min(errors)})


def _cost(count: int, lengths: Sequence[float]) -> float:
    """Return what halving so many recipes costs."""
    total, before = 0.0, 0.0
    for share in lengths:
        total += count * (share - before)
        count, before = max(1, count // 2), share
    return total


def optuna_search(sampler: str, prunes: bool) -> Method:
    """Return Optuna's search by a sampler, "tpe" or "gp", with or without its Hyperband pruner, all at their defaults.

    The answer is the best completed trial.
    """

    def search(table: Table, budgets: Sequence[float], seed: int) -> dict[float, Choice]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        name, number = f"{sampler} {table.of.name} {seed}", _seed(table, seed, sampler)
        samplers = {"tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler}
        pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=8, reduction_factor=2)
        study = optuna.create_study(
            study_name=name, sampler=samplers[sampler](seed=number),
            pruner=pruner if prunes else optuna.pruners.NopPruner(),
        )  # fmt: skip
        box, spent, seen, found = BOX[table.of.rule], 0.0, list[tuple[float, Recipe]](), dict[float, Choice]()
        for budget in sorted(budgets):
            while spent + (LENGTHS[0] if prunes else 1.0) <= budget:
                asked = study.ask()
                recipe = recipe_of(
                    table, asked.suggest_float("lr", *box["lr"], log=True),
                    asked.suggest_float("weight_decay", *box["weight_decay"], log=True),
                    asked.suggest_float("memory", *box["memory"]),
                    asked.suggest_categorical("batch_size", list(table.of.batch_sizes)),
                )  # fmt: skip
                share = _followed(table, asked, recipe, LENGTHS if prunes else LENGTHS[-1:], budget - spent)
                spent += share
                error = min(table.error(recipe, share), DIVERGED)
                whole = share == 1.0
                study.tell(asked, error if whole else None, None if whole else optuna.trial.TrialState.PRUNED)
                seen += [(error, recipe)] * whole
            found[budget] = _best(table, seen, spent)
        return found

    return search


def _followed(table: Table, asked: Any, recipe: Recipe, lengths: Sequence[float], left: float) -> float:
    """Return the length to which a trial went before it was pruned, or the budget was spent."""
    reached = 0.0
    for share in lengths:
        if share > left:
            break
        reached = share
        asked.report(min(table.error(recipe, share), DIVERGED), step=round(8 * share))
        if share < 1 and asked.should_prune():
            break
    return reached


def smac(table: Table, budgets: Sequence[float], seed: int) -> dict[float, Choice]:
    """SMAC3's facade for hyperparameters, a random forest and expected improvement, at its defaults (Lindauer et al.
    2022, arXiv 2109.09831), with complete trainings.
    """
    import logging

    from ConfigSpace import Categorical, ConfigurationSpace, Float
    from smac import HyperparameterOptimizationFacade, Scenario
    from smac.runhistory.dataclasses import TrialValue

    logging.getLogger("smac").setLevel(logging.ERROR)
    box = BOX[table.of.rule]
    space = ConfigurationSpace(seed=_seed(table, seed, "smac"))
    space.add(
        Float("lr", box["lr"], log=True), Float("weight_decay", box["weight_decay"], log=True),
        Float("memory", box["memory"]), Categorical("batch_size", list(table.of.batch_sizes)),
    )  # fmt: skip
    most, seen = int(max(budgets)), list[tuple[float, Recipe]]()
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space, deterministic=True, n_trials=max(1, most), seed=_seed(table, seed, "smac") % 2**31,
            output_directory=folder,
        )  # fmt: skip
        search = HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=logging.ERROR
        )
        for _ in range(most):
            asked = search.ask()
            at = dict(asked.config)
            recipe = recipe_of(table, at["lr"], at["weight_decay"], at["memory"], int(at["batch_size"]))
            seen.append((table.error(recipe), recipe))
            search.tell(asked, TrialValue(cost=min(seen[-1][0], DIVERGED)))
    return {budget: _best(table, seen[: int(budget)], float(int(budget))) for budget in budgets}


def default(table: Table, budgets: Sequence[float], seed: int) -> dict[float, Choice]:
    """The library's default recipe: nothing is searched."""
    return {budget: Choice(table.default, 0.0) for budget in budgets}


def single_recipe(others: Mapping[str, Map]) -> Method:
    """Return the method that takes the one recipe with the least mean regret on other tasks of the rule.

    Args:
        others: the maps it may be fitted to; that of the task itself is left out.
    """

    def choose(table: Table, budgets: Sequence[float], seed: int) -> dict[float, Choice]:
        fitted = [of for name, of in others.items() if name != table.of.name and of.rule == table.of.rule]
        if not fitted:
            return default(table, budgets, seed)
        cells = [Cell(size, step, decay, memory) for size in (8, 16, 32, 64, 128) for step in range(-14, 7)
                 for decay in DECAYS for memory in table.of.memories]  # fmt: skip
        best = min(cells, key=lambda cell: sum(_lost(of, cell) for of in fitted))
        return {budget: Choice(_recipe_at(table.of, best, table.default), 0.0) for budget in budgets}

    return choose


def _lost(of: Map, cell: Cell) -> float:
    return of.best[1] - of.points(of.nearest(_recipe_at(of, cell, Recipe(rule=of.rule))))


def _recipe_at(of: Map, cell: Cell, base: Recipe) -> Recipe:
    """Return the recipe of a place of the axes on a task; the place need not be one of the map's cells."""
    rule = update_rule(of.rule)
    values = {**rule.defaults, rule.memory: cell.memory}
    lr = 10 ** (cell.step / 4) * rule.per_rate(values)
    decay = cell.decay / (lr / rule.per_shrink(values) * max(1, of.updates(min(cell.batch_size, of.examples))))
    changes: dict[str, Any] = {rule.memory: cell.memory}
    return dataclasses.replace(base, lr=lr, weight_decay=decay, batch_size=cell.batch_size, **changes)


def _best(table: Table, seen: Sequence[tuple[float, Recipe]], cost: float) -> Choice:
    """Return the recipe of the least error; the default one where none finished."""
    error, recipe = min(seen, key=lambda each: each[0], default=(math.inf, table.default))
    return Choice(recipe if error < DIVERGED else table.default, cost)


def _seed(table: Table, seed: int, method: str) -> int:
    """Return the seed of what is drawn, another for each task: two lucky draws shall not serve all tasks."""
    return zlib.crc32(f"{method} {table.of.name} {seed}".encode())


def _generator(table: Table, seed: int, method: str) -> np.random.Generator:
    return np.random.default_rng(_seed(table, seed, method))


PEERS: dict[str, Method] = {
    "random": random_search, "halving": halving, "hyperband": hyperband, "tpe": optuna_search("tpe", False),
    "tpe, pruned": optuna_search("tpe", True), "gp": optuna_search("gp", False),
    "gp, pruned": optuna_search("gp", True), "smac": smac,
}  # fmt: skip
"""Those that are the better, the more they may spend."""
