"""Groups of a model's parameters by name: what multiplies their learning rate and weight decay, and what is frozen.

    {"*": "frozen", "head": {"lr": 10, "frozen_epochs": 0}, "*norm*": {"weight_decay": 0}, "body": {"frozen_epochs": 2}}

A pattern is that of `fnmatch`, where * stands for any characters, dots too, and is compared with the dotted name of a
parameter and of each module around it: "head" is all that lies below the module head. What several patterns say of one
parameter is taken, setting by setting, from the last that says it, so general patterns come first. "frozen" is
frozen_epochs for ever, "trained" is frozen_epochs = 0.

The same as text is what files and flags keep, since the order counts: "head.lr=10", "stem=frozen".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from surefoot.errors import ConfigError, nearest


class Factors(NamedTuple):
    """What holds for one parameter.

    Attributes:
        lr: multiplies the learning rate.
        weight_decay: multiplies the weight decay.
        frozen_epochs: passes over the training part for which it is frozen.
    """

    lr: float = 1.0
    weight_decay: float = 1.0
    frozen_epochs: float = 0.0


SETTINGS = Factors._fields
WORDS = {"frozen": math.inf, "trained": 0.0}
"""What may stand in place of settings, as frozen_epochs."""
_ALLOWED = "a group is a pattern of names with lr, weight_decay or frozen_epochs, or with the word frozen or trained"
_EXAMPLE = "give for example head.lr=10 or stem=frozen"
_NAMED = 12
"""Most names that a message lists. Chosen by hand."""


@dataclass(frozen=True)
class Group:
    """What a pattern says of the parameters that it matches; None is nothing.

    Attributes:
        pattern: of names.
        lr: multiplies the learning rate, above 0.
        weight_decay: multiplies the weight decay, at least 0.
        frozen_epochs: passes over the training part for which they are frozen, at least 0; infinity is for ever.
    """

    pattern: str
    lr: float | None = None
    weight_decay: float | None = None
    frozen_epochs: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.said.items():
            where = f"groups: {name} = {value!r} of '{self.pattern}'"
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(where, f"{name} must be a number", _EXAMPLE)
            if name == "lr" and value == 0:
                raise ConfigError(where, "lr multiplies the rate and must be above 0", f"set {self.pattern}=frozen")
            if not value >= 0 or (math.isinf(value) and name != "frozen_epochs"):
                allowed = "multiplies the rate and must be above 0" if name == "lr" else "must be at least 0"
                raise ConfigError(where, f"{name} {allowed}", _EXAMPLE)
            object.__setattr__(self, name, float(value))

    @property
    def said(self) -> dict[str, float]:
        """The settings of which it says something."""
        return {name: value for name in SETTINGS if (value := getattr(self, name)) is not None}

    def matches(self, names: Iterable[str]) -> bool:
        """Return whether the pattern is that of one of these dotted names, or of a module around one.

        >>> Group("body").matches(["body.0.weight"]), Group("body").matches(["bodyguard.weight"])
        (True, False)
        """
        around = (name[:at] for name in names for at, letter in enumerate(name + ".") if letter == ".")
        return any(fnmatchcase(each, self.pattern) for each in around)


def groups_of(given: Any) -> tuple[Group, ...]:
    """Return the groups that somebody describes.

    Args:
        given: a mapping of patterns to settings or to a word; or texts; or groups; or None for none.

    Raises:
        ConfigError: it is none of these, or a value is out of range.

    >>> groups_of({"head": {"lr": 10}}) == groups_of(["head.lr=10"])
    True
    >>> groups_of({"head": {"rate": 10}})
    Traceback (most recent call last):
    surefoot.errors.ConfigError: groups: 'rate' of 'head': a group is a pattern of names with lr, weight_decay or \
