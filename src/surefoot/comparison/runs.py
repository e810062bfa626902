"""The runs of a comparison: the search for each rule's rate, and the final runs, as populations of the one loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from surefoot.comparison import judge
from surefoot.comparison.paths import Path, follow, log_marks, unseen_rows
from surefoot.comparison.rules import Rule
from surefoot.config import Recipe
from surefoot.data.dataset import Part
from surefoot.errors import ConfigError
from surefoot.optim.plan import Plan, plan
from surefoot.record.comparison import RateExample, RateRun
from surefoot.record.progress import Progress
from surefoot.training.loop import advance, start
from surefoot.training.population.engine import Engine
from surefoot.training.population.member import Member
from surefoot.training.state import State
from surefoot.training.task import Task

MOST_WIDENINGS = 4
"""A grid is widened by a decade at most so often. Chosen by hand."""
MOST_SHOWN = 3
"""Rates tried besides, so that one that is too small and one that diverges can be shown. Chosen by hand."""


@dataclass(frozen=True)
class Searched:
    """A rule's recipe with the rate that was found, and all that were tried, by rising rate."""

    recipe: Recipe
    trials: list[RateRun]


@dataclass(frozen=True)
class Followed:
    """Final runs of one rule: the steps at which the loss was evaluated, losses [S][P], last states, and the paths."""

    marks: tuple[int, ...]
    losses: tuple[tuple[float, ...], ...]
    states: list[State]
    paths: list[Path]


class Runs:
    """Trains members of all lengths, and counts what is done.

    Args:
        task: what is trained.
        judged: training examples on which losses are evaluated.
        epochs: the budget.
        points: evaluations along a run.
        engine: computes the steps.
    """

    def __init__(self, task: Task, judged: Part, epochs: float, points: int, engine: Engine) -> None:
        self.task, self.judged, self.epochs, self.points, self.engine = task, judged, epochs, points, engine
        self.done, self.planned = 0, 0

    def plan(self, recipe: Recipe) -> Plan:
        """Return the plan of a recipe over the budget."""
        return unseen_rows(plan(dataclasses.replace(recipe, epochs=self.epochs, steps=None), self.task.data.examples))

    def searched(
        self, rules: Sequence[Rule], low: float, high: float, points_per_decade: int
    ) -> Generator[Progress, None, list[Searched]]:
        """Find the rate of each rule that was given none, and return all recipes.

        Raises:
            ConfigError: a rule diverges at every rate.
        """
        for rule in rules:
            self.plan(rule.recipe)  # a batch or a length that does not fit is said before any work
        grid = np.geomspace(low, high, max(2, round(np.log10(high / low) * points_per_decade) + 1)).tolist()
        trials: list[list[RateRun]] = [[] for _ in rules]
        wanted = [[] if rule.given else grid for rule in rules]
        for _ in range(MOST_WIDENINGS + 1):
            yield from self._try(rules, trials, wanted)
            wanted = [judge.beyond(own, points_per_decade) if own else [] for own in trials]
            if not any(wanted):
                break
        found = []
        for rule, own in zip(rules, trials, strict=True):
            at = judge.best(own) if own else None
            if own and at is None:
                raise ConfigError(
                    f"rule '{rule.name}' diverges at every rate from {own[0].lr:.2g} to {own[-1].lr:.2g}",
                    "some rate must train it", "run surefoot check first, or give it another batch_size",
                )  # fmt: skip
            lr = rule.recipe.lr if at is None else own[at].lr
            found.append(Searched(dataclasses.replace(rule.recipe, lr=lr), own))
        return found

    def followed(
        self, tasks: Sequence[Task], rules: Sequence[Rule], recipes: Sequence[Recipe], *, keep: bool
    ) -> Generator[Progress, None, list[Followed]]:
        """Train each rule from each start, and return what was seen.

        Args:
            tasks: one for each seed.
            rules, recipes: with their rates.
            keep: keep the weights along the paths of the first seed.
        """
        members = [[Member(task, self.plan(recipe)) for task in tasks] for recipe in recipes]
        paths: list[list[Path]] = [[] for _ in rules]
        self.planned += sum(own.plan.steps for each in members for own in each)
        for places in self._alike([each[0].plan for each in members]):
            together = [member for i in places for member in members[i]]
            marks = log_marks(together[0].plan.steps, self.points)
            kept = [n * len(tasks) for n in range(len(places))] if keep else []
            work = follow(together, marks, self.judged, self.engine, kept)
            seen = yield from self._count(work, f"{len(tasks)} seeds of {' and '.join(rules[i].name for i in places)}")
            for n, i in enumerate(places):
                paths[i] = seen[n * len(tasks) : (n + 1) * len(tasks)]
        lengths = [log_marks(own[0].plan.steps, self.points) for own in members]
        return [
            Followed(marks, tuple(path.losses for path in each), [path.state for path in each], each)
            for marks, each in zip(lengths, paths, strict=True)
        ]

    def shown_rates(
        self, rule: Rule, searched: Searched, initial: float
    ) -> Generator[Progress, None, list[RateExample]]:
        """Return rates of all kinds for the picture, with a few more runs where the search saw none of a kind."""
        trials = [list(searched.trials)]
        for _ in range(MOST_SHOWN):
            more = judge.lacking(trials[0], initial)
            if more is None:
                break
            yield from self._try([rule], trials, [[more]])
        return judge.examples(trials[0], initial)

    def after_an_epoch(self, task: Task, recipe: Recipe) -> State:
        """Return the state of a run after one pass, or after the first half of a shorter one."""
        made = self.plan(recipe)
        state, _ = advance(task, made, start(task, made), max(1, min(made.steps_per_epoch, made.steps // 2)))
        return state

    def _try(
        self, rules: Sequence[Rule], trials: list[list[RateRun]], wanted: Sequence[Sequence[float]]
    ) -> Generator[Progress, None, None]:
        """Run each rule at the rates that are wanted, and put what was seen into `trials`, by rising rate."""
        active = [i for i, rates in enumerate(wanted) if rates]
        plans = {i: [self.plan(dataclasses.replace(rules[i].recipe, lr=lr)) for lr in wanted[i]] for i in active}
        self.planned += sum(own.steps for each in plans.values() for own in each)
        for places in self._alike([plans[i][0] for i in active]):
            chosen = [active[n] for n in places]
            members = [Member(self.task, own) for i in chosen for own in plans[i]]
            marks = log_marks(members[0].plan.steps, self.points)
            text = f"rates of {' and '.join(rules[i].name for i in chosen)}"
            seen = iter((yield from self._count(follow(members, marks, self.judged, self.engine), text)))
            for i in chosen:
                trials[i] += [RateRun(lr=lr, marks=marks, losses=next(seen).losses) for lr in wanted[i]]
                trials[i].sort(key=lambda trial: trial.lr)

    def _alike(self, plans: Sequence[Plan]) -> list[list[int]]:
        """Return positions of plans of one length, which are looked at after the same steps."""
        found: dict[tuple[int, int], list[int]] = {}
        for i, own in enumerate(plans):
            found.setdefault((own.steps, own.batch_size), []).append(i)
        return list(found.values())

    def _count(self, work: Generator[int, None, list[Path]], text: str) -> Generator[Progress, None, list[Path]]:
        while True:
            try:
                self.done += next(work)
            except StopIteration as end:
                return end.value
            yield Progress(self.done, self.planned, text)
