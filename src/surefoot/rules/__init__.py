"""Update rules, a file for each family: what a rule reads, its formula, and what a search must know of it.

A rule is found by its file: one that is laid here can be trained, tuned, compared and printed. Nothing here needs
torch, since a formula is made of the operators of tensors; kernels that do the same faster are in `optim.kernels`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import Any

from surefoot.errors import ConfigError, nearest
from surefoot.rules.optimizer import NAME, OPTIMIZER
from surefoot.rules.rule import UpdateRule

_NO_FAMILIES = ("rule", "groups", "optimizer", "progressive")


@functools.cache
def update_rules() -> dict[str, UpdateRule]:
    """Return every rule by its name, SGD first.

    >>> list(update_rules())
    ['sgd', 'adam', 'adamw', 'muon', 'rmsprop']
    """
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _NO_FAMILIES)
    modules = [importlib.import_module(f"{__name__}.{name}") for name in sorted(names, key="sgd".__ne__)]
    return {rule.name: rule for module in modules for rule in module.RULES}


def update_rule(name: str) -> UpdateRule:
    """Return the rule of a name.

    Raises:
        ConfigError: there is none.

    >>> update_rule("adamm")
    Traceback (most recent call last):
    surefoot.errors.ConfigError: rule = 'adamm': it must be an update rule. Did you mean 'adam'?
    """
    if name == NAME:
        return OPTIMIZER
    rules = update_rules()
    if not isinstance(name, str) or name not in rules:
        raise ConfigError(f"rule = {name!r}", "it must be an update rule", nearest(name, rules))
    return rules[name]


def rule_settings() -> tuple[str, ...]:
    """Return the names of the settings of a recipe that some update rule reads, its rate among them."""
    return tuple(dict.fromkeys(name for rule in update_rules().values() for name in rule.defaults))


def left_out(name: str) -> str:
    """Return what a setting is where it is left out, for each rule that reads it."""
    by_value: dict[Any, list[str]] = {}
    for rule in update_rules().values():
        if name in rule.defaults:
            by_value.setdefault(rule.defaults[name], []).append(rule.name)
    return "; ".join(f"{', '.join(rules)}: {value}" for value, rules in by_value.items())
