"""Every setting as a flag, made from the configuration's own fields; and what was typed as values, none bent to fit.

What cannot be a value is a `ConfigError` like any other.
"""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import (
    CoercionError,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    RepeatArgumentError,
    Token,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    convert,
)

from surefoot.cli.tables import clean
from surefoot.errors import ConfigError, nearest, type_error
from surefoot.settings import flat_settings, flattened, merged, nested, read_toml

_F = TypeVar("_F", bound=Callable[..., Any])
Switch = Annotated[bool, Parameter(negative=())]
"""A flag without a value."""
Quiet = Annotated[bool, Parameter(alias="-q", negative=(), help="Show no progress.")]
Data = Annotated[
    str | None,
    Parameter(help="A named set (digits, cifar10), or a folder of images by class, an .npz, a table, shards."),
]
ConfigFile = Annotated[Path | None, Parameter(help="TOML file of settings; flags go before it.")]
RunsDir = Annotated[Path, Parameter(help="Folder in which runs lie.")]
OF_A_RUN = (
    "rows_per_epoch", "checkpoint_seconds", "metrics", "choose_by", "weights", "early_stopping_epochs",
    "early_stopping_min_delta", "tta",
)  # fmt: skip
"""Settings of what a run keeps and when it ends, which a measurement does not read."""
_NO = "no-"
_GROUPS = {1: Group("Run", sort_key=2), 2: Group("Recipe", sort_key=3), 3: Group("Schedule", sort_key=4)}


def with_settings(command: _F) -> _F:
    """Give a command a flag for every setting that is not one of its own parameters, passed as keywords.

    A flag that is not given arrives as None, so that files and shipped settings can fill it.
    """
    signature = inspect.signature(command, eval_str=True)
    named = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    taken = {parameter.name for parameter in named}
    for name, setting in flat_settings().items():
        if name in taken:
            continue
        group = _GROUPS[len(setting.path)]
        # A setting that is on has only its --no- form: it is turned off by name.
        off = (f"--{_NO}{name.replace('_', '-')}",) if setting.type is bool else ()
        names: dict[str, Any] = {"name": (), "negative": off} if off else {"negative": ()}
        if setting.aliases:
            names["alias"] = [f"--{alias}" for alias in setting.aliases]
        shape = Parameter(help=setting.help, group=group, consume_multiple=True, show_default=False, **names)
        hint = Annotated[setting.type | None, shape]
        named.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint))
    # A function object takes a signature of its own, which the type checker does not know of.
    command.__signature__ = signature.replace(parameters=named)  # pyright: ignore[reportFunctionMemberAccess]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in named}
    return command


@dataclass(frozen=True)
class Settings:
    """The settings that a command was given, as flags and in a file.

    Attributes:
        typed: flags by flat name; None where one was not typed.
        file: what the file says, nested.
        path: of the file; None without one.
    """

    typed: Mapping[str, Any]
    file: Mapping[str, Any]
    path: Path | None

    @classmethod
    def read(cls, typed: Mapping[str, Any], path: Path | None) -> Settings:
        """Return what was typed, and what the file says.

        Raises:
            ConfigError: the file cannot be read, or names an unknown setting.
        """
        return cls(typed=typed, file=read_toml(path) if path is not None else {}, path=path)

    @property
    def nested(self) -> dict[str, Any]:
        """Both as nested settings: a flag goes before the file."""
        return merged(self.file, nested(self.typed))

    @property
    def flat(self) -> dict[str, Any]:
        """Both by flat name, without those that were not given."""
        return flattened(self.nested)

    def refuse(self, command: str, reasons: Mapping[str, str]) -> None:
        """Refuse flags that have no effect on a command.

        Args:
            command: its name.
            reasons: why, by flat name.

        Raises:
            ConfigError: one of them was typed.
        """
        for name, reason in reasons.items():
            if self.typed.get(name) is not None:
                raise ConfigError(f"--{name.replace('_', '-')} with {command}", reason, "leave it out")

    def say_unused(self, command: str, names: Iterable[str]) -> None:
        """Name on stderr what was given, by flags or the file, and has no effect on a command."""
        flat = self.flat
        kind = {"schedule"} if "preset" in flat else set[str]()  # that a preset is one needs no saying
        unused = [name for name in flat if name in set(names) - kind]
        if unused:
            print(f"not used by {command}: {', '.join(unused)}", file=sys.stderr, flush=True)

    def command(self, start: Sequence[str], without: Iterable[str] = ()) -> str:
        """Return a command with the same file and flags.

        Args:
            start: its first words after `surefoot`, with data and model.
            without: flat names that it leaves out.
        """
        words = ["surefoot", *start, *(["--config", str(self.path)] if self.path is not None else [])]
        for name, value in self.typed.items():
            if value is not None and name not in ("data", "model", *without):
                if isinstance(value, bool):
                    words.append(f"--{'' if value else _NO}{name.replace('_', '-')}")
                    continue
                values = value if isinstance(value, (list, tuple)) else [value]
                words += [f"--{name.replace('_', '-')}", *map(str, values)]
        return clean(shlex.join(words))


