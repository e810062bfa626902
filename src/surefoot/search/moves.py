"""What a search can ask for, as values that say all that is needed to carry them out; and where a history stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from surefoot.config import Recipe
from surefoot.errors import CheckpointError
from surefoot.record.decision import Decision
from surefoot.record.trial import Trial, TrialResult
from surefoot.search.budget import FinalRun, Ledger, Request, final_run
from surefoot.search.journal import History
from surefoot.search.space import Space, space_around

GIVEN_FROM = 14.0
"""Final trainings of a budget in which what the user gave to start from is searched too: in a smaller one it is taken
for knowledge. Chosen by hand: where a search of decay and momentum began before they were searched at any budget."""


@dataclass(frozen=True)
class Standing:
    """A point of the procedure that a history has come to.

    Attributes:
        request, history: as given.
        passed: how many decisions of the history lie behind this point.
        results: of the trials until here, each once.
        unchecked: what was left out until here, a sentence each.
        recipe: chosen by step 5.
    """

    request: Request
    history: History
    passed: int = 0
    results: tuple[TrialResult, ...] = ()
    unchecked: tuple[str, ...] = ()
    recipe: Recipe | None = None

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Those that lie behind this point."""
        return self.history.decisions[: self.passed]

    @cached_property
    def final(self) -> FinalRun:
        """The final training, as it is planned here."""
        return final_run(self.request, self.decisions, self.history.timings)

    @cached_property
    def ledger(self) -> Ledger:
        """What is spent and left here."""
        return Ledger(self.request.terms.budget, self.final, self.decisions)

    @cached_property
    def space(self) -> Space:
        """The recipes that can be chosen; a batch size is where runs are counted in examples.

        What the user gave to start from, but for the rate, is searched in a large budget alone.
        """
        value, terms, final = self.value_of("learning-rate"), self.request.terms, self.final
        bracket = (value["low"], value["high"]) if value else None
        whole = terms.budget.trainings or (terms.budget.seconds or 0.0) / max(final.seconds or 0.0, 1e-9)
        stays = terms.fixed if whole >= GIVEN_FROM else terms.fixed | (terms.given - {"lr"})
        examples = self.request.examples if self.request.exact else None
        return space_around(final.recipe, final.steps, bracket, stays, terms.given, examples=examples)

    def value_of(self, name: str) -> dict[str, Any] | None:
        """Return the newest value that the step of this name chose; None where it chose none."""
        return next((decision.value for decision in reversed(self.decisions) if decision.name == name), None)

    def fails(self) -> bool:
        """Whether the last decision ends the search."""
        return self.decisions[-1].verdict == "fail" and not self.request.terms.force

    def comes_to(self, name: str) -> bool:
        """Whether the next decision of the history has this name."""
        return self.passed < len(self.history.decisions) and self.history.decisions[self.passed].name == name

    def after(self, name: str) -> Standing | None:
        """Return the point after the next decision, which must have this name; None where it is not made yet."""
        if self.passed == len(self.history.decisions):
            return None
        decision = self.history.decisions[self.passed]
        if decision.name != name:
            raise CheckpointError(
                f"decision {self.passed + 1} of the search is '{decision.name}', where it comes to '{name}'",
                "a search goes on with the decisions that it made", "restore them, or choose another name",
            )  # fmt: skip
        members = [self.history.results[key] for key in decision.evidence.get("members", ())]
        return dataclasses.replace(self, passed=self.passed + 1, results=(*self.results, *self.new(members)))

    def new(self, results: Sequence[TrialResult]) -> list[TrialResult]:
        """Return those results that no earlier step has come to."""
        earlier = {result.trial.key for result in self.results}
        return [result for result in results if result.trial.key not in earlier]

    def without(self, text: str) -> Standing:
        """Return the point after a step that the budget does not allow."""
        return dataclasses.replace(self, unchecked=(*self.unchecked, text))

    def came_to(self, trials: Sequence[Trial]) -> list[TrialResult] | None:
        """Return what came of these trials; None where one has not ended."""
        results = self.history.results
        if any(trial.key not in results for trial in trials):
            return None
        return [dataclasses.replace(results[trial.key], trial=trial) for trial in trials]

    def conclude(self, decision: Decision, results: Sequence[TrialResult]) -> Conclude:
        """Return that a decision from these results is to be kept, with what it cost: each trial is paid for once."""
        new = {result.trial.key: result for result in self.new(results)}.values()
        evidence = {**decision.evidence, "cost_examples": sum(result.examples for result in new)}
        seconds = sum(result.seconds for result in new)
        return Conclude(dataclasses.replace(decision, evidence=evidence, seconds=seconds))


CheckName = Literal["wiring", "initial-loss", "overfit-sample"]


@dataclass(frozen=True)
class TimeStep:
    """Time a training step of this recipe, for a budget in time."""

    recipe: Recipe


@dataclass(frozen=True)
class Check:
    """Do step 0, 1 or 2.

    Attributes:
        name: of its decision.
        recipe: to be trained with later.
        most_examples: that it may cost.
    """

    name: CheckName
    recipe: Recipe
    most_examples: int


@dataclass(frozen=True)
class BracketRates:
    """Do step 3: short runs of a recipe at constant rates.

    Attributes:
        recipe: all but its rate.
        points_per_decade, steps, seeds: rates per factor of 10, updates of each run, repetitions.
        most_updates: that all runs together may have.
    """

    recipe: Recipe
    points_per_decade: int
    steps: int
    seeds: int
    most_updates: int


@dataclass(frozen=True)
class ChooseBatchSize:
    """Choose the batch size by predicted time to a loss.

    Attributes:
        recipe: with a rate that trains.
        probe_steps: updates of the run along which noise is measured.
    """

    recipe: Recipe
    probe_steps: int


@dataclass(frozen=True)
class Train:
    """Train those of these trials that the history lacks. Stage: the name of the decision that follows."""

    stage: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Conclude:
    """Keep a decision from trials that have ended. Its seconds are those of the trials."""

    decision: Decision


@dataclass(frozen=True)
class Done:
    """The end of a search.

    Attributes:
        recipe: chosen, with its length; None where a step failed.
        unchecked: what the budget did not allow, a sentence each.
    """

    recipe: Recipe | None
    unchecked: tuple[str, ...] = ()


Measurement = Check | BracketRates | ChooseBatchSize
"""Each comes to a decision."""
Move = TimeStep | Measurement | Train | Conclude
