"""Settings as plain values: from TOML files, flags and defaults, layered, to a `Config` and back to TOML.

The same names are the library's keyword arguments, the command line's flags (`lr` is `--lr`) and the keys of
the file. Precedence: flag over file over the shipped settings for this data and model over the defaults of
`Config`. An unknown name is an error that suggests the near one. Off is `None`, which in a file is the absence
of the key.
"""

from __future__ import annotations

import codecs
import dataclasses
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from surefoot.config import Config, Recipe, Schedule
from surefoot.errors import ConfigError, nearest
from surefoot.rules import rule_settings
from surefoot.rules.groups import texts_of

_T = TypeVar("_T")
MOST_NESTED = 20
"""Levels of a line of a settings file, ten times what any has. Chosen by hand."""
_IN_EPOCHS = ("warmup_epochs", "milestones_epochs", "cycle_epochs", "decay_epochs", "peak_epochs")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting by its flat name: where it lives in the nested settings, its type, its help, its other flags."""

    path: tuple[str, ...]
    type: Any
    help: str
    aliases: tuple[str, ...] = ()


def flat_settings() -> dict[str, Setting]:
    """Return every setting by its flat name. The flat name of `recipe.schedule.kind` is `schedule`.

    >>> flat_settings()["lr"].path, flat_settings()["schedule"].path
    (('recipe', 'lr'), ('recipe', 'schedule', 'kind'))
    """
    found: dict[str, Setting] = {}
    for cls, prefix in ((Config, ()), (Recipe, ("recipe",)), (Schedule, ("recipe", "schedule"))):
        hints = typing.get_type_hints(cls)
        for item in dataclasses.fields(cls):
            if not dataclasses.is_dataclass(hints[item.name]):
                name = "schedule" if (cls, item.name) == (Schedule, "kind") else item.name
                about = item.metadata
                typed = about.get("typed", hints[item.name])
                found[name] = Setting((*prefix, item.name), typed, about["help"], about.get("aliases", ()))
    return found


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat settings as nested ones, without those that are None. A preset is a schedule's kind, too.

    Raises:
        ConfigError: an unknown name.

    >>> nested({"lr": 0.2, "schedule": "linear", "seed": None})
    {'recipe': {'lr': 0.2, 'schedule': {'kind': 'linear'}}}
    """
    if flat.get("preset") is not None and flat.get("schedule") is None:
        flat = {**flat, "schedule": "preset"}
    known = flat_settings()
    result: dict[str, Any] = {}
    for name, value in flat.items():
        if name not in known:
            raise ConfigError(f"unknown setting '{name}'", "every name must be a known setting", nearest(name, known))
        if value is None:
            continue
        place = result
        for step in known[name].path[:-1]:
            place = place.setdefault(step, {})
        place[known[name].path[-1]] = value
    return result


def flattened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings by their flat names: the inverse of `nested`.

    >>> flattened({"recipe": {"lr": 0.2, "schedule": {"kind": "linear"}}})
    {'lr': 0.2, 'schedule': 'linear'}
    """
    found = {name: _at(values, setting.path) for name, setting in flat_settings().items()}
    return {name: value for name, value in found.items() if value is not None}


def differences(old: Config, new: Config, ignore: tuple[str, ...] = ()) -> list[str]:
    """Return a phrase for each setting in which two configurations differ.

    >>> differences(Config(seed=1), Config(seed=2))
    ['seed (1 there, 2 here)']
    """
    a, b = to_dict(old), to_dict(new)
    found = []
    for name, setting in flat_settings().items():
        was, now = (_at(values, setting.path) for values in (a, b))
        if was != now and name not in ignore:
            found.append(f"{name} ({was} there, {now} here)")
    return found


def _at(values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    place: Any = values
    for step in path:
        place = place.get(step) if isinstance(place, Mapping) else None
    return place


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the settings that a TOML file gives, as nested plain values, names checked against `Config`.

    Raises:
        ConfigError: the file is missing, is not TOML in UTF-8, or holds an unknown name.
    """
    values = _parsed(_text(path), path)
    check_names(Config, values, str(path))
    return values


def _text(path: str | Path) -> str:
    """Return the text of a settings file, without the byte-order mark that some editors write."""
    allowed = "settings are a TOML file in UTF-8"
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} ({error.strerror})", allowed, "check the path") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        raise ConfigError(f"{path} is UTF-16, or no text", allowed, "save it again as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}: byte {error.start}, in line {line}, is not UTF-8", allowed, "save it again"
        ) from None
    alone = re.search(r"\r(?!\n)", text)
    if alone is not None:
        line = text[: alone.start()].count("\n") + 1
        raise ConfigError(
            f"{path}: a carriage return without a line feed, in line {line}",
            "a line of TOML ends with a line feed, with or without a carriage return before it",
            "save it with the line ends of Unix or Windows",
        )
    return text


def _parsed(text: str, path: str | Path) -> dict[str, Any]:
    """Return the values of a TOML text. What is nested absurdly would take all memory, or all of Python's stack."""
    for number, line in enumerate(text.splitlines(), 1):
        key = "" if line.lstrip().startswith("#") else line.partition("=")[0]
        if key.count(".") > MOST_NESTED or line.count("[") > MOST_NESTED or line.count("{") > MOST_NESTED:
            raise ConfigError(
                f"{path}: line {number} has more than {MOST_NESTED} levels", "settings are nested two deep at most",
                "mend that line",
            )  # fmt: skip
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of numbers with too many digits, too
        raise ConfigError(f"{path}: {error}", "settings are a TOML file", "mend that line") from None


