"""What a search is asked for, the final training that it is for, and what it has cost: counted in examples, or in time.

All of it is computed from the request and the history, so it is the same when a search goes on.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.config import Recipe, Schedule
from surefoot.errors import ConfigError
from surefoot.optim.plan import batch_size_of, default_epochs, fitting_batch, plan
from surefoot.record.decision import Decision
from surefoot.record.progress import Progress
from surefoot.rules.groups import shortened
from surefoot.settings import shrunk

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
FINAL_SHARE = 1 / 3
"""Share of a budget in time that the final training takes, if its length is free: two trainings' worth to search with,
as published tuners are compared (`benchmarks/regret.py`). Chosen by hand."""
RESERVE = 0.05
"""Share of a budget in time that nothing is planned into: saving, and steps that turn out slower."""
AROUND_SECONDS = 3.0
"""Of a budget in time that go to what is around the search: imports, loading data, the test part, files. 2 to 7 s were
seen on two cores of an AMD EPYC (benchmarks/budgets.py)."""
MOST_EPOCHS = 30.0
"""Of a final training whose length is free and whose recipe gives none: what the time allows, but not more. Chosen by
hand: enough for more than 90 % on CIFAR-10 (Jordan 2024, arXiv 2404.00498, section 3), and a start for others."""


@dataclass(frozen=True)
class Budget:
    """One of the two is given.

    Attributes:
        seconds: for everything, the final training included.
        trainings: for the search, in multiples of the final training's examples; the final training comes on top.
    """

    seconds: float | None = None
    trainings: float | None = None

    def __str__(self) -> str:
        value, unit = (self.trainings, "x") if self.trainings is not None else (self.seconds or 0.0, "s")
        return np.format_float_positional(value, trim="-") + unit  # all its digits: `budget` gives the same value


def budget(text: str | float) -> Budget:
    """Return the budget that a text means: "5m", "90s", "1.5h", or "2x" for twice the final training.

    Raises:
        ConfigError: it means nothing.

    >>> budget("5m").seconds, budget("2x").trainings, budget(30).seconds
    (300.0, 2.0, 30.0)
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([smhx]?)\s*", str(text))
    value = float(match[1]) if match else 0.0
    if not match or not 0 < value < math.inf or (not match[2] and isinstance(text, str)):
        raise ConfigError(
            f"budget = {text!r}",
            "a budget is a time such as 90s, 5m or 1.5h, or a multiple of the final training such as 2x",
            "try 5m",
        )
    return Budget(trainings=value) if match[2] == "x" else Budget(seconds=value * _UNITS.get(match[2], 1.0))


