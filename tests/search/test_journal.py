import json

import pytest
from invented import came_to, trial

from surefoot.errors import CheckpointError
from surefoot.record.decision import Decision, Finding
from surefoot.search.journal import Journal, open_journal


def decision(name="refine", **more):
    finding = Finding(name="alike", verdict="pass", reason="few")
    return Decision(step=5, name=name, claim="c", verdict="pass", reason="r", findings=(finding,), **more)


def test_what_was_found_is_there_again(tmp_path):
    first = open_journal(tmp_path)
    made = first.decide(decision(value={"lr": 0.1}, evidence={"members": ["a"]}))
    first.keep([came_to(trial(0.1), -1.0)])
    assert first.timed("step", lambda: 0.25) == 0.25
    again = open_journal(tmp_path)
    assert again.recall() == made
    assert again.recall() is None
    assert again.tried == first.tried
    assert again.timed("step", lambda: 99.0) == 0.25


def test_a_decision_is_recalled_as_it_was_kept_numbers_that_json_lacks_included():
    journal = Journal()
    kept = journal.decide(decision(value={"gain": float("nan")}))
    journal.replayed = 0
    assert kept.value == {"gain": None}
    assert journal.recall() == kept


def test_a_trial_is_kept_once(tmp_path):
    journal = open_journal(tmp_path)
    one = came_to(trial(0.1), -1.0)
    journal.keep([one])
    journal.keep([one, came_to(trial(0.2), -1.0)])
    assert len((tmp_path / "members.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_line_cut_short_by_a_kill_is_dropped_and_written_again(tmp_path, cut):
    journal = open_journal(tmp_path)
    journal.keep([came_to(trial(0.1), -1.0), came_to(trial(0.2), -1.0)])
    path = tmp_path / "members.jsonl"
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(first + second[:cut])
    again = open_journal(tmp_path)
    assert list(again.tried) == [came_to(trial(0.1), -1.0).trial.key]
    again.keep([came_to(trial(0.2), -1.0)])
    assert path.read_text() == first + second


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "decisions.jsonl").write_text(json.dumps({"step": 1}) + "\n")
    with pytest.raises(CheckpointError, match=r"decisions.jsonl, line 1"):
        open_journal(tmp_path)
