"""From what was asked for to a configuration and its task: objects, shipped settings, what is left to the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from surefoot.config import Config, Recipe, Schedule, is_path
from surefoot.data.augment import listed
from surefoot.data.dataset import DataSet
from surefoot.data.load import default_model, load
from surefoot.data.named import NAMED
from surefoot.errors import ConfigError
from surefoot.models.build import Factory, importable_from
from surefoot.optim.plan import batch_size_of, weight_decay_of
from surefoot.optim.presets import published_recipe
from surefoot.record.measures import ACCURACY, LOSS, RISES, metric_name
from surefoot.record.stored import IN_MEMORY, code_in, located
from surefoot.rules.optimizer import NAME as OF_CALLER
from surefoot.settings import default_settings, from_dict, merged, shrunk, to_dict
from surefoot.training.accuracy import by_accuracy
from surefoot.training.call import Forward, LossFn
from surefoot.training.losses import Loss
from surefoot.training.make import task
from surefoot.training.metrics import USUAL, Metric, asked_metrics
from surefoot.training.optimizer import OptimizerFactory, own_rate
from surefoot.training.start_from import Origin, found_place, read_origin, settings_of, started_from
from surefoot.training.task import Task

CLIP_OF_NUMBERS = 1.0
"""The squared error has no largest slope: at the usual rate 0.1 with momentum 0.9 it diverged in 20 of 20 runs of
the mlp on four regressions with deviation 1, and on 500 correlated columns at 0.01 too. Clipped at 1 all of these
finish; of lr 0.01 and 0.03, clipped or not, none ends lower by more than the spread of five seeds."""
_BESIDE_PRESET = ("epochs", "batch_size")
"""What a published preset leaves to the data and the model."""
_LOSSES = ("loss", "loss_fn")
"""Of which one is given, in place of the other."""
_OF_RUN = (*_BESIDE_PRESET, "steps", "micro_batch_size", "groups", "label_smoothing", "ema_decay")
"""What it leaves to the run whose weights it goes on from: what is no part of an update is that run's still, as what is
frozen of its model."""


@dataclass(frozen=True)
class Objects:
    """What a configuration cannot hold, in place of its text where it is not None; `origin` is of weights."""

    data: Any = None
    model: nn.Module | Factory | None = None
    loss: Loss | None = None
    augment: Any = None
    origin: Origin | None = None
    forward: Forward | None = None
    loss_fn: LossFn | None = None
    metrics: Mapping[str, Metric | None] | None = None
    optimizer: OptimizerFactory | None = None

    @property
    def standard_loss(self) -> bool:
        """Whether the loss is one by name."""
        return not callable(self.loss) and self.loss_fn is None


def augment_names(given: Any) -> list[str] | None:
    """Return what a configuration says of an augmentation: its names, none for an object, None where none was given.

    >>> augment_names("flip"), augment_names([len]), augment_names(None)
    (['flip'], [], None)
    """
    return None if given is None else [] if augment_object(given) is not None else list(listed(given))


def augment_object(given: Any) -> Any:
    """Return an augmentation that is not names alone, which a configuration cannot hold; else None."""
    return None if all(isinstance(each, str) for each in listed(given)) else given


def separated(data: Any, model: Any, augment: Any, **others: Any) -> tuple[Objects, dict[str, Any]]:
    """Return what was given to a function of this package as objects, and as the words of a configuration.

    Args:
        data, model, augment: as `train` takes them.
        others: `loss`, `forward`, `loss_fn`, `metrics`, `optimizer`, as it takes them.
    """
    optimizer, metrics = others.pop("optimizer", None), asked_metrics(others.pop("metrics", None))
    objects = Objects(
        data=None if data is None or isinstance(data, str | Path) else data,
        model=None if model is None or isinstance(model, str) else model,
        augment=augment_object(augment),
        metrics=metrics if any(each is not None for each in (metrics or {}).values()) else None,
        optimizer=optimizer,
        **{name: None if isinstance(each, str) else each for name, each in others.items()},
    )
    # An object is named before settings are looked up, or it would get those shipped for other data.
    words: dict[str, Any] = {
        "data": str(data) if isinstance(data, str | Path) else None if data is None else IN_MEMORY,
        "model": model if model is None or isinstance(model, str) else IN_MEMORY,
        "augment": augment_names(augment),
        "metrics": None if metrics is None else list(metrics),
        **{name: each if isinstance(each, str) else None for name, each in others.items()},
    }
    if objects.optimizer is not None:
        words |= {"rule": OF_CALLER, "lr": own_rate(objects.optimizer)}
    return objects, words


def resolve(
    given: dict[str, Any], source: Any = None, *, standard_loss: bool = True, runs_dir: str | Path = "runs"
) -> Config:
    """Return the configuration for what was given, over the shipped settings for its data and model.

    Args:
        given: settings as nested values.
        source: the data itself where it is no name or path: the model follows from it where none is named.
        standard_loss: whether the loss is the built-in one; label smoothing of shipped settings is of that alone.
        runs_dir: where a run lies that `from_run` gives by its name.

    A shipped schedule shrinks with a run that is given fewer epochs. For numbers gradients are clipped, see
    `CLIP_OF_NUMBERS`. A target that is an accuracy chooses among the settings of model fast: `by_accuracy`. A published
    preset brings all that its original's update had, in place of what is shipped; what is given beside it goes before
    it. Where weights are those of a run its settings take the place of the shipped ones.

    >>> resolve({"data": "digits", "model": "linear"}).model
    'linear'
    >>> found = resolve({"recipe": {"lr": 0.002, "schedule": {"preset": "bert"}}}).recipe
    >>> found.rule, found.lr, found.eps, found.clip_norm, found.schedule.kind
    ('adamw', 0.002, 1e-06, 1.0, 'preset')
    """
    if given.get("from_run") is not None:
        place = found_place(str(given["from_run"]), runs_dir)
        given = {**given, "from_run": str(place)}
        if there := settings_of(place, given.get("data")):
            given, _ = by_accuracy(given, "", str(given.get("model") or there.get("model")))
            return _over(there, given, place, standard_loss=standard_loss)
    data = str(given.get("data", "digits"))
    usual = default_model(data if source is None else source)
    model = str(given.get("model") or usual)
    given, of_accuracy = by_accuracy(given, data, model)
    shipped = default_settings(data, model, table=usual == "mlp") if of_accuracy is None else of_accuracy
    recipe, published = shipped.get("recipe", {}), published_recipe(given.get("recipe"))
    if published:
        recipe = {name: recipe[name] for name in _BESIDE_PRESET if name in recipe} | published
    if not standard_loss or given.get("loss_fn") is not None or is_path(given.get("loss")):
        recipe.pop("label_smoothing", None)
    if given.get("target") == "numbers" or (isinstance(source, DataSet) and source.target == "numbers"):
        recipe = {"clip_norm": CLIP_OF_NUMBERS, **recipe}
    recipe = recipe if published else _fitting(recipe, given)
    return from_dict(Config, merged({"data": data, "model": model}, shipped | {"recipe": recipe}, given))


def _fitting(recipe: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return settings of a recipe with a schedule that shrinks with a run that is given fewer epochs."""
    epochs, whole = given.get("recipe", {}).get("epochs"), recipe.get("epochs")
    if "schedule" in recipe and whole and isinstance(epochs, int | float) and 0 < epochs < whole:
        return recipe | {"schedule": to_dict(shrunk(from_dict(Schedule, recipe["schedule"]), epochs / whole))}
    return recipe