@dataclass(frozen=True, kw_only=True)
class Terms:
    """At what price is searched, and what stays as it is.

    Attributes:
        budget: of time, or of examples.
        fixed: names of recipe settings that stay as the base recipe has them.
        given: names of those that the user gave to start from: they stay where they are not searched.
        force: go on after a step that fails.
    """

    budget: Budget
    fixed: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Request:
    """All that a search depends on besides its history.

    Attributes:
        terms: its price, and what stays as it is.
        base: the recipe to start from. Its length is that of the final training, if it has one.
        examples: of the training part.
        validation_examples: on which trials are judged.
        check_examples: that steps 0 to 2 take at least, by the name of their decision.
        device: that trains, for a message.
    """

    terms: Terms
    base: Recipe
    examples: int
    validation_examples: int
    check_examples: Mapping[str, int]
    device: str = "cpu"

    @property
    def exact(self) -> bool:
        """Whether nothing may depend on a clock."""
        return self.terms.budget.trainings is not None


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step of the plain loop, and of one validation."""

    step_seconds: float
    validation_seconds: float

    def seconds(self, steps: int, rows: int) -> float:
        """Return what a run of so many steps and rows takes."""
        return steps * self.step_seconds + rows * self.validation_seconds


@dataclass(frozen=True)
class FinalRun:
    """The final training, as far as the search knows it.

    Attributes:
        recipe: the base recipe with the length that it then has.
        batch_size: examples per update.
        steps: updates; examples: that they process. Both 0 where `seconds` is None.
        seconds: that it takes with its validation, expected; 0 where no clock is asked; None where a step of this
            batch size must be timed first.
    """

    recipe: Recipe
    batch_size: int
    steps: int = 0
    examples: int = 0
    seconds: float | None = None


def final_run(request: Request, decisions: Sequence[Decision], timings: Mapping[int, StepTime]) -> FinalRun:
    """Return the final training that the search plans for.

    In a budget of time, a length that the user has not given takes a third of it at most: whole epochs, no more than
    the base recipe's own; its schedule shrinks with it.

    Args:
        request: what is searched for.
        decisions: so far; the batch size may be chosen among them.
        timings: of a step, by batch size.
    """
    base, free = request.base, (request.terms.fixed | request.terms.given).isdisjoint
    size = min(batch_size_of(base, request.examples), request.examples)
    size = fitting_batch(size, request.examples) if free({"batch_size"}) else size
    if base.epochs is None and base.steps is None and request.exact:
        base = dataclasses.replace(base, epochs=default_epochs(request.examples // size))
    base = dataclasses.replace(base, batch_size=size)
    seconds = request.terms.budget.seconds
    if seconds is not None and size in timings and free({"epochs", "steps"}):
        base = _shortened(base, timings[size], seconds, request.examples)
    chosen = [decision.value for decision in decisions if decision.name == "batch-size"]
    if chosen and chosen[-1] is not None:
        size = chosen[-1]["batch_size"]
        base = dataclasses.replace(base, batch_size=size)
    timed = StepTime(0.0, 0.0) if request.exact else timings.get(size)
    if timed is None:
        return FinalRun(base, size)
    made = plan(base, request.examples)
    return FinalRun(base, size, made.steps, made.steps * size, timed.seconds(made.steps, len(made.row_steps)))


def _shortened(base: Recipe, timed: StepTime, seconds: float, examples: int) -> Recipe:
    """Return the recipe with as many whole epochs as a third of the time allows, but no more than it has."""
    per_epoch = plan(dataclasses.replace(base, epochs=1.0, steps=None, schedule=Schedule()), examples).steps
    affordable = max(1, math.floor(seconds * FINAL_SHARE / max(timed.seconds(per_epoch, 1), 1e-9)))
    wanted = base.steps / per_epoch if base.steps is not None else base.epochs
    if wanted is not None and wanted <= affordable:
        return base
    epochs = float(min(affordable, MOST_EPOCHS))
    share = 1.0 if wanted is None else epochs / wanted
    schedule, groups = shrunk(base.schedule, share), shortened(base.groups, share)
    return dataclasses.replace(base, epochs=epochs, steps=None, schedule=schedule, groups=groups)


@dataclass(frozen=True)
class Ledger:
    """What a search has spent, and what is left. Everything is counted in examples; time is what they take.

    Attributes:
        budget: what was granted.
        final: the final training, in which all is measured.
        decisions: that were paid for: each has its cost in its evidence, and its seconds.
    """

    budget: Budget
    final: FinalRun
    decisions: Sequence[Decision] = ()

    @property
    def examples(self) -> int:
        """Spent so far."""
        return sum(decision.evidence["cost_examples"] for decision in self.decisions)

    @property
    def seconds(self) -> float:
        """Spent so far, as the decisions have it, so that a search which was stopped counts on from there."""
        return sum(decision.seconds for decision in self.decisions)

    @property
    def left(self) -> float:
        """What is left for the search, in final trainings. Below 0 where too much was spent.

        In time, a training of the search is taken to last as long as the final one: in a population it is shorter, so
        what is planned is kept.
        """
        if self.budget.trainings is not None:
            return self.budget.trainings - self.cost
        assert self.budget.seconds is not None
        final = self.final.seconds or 0.0
        free = self.budget.seconds * (1 - RESERVE) - AROUND_SECONDS - self.seconds - final
        return free / max(final, 1e-9)

    @property
    def cost(self) -> float:
        """What the search has cost, in final trainings."""
        return self.examples / max(1, self.final.examples)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values: in examples, in final trainings, in seconds, and by step."""
        steps: dict[str, dict[str, Any]] = {}
        for decision in self.decisions:
            step = steps.setdefault(decision.name, {"examples": 0, "seconds": 0.0})
            step["examples"] += decision.evidence["cost_examples"]
            step["seconds"] += decision.seconds
        return {
            "budget": str(self.budget), "search_examples": self.examples, "final_examples": self.final.examples,
            "trainings": self.cost, "search_seconds": self.seconds, "steps": steps,
        }  # fmt: skip

    def progress(self, now: Progress, seconds_since: float) -> Progress:
        """Return a measurement's progress with what the search has spent and what is left.

        A budget in final trainings leaves the time that its rest takes at the pace so far; one of time leaves its rest.

        Args:
            now: of what is being measured.
            seconds_since: the last decision, up to which all is spent in the ledger.

        >>> made = Decision(step=4, name="a", claim="", verdict="pass", reason="", evidence={"cost_examples": 500},
        ...                 seconds=10.0)
        >>> ledger = Ledger(budget("2x"), FinalRun(Recipe(), 100, 10, 1000, 0.0), [made])
        >>> now = ledger.progress(Progress(1, 2, "step 4"), seconds_since=5.0)
        >>> now.spent, now.seconds_left
        (0.5, 25.0)
        """
        spent, left, seconds = None, None, self.seconds + seconds_since
        if self.budget.seconds is not None:
            spent, left = seconds, max(0.0, self.budget.seconds - seconds)
        elif self.budget.trainings is not None:
            spent = self.cost
            left = max(0.0, self.seconds / spent * self.left - seconds_since) if spent else None
        return dataclasses.replace(now, seconds=seconds, budget=str(self.budget), spent=spent, seconds_left=left)