def check_names(cls: type, values: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError for the first name in `values` that `cls` does not have, suggesting the near one."""
    hints = typing.get_type_hints(cls)
    known = [item.name for item in dataclasses.fields(cls)]
    for name, value in values.items():
        if name not in known:
            home = ".".join(flat_settings()[name].path[:-1]) if name in flat_settings() else ""
            advice = f"write it below [{home}]" if home else nearest(name, known)
            raise ConfigError(f"{where}: unknown setting '{name}'", "every name must be a known setting", advice)
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{where}: {name} = {value!r}", f"{name} must be a table of settings", f"write [{name}]"
                )
            check_names(typing.cast(type, hints[name]), value, f"{where} [{name}]")


def from_dict(cls: type[_T], values: Mapping[str, Any]) -> _T:
    """Return the dataclass that nested plain values describe; the inverse of `to_dict`.

    >>> from_dict(Recipe, {"lr": 0.5, "schedule": {"kind": "linear"}}).schedule.kind
    'linear'
    """
    check_names(cls, values, cls.__name__.lower())
    hints = typing.get_type_hints(cls)
    built = {
        name: from_dict(hints[name], value) if dataclasses.is_dataclass(hints[name]) else value
        for name, value in values.items()
    }
    return cls(**built)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as nested plain values without those that are None.

    >>> to_dict(Schedule(kind="linear"))["kind"]
    'linear'
    """
    plain: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            plain[item.name] = to_dict(value)
        elif item.name == "groups":
            plain |= {"groups": texts_of(value)} if value else {}
        elif value is not None:
            plain[item.name] = list(value) if isinstance(value, tuple) else value
    return plain


def to_toml(config: Config | Recipe) -> str:
    """Return a configuration as TOML that `read_toml` and `--config` take.

    >>> from_dict(Config, tomllib.loads(to_toml(Config(seed=3)))) == Config(seed=3)
    True
    """
    return tomli_w.dumps(to_dict(config))


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings, later layers over earlier ones. The length of a run, its update rule and the kind of its
    schedule replace what they exclude: giving `steps` drops an earlier `epochs`, a new `kind` drops the old one's
    options, and so does a new `rule`, with its rate: that of another rule means nothing.

    >>> merged({"recipe": {"lr": 1, "epochs": 5}}, {"recipe": {"steps": 7}})
    {'recipe': {'lr': 1, 'steps': 7}}
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            other = {"epochs": "steps", "steps": "epochs"}.get(name)
            if other is not None and other not in layer:  # both in one layer is a mistake, which `Recipe` names
                result.pop(other, None)
            if isinstance(value, Mapping) and name != "groups":  # whose patterns have an order, as a list's values
                below = result.get(name, {})
                if name == "schedule" and value.get("kind", below.get("kind")) != below.get("kind"):
                    below = {}
                if name == "recipe" and value.get("rule", was := below.get("rule", Recipe.rule)) != was:
                    below = {key: of_it for key, of_it in below.items() if key not in rule_settings()}
                value = merged(below, value)
            result[name] = value
    return result


def default_settings(data: str, model: str, *, table: bool = False) -> dict[str, Any]:
    """Return the shipped settings for a named set, or a table, and a shipped model; an empty dict where there are none.

    They are the TOML files of `surefoot/recipes`, each of which says how its values were found.

    >>> default_settings("sales.csv", "mlp", table=True)["recipe"]["clip_norm"]
    1.0
    """
    recipes = resources.files("surefoot") / "recipes"
    file = recipes / f"{data}-{model}.toml"
    if "/" in data or not file.is_file():
        file = recipes / "tables" / f"{model}.toml"
        if not table or "/" in model or not file.is_file():
            return {}
    return tomllib.loads(file.read_text(encoding="utf-8"))


def shrunk(schedule: Schedule, share: float) -> Schedule:
    """Return the schedule of a shorter run, a complete small one: all its lengths shrink with the run.

    Args:
        schedule: of the longer run.
        share: length of the shorter run as a share of the longer one's.

    >>> shrunk(Schedule(kind="step", milestones_epochs=[5, 8]), 0.5).milestones_epochs
    (2.5, 4.0)
    """
    changes = {}
    for name in _IN_EPOCHS:
        value = getattr(schedule, name)
        if value:
            changes[name] = (
                tuple(_short(each * share) for each in value) if isinstance(value, tuple) else _short(value * share)
            )
    return dataclasses.replace(schedule, **changes)


def cache_folder() -> Path:
    """Return the folder for what can be made again: $SUREFOOT_CACHE, or the platform's cache folder."""
    import platformdirs  # a command that needs no cache need not wait for it

    given = os.environ.get("SUREFOOT_CACHE")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("surefoot", appauthor=False)


def _short(epochs: float) -> float:
    """Return a length as a person would write it: 0.92 and not 0.9199999999999999."""
    return float(f"{epochs:.6g}")
