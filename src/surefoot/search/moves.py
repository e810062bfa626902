"""What a search can ask for: its moves, as values that say all that is needed to carry them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from surefoot.config import Recipe
from surefoot.record.decision import Decision
from surefoot.record.trial import Trial

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
