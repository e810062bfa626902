"""A row is what was seen at a step, an outcome is how a run ended, a record is the whole run; rows lie in `METRICS`."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from surefoot.record.lines import append_lines, plain, read_lines, truncate_lines
from surefoot.record.store import METRICS

CLOCK_FIELDS = ("seconds", "examples_per_second")
"""The fields of a row that a clock wrote. All others are the same in every repetition of a run."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was seen between the row before and this step.

    Attributes:
        step: updates done so far, counted from 1.
        epoch: passes over the training part done so far, step / steps per epoch.
        examples: training examples processed so far.
        lr: learning rate of this step's update.
        train_loss: mean loss over the training batches since the last row, in training mode, as augmented.
        train_accuracy: share of those examples classified right; None for regression.
        val_loss: mean loss over the validation part after this step, in evaluation mode; None without one.
        val_accuracy: share of the validation part classified right; None for regression or without one.
        grad_norm: mean over the steps since the last row of the L2 norm of the gradient, before clipping.
        update_ratio: L2 norm of this step's update / L2 norm of the weights before it. About 1e-3 is
            healthy (CS231n notes, "Ratio of weights:updates").
        losses: mini-batch losses since the last row, evenly thinned to at most 100.
        seconds: training time so far: steps and validation, without start-up and the saving of checkpoints.
        examples_per_second: training examples / seconds of training steps, since the last row.
        layers: of each weight of at least two dimensions, by its name without ".weight": the L2 norm of this step's
            gradient before clipping, and the L2 norm of its update / that of the weight before it, NaN for a weight
            of zeros.
        metrics: of the validation part after this step by name, in the unit of the targets; NaN where one is not
            defined.
    """

    step: int
    epoch: float
    examples: int
    lr: float
    train_loss: float
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    grad_norm: float
    update_ratio: float
    losses: tuple[float, ...]
    seconds: float
    examples_per_second: float
    layers: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values. A value that is not finite becomes None, which JSON can hold."""
        return plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Row:
        """Return the row that `to_dict` wrote; a loss that was not finite comes back as NaN."""
        fields = dict(values)
        fields["losses"] = tuple(_number(v) for v in fields["losses"])
        layers = fields.get("layers", {})  # rows of older versions have none
        fields["layers"] = {name: (_number(grad), _number(ratio)) for name, (grad, ratio) in layers.items()}
        fields["metrics"] = {name: _number(value) for name, value in fields.get("metrics", {}).items()}
        for name in ("train_loss", "grad_norm", "update_ratio"):
            fields[name] = _number(fields[name])
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended, in the sentence that the user reads.

    Attributes:
        kind: "finished": all steps of the plan were done. "diverged": the loss or the gradient stopped being
            finite. "interrupted": stopped from outside; it can go on.
        step: updates done.
        reason: one sentence.
    """

    kind: Literal["finished", "diverged", "interrupted"]
    step: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """A whole run as plain data.

    Attributes:
        rows: what was seen, oldest first.
        outcome: how it ended.
        computed: how its steps were computed: "loop", "compiled", "graph" on a card, or how it shared them with others
            of a population; with the reason where a card could not.
    """

    rows: tuple[Row, ...]
    outcome: Outcome
    computed: str = "loop"

    @property
    def last(self) -> Row | None:
        """The last row, or None when the run ended before its first one."""
        return self.rows[-1] if self.rows else None


_WANTED = "a row of metrics"


def append_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Add rows to the metrics of the run in a folder."""
    append_lines(folder / METRICS, [row.to_dict() for row in rows])


def flush_rows(folder: Path) -> None:
    """Make the metrics durable, so that no checkpoint outlives the rows before it."""
    with (folder / METRICS).open("a") as file:
        os.fsync(file.fileno())


def read_rows(folder: Path) -> tuple[Row, ...]:
    """Return the rows of a run; see `read_lines` for a damaged file."""
    return tuple(read_lines(folder / METRICS, Row.from_dict, _WANTED))


def truncate_rows(folder: Path, until_step: int) -> tuple[Row, ...]:
    """Drop the rows after a step, which a run that goes on from there will write again, and return the others."""
    return tuple(truncate_lines(folder / METRICS, Row.from_dict, until_step))


def _number(value: Any) -> Any:
    return math.nan if value is None else value
