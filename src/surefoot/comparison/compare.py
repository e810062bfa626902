"""Update rules on one problem from one start: fair rates by one search, runs over several seeds, what they show."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from surefoot.comparison.direction import averaging_of, directions_of
from surefoot.comparison.judge import LIMITS, judge, steps_to, target_loss
from surefoot.comparison.landscape import slice_of
from surefoot.comparison.rules import RULES, USUAL_BATCH, Rule, parse_rules, reference_rule
from surefoot.comparison.runs import RuleRuns, Runs, Searched, part_of
from surefoot.comparison.surfaces import SURFACES
from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.models.build import Factory
from surefoot.optim.plan import batch_size_of
from surefoot.record.comparison import Comparison, DirectionNoise, RuleResult, SurfaceResult
from surefoot.record.progress import Progress, finished
from surefoot.settings import to_dict
from surefoot.steps.batch_size.measure import ROUNDS, StepTimer
from surefoot.steps.batch_size.noise import has_batch_norm
from surefoot.steps.lr_range.judge import check_grid
from surefoot.steps.probe import probe_task
from surefoot.steps.untouched import untouched
from surefoot.switches import usual_switches
from surefoot.training.call import Forward, LossFn
from surefoot.training.evaluate import evaluate_part
from surefoot.training.losses import Loss
from surefoot.training.population.engine import Engine
from surefoot.training.task import Task, reseeded

EPOCHS = 5.0
"""The budget of each run where none is given, in passes. Chosen by hand: five steps of gradient descent show its slope,
and digits are compared in under two minutes on two cores."""


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """What is compared: the keywords of `compare`, and two more.

    Attributes:
        points: log-spaced steps at which the loss is evaluated.
        evaluate: training examples that it is evaluated on.
    """

    epochs: float = EPOCHS
    examples: int | None = None
    seeds: int = 3
    low: float = 10**-2.5
    high: float = 1.0
    points_per_decade: int = 2
    points: int = 25
    evaluate: int = 1000
    target_loss: float | None = None
    slice_points: int | None = 31
    surfaces: bool = True

    def __post_init__(self) -> None:
        check_grid(self.low, self.high, LIMITS)
        lowest = {"examples": 2, "seeds": 1, "points_per_decade": 1, "points": 2, "evaluate": 1, "slice_points": 3}
        for name, number in lowest.items():
            if (value := getattr(self, name)) is not None and value < number:
                raise ConfigError(f"{name} = {value}", f"{name} must be at least {number}", f"leave {name} out")
        for name in ("epochs", "target_loss"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ConfigError(f"{name} = {value:g}", f"{name} must be above 0", f"leave {name} out")


@usual_switches
def compare(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | str | None = None,
    *,
    rules: Sequence[str] = RULES,
    epochs: float = EPOCHS,
    examples: int | None = None,
    seeds: int = 3,
    batch_size: int | Literal["auto"] = "auto",
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    low: float = 10**-2.5,
    high: float = 1.0,
    points_per_decade: int = 2,
    target_loss: float | None = None,
    slice_points: int | None = 31,
    surfaces: bool = True,
    augment: Any = (),
    forward: Forward | str | None = None,
    loss_fn: LossFn | str | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Comparison:
    """Run update rules on one problem, from the same start and with the same budget of examples, and compare them.

    Each rule's rate is found by the same search: the same grid of constant factors on the rule's schedule, every rate
    run over the whole budget from the same weights on the same order of examples, scored by the training loss at the
    end; where the best lies on the border the grid is widened. Then each rule runs at its rate from `seeds` other
    starts, the same for all rules. Loss is that of the same training examples in evaluation mode. Seconds are steps
    times the time of one step, which is measured with the rule alone in the plain loop, without evaluation.

    Args:
        model, data, loss: as in `surefoot.task`; nothing of them is changed.
        rules: NAME setting=value ..., as `surefoot compare --help` says; NAME is gradient-descent, sgd, mini-batch,
            momentum, sutskever or nesterov, or another update rule. A rule with lr= is not searched.
        epochs: the budget of each run, in passes over the training examples.
        examples: training examples used, with the same mix of classes; None is all.
        seeds: final runs of each rule; a module that was given keeps its initial weights in all of them.
        batch_size: of mini-batch and of momentum; auto: 32, halved until an epoch has 20 updates, but not under 16.
        momentum: of its three forms.
        weight_decay: of all rules.
        low, high: of the first grid of SGD's rules; that of another rule is as long, and lies as much lower as its
            `lr_range`.
        points_per_decade: rates per factor of 10.
        target_loss: training loss that rules are timed to; None is the least that all but the worst rule reach.
        slice_points: points of the slice through the paths on each side; None leaves it out.
        surfaces: also run the known surfaces.
        augment, forward, loss_fn: as in `surefoot.task`.
        seed: of the search; the final runs count on from it.
        device, precision, threads: as in `Config`.

    Raises:
        ConfigError, DataError: as `surefoot.load` and `surefoot.task`, and for a rule or setting that cannot be used.

    >>> found = compare("linear", "digits", rules=["gradient-descent", "mini-batch"], epochs=2, examples=300, seeds=2,
    ...                 slice_points=None, surfaces=False)
    >>> [rule.steps for rule in found.rules], found.rules[1].losses[0][-1] < found.initial_loss
    ([2, 36], True)
    """
    comparing = Comparing(
        epochs=epochs, examples=examples, seeds=seeds, low=low, high=high, points_per_decade=points_per_decade,
        target_loss=target_loss, slice_points=slice_points, surfaces=surfaces,
    )  # fmt: skip
    common = {"batch_size": batch_size, "momentum": momentum, "weight_decay": weight_decay}
    parsed = parse_rules(rules, common)
    with untouched(model, data) as proof:
        task = probe_task(
            model, data, loss, augment=augment, forward=forward, loss_fn=loss_fn, seed=seed, device=device,
            precision=precision, threads=threads,
        )  # fmt: skip
        comparison = finished(compared(task, parsed, comparing))
    return dataclasses.replace(comparison, untouched=proof.digest)


def compared(task: Task, rules: Sequence[Rule], comparing: Comparing) -> Generator[Progress, None, Comparison]:
    """Do the work of `compare` on a task, a piece at a time, and return what was found.

    Args:
        task: what is trained.
        rules: from `parse_rules`.
        comparing: how.
    """
    began, fingerprint = time.perf_counter(), task.data.fingerprint
    task = _with_examples(task, comparing.examples)
    rules = [_with_batch(rule, task.data.examples) for rule in rules]
    evaluated = part_of(task.data, task.data.train, comparing.evaluate, "evaluated")
    runs = Runs(task, evaluated, comparing.epochs, comparing.points, Engine())
    searched = yield from runs.searched(rules, comparing.low, comparing.high, comparing.points_per_decade)
    recipes = [of_rule.recipe for of_rule in searched]
    tasks = [reseeded(task, task.seed + 1 + number) for number in range(comparing.seeds)]
    finals = yield from runs.final(tasks, rules, recipes, keep=comparing.slice_points is not None)
    initial = sum(of_rule.losses[0][0] for of_rule in finals) / len(finals)
    target, reason = comparing.target_loss, "given"
    if target is None:
        target, reason = target_loss([of_rule.losses for of_rule in finals], initial)
    costs = yield from step_costs(task, recipes, runs.now("timing steps, each rule alone"))
    at = reference_rule(rules, recipes, task.data.examples)
    state = runs.after_an_epoch(tasks[0], recipes[at])
    directions = yield from directions_of(tasks[0], recipes, state, runs.now("noise"))
    results = [
        _result(task, *of_rule, target)
        for of_rule in zip(rules, searched, finals, costs, directions.noises, strict=True)
    ]
    plane = None
    if comparing.slice_points is not None:
        names = [rule.name for rule in rules]
        plane = yield from slice_of(tasks[0], names, finals, evaluated, comparing.slice_points, runs.now("slice"))
    surfaces: list[SurfaceResult] = []
    for surface in SURFACES if comparing.surfaces else ():
        yield runs.now("known surfaces")
        surfaces.append(surface())
    model = task.model
    if not isinstance(model, str):
        model = type(task.template).__name__ if model is None else getattr(model, "__name__", "factory")
    return Comparison(
        data=task.data.name, model=model, examples=task.data.examples,
        budget_examples=max(result.steps * result.batch_size for result in results),
        evaluated_examples=len(evaluated), search_seed=task.seed, seeds=tuple(each.seed for each in tasks),
        accuracy_on=_accuracy_part(task), initial_loss=initial, target_loss=target, target_reason=reason,
        rules=tuple(results), slice=plane,
        averaging=averaging_of(rules, recipes, directions), surfaces=tuple(surfaces),
        findings=judge(results, target, initial, batch_norm=has_batch_norm(task.template)),
        machine={
            "torch": torch.__version__, "device": str(task.machine.device), "precision": task.machine.precision,
            "threads": task.machine.threads,
            "parameters": sum(weights.numel() for weights in task.template.parameters() if weights.requires_grad),
        },
        data_fingerprint=fingerprint, seconds=time.perf_counter() - began,
    )  # fmt: skip


def step_costs(task: Task, recipes: Sequence[Recipe], now: Progress) -> Generator[Progress, None, list[list[float]]]:
    """Return the seconds of one step of each rule, [R][ROUNDS].

    The rules take turns, so that a machine that slows down slows all of them.

    Args:
        task: what is trained.
        recipes: of the rules.
        now: what is yielded at each timing.
    """
    timers: list[StepTimer] = []
    for recipe in recipes:
        timers.append(StepTimer(task, recipe))
        yield now
    costs: list[list[float]] = [[] for _ in recipes]
    for _ in range(ROUNDS):
        for timer, seconds in zip(timers, costs, strict=True):
            seconds.append(timer.seconds())
            yield now
    return costs


def _with_examples(task: Task, examples: int | None) -> Task:
    if examples is None:
        return task
    if examples > task.data.examples:
        raise ConfigError(
            f"examples = {examples}", f"the training part has {task.data.examples}", "give fewer, or leave it out"
        )
    part = part_of(task.data, task.data.train, examples, "examples")
    return dataclasses.replace(task, data=dataclasses.replace(task.data, train=part))


def _with_batch(rule: Rule, examples: int) -> Rule:
    """Return the rule with a number in place of "auto"."""
    if rule.recipe.batch_size != "auto":
        return rule
    size = batch_size_of(rule.recipe, examples, USUAL_BATCH)
    return dataclasses.replace(rule, recipe=dataclasses.replace(rule.recipe, batch_size=size))


def _result(
    task: Task, rule: Rule, searched: Searched, final: RuleRuns, cost: list[float], direction: DirectionNoise | None,
    target: float | None,
) -> RuleResult:  # fmt: skip
    recipe, part, scores = searched.recipe, _accuracy_part(task), None
    if part is not None:
        held_out = task.data.parts[part]
        states = [path.state for path in final.paths]
        scores = [evaluate_part(task, state.model, state.weights, held_out).accuracy for state in states]
    return RuleResult(
        name=rule.name, settings=to_dict(recipe),
        batch_size=batch_size_of(recipe, task.data.examples),
        steps=final.marks[-1], lr=recipe.lr, given=rule.given, tried=tuple(searched.tried), marks=final.marks,
        losses=final.losses,
        accuracies=tuple(score for score in scores or () if score is not None) or None,
        step_seconds=float(torch.tensor(cost).median()), step_seconds_range=(min(cost), max(cost)),
        direction=direction,
        steps_to_target=tuple(
            None if target is None else steps_to(final.marks, losses, target) for losses in final.losses
        ),
    )  # fmt: skip


def _accuracy_part(task: Task) -> str | None:
    """Rates are chosen by the training loss, so the test part, where there is one, has chosen nothing."""
    parts = ("test", "validation") if task.counts_right else ()
    return next((name for name in parts if name in task.data.parts), None)
