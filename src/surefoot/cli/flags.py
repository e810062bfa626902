"""Every setting as a flag, made from the configuration's own fields: one source of names, types and help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter

from surefoot.settings import flat_settings

_F = TypeVar("_F", bound=Callable[..., Any])
_GROUPS = {
    1: Group("Run", sort_key=2),
    2: Group("Recipe", sort_key=3),
    3: Group("Schedule", sort_key=4),
}


def with_settings(command: _F) -> _F:
    """Give a command a flag for every setting that is not one of its own parameters, passed as keywords.

    A flag that is not given arrives as None, so that files and shipped settings can fill it.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    taken = {parameter.name for parameter in own}
    flags = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                setting.type | None,
                Parameter(
                    help=setting.help,
                    group=_GROUPS[len(setting.path)],
                    consume_multiple=True,
                    negative=(),
                    show_default=False,
                ),
            ],
        )
        for name, setting in flat_settings().items()
        if name not in taken
    ]
    # A function object takes a signature of its own, which the type checker does not know of.
    command.__signature__ = signature.replace(parameters=[*own, *flags])  # pyright: ignore[reportFunctionMemberAccess]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *flags]}
    return command
