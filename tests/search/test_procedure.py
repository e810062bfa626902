import dataclasses
import math

import pytest
from invented import came_to, valley

from surefoot.config import Recipe, Schedule
from surefoot.errors import CheckpointError, ConfigError
from surefoot.record.decision import Decision
from surefoot.search.budget import Request, StepTime, Terms, budget
from surefoot.search.journal import History
from surefoot.search.moves import BracketRates, Check, ChooseBatchSize, Conclude, Done, TimeStep, Train
from surefoot.search.procedure import LEAST_SHARE, next_move, rungs

BASE = Recipe(epochs=10, batch_size=64, schedule=Schedule(kind="linear"))
CHECKS = {"wiring": 1000, "initial-loss": 0, "overfit-sample": 10_000}
BRACKET = {"lr": 0.03, "low": 0.01, "high": 0.1}


def asked(text="4x", base=BASE, fixed=("batch_size",), *, force=False):
    terms = Terms(budget=budget(text), fixed=frozenset(fixed), force=force)
    return Request(terms=terms, base=base, examples=1294, validation_examples=143, check_examples=CHECKS)


def made(name, verdict="pass", value=None, cost=1000, **evidence):
    return Decision(
        step=0, name=name, claim="c", verdict=verdict, reason="r", value=value, seconds=0.1,
        evidence={"cost_examples": cost, **evidence},
    )  # fmt: skip


def result(trial, log_error):
    """What came of a trial, with the examples of its batches."""
    examples = trial.recipe.steps * trial.recipe.batch_size
    return dataclasses.replace(came_to(trial, log_error), examples=examples)


def searched(request, error=None, answers=None):
    """The moves of a search in an invented world, and its end."""
    known = {
        "wiring": made("wiring"), "initial-loss": made("initial-loss", loss=2.3),
        "overfit-sample": made("overfit-sample"), "batch-size": made("batch-size", value={"batch_size": 64}),
        "learning-rate": made("learning-rate", value=BRACKET, initial_losses=[2.3]),
    } | (answers or {})  # fmt: skip
    history, moves = History(), []
    while not isinstance(move := next_move(request, history), Done):
        moves.append(move)
        match move:
            case TimeStep(recipe):
                timings = {**history.timings, recipe.batch_size: StepTime(0.01, 0.1)}
                history = dataclasses.replace(history, timings=timings)
            case Train():
                results = {trial.key: result(trial, (error or valley(0.3))(trial)) for trial in move.trials}
                history = dataclasses.replace(history, results={**history.results, **results})
            case _:
                names = {BracketRates: "learning-rate", ChooseBatchSize: "batch-size"}
                name = move.name if isinstance(move, Check) else names.get(type(move), "")
                decision = move.decision if isinstance(move, Conclude) else known[name]
                history = dataclasses.replace(history, decisions=(*history.decisions, decision))
    return moves, history, move


def names(history):
    return [decision.name for decision in history.decisions]


