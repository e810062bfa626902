"""What a run is beside its settings and its data: the code of its model, loss and augmentation, and given weights.

Settings name these as text at most, so two runs of one name could be told apart by them alone as little as two
functions called `net`. They are told apart by hashes, which a run keeps in its environment.json.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import platform
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from surefoot.data.augment import Call
from surefoot.errors import ConfigError
from surefoot.models.build import SHIPPED, factory_of
from surefoot.record import store
from surefoot.training.state import named_tensors
from surefoot.training.task import Task, training_modes_

MODEL, WEIGHTS, LOSS, AUGMENT = "the model's code", "the initial weights", "the loss", "the augmentation"
OPTIMIZER, METRICS = "the optimizer", "the metrics"
FORWARD = "forward"


def identity(task: Task) -> dict[str, str]:
    """Return a SHA-256 for each thing of a task that was given as code or as tensors, by what it is called.

    Told apart are functions and classes by name, bytecode, defaults and captured values; modules by their structure,
    what is frozen, and plain attributes that their methods do not change. What code reads from elsewhere (global
    variables, lists that it captures) is not looked at. Bytecode is of one Python: its version is under "python".

    >>> import surefoot
    >>> digits = surefoot.load("digits")
    >>> identity(surefoot.task(digits, "linear"))
    {}
    >>> sorted(identity(surefoot.task(digits, "linear", loss=nn.CrossEntropyLoss())))
    ['python', 'the loss']
    """
    found: dict[str, str] = {}
    if not (isinstance(task.model, str) and task.model in SHIPPED):
        code = factory_of(task.model) if isinstance(task.model, str) else task.model
        found[MODEL] = _code_of(code, task.fresh_model())
        if task.model is None:
            found[WEIGHTS] = _hash(_tensors(task.template))
    for name, code in ((LOSS, task.loss or task.loss_fn), (FORWARD, task.forward), (OPTIMIZER, task.optimizer)):
        if code is not None:
            found[name] = _hash(_described(code, set()))
    operations = task.augment.operations if task.augment is not None else ()
    calls = tuple(each.function for each in operations if isinstance(each, Call))
    if calls:
        found[AUGMENT] = _hash(_described(calls, set()))
    if task.metrics.functions:  # an object that is fed by the batch holds what it was fed
        codes = [(name, type(m) if hasattr(m, "compute") else m) for name, m in sorted(task.metrics.functions.items())]
        found[METRICS] = _hash(_described(tuple(codes), set()))
    return found | ({"python": _PYTHON} if found else {})


def warn_of_other_code(folder: Path, setting: str, name: str, made: Any) -> None:
    """Warn where the code of a run's "package.module:name" is not that with which the run was trained.

    Args:
        folder: of the run.
        setting: "model", "loss", "forward" or "loss_fn".
        name: of the factory or function.
        made: a fresh model of the factory, or the function.
    """
    environment, called = folder / store.ENVIRONMENT, {"model": MODEL, "forward": FORWARD}.get(setting, LOSS)
    there = store.read_sealed(environment).get("identity") if environment.is_file() else None
    if not isinstance(there, dict) or called not in there or there.get("python") != _PYTHON:
        return
    here = _code_of(factory_of(name), training_modes_(made)) if setting == "model" else _hash(_described(made, set()))
    if there[called] != here:
        warnings.warn(
            f"the code of {name} is not that with which {folder} was trained: what its weights give may be another",
            stacklevel=2,
        )


def differing(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Return what differs between two identities, as far as it can be compared.

    >>> differing({"the loss": "a", "python": "3.12"}, {"the loss": "b", "python": "3.12"})
    ['the loss']
    """
    comparable = there.get("python", _PYTHON) == here.get("python", _PYTHON)
    names = [MODEL, LOSS, FORWARD, AUGMENT, OPTIMIZER, METRICS, WEIGHTS] if comparable else [WEIGHTS]
    return [name for name in names if there.get(name) != here.get(name)]


