"""`tune`: the whole procedure in one call, from a model and data to a trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from surefoot.config import Config, Recipe
from surefoot.models.build import Factory
from surefoot.record.decision import Decision
from surefoot.search.budget import Terms
from surefoot.search.budget import budget as budget_of
from surefoot.search.search import open_search
from surefoot.settings import flat_settings, flattened, merged, nested, read_toml
from surefoot.switches import usual_switches
from surefoot.training.call import Forward, LossFn
from surefoot.training.configure import resolve, separated
from surefoot.training.losses import Loss
from surefoot.training.optimizer import OptimizerFactory
from surefoot.training.population.engine import Engine
from surefoot.training.run import Result
from surefoot.training.start_from import found_place

DEFAULT_BUDGET = "2x"
"""Two final trainings' worth of search: see `search.budget`."""


@dataclass(frozen=True)
class Tuned:
    """What tuning came to.

    Attributes:
        recipe: chosen; None where a step of the procedure failed.
        decisions: of all steps, with their evidence.
        cost: what it took, as JSON values; "trainings" is the search in multiples of the final training.
        unchecked: what the budget did not allow, a sentence each.
        searched: names of the settings of which more than one value was trained with; the others stay as given.
        result: of the final training; None where a step failed or none was wanted.
    """

    recipe: Recipe | None
    decisions: tuple[Decision, ...]
    cost: dict[str, Any]
    unchecked: tuple[str, ...]
    searched: tuple[str, ...] = ()
    result: Result | None = None


@usual_switches
def tune(
    data: Any = None,
    model: str | nn.Module | Factory | None = None,
    *,
    budget: str | float = DEFAULT_BUDGET,
    fixed: Mapping[str, Any] | None = None,
    loss: Loss | str | None = None,
    augment: Any = None,
    forward: Forward | str | None = None,
    loss_fn: LossFn | str | None = None,
    metrics: Any = None,
    optimizer: OptimizerFactory | None = None,
    config: str | Path | None = None,
    force: bool = False,
    final: bool = True,
    name: str | None = None,
    runs_dir: str | Path = "runs",
    engine: Engine | None = None,
    **settings: Any,
) -> Tuned:
    """Choose batch size, learning rate, momentum, weight decay and schedule by measurement, and train with them.

    The seven steps of the procedure as one loop: check wiring and initial loss, overfit a small sample, bracket the
    rate, a coarse grid of complete small runs, refinement by longer ones, other schedules, and the final training; each
    as far as the budget allows. What it did not allow is in `unchecked`.

    Args:
        data: whatever `surefoot.load` takes. It must have, or get, a validation part.
        model: a shipped name, "package.module:factory", a factory, or a module, which is copied and stays as it is.
        budget: "5m", "90s" or "1h" for everything; or "2x": a search of twice the examples of the final training, which
            comes on top. With the latter nothing depends on a clock.
        fixed: recipe settings that are not searched, by name: {"batch_size": 128, "epochs": 10}.
        loss: a name, or (outputs, targets) -> scalar or [B], as in `surefoot.task`; None chooses by the targets.
        augment: a name of an augmentation, a callable on a batch of images, or a list of these.
        forward, loss_fn, metrics, optimizer: as in `surefoot.train`. Of an optimizer the rate is searched.
        config: a TOML file of settings to start from, under the ones given here: they stay where they are not searched.
        force: go on after a step that fails.
        final: also do the final training, in a run's folder. Without it nothing is written.
        name: the run's folder under `runs_dir`. The same call with the same name goes on with an unfinished search.
        runs_dir: where runs lie.
        engine: computes the trials.
        settings: any other field of `Config` by its name, such as seed=1; those of the recipe are fixed too.

    Raises:
        ConfigError, DataError, CheckpointError: as `surefoot.train`; or there is no validation part, or the budget
            means nothing.

    >>> found = tune("digits", "linear", budget="2x", epochs=5, final=False)
    >>> 0.001 < found.recipe.lr < 10, found.cost["trainings"] <= 2
    (True, True)
    """
    functions = {"forward": forward, "loss_fn": loss_fn, "metrics": metrics, "optimizer": optimizer}
    objects, words = separated(data, model, augment, loss=loss, **functions)
    given = {**settings, **(fixed or {})}
    if (start_from := given.get("from_run")) is not None:  # a Result too
        given["from_run"] = str(found_place(start_from, runs_dir))
    start, terms = asked_for(
        words, given, config, budget, force=force, source=data, standard_loss=objects.standard_loss, runs_dir=runs_dir
    )
    place = runs_dir if final else None
    with open_search(start, terms, name=name, runs_dir=place, objects=objects, engine=engine) as search:
        while not search.done:
            search.advance()
        assert search.end is not None
        tuned = Tuned(search.recipe, search.decisions, search.ledger.to_dict(), search.end.unchecked, search.searched)
        if not final or search.recipe is None:
            return tuned
        with search.open_final() as run:
            while not run.done:
                run.advance()
            result = run.finish()
            summary = search.complete(result, run)
    return dataclasses.replace(tuned, result=dataclasses.replace(result, summary=summary))


def asked_for(
    words: Mapping[str, Any],
    settings: Mapping[str, Any],
    file: str | Path | None,
    budget: str | float,
    *,
    force: bool,
    source: Any = None,
    standard_loss: bool = True,
    runs_dir: str | Path = "runs",
) -> tuple[Config, Terms]:
    """Return the configuration to start from, and the terms: what was given by name stays as it was given.

    Args:
        words: data, model and augmentation as text; None where they were not given.
        settings: other fields by their flat names; None where they were not given.
        file: a TOML file of settings to start from: they may be changed by a search of them, and stay otherwise.
        budget: as in `tune`.
        force: as in `tune`.
        source, standard_loss, runs_dir: as in `training.configure.resolve`.

    Raises:
        ConfigError: an unknown name or a bad value.
    """
    in_file = read_toml(file) if file else {}
    given = merged(in_file, nested({**words, **settings}))
    start = resolve(given, source, standard_loss=standard_loss, runs_dir=runs_dir)
    fields = flat_settings()
    fixed = frozenset(
        name for name, value in settings.items() if value is not None and fields[name].path[0] == "recipe"
    )
    asked = frozenset(flattened(in_file)) - fixed
    asked = frozenset(name for name in asked if fields[name].path[0] == "recipe")
    if start.recipe.weight_decay == "auto":  # a penalty that fits the data, at whichever rate
        asked |= {"weight_decay"} - fixed
    return start, Terms(budget=budget_of(budget), fixed=fixed, given=asked, force=force)