def test_the_steps_come_in_the_order_of_the_procedure():
    moves, history, end = searched(asked("40x"))
    kinds = [type(move) for move in moves]
    assert kinds[:4] == [Check, Check, Check, BracketRates]
    assert kinds[4:] == [Train, Conclude] * ((len(kinds) - 4) // 2)
    order = ["wiring", "initial-loss", "overfit-sample", "learning-rate", "coarse-grid", "refine", "schedule"]
    assert list(dict.fromkeys(names(history))) == order
    assert end.recipe.lr / (1 - end.recipe.momentum) == pytest.approx(0.3, rel=0.5)
    assert (end.recipe.epochs, end.recipe.steps) == (10, None)


def test_every_trial_is_paid_for_once():
    _, history, _ = searched(asked("40x"))
    paid = sum(each.evidence["cost_examples"] for each in history.decisions if "members" in each.evidence)
    assert paid == sum(result.examples for result in history.results.values())


@pytest.mark.parametrize("text", ["0.5x", "1x", "2x", "4x", "8x", "16x", "40x"])
@pytest.mark.parametrize("fixed", [("batch_size",), ("batch_size", "lr"), ("batch_size", "momentum", "schedule")])
def test_no_search_asks_for_more_than_its_budget(text, fixed):
    _, history, _ = searched(asked(text, fixed=fixed))
    spent = sum(decision.evidence["cost_examples"] for decision in history.decisions)
    assert spent <= budget(text).trainings * 10 * (1294 // 64) * 64


@pytest.mark.parametrize(("name", "share"), [("wiring", 0.1), ("overfit-sample", 0.15)])
def test_a_check_may_cost_its_share_of_what_is_left(name, share):
    moves, history, _ = searched(asked("40x"))
    (check,) = [move for move in moves if isinstance(move, Check) and move.name == name]
    final = 10 * (1294 // 64) * 64
    spent = 1000 * names(history).index(name)
    assert check.most_examples == int(share * (40 - spent / final) * final)


@pytest.mark.parametrize("name", ["wiring", "initial-loss", "overfit-sample"])
def test_a_check_that_fails_ends_the_search_unless_forced(name):
    answers = {name: made(name, "fail")}
    _, history, end = searched(asked("40x"), answers=answers)
    assert (end.recipe, names(history)[-1]) == (None, name)
    assert searched(asked("40x", force=True), answers=answers)[2].recipe is not None


def test_where_no_rate_works_the_search_ends_unless_forced():
    answers = {"learning-rate": made("learning-rate", "fail", initial_losses=[2.3])}
    assert searched(asked("40x"), answers=answers)[2].recipe is None
    assert searched(asked("40x", force=True), answers=answers)[2].recipe is not None


def test_a_grid_in_which_nothing_finishes_ends_the_search_unless_forced():
    _, history, end = searched(asked(), lambda trial: math.inf)
    assert end.recipe is None
    assert (names(history)[-1], history.decisions[-1].verdict) == ("coarse-grid", "fail")
    assert history.decisions[-1].advice is not None
    assert searched(asked(force=True), lambda trial: math.inf)[2].recipe is not None


def test_what_was_left_out_is_said():
    _, _, end = searched(asked("0.5x"))
    assert [text for text in end.unchecked if "wiring" in text or "step 4" in text]
    _, _, end = searched(asked("2x", fixed=()))
    assert any("other schedules" in text for text in end.unchecked)


def test_a_budget_in_time_asks_for_the_time_of_a_step_first_and_of_another_batch_when_it_is_chosen():
    answers = {"batch-size": made("batch-size", value={"batch_size": 32})}
    moves, history, end = searched(asked("10m", fixed=()), answers=answers)
    timed = [move.recipe.batch_size for move in moves if isinstance(move, TimeStep)]
    assert (timed, moves[0]) == ([64, 32], TimeStep(BASE))
    assert names(history).count("learning-rate") == 2  # measured anew at the new batch
    assert {result.trial.recipe.batch_size for result in history.results.values()} == {32}
    assert end.recipe.batch_size == 32


def test_a_final_training_that_does_not_fit_into_the_time_is_refused():
    history = History(timings={64: StepTime(1.0, 0.0)})
    with pytest.raises(ConfigError, match=r"10 epochs on cpu: that training alone takes about 200 s\. Give a larger"):
        next_move(asked("150s", fixed=("batch_size", "epochs")), history)
    with pytest.raises(ConfigError, match="1 epochs"):
        next_move(asked("10s"), history)


def test_a_history_of_another_search_is_refused():
    with pytest.raises(CheckpointError, match="decision 1 of the search is 'refine', where it comes to 'wiring'"):
        next_move(asked(), History((made("refine"),)))


@pytest.mark.parametrize("trainings", [0.2, 0.5, 1.0, 2.0, 3.3, 4.0, 8.0, 12.0, 16.0, 32.0])
@pytest.mark.parametrize("least", [LEAST_SHARE, 0.2, 1.0])
def test_runs_grow_from_round_to_round_and_are_paid_for(trainings, least):
    plan = rungs(trainings, least)
    assert sum(rung.share * rung.count for rung in plan) <= trainings + 1e-9
    assert all(least <= rung.share < 1 and rung.count >= 1 for rung in plan)
    assert [rung.share for rung in plan] == sorted({rung.share for rung in plan})
