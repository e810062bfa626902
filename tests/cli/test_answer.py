"""The exit code of decisions, and a picture that cannot be written is found out before anything is measured."""

from pathlib import Path

import pytest

from surefoot.cli.answer import FORMATS, check_plot, exit_code
from surefoot.errors import ConfigError
from surefoot.record.decision import Decision
from surefoot.report import look as charts


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
    assert set(FORMATS) == set(charts.FORMATS)
