"""Searches played on the maps of `truth.py`: a run that is asked for is looked up, so a search takes milliseconds.

What is asked for is the nearest cell's run: nothing is interpolated, so each answer has the noise of a run that was
trained. Rates are a quarter of a decade apart; each repetition shifts them against what the method asks for by another
part of that, and gives it another seed where the cell has several. A run's length is the nearest of the map's in its
logarithm. A run that diverged costs as much as one that did not: when it did is not in the map.

The product's own search is played by its `next_move`. Its steps 0 to 2 are left out, and cost nothing. Step 3 is
emulated: the bracket is read from the map's shortest runs, which are longer than its own, and what it may cost is paid.
Other schedules and label smoothing differ from the cell's score by what they do at the map's best cell.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from maps import LENGTHS, REPEATS, SEED, Map
from tasks import PER_DECADE, Cell, Score

from surefoot.config import Recipe
from surefoot.optim.plan import batch_size_of
from surefoot.record.decision import Decision
from surefoot.record.trial import Trial, TrialResult
from surefoot.rules import update_rule
from surefoot.search.budget import Budget, Request, Terms
from surefoot.search.journal import History
from surefoot.search.moves import BracketRates, Conclude, Done, Train
from surefoot.search.procedure import next_move

HARM = 0.02
"""A loss under the initial one by this share has dropped: `search.decide` takes the same for a rise."""
SEEDS = (SEED, *REPEATS)


@dataclass(frozen=True)
class Choice:
    """What a method chose.

    Attributes:
        recipe: to be trained to its end.
        cost: of the search, in complete trainings.
        said: what there is to say.
    """

    recipe: Recipe
    cost: float
    said: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A map as one repetition of a search sees it.

    Attributes:
        of: the map.
        repetition, repetitions: which, of how many.
    """

    of: Map
    repetition: int = 0
    repetitions: int = 1

    @property
    def shift(self) -> float:
        """Quarter decades by which rates are moved, evenly from -1/2 to 1/2 over the repetitions."""
        return (self.repetition + 0.5) / self.repetitions - 0.5

    @property
    def default(self) -> Recipe:
        """The library's default recipe, its batch size a number."""
        made = Recipe(rule=self.of.rule, epochs=float(self.of.about["epochs"]))
        return dataclasses.replace(made, batch_size=batch_size_of(Recipe(batch_size="auto"), self.of.examples))

    def cell(self, recipe: Recipe) -> Cell:
        """Return the cell of a recipe."""
        return self.of.nearest(dataclasses.replace(recipe, lr=recipe.lr * 10 ** (self.shift / PER_DECADE)))

    def run(self, recipe: Recipe, share: float = 1.0, seed: int = 0) -> Score:
        """Return what came of a run of a share of the final length; its weight decay is that of the final run."""
        length = min(LENGTHS, key=lambda each: abs(math.log(each / share)))
        score = self.of.score(self.cell(recipe), length, SEEDS[(self.repetition + seed) % len(SEEDS)])
        score = dataclasses.replace(score, test=None)
        if (name := variant_of(recipe)) is None or score.val_loss is None:
            return score
        return _moved(score, self.of, name, length)

    def error(self, recipe: Recipe, share: float = 1.0, seed: int = 0) -> float:
        """Return the validation error of a run as methods compare it, see `Map.error`."""
        return self.of.error(self.run(recipe, share, seed))

    def points(self, recipe: Recipe) -> float:
        """Return the test score of a complete training of a recipe, in points."""
        if recipe == self.default:
            return self.of.default
        name, moved = variant_of(recipe), self.of.points(self.cell(recipe))
        return moved if name is None else moved + _gain(self.of, name, 1.0)[3]


def variant_of(recipe: Recipe) -> str | None:
    """Return which of the map's variants a recipe is; None for the plain one."""
    if recipe.label_smoothing:
        return "smoothing"
    if recipe.schedule.warmup_epochs:
        return "warmup"
    return None if recipe.schedule.kind == "cosine" else recipe.schedule.kind


def _gain(of: Map, name: str, share: float) -> np.ndarray:
    """Return by how much a variant differs from the plain recipe at the best cell: log validation loss, validation
    accuracy, log training loss, test score; 0 where it was not trained.
    """
    seen: Mapping[str, Any] = next(iter(of.about["variants"].values()), {})
    length = f"{max(0.5, share):g}"
    ours, plain = (seen.get(each, {}).get(length, ()) for each in (name, "plain"))
    pairs = [(new, old) for new, old in zip(ours, plain, strict=False) if new and old]
    if not pairs:
        return np.zeros(4)
    return np.mean([
        [math.log(new[0] / old[0]), (new[1] or 0.0) - (old[1] or 0.0), math.log(new[2] / old[2]), new[3] - old[3]]
        for new, old in pairs
    ], axis=0)  # fmt: skip