def another(folder: Path, changed: list[str]) -> ConfigError:
    """Return the error that a folder belongs to a run or search of something else."""
    fresh = ", or a function that makes the model: its weights come from the seed" if WEIGHTS in changed else ""
    return ConfigError(
        f"{folder} was started with something else: {', '.join(changed)} given here differ from there",
        "a run keeps its model, initial weights, loss, augmentation and optimizer from beginning to end",
        f"choose another name, or give the same{fresh}",
    )


def _code_of(code: Any, model: nn.Module) -> str:
    return _hash([*_module(model, set()), *_described(code, set())])


_PYTHON = ".".join(platform.python_version_tuple()[:2])


def _hash(parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def _tensors(model: nn.Module) -> Iterator[str | bytes]:
    for name, value in (*named_tensors(model).items(), *model.named_buffers()):
        yield name
        yield from _tensor(value)


def _tensor(value: Tensor) -> Iterator[str | bytes]:
    yield f"{value.dtype} {tuple(value.shape)}"
    if value.layout is torch.strided and not value.is_meta:
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _module(model: nn.Module, above: set[int]) -> Iterator[str | bytes]:
    """Describe a module without the values of its tensors."""
    for name, value in model.named_parameters():
        yield f"{name} {tuple(value.shape)} {value.requires_grad}"
    for name, module in model.named_modules():
        yield f"{name} {module.training}"
        yield from _object(module, above)


def _described(value: Any, above: set[int]) -> Iterator[str | bytes]:
    """Describe code and the values that it holds, the same in every process. What is neither is its type's name."""
    if id(value) in above:
        return
    above = above | {id(value)}
    if isinstance(value, Tensor):
        yield from _tensor(value)
    elif isinstance(value, MethodType):
        yield from (*_described(value.__func__, above), *_described(value.__self__, above))
    elif isinstance(value, FunctionType):
        yield value.__qualname__
        if not _of_torch(value):
            yield from _code(value.__code__, value.__doc__)
            changed = _stored(value.__code__, "STORE_DEREF")
            cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
            held = [cell.cell_contents for name, cell in cells if name not in changed and _full(cell)]
            yield from _described((*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *held), above)
    elif isinstance(value, functools.partial):
        yield from _described((value.func, *value.args, *sorted(value.keywords), *value.keywords.values()), above)
    elif inspect.isclass(value):
        yield str(value.__qualname__)
        for each in () if _of_torch(value) else value.__mro__[:-1]:
            for name, member in sorted(vars(each).items()) if not _of_torch(each) else ():
                if isinstance(member, FunctionType):
                    yield from (name, *_described(member, above))
    elif isinstance(value, tuple):
        for each in value:
            yield from _described(each, above)
    elif value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        yield repr(value)
    elif isinstance(value, nn.Module):
        yield from (*_module(value, above), *_tensors(value))
    elif callable(value) and not inspect.isbuiltin(value):
        yield from _object(value, above)
    else:
        yield str(getattr(value, "__qualname__", type(value).__qualname__))


def _object(value: Any, above: set[int]) -> Iterator[str | bytes]:
    """Describe an object by its class and those plain attributes that its methods, but for `__init__`, do not set."""
    kind = type(value)
    yield from _described(kind, above)
    methods = [each for one in kind.__mro__ if not _of_torch(one) for each in vars(one).values()]
    codes = [each.__code__ for each in methods if isinstance(each, FunctionType) and each.__name__ != "__init__"]
    changed = {name for code in codes for name in _stored(code, "STORE_ATTR")}
    for name, held in sorted(vars(value).items()) if hasattr(value, "__dict__") else ():
        if not (name.startswith("_") or name == "training" or name in changed):
            yield from (name, *_described(held, above | {id(value)}))


def _code(code: CodeType, doc: str | None = None) -> Iterator[str | bytes]:
    yield code.co_code
    yield " ".join((*code.co_names, *code.co_varnames, *code.co_freevars))
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _code(each)
        elif isinstance(each, frozenset):
            yield " ".join(sorted(map(repr, each)))
        elif doc is None or each != doc:
            yield repr(each)


def _stored(code: CodeType, operation: str) -> set[str]:
    return {str(each.argval) for each in dis.get_instructions(code) if each.opname == operation}


def _full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a name that has no value yet
        return False


def _of_torch(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "").partition(".")[0] in ("torch", "builtins")
