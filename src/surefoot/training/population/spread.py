"""Members spread over processes of this machine, each with one thread.

The processes are forks, so models and data are there without being sent. A child works on its own copy of the states
and sends the last ones through a pipe as a checkpoint has them, safetensors and JSON. Nothing is unpickled. A child
that dies costs time, not members: the parent still has its states as they were.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from surefoot.record.run import Row
from surefoot.training.checkpoint import restore, scalars_of, tensor_bytes, tensors_beside_model
from surefoot.training.population.member import Member
from surefoot.training.state import State, has_extra_state

Advance = Callable[[Sequence[Member], Sequence[State], int], list[list[Row]]]
"""(members, states, until_step) -> the new rows; changes the states."""


def possible(member: Member) -> bool:
    """Return whether members like this one can be computed in forks: CUDA cannot, nor can extra state come back."""
    plain = not has_extra_state(member.task.template)
    return plain and member.task.machine.device.type == "cpu" and hasattr(os, "fork")


def advance_spread(
    shares: Sequence[tuple[Sequence[Member], Sequence[State]]], until_step: int, advance: Advance
) -> list[list[list[Row]] | None]:
    """Advance each share of members in a fork of its own, changing their states, and return the new rows of each share.

    None stands for those of a fork that died: all of its members is as it was.

    Args:
        shares: members and states, the members' machine with one thread.
        until_step: as for `advance`.
        advance: how each process computes its share.
    """
    children = [_Child(members, states, until_step, advance) for members, states in shares]
    try:
        return [child.result() for child in children]
    finally:
        for child in children:
            child.end()


class _Child:
    """A forked process that advances some members."""

    def __init__(self, members: Sequence[Member], states: Sequence[State], until_step: int, advance: Advance) -> None:
        self.states = states
        mine, theirs = Pipe(duplex=False)
        self.pipe = mine
        with warnings.catch_warnings():
            # Python 3.12 warns that forks of threaded programs may deadlock on a lock that another thread holds. The
            # child takes none: it computes with one thread, prints nothing and ends by _exit.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            mine.close()
            _work(theirs, members, states, until_step, advance)
        theirs.close()

    def result(self) -> list[list[Row]] | None:
        """Bring the child's states home and return its rows; None where it died or failed."""
        try:
            found, tensors = json.loads(self.pipe.recv_bytes()), safetensors.torch.load(self.pipe.recv_bytes())
        except (EOFError, OSError, ValueError, safetensors.SafetensorError):
            return None
        for i, (state, plain) in enumerate(zip(self.states, found, strict=True)):
            weights, others = (
                {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith(f"{kind}{i}/")}
                for kind in "wo"
            )
            restore(state, plain["state"], weights, others, "a fork's state")
        return [[_row(row) for row in plain["rows"]] for plain in found]

    def end(self) -> None:
        """Make sure that the process is gone."""
        self.pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _row(plain: dict[str, Any]) -> Row:
    layers = {name: (grad_norm, ratio) for name, (grad_norm, ratio) in plain["layers"].items()}
    return Row(**{**plain, "losses": tuple(plain["losses"]), "layers": layers})


def _work(pipe: Any, members: Sequence[Member], states: Sequence[State], until_step: int, advance: Advance) -> None:
    """The child's life; it never returns."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and ends us
        torch.set_num_threads(1)
        # The compiler's helpers were not forked with us, and waiting for them would never end. So fail: the parent
        # computes these members itself. Where it is not loaded nothing compiles, and asking would load it.
        if "torch._dynamo" in sys.modules:
            torch.compiler.set_stance("fail_on_recompile")
        rows = advance(members, states, until_step)
        found = [{"state": scalars_of(state), "rows": [dataclasses.asdict(row) for row in seen]}
                 for state, seen in zip(states, rows, strict=True)]  # fmt: skip
        tensors: dict[str, Tensor] = {}
        for i, state in enumerate(states):
            tensors |= {f"w{i}/{name}": value for name, value in state.model.state_dict().items()}
            tensors |= {f"o{i}/{name}": value for name, value in tensors_beside_model(state).items()}
        pipe.send_bytes(json.dumps(found).encode())
        pipe.send_bytes(tensor_bytes(tensors))
        code = 0
    finally:
        os._exit(code)  # no handler, test or buffer of the parent's runs twice


def with_one_thread(member: Member) -> Member:
    """Return the member as it is computed beside others: the same bits in a fork and here."""
    place = dataclasses.replace(member.task.machine, threads=1)
    return Member(dataclasses.replace(member.task, machine=place), member.plan)
