"""What the benchmark of a card says of its targets, and that what a section starts ends with it."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "card.py"


@pytest.fixture(scope="module")
def card():
    spec = importlib.util.spec_from_file_location("card", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["card"] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["card"]


SECTIONS = {
    "steps": {"rows": [{"cell": "mlp", "to_graph": 1.1}, {"cell": "fast", "left out": "no model"}]},
    "members": {"rows": [{"model": "mlp", "members": 32, "steps_a_second": 9000.0}]},
    "fast": {"rows": [{"train_seconds": 1.5, "test_accuracy": 0.941}, {"failed": "no word"}]},
    "airbench": {"rows": []},
}


def test_each_target_is_told_with_what_was_measured(card):
    found = card.targets(SECTIONS, "cuda")
    assert [row["met"] for row in found] == ["yes", "no", "yes", "yes"]
    assert found[2]["is"] == pytest.approx(1.5 / card.AIRBENCH_SECONDS)
    assert all("no card" in row["met"] for row in card.targets(SECTIONS, "cpu"))
    beside = SECTIONS | {"airbench": {"rows": [{"seconds": 1.6}]}}
    assert card.targets(beside, "cuda")[2]["met"] == "no"


def test_a_table_has_a_column_for_each_name(card):
    lines = card.table([{"a": 1.23456, "b": "x"}, {"a": None, "c": 2}])
    assert [line.split() for line in lines] == [["a", "b", "c"], ["1.235", "x"], ["2"]]
    assert card.table([]) == []


def test_the_sections_fit_into_six_minutes(card):
    assert sum(card.SECONDS.values()) <= card.TOTAL_SECONDS < 360


def test_a_process_whose_time_is_out_ends_with_what_it_started_and_its_words_stay(card):
    forever = "import threading; threading.Event().wait()"
    code = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', '{forever}'])"
    ended = card.ran([sys.executable, "-c", code], {}, 2.0)
    assert (ended.code, ended.said.strip()) == (None, "begun")
    assert card.ran([sys.executable, "-c", "raise SystemExit('why')"], {}, 30.0).last_words == "why"