def of_schedule() -> frozenset[str]:
    """Return the flat names of what belongs to the schedule."""
    return frozenset(name for name, setting in flat_settings().items() if setting.path[:2] == ("recipe", "schedule"))


def typed_command() -> str:
    """Return the command as it was typed."""
    return shlex.join(["surefoot", *sys.argv[1:]])


def reference(folder: Path) -> str:
    """Return how a command names a run: by its name where it lies in runs/, else by its path."""
    return shlex.quote(folder.name if folder.parent == Path("runs") else str(folder))


def converted(hint: Any, tokens: Sequence[Token]) -> Any:
    """Return words as a flag's type. Cyclopts alone would round `--seed 1.5` to 2; here it is an error, as in TOML."""
    value = convert(hint, tokens)
    if isinstance(value, int) and not isinstance(value, bool) and "." in tokens[0].value:
        raise CoercionError(token=tokens[0], target_type=hint)
    return value


def usage_error(error: CycloptsError, commands: Sequence[str]) -> ConfigError:
    """Return what to tell the user of a command line that cannot be parsed.

    Args:
        error: from Cyclopts.
        commands: the names of all commands.
    """
    command = " ".join(["surefoot", *(error.command_chain or ())])
    look = f"see {command} --help"
    match error:
        case CoercionError(token=Token() as token, argument=argument, target_type=hint) if argument is not None:
            return type_error(hint, token.value, argument.field_info.name)
        case MissingArgumentError(keyword=str() as flag):
            return ConfigError(f"{flag} without a value", "a value comes after it", look)
        case MissingArgumentError(argument=argument) if argument is not None:
            wanted = argument.field_info.name.upper()
            return ConfigError(f"{command} without {wanted}", f"it needs a {wanted}", look)
        case RepeatArgumentError(token=Token() as token):
            return ConfigError(f"{token.keyword} is there twice", "a flag is given once", "keep one of them")
        case UnknownOptionError(token=Token() as token, argument_collection=arguments):
            flag = token.keyword or token.value
            close = nearest(flag, [name for argument in arguments for name in argument.names])
            return ConfigError(f"{flag}", f"{command} has no such flag", close if close.endswith("?") else look)
        case (
            UnknownCommandError(unused_tokens=[word, *_])
            | UnusedCliTokensError(unused_tokens=[word, *_], command_chain=["data"])
        ):
            names = ["check"] if error.command_chain else commands
            return ConfigError(f"{word!r}", f"{command} has no such command", nearest(word, names))
        case UnusedCliTokensError(unused_tokens=[word, *_]):
            return ConfigError(f"{word!r}", f"{command} takes no further word", f"quote a path with spaces, or {look}")
        case _:
            return ConfigError(command, " ".join(str(error).split()).rstrip("."), look)