frozen_epochs, or with the word frozen or trained. Choose one of lr, weight_decay, frozen_epochs.
    """
    if isinstance(given, Mapping):
        return tuple(_of_pattern(pattern, value) for pattern, value in given.items())
    if isinstance(given, str) or not isinstance(given, Sequence | None):
        raise ConfigError(f"groups = {given!r}", _ALLOWED, _EXAMPLE)
    found: dict[str, dict[str, float]] = {}
    for each in given or ():
        group = each if isinstance(each, Group) else _of_text(each)
        said = found.setdefault(group.pattern, {})
        twice = [name for name in group.said if name in said]
        if twice:
            raise ConfigError(f"groups: {twice[0]} of '{group.pattern}' is there twice", _ALLOWED, "keep one of them")
        said |= group.said
    return tuple(Group(pattern, **said) for pattern, said in found.items())


def _of_pattern(pattern: Any, value: Any) -> Group:
    if not isinstance(pattern, str) or not pattern:
        raise ConfigError(f"groups with {pattern!r} as a pattern", "a pattern is text", _EXAMPLE)
    if isinstance(value, str):
        if value not in WORDS:
            raise ConfigError(f"groups: '{pattern}' = {value!r}", _ALLOWED, nearest(value, WORDS))
        return Group(pattern, frozen_epochs=WORDS[value])
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(f"groups: '{pattern}' = {value!r}", _ALLOWED, _EXAMPLE)
    for name in value:
        if name in WORDS:
            raise ConfigError(
                f"groups: '{name}' among the settings of '{pattern}'", _ALLOWED, f"set {pattern}={name} in their place"
            )
        if name not in SETTINGS:
            raise ConfigError(f"groups: '{name}' of '{pattern}'", _ALLOWED, nearest(name, SETTINGS))
    return Group(pattern, **value)


def _of_text(text: Any) -> Group:
    left, sign, right = text.rpartition("=") if isinstance(text, str) else ("", "", "")
    if not sign or not left:
        raise ConfigError(f"groups: {text!r}", _ALLOWED, _EXAMPLE)
    pattern, _, name = left.rpartition(".")
    try:
        number = float(right)
    except ValueError:
        return _of_pattern(left, right)
    if not pattern:
        raise ConfigError(f"groups: {text!r}, a number without a setting", _ALLOWED, f"give {left}.lr={right}")
    return _of_pattern(pattern, {name: number})


def texts_of(groups: Sequence[Group]) -> list[str]:
    """Return groups as texts that `groups_of` reads.

    >>> texts_of(groups_of({"stem": "frozen", "*.bias": {"lr": 64, "weight_decay": 0}}))
    ['stem=frozen', '*.bias.lr=64', '*.bias.weight_decay=0']
    """
    words = {value: word for word, value in WORDS.items()}
    return [
        f"{group.pattern}={words[value]}" if name == "frozen_epochs" and value in words
        else f"{group.pattern}.{name}={int(value) if value.is_integer() else value!r}"
        for group in groups for name, value in group.said.items()
    ]  # fmt: skip


def shortened(groups: Sequence[Group], share: float) -> tuple[Group, ...]:
    """Return the groups of a shorter run, a complete small one, whose lengths shrink with the run.

    >>> shortened(groups_of(["body.frozen_epochs=2", "stem=frozen"]), 0.25)[0].frozen_epochs
    0.5
    """
    return tuple(
        group if group.frozen_epochs is None else replace(group, frozen_epochs=group.frozen_epochs * share)
        for group in groups
    )


@functools.lru_cache(maxsize=64)
def factors_by_name(groups: tuple[Group, ...], names: tuple[tuple[str, ...], ...]) -> tuple[Factors, ...]:
    """Return what the groups come to for each parameter.

    Args:
        groups: in their order.
        names: of each parameter: one, or several where it stands in several places of the model.

    Raises:
        ConfigError: a pattern matches none of them, or has no effect since later ones say otherwise of all it matches.

    >>> factors_by_name(groups_of(["*=frozen", "head=trained", "head.lr=10"]), (("stem.weight",), ("head.weight",)))
    (Factors(lr=1.0, weight_decay=1.0, frozen_epochs=inf), Factors(lr=10.0, weight_decay=1.0, frozen_epochs=0.0))
    """
    said: list[dict[str, float]] = [{} for _ in names]
    by: list[dict[str, Group]] = [{} for _ in names]
    for group in groups:
        matched = [i for i, each in enumerate(names) if group.matches(each)]
        if not matched:
            raise ConfigError(
                f"groups: '{group.pattern}'",
                "no parameter and no module that has some is called so",
                _near(group, names),
            )
        for i in matched:
            said[i] |= group.said
            by[i] |= dict.fromkeys(group.said, group)
    found = tuple(Factors(**each) for each in said)
    for group in groups:
        effects = (name == "frozen_epochs" or one.frozen_epochs < math.inf
                   for one, deciding in zip(found, by, strict=True)
                   for name, other in deciding.items() if other is group)  # fmt: skip
        if not any(effects):
            _refuse_of_frozen(groups, group, by)
            raise ConfigError(
                f"groups: '{group.pattern}' has no effect",
                "of two patterns that say the same setting of a parameter the later one counts, and what is frozen has "
                "neither rate nor decay", "put general patterns first, or leave it out",
            )  # fmt: skip
    return found


def _refuse_of_frozen(groups: Sequence[Group], group: Group, by: Sequence[Mapping[str, Group]]) -> None:
    """Raise ConfigError where a group speaks only of what an earlier one freezes, as head.lr=2 after *=frozen."""
    freezing = {deciding["frozen_epochs"].pattern: groups.index(deciding["frozen_epochs"])
                for deciding in by if group in deciding.values() and "frozen_epochs" in deciding}  # fmt: skip
    if freezing and max(freezing.values()) < groups.index(group):
        raise ConfigError(
            f"groups: '{group.pattern}' has no effect", f"all that it matches is frozen by '{next(iter(freezing))}', "
            "and what is frozen has neither rate nor decay",
            f"set {group.pattern}=trained too, or leave it out",
        )  # fmt: skip


def _near(group: Group, names: Sequence[Sequence[str]]) -> str:
    """Return advice for a pattern that matches nothing: near names, else the modules at the top of the model."""
    ends = {name[:at] for each in names for name in each for at, letter in enumerate(name + ".") if letter == "."}
    if any(name.endswith(f".{group.pattern}") for name in ends):
        return f"did you mean '*.{group.pattern}'?"
    close = get_close_matches(group.pattern, sorted(ends), n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    top = list(dict.fromkeys(name.partition(".")[0] for each in names for name in each))
    return f"choose among {', '.join(top[:_NAMED])}{', ...' if len(top) > _NAMED else ''} and what lies below"
