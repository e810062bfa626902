"""A run on disk in progress: `Run.advance` trains, `Run.finish` writes the result."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from surefoot.config import Config
from surefoot.optim.plan import Plan
from surefoot.record import store
from surefoot.record.choosing import stopped_early
from surefoot.record.measures import is_better, number_of, words
from surefoot.record.progress import Progress, ProgressFile
from surefoot.record.run import Outcome, Record, Row, append_rows, flush_rows
from surefoot.seeds import torch_stream
from surefoot.switches import usual_switches
from surefoot.training import checkpoint
from surefoot.training.baseline import baseline_of
from surefoot.training.call import called
from surefoot.training.compiled import Compiled
from surefoot.training.evaluate import (
    Evaluation,
    answer_counts,
    ends_in_probabilities,
    evaluate_part,
    judged_part,
    may_be_scored,
    write_answers,
    write_scored,
)
from surefoot.training.figures import figures_of, reached
from surefoot.training.loop import advance, start
from surefoot.training.population.workload import compiles_alone
from surefoot.training.preprocessed import Preprocessed, Preprocessing
from surefoot.training.state import Snapshot, State, lost_on_resume
from surefoot.training.task import Task
from surefoot.training.test_time import with_views
from surefoot.training.weights import save_weights

_SLICE_SECONDS = 0.25
"""How long one `Run.advance` trains, about: long beside its own cost, short beside a person's patience."""


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        summary: what it came to: result.json.
        record: all that was seen.
        config: all settings.
        model: takes raw inputs, and gives logits or numbers in the unit of the targets; `model.net` is the module that
            was trained.
        folder: on disk.
        notes: what is to be said of how it was opened.
        functions: of the task: "forward", "loss" and "loss_fn", None where there is none.
    """

    summary: dict[str, Any]
    record: Record
    config: Config
    model: Preprocessed
    folder: Path
    notes: tuple[str, ...] = ()
    functions: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """A run in progress. Made by `open_run`; close it (or use `with`) to free its folder.

    `origin` says from which run's weights it started, as `started_from` in its result; None for fresh ones.
    """

    folder: Path
    config: Config
    task: Task
    plan: Plan
    state: State
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    origin: dict[str, Any] | None = None
    _lock: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _saved_at: float = field(default_factory=time.monotonic)
    _step_seconds: float = 0.0
    _long: bool | None = None
    _progress: ProgressFile | None = None

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.state.outcome is not None

    @usual_switches
    def advance(self, steps: int | None = None) -> list[Row]:
        """Train a little, record the new rows, checkpoint when due, and return the rows.

        Args:
            steps: updates to do; None for about a quarter of a second's worth, but not past the next row.
        """
        if self._long is None:
            self._long = compiles_alone(self.task, self.plan)
        if self._long and not isinstance(self.state.stepper, Compiled) and self.state.micro_batch_size is None:
            self.state.stepper = Compiled(self.task, self.plan, self.state)
        slice_steps = max(1, int(_SLICE_SECONDS / self._step_seconds)) if self._step_seconds else 1
        before, began, pieces = self.state.step, time.perf_counter(), self.state.micro_batch_size
        until, rows = before + (slice_steps if steps is None else steps), list[Row]()
        while not self.done and self.state.step < until and not (rows and steps is None):
            next_row = next((step for step in self.plan.row_steps if step > self.state.step), self.plan.steps)
            self.state, new = advance(self.task, self.plan, self.state, min(until, next_row))
            for row in new:
                self._look_at(row)
            rows += new
        taken = self.state.step - before
        self._step_seconds = (time.perf_counter() - began) / taken if taken else self._step_seconds
        append_rows(self.folder, rows)
        self._progress = self._progress or ProgressFile(self.folder)
        if self._progress.due:
            self._progress.write(self.now)
        shrunk = self.state.micro_batch_size != pieces
        if shrunk:
            self.notes.append(_said_of_pieces(self))
        if not self.done and (shrunk or time.monotonic() - self._saved_at >= self.config.checkpoint_seconds):
            self.save()  # at once after memory ran out, so that the run goes on in these pieces whoever resumes it
        return rows

    def _look_at(self, row: Row) -> None:
        """Take in a new row: keep the weights if they are the best so far, and end the run if it is to stop."""
        self.rows.append(row)
        config, state = self.config, self.state
        value = number_of(row, config.chosen_by)
        if value is not None and (state.best is None or is_better(value, state.best.value, config.chosen_by)):
            state.best = Snapshot.of(state, value)
        if value is None and config.choose_by is not None and len(self.rows) == 1:
            self.notes.append(
                f"{words(config.chosen_by)} is not defined at step {row.step}, as where a class has no example: "
                "only rows that have it choose weights or stop the run; give more validation data or another choose_by"
            )
        if config.early_stopping_epochs is not None and state.outcome is None:
            delta = config.early_stopping_min_delta or 0.0
            why = stopped_early(self.rows, config.chosen_by, config.early_stopping_epochs, delta, self.plan.steps)
            if why is not None:
                state.outcome = Outcome(kind="finished", step=state.step, reason=why)

    @property
    def now(self) -> Progress:
        """How far the run is."""
        done, planned, seconds = self.state.step, self.plan.steps, self.state.seconds
        return Progress(
            phase="training", steps_done=done, steps_planned=planned, seconds=seconds,
            examples_per_second=self.plan.batch_size / self._step_seconds if self._step_seconds else None,
            seconds_left=seconds / done * (planned - done) if done else None,
        )  # fmt: skip

    def save(self) -> Path | None:
        """Write a checkpoint, unless the run diverges: the last finite one is then kept."""
        self._saved_at = time.monotonic()
        diverged = self.state.outcome is not None and self.state.outcome.kind == "diverged"
        if diverged or not self.state.is_finite(self.task.template):
            return None
        flush_rows(self.folder)
        self.notes += [note for note in lost_on_resume(self.state.model) if note not in self.notes]
        return checkpoint.save(self.folder, self.task, self.state)

    @usual_switches
    def finish(self) -> Result:
        """Write the last checkpoint, the weights and the result, and return it. The test part is used here, once."""
        assert self.state.outcome is not None, "finish comes after the last advance"
        self.save()
        outcome = self.state.outcome
        kept = self.state
        if outcome.kind == "diverged":
            earlier, notes = checkpoint.load_newest(self.folder, self.task, self.plan.recipe)
            self.notes += notes
            kept = earlier or start(self.task, self.plan)
        used, other = self._final_weights(kept)
        kept = dataclasses.replace(kept, step=used[1].step, average=None)
        used[1].put_into_(kept.model)
        name, part = judged_part(self.task)
        with self.task.machine.computing(), torch_stream(self.task.seed, "test"):
            outputs: list[tuple[torch.Tensor, torch.Tensor]] | None = [] if may_be_scored(self.task) else None
            judged = None
            counts = None if part is None else answer_counts(self.task, len(part))
            if part is not None:
                judged = evaluate_part(
                    self.task, kept.model, kept.weights, part, outputs, metrics=name == "test", counts=counts
                )
            of_views, viewed = None, with_views(self.task, self.config.tta)
            if part is not None and viewed is not self.task:
                of_views = evaluate_part(viewed, kept.model, kept.weights, part, metrics=name == "test")
            probable = ends_in_probabilities(self.task, kept.model, kept.weights)
        about = Preprocessing.of(self.task.data, loss_name=self.task.loss_name, probabilities=probable)
        beside = None
        if outputs and part is not None:
            answers = Preprocessed(nn.Identity(), about).answers(torch.cat([each for each, _ in outputs]))
            write_scored(self.folder, self.task, name, part, [(answers, part.y.cpu())])
            beside = baseline_of(self.task, name, part, [(answers, part.y.cpu())])
        if counts is not None and judged is not None and part is not None:
            write_answers(self.folder, self.task, name, part, counts, judged)
            beside = counts.baseline(name)
        save_weights(self.folder, self.config, self.task, used, other, about)
        files = store.digests(self.folder, store.SEALED)
        summary = _summary(self, used, judged if name == "test" else None)
        summary["tta"] = None if of_views is None else _of_views(self.config.tta, name, of_views)
        summary |= {"baseline": None if beside is None else beside.to_dict(), "files": files}
        summary = store.write_sealed(self.folder / store.RESULT, summary)
        ProgressFile(self.folder).remove()
        record = Record(rows=tuple(self.rows), outcome=outcome)
        whole = Preprocessed(kept.model, about, self.task.forward or called).to(self.task.machine.device).eval()
        functions = {name: getattr(self.task, name) for name in ("forward", "loss", "loss_fn")}
        return Result(summary, record, self.config, whole, self.folder, tuple(self.notes), functions)

    def _final_weights(self, kept: State) -> tuple[tuple[str, Snapshot], tuple[str, Snapshot] | None]:
        """Return which weights are used, with their name, and the others where they are of another step."""
        last, best = ("last", Snapshot.of(kept)), self.state.best
        if best is None:
            return last, None
        used, other = last, ("best", best)
        if self.config.used_weights == "best":
            used, other = other, used
        return used, None if best.step == kept.step else other

    def close(self) -> None:
        """Free the run's folder for other processes."""
        self._lock.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _said_of_pieces(run: Run) -> str:
    """Return what is to be said once a step ran out of memory."""
    size = run.state.micro_batch_size
    norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in run.state.model.modules())
    beside = "; batch norm sees one piece at a time" if norm else ""
    return (
        f"out of memory: from about step {run.state.step} on, a batch of {run.plan.batch_size} is computed in pieces "
        f"of at most {size}, whose gradients add up to its own{beside}; micro_batch_size = {size} does so at once"
    )


