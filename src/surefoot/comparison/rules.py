"""The rules that are compared, from the words in which a person gives them: NAME setting=value ..."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surefoot.config import Recipe
from surefoot.errors import ConfigError, nearest
from surefoot.optim.plan import batch_size_of
from surefoot.rules import rule_settings, update_rules
from surefoot.settings import flat_settings, from_dict, merged, nested

NAMED: dict[str, dict[str, Any]] = {
    "gradient-descent": {"batch_size": "full", "momentum": 0.0},
    "sgd": {"batch_size": 1, "momentum": 0.0},
    "mini-batch": {"momentum": 0.0},
    "momentum": {"momentum_form": "pytorch"},
    "sutskever": {"momentum_form": "sutskever"},
    "nesterov": {"momentum_form": "nesterov"},
}
"""Each rule by what makes it that rule; everything else is common to all. Update rules that are not SGD have their own
names beside these."""
RULES = tuple(NAMED)
USUAL_BATCH = 32
"""Of a mini-batch where none is given, halved for small data as that of a training: `optim.plan.fitting_batch`."""
COMMON: dict[str, Any] = {"batch_size": "auto", "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant"}
"""What rules share unless told otherwise. No weight decay, so that all go down the same surface; a constant rate, of
which theory speaks. 32, which auto is here, and 0.9 are usual values, chosen by hand."""
_LENGTHS = ("epochs", "steps")
_LISTS = ("milestones_epochs", "groups")


@dataclass(frozen=True)
class Rule:
    """One rule of a comparison.

    Attributes:
        name: as the user reads it.
        recipe: its hyperparameters, without a length: the budget is the comparison's.
        given: whether the rate was given; else it is searched, and the recipe's rate means nothing.
    """

    name: str
    recipe: Recipe
    given: bool


def parse_rules(texts: Sequence[str], common: Mapping[str, Any] | None = None) -> list[Rule]:
    """Return the rules that these words describe.

    A rule is a name (gradient-descent, sgd, mini-batch, momentum, sutskever, nesterov, adam and other rules' own) and
    then settings of a recipe or its schedule as setting=value; lists have commas. `lr=` fixes the rate, which is
    searched otherwise; `preset=` takes a published schedule, of its recipe nothing else, so that rules go down one
    surface; `label=` says how the rule is called in tables and pictures.

    Args:
        texts: one for each rule.
        common: settings by their flat names that hold for every rule which does not say otherwise.

    Raises:
        ConfigError: an unknown name or setting, a value that cannot be used, two rules of one name.

    >>> [rule.name for rule in parse_rules(["sgd", "momentum lr=0.1 batch_size=64 schedule=cosine"])]
    ['sgd', 'momentum lr=0.1 batch_size=64 schedule=cosine']
    >>> parse_rules(["momentum preset=sgdr label='warm restarts'"])[0].recipe.schedule.preset
    'sgdr'
    """
    if not texts:
        raise ConfigError("no rules", "a comparison needs at least one", f"give one of {', '.join(RULES)}")
    rules = [_parsed(text, common or {}) for text in texts]
    for i, rule in enumerate(rules):
        if rule.name in (other.name for other in rules[:i]):
            raise ConfigError(
                f"two rules called '{rule.name}'", "each has a name of its own", "give one of them a label=NAME"
            )
    return rules


def reference_rule(rules: Sequence[Rule], recipes: Sequence[Recipe], examples: int) -> int:
    """Return the position of the rule that stands for all where one must: plain mini-batches where they are there.

    >>> chosen = parse_rules(["sgd", "momentum", "mini-batch"])
    >>> reference_rule(chosen, [rule.recipe for rule in chosen], 1000)
    2
    """

    def rank(i: int) -> tuple[bool, bool, bool, int]:
        recipe = recipes[i]
        mini = 1 < batch_size_of(recipe, examples, USUAL_BATCH) < examples
        return rules[i].given, not mini, bool(recipe.momentum), i

    return min(range(len(recipes)), key=rank)


def _parsed(text: str, common: Mapping[str, Any]) -> Rule:
    name, words = _split(text)
    of_rule = _named()[name]
    label = words.pop("label", " ".join([name, *(f"{key}={value}" for key, value in words.items())]))
    typed = {  # as the number, numbers or word that each is; `Recipe` then checks it against its type
        key: [_number(word) for word in value.split(",") if word] if key in _LISTS else _number(value)
        for key, value in words.items()
    }
    for key in (*typed, *common):
        _check_key(key, text)
    clash = [key for key in of_rule if key in typed and typed[key] != of_rule[key]]
    if clash:
        key = clash[0]
        raise ConfigError(
            f"rule '{text}'", f"{name} is the rule with {key} = {of_rule[key]}",
            f"leave {key} out, or choose the rule that it belongs to",
        )  # fmt: skip
    shared = COMMON | dict(common)
    if "rule" in of_rule:  # of what SGD reads, only these two mean to another rule what they mean to SGD
        foreign = {*rule_settings()} - {"weight_decay", "lr"}
        shared = {key: value for key, value in shared.items() if key not in foreign}
    layers = [nested(layer) for layer in (of_rule, shared, of_rule, typed)]
    try:
        recipe = from_dict(Recipe, merged(*layers).get("recipe", {}))
    except ConfigError as error:
        raise ConfigError(f"rule '{text}': {error.given}", error.allowed, error.do) from None
    return Rule(label, recipe, given="lr" in typed or common.get("lr") is not None)


def _named() -> dict[str, dict[str, Any]]:
    return {name: {"rule": name} for name in update_rules()} | NAMED


def _split(text: str) -> tuple[str, dict[str, str]]:
    """Return the name and the words setting=value."""
    form = "a rule is NAME setting=value ..., for example: momentum lr=0.1 batch_size=64 schedule=cosine"
    try:
        first, *rest = shlex.split(text) or [""]
    except ValueError as error:
        raise ConfigError(f"rule '{text}' ({str(error).lower()})", form, "mend the quotes") from None
    if first not in _named():
        raise ConfigError(f"rule '{text}'", form, nearest(first, _named()))
    words: dict[str, str] = {}
    for word in rest:
        key, sign, value = word.partition("=")
        key = key.replace("-", "_")
        if not sign or not value or key in words:
            what = "twice" if key in words and sign else f"with the word '{word}'"
            raise ConfigError(f"rule '{text}' {what}", form, "give each setting once, as setting=value")
        words[key] = value
    return first, words


def _check_key(key: str, text: str) -> None:
    allowed = [
        name for name, setting in flat_settings().items() if setting.path[0] == "recipe" and name not in _LENGTHS
    ]
    if key in _LENGTHS:
        raise ConfigError(
            f"{key} in rule '{text}'", "all rules have the same budget of examples", "set --epochs for all of them"
        )
    if key not in allowed:
        raise ConfigError(f"{key} in rule '{text}'", "it must be a setting of a recipe", nearest(key, allowed))


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
