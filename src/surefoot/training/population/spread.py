"""Members spread over processes of this machine, each with one thread.

The processes are forks, so models and data are there without being sent. A child works on its own copy of the states
and writes the last ones into memory that it shares with the parent; rows and outcomes come as JSON through a pipe.
Nothing is unpickled. A child that dies costs time, not members: the parent still has its states as they were.
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

import torch
from torch import Tensor

from surefoot.record.run import Outcome, Row
from surefoot.training.population.member import Member
from surefoot.training.state import State, Tally, trainable

Advance = Callable[[Sequence[Member], Sequence[State], int], list[list[Row]]]
"""(members, states, until_step) -> the new rows; changes the states."""


def possible(member: Member) -> bool:
    """Return whether members like this one can be computed in forks: CUDA cannot."""
    return member.task.machine.device.type == "cpu" and hasattr(os, "fork")


def advance_spread(
    shares: Sequence[tuple[Sequence[Member], Sequence[State]]], until_step: int, advance: Advance
) -> list[list[list[Row]]]:
    """Advance each share of members in a fork of its own, changing their states, and return the new rows of each share.

    Args:
        shares: members and states, the members' machine with one thread.
        until_step: as for `advance`.
        advance: how each process computes its share.
    """
    rows: list[list[list[Row]]] = []
    children = [_Child(members, states, until_step, advance) for members, states in shares]
    try:
        for (members, states), child in zip(shares, children, strict=True):
            found = child.result()
            rows.append(advance(members, states, until_step) if found is None else found)  # it died: all is as it was
    finally:
        for child in children:
            child.end()
    return rows


class _Child:
    """A forked process that advances some members."""

    def __init__(self, members: Sequence[Member], states: Sequence[State], until_step: int, advance: Advance) -> None:
        self.states = states
        self.outbox = [_outbox(member, state) for member, state in zip(members, states, strict=True)]
        mine, theirs = Pipe(duplex=False)
        self.pipe = mine
        with warnings.catch_warnings():
            # Python 3.12 warns that forks of threaded programs may deadlock on a lock that another thread holds. The
            # child takes none: it computes with one thread, prints nothing and ends by _exit.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            mine.close()
            _work(theirs, self.outbox, members, states, until_step, advance)
        theirs.close()

    def result(self) -> list[list[Row]] | None:
        """Bring the child's states home and return its rows; None where it died or failed."""
        try:
            found = json.loads(self.pipe.recv_bytes())
        except (EOFError, OSError, ValueError):
            return None
        rows = []
        for state, box, plain in zip(self.states, self.outbox, found, strict=True):
            _unpack(state, box, plain)
            rows.append([_row(row) for row in plain["rows"]])
        return rows

    def end(self) -> None:
        """Make sure that the process is gone."""
        self.pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _row(plain: dict[str, Any]) -> Row:
    layers = {name: (grad_norm, ratio) for name, (grad_norm, ratio) in plain["layers"].items()}
    return Row(**{**plain, "losses": tuple(plain["losses"]), "layers": layers})


def _work(
    pipe: Any, outbox: list[dict[str, Tensor]], members: Sequence[Member], states: Sequence[State],
    until_step: int, advance: Advance,
) -> None:  # fmt: skip
    """The child's life; it never returns."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and ends us
        torch.set_num_threads(1)
        # The compiler's helpers were not forked with us, and waiting for them would never end. So fail: the parent
        # computes these members itself.
        if (
            "torch._dynamo" in sys.modules
        ):  # asking would load it: a second in each fork, and without it nothing compiles
            torch.compiler.set_stance("fail_on_recompile")
        rows = advance(members, states, until_step)
        for state, box in zip(states, outbox, strict=True):
            for name, value in _packed(state).items():
                box[name].copy_(value)
        found = [{**_plain(state), "rows": [dataclasses.asdict(row) for row in own]}
                 for state, own in zip(states, rows, strict=True)]  # fmt: skip
        pipe.send_bytes(json.dumps(found).encode())
        code = 0
    finally:
        os._exit(code)  # no handler, test or buffer of the parent's runs twice


def with_one_thread(member: Member) -> Member:
    """Return the member as it is computed beside others: the same bits in a fork and here."""
    place = dataclasses.replace(member.task.machine, threads=1)
    return Member(dataclasses.replace(member.task, machine=place), member.plan)


def _packed(state: State) -> dict[str, Tensor]:
    """Return all tensors of a state by name."""
    found = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    found |= {f"velocity/{i}": value for i, value in enumerate(state.velocity or [])}
    return found | {f"average/{name}": value for name, value in (state.average or {}).items()}


def _outbox(member: Member, state: State) -> dict[str, Tensor]:
    """Return shared memory for all tensors that the state will have."""
    boxes = {name: torch.empty_like(value) for name, value in _packed(state).items()}
    if member.plan.recipe.momentum > 0:
        for i, value in enumerate(trainable(state.model).values()):
            boxes.setdefault(f"velocity/{i}", torch.zeros_like(value.data))
    return {name: box.detach().share_memory_() for name, box in boxes.items()}


def _plain(state: State) -> dict[str, Any]:
    return {
        "step": state.step,
        "tally": dataclasses.asdict(state.tally),
        "val_losses": state.val_losses,
        "seconds": state.seconds,
        "outcome": None if state.outcome is None else dataclasses.asdict(state.outcome),
        "velocity": state.velocity is not None,
    }


def _unpack(state: State, box: dict[str, Tensor], plain: dict[str, Any]) -> None:
    own = state.model.state_dict()
    for name, value in own.items():
        value.copy_(box[f"model/{name}"])
    if plain["velocity"]:
        state.velocity = [box[f"velocity/{i}"].clone() for i in range(len(trainable(state.model)))]
    if state.average is not None:
        state.average = {name: box[f"average/{name}"].clone() for name in state.average}
    state.step, state.seconds, state.val_losses = plain["step"], plain["seconds"], plain["val_losses"]
    state.tally = Tally(**plain["tally"])
    state.outcome = None if plain["outcome"] is None else Outcome(**plain["outcome"])