def _summary(run: Run, used: tuple[str, Snapshot], test: Evaluation | None) -> dict[str, Any]:
    work, state, best = run.task, run.state, run.state.best
    assert state.outcome is not None
    outcome, name = state.outcome, run.config.chosen_by
    last = run.rows[-1] if run.rows else None
    if used[0] == "best":
        last = next((row for row in run.rows if row.step == used[1].step), last)
    pieces = state.micro_batch_size or run.config.recipe.micro_batch_size
    return {
        "schema": store.SCHEMA,
        "run": run.folder.name,
        "folder": str(run.folder),
        "outcome": outcome.kind,
        "reason": outcome.reason,
        "test_accuracy": test.accuracy if test else None,
        "test_loss": _finite(test.loss) if test else None,
        "test_examples": test.examples if test else None,
        "test_metrics": _finite_ones(test.metrics) if test else {},
        "val_accuracy": last.val_accuracy if last else None,
        "val_loss": _finite(last.val_loss) if last else None,
        "val_metrics": _finite_ones(last.metrics) if last else {},
        "val_examples": len(work.data.validation) if work.data.validation is not None else None,
        "train_accuracy": last.train_accuracy if last else None,
        "train_loss": _finite(last.train_loss) if last else None,
        "train_seconds": state.seconds,
        "epochs": state.step / run.plan.steps_per_epoch,
        "steps": state.step,
        "planned_steps": run.plan.steps,
        "weights": used[0],
        "weights_from_step": used[1].step,
        "best": None if best is None else {"step": best.step, "metric": name, "value": best.value},
        "micro_batch_size": min(pieces, run.plan.batch_size),
        "computed": state.computed,
        "started_from": run.origin,
        "examples_per_second": last.examples_per_second if last else None,
        "reached": _reached(run),
        "parameters": sum(parameter.numel() for parameter in state.model.parameters()),
        "data": run.config.data,
        "model": run.config.model,
        "seed": run.config.seed,
        "device": str(work.machine.device),
        "precision": work.machine.precision,
        "threads": work.machine.threads,
        "torch": torch.__version__,
    }


def _of_views(tta: str, part: str, seen: Evaluation) -> dict[str, Any]:
    return {
        "tta": tta, "part": part, "accuracy": seen.accuracy, "loss": _finite(seen.loss), "examples": seen.examples,
        "metrics": _finite_ones(seen.metrics),
    }  # fmt: skip


def _reached(run: Run) -> dict[str, Any] | None:
    """Return which share of the machine a step reached, by the median of the rows' rates."""
    rates = [row.examples_per_second for row in run.rows if row.examples_per_second > 0]
    figures = figures_of(run.task.machine.device)[0]
    if not rates or figures is None:
        return None
    return reached(run.task, run.plan, run.plan.batch_size / statistics.median(rates), figures)


def _finite_ones(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in metrics.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
