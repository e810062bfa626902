"""What the measuring commands share: exit codes, pictures checked beforehand, progress on stderr."""

from pathlib import Path

import pytest

from surefoot.cli.probe import FORMATS, check_plot, exit_code, measured
from surefoot.errors import ConfigError
from surefoot.record.decision import Decision
from surefoot.record.progress import Progress
from surefoot.report import look


def decided(verdict):
    return Decision(step=0, name="wiring", claim="", verdict=verdict, reason="")


def test_one_failure_among_many_is_3_and_suspicion_is_none():
    assert exit_code(decided("pass"), decided("fail"), decided("pass")) == 3
    assert exit_code(decided("pass"), decided("suspect")) == 0


def test_pictures_that_can_be_written_pass_and_others_are_refused(tmp_path):
    for ending in FORMATS:
        check_plot(tmp_path / f"rates{ending.upper()}")
    check_plot(None)
    check_plot(Path("rates.svg"))
    for wrong in (tmp_path / "rates.pdf", tmp_path / "no" / "rates.svg"):
        with pytest.raises(ConfigError, match="rates"):
            check_plot(wrong)


def test_the_endings_are_those_of_the_charts():
    assert set(FORMATS) == set(look.FORMATS)


def measuring(steps=500):
    for step in range(steps):
        yield Progress(step, steps, "learning rates")
    return "found"


def test_progress_is_a_line_on_stderr_at_most_every_ten_seconds_and_the_answer_comes_back(capsys):
    assert measured(measuring(), quiet=False) == "found"
    out, err = capsys.readouterr()
    assert out == ""
    assert err.split() == ["0", "of", "500", "steps:", "learning", "rates"]
    assert measured(measuring(), quiet=True) == "found"
    assert capsys.readouterr().err == ""