def _over(there: dict[str, Any], given: dict[str, Any], place: Path, *, standard_loss: bool) -> Config:
    """Return the configuration for what was given, over the settings of the run whose weights it starts from."""
    for name in ("data", "model"):
        if name not in there and name not in given:
            raise ConfigError(
                f"{place} without a {name}",
                f"its {name} was given in Python, and is not in its settings",
                f"give {name} too, in surefoot.train(...)",
            )
    recipe, published = dict(there.pop("recipe")), published_recipe(given.get("recipe"))
    if published:
        recipe = {name: recipe[name] for name in _OF_RUN if name in recipe} | published
    if not standard_loss or any(given.get(name) is not None for name in _LOSSES):
        for name in _LOSSES:
            there.pop(name, None)
    if not standard_loss or given.get("loss_fn") is not None or is_path(given.get("loss")):
        there.pop("class_weights", None)  # with the smoothing, of the loss that is replaced
        recipe.pop("label_smoothing", None)
    return from_dict(Config, merged(there, {"recipe": recipe if published else _fitting(recipe, given)}, given))


def data_of(config: Config, source: Any = None, data_dir: str | Path | None = None) -> DataSet:
    """Return the data of a configuration.

    Args:
        config: all settings.
        source: the data itself, in place of its name or path; None: as configured.
        data_dir: of a named set, in place of the configured one; None: as configured.

    Raises:
        ConfigError, DataError: as `load`.
    """
    return load(
        config.data if source is None else source,
        data_dir=config.data_dir if data_dir is None else data_dir,
        validation=config.validation,
        seed=config.seed,
        image_size=config.image_size,
        label=config.label,
        target=config.target,
        header=config.header,
        normalise=config.normalise,
        standardise_targets=config.standardise_targets,
        workers=config.workers,
    )


