"""What was typed becomes values, none of them bent to fit; what cannot be is a `ConfigError` like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    Token,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    convert,
)

from surefoot.config import type_error
from surefoot.errors import ConfigError, nearest


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
        case UnknownOptionError(token=Token() as token, argument_collection=known):
            flag = token.keyword or token.value
            close = nearest(flag, [name for each in known for name in each.names])
            return ConfigError(f"{flag}", f"{command} has no such flag", close if close.endswith("?") else look)
        case (
            UnknownCommandError(unused_tokens=[word, *_])
            | UnusedCliTokensError(unused_tokens=[word, *_], command_chain=["data"])
        ):
            known = ["check"] if error.command_chain else commands
            return ConfigError(f"{word!r}", f"{command} has no such command", nearest(word, known))
        case UnusedCliTokensError(unused_tokens=[word, *_]):
            return ConfigError(f"{word!r}", f"{command} takes no further word", f"quote a path with spaces, or {look}")
        case _:
            return ConfigError(command, " ".join(str(error).split()).rstrip("."), look)
