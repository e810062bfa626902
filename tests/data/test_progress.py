"""The bar is silent without a terminal and in short work."""

import sys

from surefoot.data import store as progress


def test_nothing_is_shown_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0)
    with progress.bar("work", 3) as bar:
        for _ in range(3):
            bar.update(1)
    assert capsys.readouterr() == ("", "")


def test_short_work_shows_nothing_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.bar("work", 3) as bar:
        bar.update(3)
    assert capsys.readouterr() == ("", "")


def test_long_work_shows_on_stderr(capsys, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_SECONDS", -1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for unit in ("images", "bytes"):
        with progress.bar("work", 3, unit=unit) as bar:
            bar.reset(total=5)
            bar.update(2)
    assert capsys.readouterr().out == ""