def _moved(score: Score, of: Map, name: str, share: float) -> Score:
    gain = _gain(of, name, share)
    assert score.val_loss is not None
    assert score.train_loss is not None
    accuracy = None if score.val_accuracy is None else float(np.clip(score.val_accuracy + gain[1], 0, 1))
    loss, train_loss = score.val_loss * math.exp(gain[0]), score.train_loss * math.exp(gain[2])
    return Score(loss, accuracy, train_loss, None)


# The product


def surefoot_choice(table: Table, budget: float) -> Choice:
    """Play the product's search, and return what it chose."""
    of = table.of
    request = Request(
        terms=Terms(budget=Budget(trainings=budget), fixed=frozenset({"epochs"}), force=True),
        base=table.default, examples=of.examples, validation_examples=of.validation_examples,
        check_examples=dict.fromkeys(("wiring", "initial-loss", "overfit-sample"), 10**15),
    )  # fmt: skip
    history = History()
    while not isinstance(move := next_move(request, history), Done):
        if isinstance(move, Train):
            new = {trial.key: _came(table, trial) for trial in move.trials}
            history = dataclasses.replace(history, results={**new, **history.results})
            continue
        assert isinstance(move, Conclude | BracketRates), f"a search on a map cannot carry out {move}"
        decision = move.decision if isinstance(move, Conclude) else bracket(table, move)
        history = dataclasses.replace(history, decisions=(*history.decisions, decision))
    spent = sum(decision.evidence["cost_examples"] for decision in history.decisions)
    size = table.default.batch_size
    assert isinstance(size, int)
    cost = spent / (of.updates(size) * size)
    said = {"trials": len(history.results), "decisions": [made.reason for made in history.decisions]}
    return Choice(move.recipe or table.default, cost, said)


def _came(table: Table, trial: Trial) -> TrialResult:
    recipe = trial.recipe
    assert recipe.steps is not None
    assert isinstance(recipe.batch_size, int)
    score = table.run(recipe, trial.share, trial.seed)
    return TrialResult(
        trial=trial, outcome="diverged" if score.val_loss is None else "finished",
        examples=recipe.steps * recipe.batch_size, train_loss=score.train_loss, val_loss=score.val_loss,
        val_accuracy=score.val_accuracy, seconds=0.0,
    )  # fmt: skip


def bracket(table: Table, move: BracketRates) -> Decision:
    """Return what step 3 comes to, from the map's shortest runs with the move's batch, momentum and usual decay.

    From the smallest rate at which the mean training loss is under the initial one, but at most a decade and a half
    below the other end, to the largest before one at which it is not.
    """
    of, rule = table.of, update_rule(table.of.rule)
    at = table.cell(dataclasses.replace(move.recipe, schedule=table.default.schedule))
    initial = of.about["initial_loss"]
    dropped = []
    for step in of.rates(at.batch_size):
        loss = of.score(at._replace(step=step, decay=1.0), LENGTHS[0]).train_loss
        fell = loss is not None and loss < (1 - HARM) * initial
        if dropped and not fell:
            break
        dropped += [step] * fell
    value = None
    if dropped:
        keep = rule.per_rate({**move.recipe.rule_values, rule.memory: at.memory})
        low, high = max(dropped[0], dropped[-1] - 6), dropped[-1]
        rates = [10 ** ((step - table.shift) / PER_DECADE) * keep for step in (low, (low + high) / 2, high)]
        value = {"low": rates[0], "lr": rates[1], "high": rates[2], "low_interval": rates[:1] * 2,
                 "high_interval": rates[2:] * 2}  # fmt: skip
    size = move.recipe.batch_size
    assert isinstance(size, int)
    evidence = {"cost_examples": move.most_updates * size, "initial_losses": [initial], "steps": move.steps,
                "momentum": move.recipe.momentum}  # fmt: skip
    return Decision(
        step=3, name="learning-rate", claim="", verdict="pass" if value else "suspect",
        reason=f"emulated: {value and [value['low'], value['high']]}", value=value, evidence=evidence,
    )  # fmt: skip
