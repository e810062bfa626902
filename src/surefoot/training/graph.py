"""A step as one CUDA graph: captured once, replayed for each step, after a trial that it computes the same bits.

A graph repeats kernels on the addresses that they had, and runs no Python. So a step can be captured where its tensors
stay where they are and nothing that Python decides changes from step to step. Neither can be read off a model of the
user's: `tried` computes some steps both ways, from the same start, and compares all that they change.

Without a card the function itself stands in for its graph, so that all but the capture is the same everywhere.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

TRIAL_STEPS = 2
"""Steps that a trial computes each way: one would not show what a step leaves to the next. Chosen by hand."""
_PLAIN = (bool, int, float, str, type(None))


def captured(function: Callable[[], None], device: torch.device, pool: Any = None) -> Callable[[], None]:
    """Return what does the same as the function with every call, from one launch: its CUDA graph.

    What the function returns or raises is lost in replays; it must have run on the current stream before, for that is
    when kernels are loaded and libraries take their workspaces.

    Args:
        function: does its work, on tensors that are there before and stay.
        device: on which.
        pool: from `new_pool`, the memory of what is made on the way; None: its own. Graphs may share one, in whatever
            order they are replayed, where no two run at once and none reads what another made on the way (PyTorch,
            CUDA semantics, sharing memory across captures); to find room there, they are captured on one stream.

    Raises:
        RuntimeError: it cannot be captured.
    """
    if device.type != "cuda":
        return function
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream(device)
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
        function()
    return graph.replay


@contextmanager
def side_stream(device: torch.device, stream: Any) -> Iterator[None]:
    """Compute the block on a stream of its own, after all before it and before all after it: capture needs one.

    Args:
        device: of the work; nothing happens on a CPU.
        stream: a `torch.cuda.Stream`, the same for all blocks of a run.
    """
    if stream is None:
        yield
        return
    outer = torch.cuda.current_stream(device)
    stream.wait_stream(outer)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:  # after an error too: what was put back is read on the other stream
        outer.wait_stream(stream)


def new_stream(device: torch.device) -> Any:
    """Return a stream for `side_stream`; None on a CPU."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None


def new_pool(device: torch.device) -> Any:
    """Return a pool of memory for graphs, which ends with the last of them; None on a CPU."""
    return torch.cuda.graph_pool_handle() if device.type == "cuda" else None


@contextmanager
def no_reading_back(device: torch.device) -> Iterator[None]:
    """Raise RuntimeError where the host waits for the device in the block: what a capture would end with, but whole."""
    if device.type != "cuda":
        yield
        return
    former = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(former)


def tried(
    step: Callable[[], None], tensors: Callable[[], Sequence[Tensor]], models: Sequence[nn.Module],
    device: torch.device, before: Callable[[int], None], pool: Any = None,
) -> Callable[[], None] | str:  # fmt: skip
    """Return the graph of a step, or in words why it has none; all that the step changes is as it was.

    Args:
        step: computes one step; it has run on the current stream before.
        tensors: returns all tensors that it changes, and those that it reads and others change.
        models: whose modules it calls.
        device: on which.
        before: called with 0, 1, ... before each step: sets the generators.
        pool: as in `captured`.
    """
    first, plain = tensors(), plain_state(models)
    start, hosts = [value.clone() for value in first], list[Tensor]()

    def computed(function: Callable[[], None]) -> list[Tensor]:
        for i in range(TRIAL_STEPS):
            before(i)
            hosts.append(torch.get_rng_state())
            function()
            hosts.append(torch.get_rng_state())
        return [value.clone() for value in tensors()]

    try:
        with no_reading_back(device):
            expected = computed(step)
        if [id(value) for value in tensors()] != [id(value) for value in first]:
            return "a module puts another tensor in the place of a buffer in each step"
        if plain_state(models) != plain:
            return "a module counts or remembers something outside of its buffers"
        # On a card this is a layer that is skipped by chance: two steps may well agree, and no replay would draw again.
        if device.type != "cpu" and not all(map(torch.equal, hosts[::2], hosts[1::2])):
            return "the model draws from the host's generator"
        _put_back(first, start)
        replay = captured(step, device, pool)
        _put_back(first, start)
        if not all(map(_same, computed(replay), expected)):
            return "its steps as a graph have other bits"
        return replay
    except RuntimeError as error:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    finally:
        _put_back(tensors(), start)
        modules = [module for model in models for module in model.modules()]
        for module, values in zip(modules, plain, strict=True):
            vars(module).update({name: value for name, value in values.items() if vars(module).get(name) != value})


def plain_state(models: Sequence[nn.Module]) -> list[dict[str, Any]]:
    """Return the attributes of all modules that are plain values, or lists, tuples, sets and dicts of such.

    >>> plain_state([nn.Dropout(0.5)])[0]["p"]
    0.5
    """
    return [
        {name: copy.deepcopy(value) for name, value in vars(module).items() if _is_plain(value)}
        for model in models
        for module in model.modules()
    ]


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return isinstance(value, _PLAIN) or (isinstance(value, list | tuple | set) and all(map(_is_plain, value)))


@torch.no_grad()
def _put_back(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have the same values, NaN where NaN."""
    return bool(((a == b) | ((a != a) & (b != b))).all())
