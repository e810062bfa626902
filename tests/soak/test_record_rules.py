"""Values are laid out by path, brought to their new names, and left out where a clock wrote them."""

from collections import Counter

import pytest
from record_rules import Hidden, LeftOut, Renamed, RenamedFile, Rules, shown


def flat(value, *, left_out=(), renamed=(), file="tune/result.json"):
    rules = Rules(left_out, renamed, ())
    return {shown(path): each for path, each in rules.flat(file, value).items()}


DECIDED = {
    "decisions": [
        {"name": "wiring", "reason": "all passed", "seconds": 0.1, "evidence": {}},
        {"name": "batch-size", "reason": "64 in 0.1 s", "seconds": 0.2, "evidence": {"rates": [{"drop": 1.0}]}},
    ]
}


def test_a_path_is_written_as_in_code():
    assert flat(DECIDED)["decisions[1].evidence.rates[0].drop"] == 1.0


def test_an_empty_list_or_object_is_a_value():
    assert flat({"a": [], "b": {}, "c": None}) == {"a": [], "b": {}, "c": None}


def test_what_is_left_out_still_has_to_be_there_and_of_its_type():
    found = flat(DECIDED, left_out=[LeftOut(path="**/seconds", reason="clock")])
    assert found["decisions[0].seconds"] == Hidden("float")


def test_what_is_left_out_wholly_need_not_be_there():
    found = flat(DECIDED, left_out=[LeftOut(path="**/{batch-size}", wholly=True, reason="clock")])
    assert not any(path.startswith("decisions[1]") for path in found)


@pytest.mark.parametrize(
    ("pattern", "hidden"),
    [
        ("**/{batch-size}/reason", {"decisions[1].reason"}),
        ("**/{*-size}/reason", {"decisions[1].reason"}),
        ("$/decisions/[]/reason", {"decisions[0].reason", "decisions[1].reason"}),
        ("$/*/[]/seconds", {"decisions[0].seconds", "decisions[1].seconds"}),
        ("$/decisions/[]/evidence/rates", {"decisions[1].evidence.rates[0].drop"}),
        ("seconds", set()),
        ("$/seconds", set()),
    ],
)
def test_patterns(pattern, hidden):
    found = flat(DECIDED, left_out=[LeftOut(path=pattern, reason="a test")])
    assert {path for path, value in found.items() if isinstance(value, Hidden)} == hidden


def test_a_rule_is_for_the_files_that_it_names():
    rule = LeftOut(file="tune-*/*", path="**/seconds", reason="clock")
    assert flat({"seconds": 1.0}, left_out=[rule], file="train-mlp/result.json") == {"seconds": 1.0}
    assert flat({"seconds": 1.0}, left_out=[rule], file="tune-mlp/runs/a/result.json") == {"seconds": Hidden("float")}


def test_a_key_is_renamed_where_it_is():
    found = flat(DECIDED, renamed=[Renamed(old="**/rates/[]/drop", new="**/rates/[]/fall", reason="a word")])
    assert found["decisions[1].evidence.rates[0].fall"] == 1.0
    assert "decisions[1].evidence.rates[0].drop" not in found


def test_a_value_is_moved_with_all_below_it():
    rule = Renamed(old="**/{batch-size}/evidence/rates", new="**/{}/rates", reason="flatter")
    assert flat(DECIDED, renamed=[rule])["decisions[1].rates[0].drop"] == 1.0


def test_two_values_brought_to_one_path_are_an_error():
    with pytest.raises(ValueError, match="two values at b"):
        flat({"a": 1, "b": 2}, renamed=[Renamed(old="$/a", new="$/b", reason="a mistake")])


def test_files_and_folders_are_renamed_by_whole_names():
    rules = Rules((), (), (RenamedFile(old="members", new="trials", reason="a word"),))
    assert rules.file_name("runs/a/members/x.json") == "runs/a/trials/x.json"
    assert rules.file_name("runs/a/members.jsonl") == "runs/a/members.jsonl"
    assert rules.used == Counter({"members -> trials": 1})


def test_frozen_numbers_replace_those_of_a_clock_alone():
    rules = Rules((LeftOut(path="**/seconds", reason="clock"),), (), ())
    value = {"rows": [{"seconds": 0.25, "step": 1}], "seconds": [0.5, None]}
    assert rules.frozen("a/b.json", value) == {"rows": [{"seconds": 1.5, "step": 1}], "seconds": [1.5, None]}
