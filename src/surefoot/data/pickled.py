"""Reading the pickles of `cifar-10-batches-py` without unpickling: an interpreter of a few opcodes.

A pickle is a program. `pickletools.genops` only lists its instructions; we carry out those that build plain data
(numbers, text, bytes, lists, tuples, dicts), and of calls the three that rebuild a uint8 array, which we do
ourselves. No name in the file is ever looked up or imported; any other instruction or name is an error.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

_CORES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NAMES = {f"{core} _reconstruct" for core in _CORES} | {"numpy ndarray", "numpy dtype", "_codecs encode"}


@dataclass(frozen=True)
class _Name:
    """A global that the file names. It stands for itself; nothing is imported."""

    text: str


class _Mark:
    """The bottom of a group on the stack."""


@dataclass
class _Array:
    """An array that is being rebuilt."""

    value: np.ndarray | None = None


@dataclass
class _Type:
    """An element type that is being rebuilt."""

    code: str


def read(content: bytes) -> object:
    r"""Return the plain data that a pickle of the CIFAR-10 release for Python holds.

    Raises:
        ValueError: an instruction or name that this layout has no use for, or a damaged file.

    >>> read(b"\x80\x02}U\x06labelsK\x07s.")
    {'labels': 7}
    >>> read(b"cos\nsystem\n(S'true'\ntR.")
    Traceback (most recent call last):
    ValueError: is a pickle that asks for 'os system', which no data file needs
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return _finished(machine.stack.pop())
            machine.step(opcode.name, argument)
    except _Refused as refused:
        raise ValueError(str(refused)) from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeError, OverflowError) as error:
        raise ValueError(f"is not a whole pickle of this layout ({type(error).__name__}: {error})") from None
    raise ValueError("is not a whole pickle of this layout (it ends early)")


class _Refused(ValueError):
    """The file asks for something that no data file needs."""


_PLAIN = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """A stack, a memo, and the few instructions."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in _PLAIN:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self.stack[-_TUPLES[name] :] = [tuple(self.stack[-_TUPLES[name] :])]
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif (act := _ACTS.get(name)) is not None:
            act(self, argument)
        else:
            raise _Refused(f"is a pickle with the instruction {name}, which no data file needs")

    def group(self) -> list[Any]:
        """Take what lies above the last mark off the stack."""
        bottom = max(place for place, value in enumerate(self.stack) if isinstance(value, _Mark))
        values = self.stack[bottom + 1 :]
        del self.stack[bottom:]
        return values

    def name(self, text: str) -> None:
        """Put a known name on the stack."""
        if text not in _NAMES:
            raise _Refused(f"is a pickle that asks for {text!r}, which no data file needs")
        self.stack.append(_Name(text))

    def name_from_stack(self) -> None:
        """The name lies on the stack as two texts."""
        last, first = self.stack.pop(), self.stack.pop()
        self.name(f"{first} {last}")

    def call(self) -> None:
        """Rebuild what a call of a known name would return."""
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(_called(function, arguments))

    def build(self) -> None:
        """Give an array or type its state."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Array) and target.value is None:
            _, shape, kind, fortran, content = state
            if not isinstance(kind, _Type) or fortran is not False:
                raise _Refused("holds an array that is not plain rows of bytes")
            target.value = np.frombuffer(_bytes(content), dtype=np.uint8).reshape(shape)
        elif not isinstance(target, _Type):
            raise _Refused("sets the state of something that is no array")

    def append(self, values: list[Any]) -> None:
        """Append to the list on the stack."""
        if type(self.stack[-1]) is not list:
            raise TypeError("only a list can be appended to")
        self.stack[-1].extend(values)

    def fill(self, values: list[Any]) -> None:
        """Set items of the dict on the stack."""
        if type(self.stack[-1]) is not dict:
            raise TypeError("only a dict has items")
        keys = [_scalar(key) for key in values[::2]]
        if not all(isinstance(key, str) for key in keys):
            raise TypeError("the keys of the dict must be text")
        self.stack[-1].update(zip(keys, values[1::2], strict=True))

    def pair(self) -> list[Any]:
        """Take a key and a value off the stack."""
        value, key = self.stack.pop(), self.stack.pop()
        return [key, value]


_ACTS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda m, _: m.stack.append(_Mark()),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.group())),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS": lambda m, _: m.append(m.group()),
    "SETITEM": lambda m, _: m.fill(m.pair()),
    "SETITEMS": lambda m, _: m.fill(m.group()),
    "GLOBAL": lambda m, argument: m.name(argument),
    "STACK_GLOBAL": lambda m, _: m.name_from_stack(),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}


def _called(function: object, arguments: Any) -> object:
    """Return what a known function makes of its arguments, rebuilt here."""
    text = function.text if isinstance(function, _Name) else ""
    if text.endswith(" _reconstruct") and arguments[0] == _Name("numpy ndarray"):
        return _Array()
    if text == "numpy dtype":
        if _scalar(arguments[0]) != "u1":
            raise _Refused(f"holds an array of type {arguments[0]!r}, not uint8")
        return _Type("u1")
    if text == "_codecs encode" and len(arguments) == 2 and _scalar(arguments[1]) == "latin1":
        return arguments[0].encode("latin1")  # how Python 3 writes bytes in protocol 2
    raise _Refused("calls something that is no function of this layout")


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin1")  # Python 2's str is listed as latin1 text


def _finished(value: Any) -> Any:
    """Return a text key, a plain value, an array, a flat list of plain values, or the dict of such at the top.

    Only these: what refers to itself, or nests, could grow without bound.
    """
    if isinstance(value, dict):
        return {key: _flat(each) for key, each in value.items()}
    return _flat(value)


def _flat(value: Any) -> Any:
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without contents")
        return value.value
    return [_scalar(each) for each in value] if isinstance(value, list) else _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, (str, int, float, type(None))):
        return value
    raise TypeError(f"{type(value).__name__} where plain data belongs")