def make_task(config: Config, objects: Objects, folder: Path | None = None) -> Task:
    """Return the task of a configuration, with objects in place of its text.

    Args:
        config: all settings.
        objects: in place of its data, model, loss or augmentation.
        folder: of a run whose relative paths and code are those of the folder in which it was begun.

    Raises:
        ConfigError, DataError: as `load` and `task`.
    """
    if folder is not None:
        importable_from(code_in(folder))
        config = located(config, folder, NAMED) if objects.data is None else config
    data = data_of(config, objects.data)
    work = task(
        data,
        config.model if objects.model is None else objects.model,
        loss=config.loss if objects.loss is None else objects.loss,
        augment=config.augment if objects.augment is None else objects.augment,
        class_weights=config.class_weights,
        forward=config.forward if objects.forward is None else objects.forward,
        loss_fn=config.loss_fn if objects.loss_fn is None else objects.loss_fn,
        metrics=_wanted_metrics(config, objects, data),
        optimizer=objects.optimizer,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
        threads=config.threads,
    )
    origin = objects.origin
    if origin is None and config.from_run is not None:
        origin = read_origin(found_place(config.from_run, "runs"))
    return work if origin is None else started_from(work, origin, config.data)


def _wanted_metrics(config: Config, objects: Objects, data: DataSet) -> dict[str, Metric | None] | None:
    """Return the metrics that were asked for, and the one that chooses among them; None for the usual ones."""
    asked = asked_metrics(config.metrics if objects.metrics is None else objects.metrics)
    name = None if config.choose_by is None else metric_name(config.choose_by)
    if name is None or name not in RISES or name in (LOSS, ACCURACY) or name in (asked or {}):
        return asked
    usual = [each for each in (USUAL.get(data.target),) if each is not None]
    return {**(dict.fromkeys(usual) if asked is None else asked), name: None}


def recipe_for(config: Config, data: DataSet) -> Recipe:
    """Return the recipe with what follows from targets that are found to be numbers: `CLIP_OF_NUMBERS`."""
    clips = config.target == "auto" and data.target == "numbers" and config.recipe.clip_norm is None
    return dataclasses.replace(config.recipe, clip_norm=CLIP_OF_NUMBERS) if clips else config.recipe


def settled(config: Config, work: Task) -> Config:
    """Return the configuration with all that was left to the data and to the machine."""
    place, size, recipe = work.machine, config.image_size or work.data.image_size, recipe_for(config, work.data)
    if recipe.batch_size == "auto":
        recipe = dataclasses.replace(recipe, batch_size=batch_size_of(recipe, work.data.examples))
    if recipe.weight_decay == "auto":
        recipe = dataclasses.replace(recipe, weight_decay=weight_decay_of(recipe, work.data.examples))
    return dataclasses.replace(
        config, recipe=recipe, device=str(place.device), precision=place.precision, threads=place.threads,
        image_size=size, target=work.data.target,
    )  # fmt: skip


def left_to_data(config: Config) -> list[str]:
    """Return the names of the recipe's settings that are fitted to the data.

    >>> left_to_data(Config())
    ['batch_size', 'clip_norm']
    """
    fitted = [name for name in ("batch_size", "weight_decay") if getattr(config.recipe, name) == "auto"]
    return fitted + ["clip_norm"] * (config.target == "auto" and config.recipe.clip_norm is None)
