"""More budget is less regret, none is exceeded, the default is never lost, and no prior is a wall: invented worlds."""

import dataclasses
import functools
import math

import numpy as np
import pytest

from surefoot.config import Recipe, Schedule
from surefoot.record.decision import Decision
from surefoot.record.trial import TrialResult
from surefoot.search.budget import Budget, Request, Terms
from surefoot.search.journal import History
from surefoot.search.moves import Conclude, Done, Train
from surefoot.search.procedure import next_move
from surefoot.search.response import coordinates

BASE = Recipe(epochs=10, batch_size="auto", schedule=Schedule(kind="cosine"))
EXAMPLES = 5000
NEVER = dict.fromkeys(("wiring", "initial-loss", "overfit-sample"), 10**12)
NOISE = 0.02
WORLDS = {
    "as expected": {"rate": 0.0, "decay": 0.0, "momentum": -1.0, "batch": 5.0},
    "a low rate, little decay": {"rate": -1.0, "decay": -1.0, "momentum": -1.0, "batch": 4.0},
    "no momentum, large batches": {"rate": -0.3, "decay": 0.5, "momentum": 0.0, "batch": 7.0},
    "a high rate": {"rate": 0.7, "decay": 0.0, "momentum": -1.7, "batch": 4.0},
}
"""Where the best recipe lies, in decades and log2 of the batch."""


def log_error(recipe, share, best, noise=NOISE):
    """A valley whose best rate grows with the batch, with a cliff half a decade above it; 2 % apart by luck."""
    rate, decay, keep = coordinates(recipe, share)
    size = math.log2(recipe.batch_size)
    apart = rate - 0.27 * (size - best["batch"]) - 0.05 * -math.log2(share) - best["rate"]
    if apart > best.get("cliff", 0.5):
        return math.inf
    luck = np.random.default_rng([recipe.steps, int(1e6 * recipe.lr), recipe.batch_size]).normal()
    shape = 0.5 * apart**2 + 0.08 * (decay - best["decay"]) ** 2 + 0.15 * (keep - best["momentum"]) ** 2
    return -2.5 - 0.2 * math.log2(share) + shape + 0.02 * (size - best["batch"]) ** 2 + noise * luck


def result(trial, best):
    error = log_error(trial.recipe, trial.share, best)
    loss = math.exp(error) if math.isfinite(error) else None
    return TrialResult(
        trial=trial, outcome="diverged" if loss is None else "finished", train_loss=loss, val_loss=loss,
        examples=trial.recipe.steps * trial.recipe.batch_size, val_accuracy=None, seconds=1.0,
    )  # fmt: skip


def request(trainings):
    # Without step 3, whose evidence is not invented here, the rate is expected where the rule has it.
    return Request(
        terms=Terms(budget=Budget(trainings=trainings), fixed=frozenset({"schedule"}), force=True),
        base=BASE, examples=EXAMPLES, validation_examples=1000, check_examples=NEVER,
    )  # fmt: skip


@functools.cache
def played(trainings, world):
    """Return each history that a search came through with its move, the last history, and the chosen recipe."""
    asked, history, passed = request(trainings), History(), []
    while not isinstance(move := next_move(asked, history), Done):
        passed.append((history, move))
        if isinstance(move, Train):
            results = {trial.key: result(trial, WORLDS[world]) for trial in move.trials}
            history = dataclasses.replace(history, results={**results, **history.results})
            continue
        decision = move.decision if isinstance(move, Conclude) else nothing_found(move)
        history = dataclasses.replace(history, decisions=(*history.decisions, decision))
    return passed, history, move.recipe


def nothing_found(move):
    """Step 3 found no rate."""
    evidence = {"cost_examples": move.most_updates * 128 // 2, "initial_losses": [2.3], "steps": 100, "cut": False}
    return Decision(step=3, name="learning-rate", claim="", verdict="suspect", reason="", value=None, evidence=evidence)


def regret(recipe, world):
    steps = 10 * (EXAMPLES // recipe.batch_size)
    whole = dataclasses.replace(recipe, epochs=None, steps=steps)
    return log_error(whole, 1.0, WORLDS[world], noise=0.0) + 2.5


@pytest.mark.parametrize("world", WORLDS)
def test_regret_falls_with_the_budget_and_is_never_above_the_default_by_more_than_noise(world):
    regrets = {trainings: regret(played(trainings, world)[2], world) for trainings in (1.0, 4.0, 16.0)}
    default = regret(dataclasses.replace(BASE, batch_size=32, weight_decay=1 / (10 * EXAMPLES / 32)), world)
    assert all(each <= default + 5 * NOISE for each in regrets.values()), (regrets, default)
    assert regrets[16.0] <= regrets[4.0] + 2 * NOISE
    assert regrets[4.0] <= regrets[1.0] + 5 * NOISE
    assert regrets[16.0] < 5 * NOISE, regrets


@pytest.mark.parametrize("trainings", [0.25, 0.5, 1.0, 2.0, 3.0, 8.0, 16.0, 32.0])
def test_every_budget_is_respected_and_used(trainings):
    _, history, _ = played(trainings, "as expected")
    spent = sum(made.evidence["cost_examples"] for made in history.decisions)
    granted = trainings * 10 * (EXAMPLES // 128) * 128
    assert spent <= granted
    settled = trainings >= 16  # nothing more can change the answer
    assert settled or spent >= 0.5 * granted


def test_a_move_is_a_function_of_what_came_before():
    passed, _, _ = played(4.0, "a low rate, little decay")
    for history, move in passed:
        again = next_move(request(4.0), dataclasses.replace(history, results=dict(reversed(history.results.items()))))
        assert again == move


@pytest.mark.parametrize("rate", [-2.0, 2.0])
def test_a_best_rate_far_outside_of_what_is_expected_is_found(rate, monkeypatch):
    """Two decades from the rule's, more than three standard deviations, in batches of the usual size."""
    far = {"rate": rate, "decay": 0.0, "momentum": -1.0, "batch": 5.0, "cliff": 9.0}
    monkeypatch.setitem(WORLDS, f"far {rate}", far)
    assert regret(played(16.0, f"far {rate}")[2], f"far {rate}") < 0.4  # the rule's rate: 2.0
