"""The laws of a search: it is a function of its request and its history, so a recorded history replays.

The record holds searches on digits as they were done: what measurements came to, the trials in the order in which they
were asked for, and the decisions. `python tests/laws/test_search.py` makes it anew where a search is meant to ask for
other trials.
"""

import dataclasses
import json
from pathlib import Path

import pytest

from surefoot.config import Recipe, Schedule
from surefoot.record.decision import Decision
from surefoot.record.trial import TrialResult
from surefoot.search.budget import Request, Terms, budget
from surefoot.search.journal import History
from surefoot.search.moves import Conclude, Done, Train
from surefoot.search.procedure import next_move
from surefoot.settings import from_dict, to_dict

PLACE = Path(__file__).parent / "searches.json"
SEARCHES = {
    "mlp 14x": {"budget": "14x", "recipe": {"epochs": 10.0}},
    "linear 16x": {"budget": "16x", "recipe": {"epochs": 3.0, "batch_size": 64}, "fixed": ["batch_size", "schedule"]},
    "linear 2x": {"budget": "2x", "recipe": {"epochs": 10.0}},
}
"""All stages; three rounds of refinement; a small budget."""
READ = ("cost_examples", "dependence", "initial_losses", "loss")
"""The evidence that a search reads; of step 0's dependence, whether it was measured."""


def described(trial):
    """What a trial trains, in a line."""
    recipe = trial.recipe
    return [
        trial.stage, trial.seed, trial.share, recipe.steps, recipe.lr, recipe.weight_decay, recipe.momentum,
        recipe.schedule.kind, recipe.batch_size,
    ]  # fmt: skip


def result_of(trial, record):
    """What the record says that came of a trial."""
    known = {json.dumps(line[1:9]): line[9:] for line in record["trials"]}
    examples, train_loss, val_loss, val_accuracy = known[json.dumps(described(trial)[1:])]
    return TrialResult(
        trial=trial, outcome="diverged" if val_loss is None else "finished", examples=examples, train_loss=train_loss,
        val_loss=val_loss, val_accuracy=val_accuracy, seconds=0.0,
    )  # fmt: skip


def measured(decision):
    """What a search reads of a decision that is no function of trials."""
    evidence = {
        name: {} if isinstance(value, dict) else value for name, value in decision.evidence.items() if name in READ
    }
    unfinished = [finding for finding in decision.to_dict()["findings"] if finding["name"] == "unfinished"]
    return {"value": decision.value, "findings": unfinished, "evidence": evidence}


def replayed(request, record):
    """The search as it goes with the results of the record: each move, the history before it, and the end."""
    history, moves, kept = History(), [], iter(record["decisions"])
    while not isinstance(move := next_move(request, history), Done):
        moves.append((move, history))
        if isinstance(move, Train):
            for trial in move.trials:
                if trial.key not in history.results:
                    results = {**history.results, trial.key: result_of(trial, record)}
                    history = dataclasses.replace(history, results=results)
                    moves.append((move, history))
            moves.pop()  # all have ended: the next move is another
            continue
        decision = Decision.from_dict({"step": 0, "claim": "", **next(kept)})
        if isinstance(move, Conclude):
            assert (move.decision.name, move.decision.verdict) == (decision.name, decision.verdict)
            assert move.decision.reason == decision.reason
            decision = move.decision
        history = dataclasses.replace(history, decisions=(*history.decisions, decision))
    assert next(kept, None) is None
    return moves, history, move


@pytest.fixture(params=SEARCHES)
def record(request):
    return json.loads(PLACE.read_text())[request.param]


@pytest.fixture
def asked(record):
    values = record["request"]
    terms = Terms(budget=budget(values["budget"]), fixed=frozenset(values["fixed"]))
    return Request(
        terms=terms, base=from_dict(Recipe, values["base"]), examples=values["examples"],
        validation_examples=values["validation_examples"], check_examples=values["check_examples"],
    )  # fmt: skip


def test_a_recorded_search_asks_for_the_same_trials_in_the_same_order_and_decides_the_same(asked, record):
    moves, history, end = replayed(asked, record)
    ordered: dict[str, list] = {}
    for move, _ in moves:
        for trial in move.trials if isinstance(move, Train) else ():
            ordered.setdefault(trial.key, described(trial))
    assert list(ordered.values()) == [line[:9] for line in record["trials"]]
    assert len(history.results) == len(record["trials"])
    assert end.recipe == from_dict(Recipe, record["recipe"])
    assert list(end.unchecked) == record["unchecked"]


def test_a_search_goes_on_the_same_after_any_part_of_its_history(asked, record):
    """Killed before any decision or trial was kept, it asks for what it would have asked for."""
    moves, whole, end = replayed(asked, record)
    for move, history in moves:
        assert next_move(asked, dataclasses.replace(history)) == move
    assert next_move(asked, whole) == end


def test_trials_that_come_back_in_another_order_change_nothing(asked, record):
    """As they do where several are trained elsewhere."""
    _, whole, end = replayed(asked, record)
    shuffled = dict(reversed(list(whole.results.items())))
    assert next_move(asked, dataclasses.replace(whole, results=shuffled)) == end


def _write() -> None:
    from surefoot.config import Config
    from surefoot.search.search import open_search
    from surefoot.training.population.engine import Engine
    from surefoot.training.population.strategy import LOOP

    made = {}
    for name, values in SEARCHES.items():
        recipe = Recipe(schedule=Schedule(kind="linear"), **values["recipe"])
        config = Config(data="digits", model=name.split()[0], recipe=recipe, threads=1, precision="fp32")
        terms = Terms(budget=budget(values["budget"]), fixed=frozenset(values.get("fixed", ())))
        with open_search(config, terms, runs_dir=None, engine=Engine(LOOP)) as search:
            while not search.done:
                search.advance()
        asked, end, results = search.request, search.end, search.journal.history.results
        order = dict.fromkeys(key for each in search.decisions for key in each.evidence.get("members", ()))
        made[name] = {
            "request": {
                "budget": values["budget"], "fixed": sorted(terms.fixed), "base": to_dict(recipe),
                "examples": asked.examples, "validation_examples": asked.validation_examples,
                "check_examples": dict(asked.check_examples),
            },
            "decisions": [
                {
                    "name": each.name, "verdict": each.verdict, "reason": each.reason,
                    **({} if "members" in each.evidence else measured(each)),
                } for each in search.decisions
            ],
            "trials": [
                [*described(each.trial), each.examples, each.train_loss, each.val_loss, each.val_accuracy]
                for each in map(results.__getitem__, order)
            ],
            "recipe": to_dict(end.recipe),
            "unchecked": end.unchecked,
        }  # fmt: skip
    lines = ",\n".join(f'"{name}": {json.dumps(values)}' for name, values in made.items())
    PLACE.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    _write()
