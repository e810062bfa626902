"""Settings by the accuracy that is to be reached: `target = 0.94` with model fast, kept in a table."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import torch

from surefoot.errors import ConfigError
from surefoot.settings import merged

MODEL = "fast"
"""The shipped model whose settings follow from an accuracy."""
_OF_ANY_RULE = ("epochs", "progressive_resizing")
_USUAL = {"cpu": 0.9, "cuda": 0.94}
"""The accuracy where none is given: on two cores it is a matter of minutes, on a card of seconds."""


def by_accuracy(given: Mapping[str, Any], data: str, model: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return what was given without the accuracy to reach, and the shipped settings for it; None where there are none.

    The table has a row for each accuracy and kind of device: the network, which is wider on a card, the length, and
    the sizes of the images. What is given goes before it.

    Args:
        given: settings as nested values; `target` may be an accuracy in (0, 1).
        data, model: as `training.configure.resolve` has found them.

    Raises:
        ConfigError: an accuracy for another model or other data, for weights of another run, or one that is not in
            the table.

    >>> _, shipped = by_accuracy({"device": "cpu"}, "cifar10", "fast")
    >>> by_accuracy({"target": 0.9, "device": "cpu"}, "cifar10", "fast") == ({"device": "cpu"}, shipped)
    True
    >>> by_accuracy({"target": 0.93}, "cifar10", "fast")
    Traceback (most recent call last):
    surefoot.errors.ConfigError: target = 0.93 with model fast: settings are there for 0.9, 0.94, 0.95, 0.96. Set \
target = 0.94, the next above it.
    """
    target = given.get("target")
    accuracy = float(target) if isinstance(target, int | float) and not isinstance(target, bool) else None
    rest = {name: value for name, value in given.items() if name != "target" or accuracy is None}
    if accuracy is not None:
        _check(accuracy, given, data, model)
    elif (data, model) != ("cifar10", MODEL):
        return rest, None
    name = str(given.get("device", "auto"))
    card = torch.cuda.is_available() if name == "auto" else name.startswith("cuda")
    device = "cuda" if card else "cpu"
    rest.pop("model", None)  # the table names the network
    rule = given.get("recipe", {}).get("rule")
    return rest, _row(_USUAL[device] if accuracy is None else accuracy, device, rule)


def _check(target: float, given: Mapping[str, Any], data: str, model: str) -> None:
    if given.get("from_run") is not None:
        raise ConfigError(
            f"target = {target:g} with from_run", "settings for an accuracy are of a training from the beginning, and "
            "with from_run those of that run hold", "leave one of them out",
        )  # fmt: skip
    if model != MODEL:
        raise ConfigError(
            f"target = {target:g} with model {model}", f"an accuracy to reach is for model {MODEL}, whose settings for "
            "it are in a table; else target is the kind of targets, such as classes or numbers",
            f"set model = {MODEL}, or leave target out",
        )  # fmt: skip
    listed = sorted({row["accuracy"] for row in _table()["rows"]})
    words = ", ".join(f"{each:g}" for each in listed)
    if not 0 < target < 1:
        raise ConfigError(
            f"target = {target:g} with model {MODEL}",
            f"an accuracy is in (0, 1), and settings are there for {words}",
            f"write {target / 100:g} for {target:g} %" if 1 < target < 100 else "set target = 0.9",
        )  # fmt: skip
    if target not in listed:
        above = next((each for each in listed if each > target), None)
        raise ConfigError(
            f"target = {target:g} with model {MODEL}", f"settings are there for {words}",
            "give epochs and widths of your own" if above is None else f"set target = {above:g}, the next above it",
        )  # fmt: skip
    if data != "cifar10":
        raise ConfigError(
            f"target = {target:g} with data {data}", "accuracies were measured on cifar10, and would be others here",
            "leave target out, and give epochs",
        )  # fmt: skip


def _table() -> dict[str, Any]:
    file = resources.files("surefoot") / "recipes" / "targets" / f"cifar10-{MODEL}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _row(accuracy: float, device: str, rule: str | None) -> dict[str, Any]:
    """Return the settings of a row, over those of its rule, over those that all have.

    With another rule the row's length and sizes hold, and that rule's settings where the table has some: a rate and
    what multiplies it mean nothing to another.
    """
    table = _table()
    row = next(
        row for row in table["rows"] if row["device"] == device and math.isclose(row["accuracy"], accuracy)
    )  # the table has each accuracy for each kind of device
    recipe = row["recipe"]
    if rule not in (None, row["rule"]):
        recipe = {name: recipe[name] for name in _OF_ANY_RULE if name in recipe}
    usual = merged(table["all"], table["rules"].get(rule or row["rule"], {}))
    about = ("accuracy", "device", "rule", "reached")
    return merged(usual, {name: value for name, value in row.items() if name not in about} | {"recipe": recipe})
