"""The runs of a comparison: the search for each rule's rate, and the final runs, as members of the one loop.

The loss is evaluated at log-spaced steps, on the same training examples for all.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.comparison.judge import best, beyond
from surefoot.comparison.rules import Rule
from surefoot.config import Recipe
from surefoot.data.dataset import DataSet, Part, stratified
from surefoot.errors import ConfigError
from surefoot.optim.plan import Plan, plan
from surefoot.record.comparison import RateRun
from surefoot.record.progress import Progress
from surefoot.rules import update_rule
from surefoot.steps.follow import follow
from surefoot.steps.lr_range.judge import rate_grid
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import advance, start
from surefoot.training.population.engine import Engine
from surefoot.training.population.member import Member
from surefoot.training.state import State
from surefoot.training.task import Task

MOST_WIDENINGS = 4
"""A grid is widened by a decade at most so often. Chosen by hand."""


@dataclass(frozen=True)
class Path:
    """What one run did.

    Attributes:
        losses: training loss at each mark, [P]; infinite from where the run diverged.
        weights: trainable parameters as one vector at each mark, [P, D] float32; None unless asked for.
        state: at the end.
    """

    losses: tuple[float, ...]
    weights: Tensor | None
    state: State


@dataclass(frozen=True)
class Searched:
    """A rule's recipe with its best rate, and the runs at all rates, by rising rate; none where it was given."""

    recipe: Recipe
    tried: list[RateRun]


@dataclass(frozen=True)
class RuleRuns:
    """Runs of one rule: the steps at which the loss was evaluated, [P], and what each run did, [S]."""

    marks: tuple[int, ...]
    paths: list[Path]

    @property
    def losses(self) -> tuple[tuple[float, ...], ...]:
        """[S][P]."""
        return tuple(path.losses for path in self.paths)


def log_marks(steps: int, points: int) -> tuple[int, ...]:
    """Return steps at which to look, 0 and then evenly spaced in their logarithm, each once.

    Args:
        steps: T, the last of them.
        points: how many after 0, at most.

    >>> log_marks(100, 5)
    (0, 1, 3, 10, 32, 100)
    """
    marks = {max(1, round(float(step))) for step in np.geomspace(1, steps, points)}
    return (0, *sorted(marks | {steps}))


def part_of(data: DataSet, part: Part, examples: int, stream: str) -> Part:
    """Return so many examples of a part, with the same mix of classes; the part itself where it has no more.

    Args:
        data: says whether there are classes.
        part: of it.
        examples: at least 1.
        stream: name of the random stream; the choice depends on nothing else.

    >>> import surefoot
    >>> digits = surefoot.load("digits")
    >>> len(part_of(digits, digits.train, 100, "few"))
    100
    """
    if examples >= len(part):
        return part
    labels = part.y.cpu().numpy() if data.classes is not None else None
    _, chosen = stratified(labels, len(part), examples / len(part), 0, stream)
    return part.taken(chosen)


def flat(model: nn.Module) -> Tensor:
    """Return all parameters, what is frozen too, as one vector, [D] float32 on the CPU."""
    return torch.cat([parameter.detach().float().reshape(-1).cpu() for parameter in model.parameters()])


def parameters_from(model: nn.Module, vector: Tensor) -> dict[str, Tensor]:
    """Return the parameters of a model by name as they are in a vector, [D]."""
    parameters = dict(model.named_parameters())
    pieces = vector.split([parameter.numel() for parameter in parameters.values()])
    return {
        name: piece.reshape(parameter.shape).to(parameter.device, parameter.dtype)
        for (name, parameter), piece in zip(parameters.items(), pieces, strict=True)
    }


def _grid(rule: Rule, low: float, high: float, points_per_decade: int) -> list[float]:
    """Return the first rates of a rule: the grid is told for SGD, and others' lie as far off as their own range."""
    by = rule.recipe.update_rule.lr_range[0] / update_rule("sgd").lr_range[0]
    return rate_grid(low * by, high * by, points_per_decade)


