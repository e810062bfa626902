"""Carrying out the moves of a search in this process: measuring, and training trials, long ones saved on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import statistics
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from surefoot.config import Recipe, Schedule
from surefoot.models.build import Factory
from surefoot.optim.plan import plan
from surefoot.record import store
from surefoot.record.decision import Decision, cost_in_examples
from surefoot.record.progress import Progress, within
from surefoot.record.run import Row
from surefoot.record.trial import Trial, TrialResult
from surefoot.search.budget import StepTime
from surefoot.search.decide import bracket_of_short_runs
from surefoot.search.journal import Journal
from surefoot.search.moves import BracketRates, Check, ChooseBatchSize, Measurement, TimeStep, Train
from surefoot.steps.batch_size.choose import BatchSizeSearch, choosing_batch_size
from surefoot.steps.follow import follow
from surefoot.steps.initial_loss.check import check_initial_loss, initial_loss_examples
from surefoot.steps.lr_range.find_lr import LrSearch, searching
from surefoot.steps.overfit.check import overfit_examples, overfitting_sample
from surefoot.steps.wiring.check import check_wiring, light_examples
from surefoot.training import checkpoint
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import advance, start
from surefoot.training.make import reseeded
from surefoot.training.population.engine import Engine
from surefoot.training.population.member import Member
from surefoot.training.state import State
from surefoot.training.task import Task

SAVE_SECONDS = 30.0
"""Trials that have been computed for so long since they were last saved are saved. Chosen by hand."""
AT_ONCE = 64
"""Trials trained at once at most: states take memory. Chosen by hand."""
_STAGES = {"coarse-grid": "step 4, coarse grid", "refine": "step 5, refine", "schedule": "step 5, schedule"}
_WARM_UP = 3
_ROUNDS = 5
_STEPS_EACH = 4
"""Steps of a round; the median over rounds leaves a disturbance out. Chosen by hand, as the two above."""
_LONGEST_SECONDS = 5.0
"""No round is begun after this."""


@dataclass(frozen=True)
class Executor:
    """What is needed to carry out a move.

    Attributes:
        task: what is learned; it has a validation part.
        model: as the user gave it, for the steps before training.
        journal: gets what a move comes to, each trial as soon as it has ended.
        engine: computes the trials.
        choose_by: the number that says which trial is better, as in `Config`.
    """

    task: Task
    model: str | nn.Module | Factory
    journal: Journal
    engine: Engine
    choose_by: str | None = None

    def carry_out(self, move: TimeStep | Measurement | Train) -> Generator[Progress, None, None]:
        """Carry out a move, a piece at a time. Closed before its end, it saves what is being trained."""
        match move:
            case TimeStep(recipe):
                yield Progress(0, 1, "timing a step")
                made = plan(recipe, self.task.data.examples)
                self.journal.time(made.batch_size, step_time(self.task, recipe))
            case Train(stage, trials):
                work = train_trials(self.task, trials, self.journal, self.engine, self.choose_by)
                yield from within(_STAGES[stage], work)
            case _:
                decision = yield from self._measured(move)
                evidence = {**decision.evidence, "cost_examples": _cost(decision)}
                self.journal.decide(dataclasses.replace(decision, evidence=evidence))

    def _measured(self, move: Measurement) -> Generator[Progress, None, Decision]:
        task, engine = self.task, self.engine
        match move:
            case Check("overfit-sample"):
                most, rule = move.most_examples, move.recipe.rule
                work = overfitting_sample(task, rule=rule, most_examples=most, engine=engine)
                return (yield from within("step 2: overfit a sample", work))
            case Check():
                place, most = task.machine, move.most_examples
                where: dict[str, Any] = {
                    "loss": task.loss or task.loss_name, "forward": task.forward, "loss_fn": task.loss_fn,
                    "seed": task.seed, "device": str(place.device), "precision": place.precision,
                    "threads": place.threads, "most_examples": most,
                }  # fmt: skip
                if move.name == "wiring":
                    yield Progress(0, 1, "step 0: wiring")
                    return check_wiring(self.model, task.data, engine=engine, **where)
                yield Progress(0, 1, "step 1: initial loss")
                decay = move.recipe.weight_decay
                return check_initial_loss(self.model, task.data, weight_decay=decay, **where)
            case BracketRates(recipe):
                fine = move.points_per_decade > 2
                low, high = recipe.update_rule.lr_range
                wanted = LrSearch(
                    low=low if fine else 10 * low, high=high if fine else 10 * high,
                    points_per_decade=move.points_per_decade, steps=move.steps, seeds=move.seeds,
                    range_test=move.seeds > 1, most_updates=move.most_updates,
                )  # fmt: skip
                made = yield from within("step 3, learning rate", searching(task, recipe, wanted, engine))
                return bracket_of_short_runs(made)
            case ChooseBatchSize(recipe, probe_steps):
                wanted = BatchSizeSearch(probe_steps=probe_steps)
                return (yield from within("step 3, batch size", choosing_batch_size(task, recipe, wanted)))


def _cost(decision: Decision) -> int:
    """Return what a measurement has cost, in training examples: what it counted in its evidence.

    The choice of the batch size does not count: about its run, as many to measure, timings and races.
    """
    evidence = decision.evidence
    if decision.name != "batch-size":
        return cost_in_examples(evidence.get("trained_examples", 0), evidence.get("evaluated_examples", 0))
    raced = sum(race["batch_size"] * (race["reached"] or race["limit"]) for race in evidence["races"])
    timed = sum(size["batch_size"] * len(size["step_seconds"]) for size in evidence["sizes"])
    return 2 * int(evidence["steps"]) * int(evidence["batch_size"]) + timed + raced


def check_examples(task: Task) -> dict[str, int]:
    """Return what steps 0 to 2 take at least, by the name of their decision, in training examples."""
    return {
        "wiring": light_examples(task), "initial-loss": initial_loss_examples(task),
        "overfit-sample": overfit_examples(task),
    }  # fmt: skip


def step_time(task: Task, recipe: Recipe) -> StepTime:
    """Measure what a step and a validation take, on a copy of the model; nothing is kept of it.

    Args:
        task: what is trained.
        recipe: its batch size and rule decide; its length and schedule do not.
    """
    steps = _WARM_UP + _ROUNDS * _STEPS_EACH
    constant = Schedule(kind="constant")
    slow = dataclasses.replace(recipe, lr=min(recipe.lr, 1e-3), epochs=None, steps=steps, schedule=constant)
    made = dataclasses.replace(plan(slow, task.data.examples), row_steps=(steps + 1,))
    state = start(task, made)
    began = time.perf_counter()
    state, _ = advance(task, made, state, _WARM_UP)
    rounds = list[float]()
    while state.outcome is None and (not rounds or time.perf_counter() - began < _LONGEST_SECONDS):
        since = time.perf_counter()
        state, _ = advance(task, made, state, state.step + _STEPS_EACH)
        rounds.append((time.perf_counter() - since) / _STEPS_EACH)
    since = time.perf_counter()
    assert task.data.validation is not None
    with task.machine.computing():
        evaluate_part(task, state.model, state.weights, task.data.validation)
    return StepTime(statistics.median(rounds), time.perf_counter() - since)


def train_trials(
    task: Task, trials: Sequence[Trial], journal: Journal, engine: Engine, choose_by: str | None = None
) -> Generator[Progress, None, None]:
    """Train those trials that the journal lacks, as many as are alike at once.

    Args:
        task: what is learned; repetition s of a trial has the task's seed + s.
        trials: to be trained, on all training data.
        journal: gets each trial as soon as it has ended. Trials in progress lie in its folder, and go on from there.
        engine: computes the steps.
        choose_by: the number that says which trial is better.

    Yields:
        progress in updates, of those that are trained now.
    """
    results = journal.history.results
    missing = list({trial.key: trial for trial in trials if trial.key not in results}.values())
    done, planned = 0, sum(trial.recipe.steps or 0 for trial in missing)
    tasks = {seed: reseeded(task, task.seed + seed) if seed else task for seed in {trial.seed for trial in missing}}
    # The short ones first: a search that is stopped has then kept most of them.
    missing.sort(key=lambda trial: (trial.recipe.steps or 0, trial.recipe.batch_size))
    for length in sorted({trial.recipe.steps or 0 for trial in missing}):
        alike = [trial for trial in missing if trial.recipe.steps == length]
        for first in range(0, len(alike), AT_ONCE):
            together = [_Run(trial, tasks[trial.seed], journal, choose_by) for trial in alike[first : first + AT_ONCE]]
            with contextlib.closing(_together(together, journal, engine)) as work:
                for steps, alive in work:
                    done += steps
                    yield Progress(done, planned, f"{len(alike)} runs of {length:,} steps", len(together), alive)


def _together(runs: Sequence[_Run], journal: Journal, engine: Engine) -> Generator[tuple[int, int], None, None]:
    """Train trials of one length and keep them, yielding for each piece of work its updates and the trials alive."""
    members = [run.member for run in runs]
    seconds, saved, since = 0.0, time.perf_counter(), time.perf_counter()
    for look in follow(members, [members[0].plan.steps], engine, [run.resumed() for run in runs]):
        seconds += time.perf_counter() - since
        if not look.alive:
            ended = zip(runs, look.states, look.rows, engine.computed(members), strict=True)
            journal.keep(run.result(state, rows, seconds / len(runs), how) for run, state, rows, how in ended)
            for run in runs:
                run.discard()
        due = time.perf_counter() - saved > SAVE_SECONDS
        try:
            yield look.steps, look.alive
        except GeneratorExit:  # whoever runs the search stops it here
            due = True
            raise
        finally:
            if due:
                for run, state in zip(runs, look.states, strict=True):
                    run.save(state)
                saved = time.perf_counter()
        since = time.perf_counter()


class _Run:
    """A trial in progress, with its place on disk while it is."""

    def __init__(self, trial: Trial, task: Task, journal: Journal, choose_by: str | None) -> None:
        self.trial, self.choose_by = trial, choose_by
        made = plan(trial.recipe, task.data.examples)
        # One row, at its end: nobody looks at others, and each would validate.
        self.member = Member(task, dataclasses.replace(made, row_steps=(made.steps,)))
        self.folder = None if journal.folder is None else journal.folder / store.MEMBERS / trial.key

    def resumed(self) -> State:
        """Return the state that was saved last, or else that before the first step."""
        task, state = self.member.task, None
        if self.folder is not None and self.folder.is_dir():
            state, _ = checkpoint.load_newest(self.folder, task, self.trial.recipe)
        return state or start(task, self.member.plan)

    def save(self, state: State) -> None:
        """Save a state that can go on."""
        if self.folder is not None and state.outcome is None and state.is_finite(self.member.task.template):
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.save(self.folder, self.member.task, state)

    def discard(self) -> None:
        """Remove what was saved: the trial has ended."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def result(self, state: State, rows: Sequence[Row], seconds: float, computed: str) -> TrialResult:
        """Return what came of the trial."""
        assert state.outcome is not None
        last = rows[-1] if rows and state.outcome.kind == "finished" else None
        return TrialResult(
            trial=self.trial,
            outcome=state.outcome.kind,
            examples=state.step * self.member.plan.batch_size,
            train_loss=last.train_loss if last else None,
            val_loss=last.val_loss if last else None,
            val_accuracy=last.val_accuracy if last else None,
            seconds=seconds,
            computed=computed,
            metrics=last.metrics if last else {},
            chosen_by=self.choose_by,
        )
