import json

import pytest
from invented import came_to, trial

from surefoot.errors import CheckpointError, ConfigError
from surefoot.record.decision import Decision, Finding
from surefoot.search.budget import StepTime
from surefoot.search.journal import Journal, open_journal


def decision(name="refine", **more):
    finding = Finding(name="alike", verdict="pass", reason="few")
    return Decision(step=5, name=name, claim="c", verdict="pass", reason="r", findings=(finding,), **more)


def test_what_was_found_is_there_again(tmp_path):
    first = open_journal(tmp_path, "data")
    result = came_to(trial(0.1), -1.0)
    first.keep([result])
    first.decide(decision(value={"lr": 0.1}, evidence={"members": [result.trial.key]}))
    first.time(64, StepTime(0.25, 1.0))
    again = open_journal(tmp_path, "data")
    assert again.history == first.history
    assert again.history.timings == {64: StepTime(0.25, 1.0)}


def test_a_decision_is_kept_as_it_is_read_again_numbers_that_json_lacks_included(tmp_path):
    journal = open_journal(tmp_path, "data")
    journal.decide(decision(value={"gain": float("nan")}))
    assert journal.history.decisions[0].value == {"gain": None}
    assert open_journal(tmp_path, "data").history == journal.history


def test_a_history_is_a_value():
    journal = Journal()
    empty = journal.history
    journal.decide(decision())
    journal.keep([came_to(trial(0.1), -1.0)])
    assert (empty.decisions, empty.results) == ((), {})


def test_a_trial_is_kept_once(tmp_path):
    journal = open_journal(tmp_path, "data")
    one = came_to(trial(0.1), -1.0)
    journal.keep([one])
    journal.keep([one, came_to(trial(0.2), -1.0)])
    assert len((tmp_path / "members.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("cut", [1, 20, -2])
def test_a_line_cut_short_by_a_kill_is_dropped_and_written_again(tmp_path, cut):
    journal = open_journal(tmp_path, "data")
    journal.keep([came_to(trial(0.1), -1.0), came_to(trial(0.2), -1.0)])
    path = tmp_path / "members.jsonl"
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(first + second[:cut])
    again = open_journal(tmp_path, "data")
    assert list(again.history.results) == [came_to(trial(0.1), -1.0).trial.key]
    again.keep([came_to(trial(0.2), -1.0)])
    assert path.read_text() == first + second


def test_a_damaged_line_is_named(tmp_path):
    open_journal(tmp_path, "data")
    (tmp_path / "decisions.jsonl").write_text(json.dumps({"step": 1}) + "\n")
    with pytest.raises(CheckpointError, match=r"decisions.jsonl, line 1"):
        open_journal(tmp_path, "data")


def test_a_decision_without_its_trials_is_refused(tmp_path):
    open_journal(tmp_path, "data").decide(decision(evidence={"members": ["lost"]}))
    with pytest.raises(CheckpointError, match=r"members\.jsonl: it must hold every trial"):
        open_journal(tmp_path, "data")


def test_a_search_of_another_version_is_refused_with_one_message(tmp_path):
    open_journal(tmp_path, "data").decide(decision())
    for timings in ('{"data_fingerprint": "data", "step at batch 64": {}}', '{"format": 1}'):
        (tmp_path / "timings.json").write_text(timings)
        with pytest.raises(CheckpointError, match=r"another version of surefoot began.*Choose another name"):
            open_journal(tmp_path, "data")
    (tmp_path / "timings.json").unlink()
    with pytest.raises(CheckpointError, match="is gone"):
        open_journal(tmp_path, "data")


def test_other_data_are_refused(tmp_path):
    open_journal(tmp_path, "data")
    with pytest.raises(ConfigError, match="has changed since the search began"):
        open_journal(tmp_path, "other data")