class Runs:
    """Trains members of all lengths, and counts what is done.

    Args:
        task: what is trained.
        evaluated: training examples on which losses are evaluated.
        epochs: the budget.
        points: evaluations along a run.
        engine: computes the steps.
    """

    def __init__(self, task: Task, evaluated: Part, epochs: float, points: int, engine: Engine) -> None:
        self.task, self.evaluated, self.epochs, self.points, self.engine = task, evaluated, epochs, points, engine
        self.done, self.planned = 0, 0

    def now(self, text: str) -> Progress:
        """Return how far the runs are, while something is done that is not counted in steps."""
        return Progress(self.done, self.planned, text)

    def plan(self, recipe: Recipe) -> Plan:
        """Return the plan of a recipe over the budget, with one row at its end: marks are evaluated outside the loop.

        >>> import surefoot
        >>> digits = surefoot.task(surefoot.load("digits"), "linear")
        >>> Runs(digits, digits.data.train, 2, 5, Engine()).plan(Recipe(batch_size=100)).row_steps
        (24,)
        """
        made = plan(dataclasses.replace(recipe, epochs=self.epochs, steps=None), self.task.data.examples)
        return dataclasses.replace(made, row_steps=(made.steps,))

    def searched(
        self, rules: Sequence[Rule], low: float, high: float, points_per_decade: int
    ) -> Generator[Progress, None, list[Searched]]:
        """Find the rate of each rule that was given none, and return all recipes.

        Raises:
            ConfigError: a rule diverges at every rate.
        """
        for rule in rules:
            self.plan(rule.recipe)  # a batch or a length that does not fit is said before any work
        tried: list[list[RateRun]] = [[] for _ in rules]
        wanted = [[] if rule.given else _grid(rule, low, high, points_per_decade) for rule in rules]
        for _ in range(MOST_WIDENINGS + 1):
            yield from self._try(rules, tried, wanted)
            wanted = [beyond(runs, points_per_decade) if runs else [] for runs in tried]
            if not any(wanted):
                break
        recipes: list[Searched] = []
        for rule, runs in zip(rules, tried, strict=True):
            at = best(runs)
            if runs and at is None:
                raise ConfigError(
                    f"rule '{rule.name}' diverges at every rate from {runs[0].lr:.2g} to {runs[-1].lr:.2g}",
                    "some rate must train it", "run surefoot check first, or give it another batch_size",
                )  # fmt: skip
            lr = rule.recipe.lr if at is None else runs[at].lr
            recipes.append(Searched(dataclasses.replace(rule.recipe, lr=lr), runs))
        return recipes

    def final(
        self, tasks: Sequence[Task], rules: Sequence[Rule], recipes: Sequence[Recipe], *, keep: bool
    ) -> Generator[Progress, None, list[RuleRuns]]:
        """Train each rule from each start.

        Args:
            tasks: one for each seed.
            rules, recipes: with their rates.
            keep: keep the weights along the paths of the first seed.
        """
        members = [[Member(task, self.plan(recipe)) for task in tasks] for recipe in recipes]
        return (yield from self._train(members, rules, f"{len(tasks)} seeds of", keep=keep))

    def after_an_epoch(self, task: Task, recipe: Recipe) -> State:
        """Return the state of a run after one pass, or after the first half of a shorter one."""
        made = self.plan(recipe)
        state, _ = advance(task, made, start(task, made), max(1, min(made.steps_per_epoch, made.steps // 2)))
        return state

    def _try(
        self, rules: Sequence[Rule], tried: Sequence[list[RateRun]], wanted: Sequence[Sequence[float]]
    ) -> Generator[Progress, None, None]:
        """Run each rule at the rates that are wanted, and put the runs into `tried`, by rising rate."""
        members = [
            [Member(self.task, self.plan(dataclasses.replace(rule.recipe, lr=lr))) for lr in rates]
            for rule, rates in zip(rules, wanted, strict=True)
        ]
        trained = yield from self._train(members, rules, "rates of")
        for runs, rates, new in zip(tried, wanted, trained, strict=True):
            pairs = zip(rates, new.losses, strict=True)
            runs += [RateRun(lr=lr, marks=new.marks, losses=losses) for lr, losses in pairs]
            runs.sort(key=lambda run: run.lr)

    def _train(
        self, members: Sequence[Sequence[Member]], rules: Sequence[Rule], what: str, *, keep: bool = False
    ) -> Generator[Progress, None, list[RuleRuns]]:
        """Train the members of each rule, rules of one length together; `keep` the weights of the first of each."""
        alike: dict[tuple[int, int], list[int]] = {}
        for i, of_rule in enumerate(members):
            if of_rule:
                alike.setdefault((of_rule[0].plan.steps, of_rule[0].plan.batch_size), []).append(i)
        self.planned += sum(member.plan.steps for of_rule in members for member in of_rule)
        runs = [RuleRuns((), []) for _ in members]
        for places in alike.values():
            together = [member for i in places for member in members[i]]
            first = range(0, len(together), len(together) // len(places)) if keep else ()
            marks, paths = yield from self.follow(
                together, f"{what} {' and '.join(rules[i].name for i in places)}", first
            )
            for i in places:
                runs[i] = RuleRuns(marks, [paths.pop(0) for _ in members[i]])
        return runs

    def follow(
        self, members: Sequence[Member], text: str, keep: Sequence[int] = ()
    ) -> Generator[Progress, None, tuple[tuple[int, ...], list[Path]]]:
        """Train members of one length, and return the steps at which they were looked at, and what each did.

        Args:
            members: [K], whose plans have as many steps.
            text: says what is done.
            keep: positions of the members whose weights are kept.
        """
        marks, begin = log_marks(members[0].plan.steps, self.points), self.done
        losses: list[list[float]] = [[] for _ in members]
        weights: dict[int, list[Tensor]] = {i: [] for i in keep}
        states: list[State] = []
        for look in follow(members, marks, self.engine):
            states = look.states
            self.done += look.steps
            if look.mark is not None:
                for member, state, of_run in zip(members, states, losses, strict=True):
                    loss = math.inf
                    if state.outcome is None or state.outcome.kind != "diverged":
                        loss = evaluate_part(member.task, state.model, state.weights, self.evaluated).loss
                    of_run.append(loss if math.isfinite(loss) else math.inf)
                for i, along in weights.items():
                    along.append(flat(states[i].model))
            yield self.now(text)
        self.done = begin + sum(member.plan.steps for member in members)  # those that diverged are done, too
        vectors = {i: torch.stack(along) for i, along in weights.items()}
        return marks, [Path(tuple(losses[i]), vectors.get(i), state) for i, state in enumerate(states)]
