"""The guard fails where a ratio got more than a tenth worse, and not for one slow moment."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def guard(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("guard", FOLDER / "guard.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "guard", module)
    spec.loader.exec_module(module)
    yield module
    for name in ("arms", "loop"):
        sys.modules.pop(name, None)


def ratios(**values):
    """What measures invented ratios, each in turn and the last for ever."""
    turns = {name: iter([*each, *[each[-1]] * 9]) for name, each in values.items()}
    return {name: lambda turn=turn: next(turn) for name, turn in turns.items()}


def test_an_arm_that_got_slower_fails_and_is_named(guard):
    judged = guard.guarded(ratios(loop=[1.05], stack=[0.3, 0.29, 0.31]), {"loop": 1.0, "stack": 0.2})
    assert [(one.name, one.slower) for one in judged] == [("loop", False), ("stack", True)]
    assert "SLOWER" in str(judged[1])


def test_one_slow_moment_is_measured_again(guard):
    judged = guard.guarded(ratios(loop=[1.4, 1.02]), {"loop": 1.0})
    assert not judged[0].slower
    assert judged[0].seen == 1.02


def test_a_ratio_without_a_baseline_is_not_judged(guard):
    judged = guard.guarded(ratios(loop=[9.0]), {})
    assert not judged[0].slower
    assert "no baseline" in str(judged[0])


def run(guard, monkeypatch, tmp_path, ratio, *words):
    monkeypatch.setattr(guard, "BASELINE", tmp_path / "guard.json")
    monkeypatch.setattr(guard, "all_ratios", lambda folder: ratios(loop=[ratio]))
    monkeypatch.setattr(sys, "argv", ["guard.py", *words])
    return guard.main()


def test_it_ends_with_1_where_the_loop_is_slower_than_the_baseline_that_it_wrote(guard, monkeypatch, tmp_path, capsys):
    assert run(guard, monkeypatch, tmp_path, 1.0) == 0
    assert "nothing is compared" in capsys.readouterr().err
    assert run(guard, monkeypatch, tmp_path, 1.0, "--renew") == 0
    assert run(guard, monkeypatch, tmp_path, 1.09) == 0
    capsys.readouterr()
    assert run(guard, monkeypatch, tmp_path, 1.11) == 1
    assert "loop" in capsys.readouterr().err
    assert json.loads((tmp_path / "guard.json").read_text())[guard.kind_of_machine()]["ratios"] == {"loop": 1.0}


def test_the_committed_baseline_has_the_ratios_that_are_measured(guard, tmp_path):
    stored = json.loads(guard.BASELINE.read_text())
    assert stored
    for baseline in stored.values():
        assert baseline["ratios"].keys() == guard.all_ratios(tmp_path).keys()
