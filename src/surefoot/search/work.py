"""What the steps of a search share: the task, what was found so far, and how a decision is made only once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from surefoot.config import Recipe
from surefoot.optim.plan import plan
from surefoot.record.decision import Decision
from surefoot.record.progress import Progress
from surefoot.record.trial import TrialResult
from surefoot.search.budget import Budget, Ledger
from surefoot.search.journal import Journal
from surefoot.training.population.engine import Engine
from surefoot.training.task import Task


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for, and at what price.

    Attributes:
        budget: of time, or of examples.
        fixed: names of recipe settings that stay as the base recipe has them.
        force: go on after a step that fails.
    """

    budget: Budget
    fixed: frozenset[str] = frozenset()
    force: bool = False


@dataclass
class Found:
    """What a search came to.

    Attributes:
        recipe: chosen, with its length; None where a step failed.
        decisions: of all steps, in order.
        ledger: what it cost.
        unchecked: what the budget did not allow, a sentence each.
    """

    recipe: Recipe | None
    decisions: list[Decision]
    ledger: Ledger
    unchecked: list[str] = field(default_factory=list)

    @property
    def failed(self) -> Decision | None:
        """The first decision that fails, if there is one."""
        return next((each for each in self.decisions if each.verdict == "fail"), None)


@dataclass
class Work:
    """What the steps of a search share.

    Attributes:
        task, search, journal, engine, ledger: as in `search.tuner.tuning`.
        base: the recipe to start from, as far as it is known: batch size and length are filled in on the way.
        made: decisions so far; tried: trials so far; unchecked: what was left out, a sentence each.
    """

    task: Task
    base: Recipe
    search: Search
    journal: Journal
    engine: Engine
    ledger: Ledger
    made: list[Decision] = field(default_factory=list)
    tried: list[TrialResult] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether nothing may depend on a clock."""
        return self.search.budget.trainings is not None

    @property
    def validation_examples(self) -> int:
        """Examples on which trials are judged."""
        assert self.task.data.validation is not None
        return len(self.task.data.validation)

    @property
    def final_steps(self) -> int:
        """Updates of the final run."""
        return plan(self.base, self.task.data.examples).steps

    def value_of(self, name: str) -> dict[str, Any] | None:
        """Return the newest value that the step of this name chose; None where it chose none."""
        return next((each.value for each in reversed(self.made) if each.name == name), None)

    def left_out(self, text: str) -> None:
        """Note what the budget did not allow."""
        self.unchecked.append(text)

    def decision(
        self, make: Callable[[], Generator[Progress, None, Decision]], cost: Callable[[Decision], int]
    ) -> Generator[Progress, None, Decision]:
        """Recall the next decision, or make and keep it; and book what it cost."""
        kept = self.journal.recall()
        if kept is None:
            made = yield from make()
            evidence = {**made.evidence, "cost_examples": cost(made)}
            kept = self.journal.decide(dataclasses.replace(made, evidence=evidence))
        self.ledger.spend(kept.name, kept.evidence["cost_examples"], kept.seconds)
        self.made.append(kept)
        return kept

    def booked(
        self, make: Callable[[], Generator[Progress, None, tuple[Decision, list[TrialResult]]]]
    ) -> Generator[Progress, None, Decision]:
        """As `decision`, for one that is made from trials: their cost is counted, each trial once."""
        before = {each.trial.key for each in self.tried}
        found: list[TrialResult] = []

        def made() -> Generator[Progress, None, Decision]:
            began = time.perf_counter()
            decision, tried = yield from make()
            found.extend(tried)
            return dataclasses.replace(decision, seconds=max(time.perf_counter() - began, _seconds(tried)))

        def cost(_: Decision) -> int:
            new = {each.trial.key: each.examples for each in found if each.trial.key not in before}
            return sum(new.values())

        decision = yield from self.decision(made, cost)
        if not found:  # it was recalled: its trials lie in the journal
            keys = decision.evidence["members"]
            found = [self.journal.tried[key] for key in keys]
        self.tried += [each for each in found if each.trial.key not in before]
        return decision


def _seconds(tried: Sequence[TrialResult]) -> float:
    return sum(each.seconds for each in tried)
