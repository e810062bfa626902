"""The process that draws a report: it answers as this one does, is no worse than none, and ends with the command."""

import json
import os
import queue
import signal
import subprocess

import pytest

from surefoot.record import store
from surefoot.record.decision import Decision
from surefoot.report import ahead
from surefoot.report.ahead import Drawer, drawn, get_ready

MADE = Decision(
    step=1, name="wiring", verdict="pass", claim="the loss is wired", reason="all is wired", value={}, evidence={},
    seconds=0.1,
)  # fmt: skip


@pytest.fixture
def searched(tmp_path):
    folder = tmp_path / "search"
    folder.mkdir()
    (folder / store.DECISIONS).write_text(json.dumps(MADE.to_dict()) + "\n", encoding="utf-8")
    return folder


def test_it_draws_what_this_process_draws(searched, tmp_path):
    with Drawer() as drawer:
        drawer.ask(searched, tmp_path / "there.html")
        assert drawer.answer() == {"path": str(tmp_path / "there.html")}
        drawer.ask(searched, tmp_path / "no folder" / "there.html")
        assert "there.html" in drawer.answer()["error"]
    assert drawn(searched, tmp_path / "here.html") == {"path": str(tmp_path / "here.html")}
    assert (tmp_path / "there.html").read_bytes() == (tmp_path / "here.html").read_bytes()


def test_what_it_gets_ready_with_works():
    get_ready()  # where it fails, the first page merely takes longer, and nobody would see it


def test_one_that_has_gone_has_no_answer(searched):
    with Drawer() as drawer:
        os.kill(drawer._process.pid, signal.SIGKILL)
        drawer._process.wait(60)
        drawer.ask(searched, "report.html")
        assert drawer.answer() is None


def test_one_that_could_not_be_started_has_no_answer(searched, monkeypatch):
    def refused(*words, **more):
        raise OSError("no room")

    monkeypatch.setattr(subprocess, "Popen", refused)
    with Drawer() as drawer:
        drawer.ask(searched, "report.html")
        assert drawer.answer() is None


def test_it_ends_with_its_stdin():
    with Drawer() as drawer:
        drawer._process.stdin.close()
        assert drawer._process.wait(60) == 0
        drawer._process.stdin = None


def test_it_ends_by_itself_where_nobody_asks(monkeypatch):
    monkeypatch.setattr(ahead, "_IDLE_SECONDS", 0.01)
    monkeypatch.setattr(ahead, "get_ready", lambda: None)
    monkeypatch.setattr(ahead, "_listen", lambda asked: None)
    monkeypatch.setattr(ahead.gc, "disable", lambda: None)
    ahead.serve()


def test_it_hears_the_end_of_what_it_is_told(monkeypatch):
    asked = queue.SimpleQueue()
    monkeypatch.setattr(ahead.sys, "stdin", iter(["one\n"]))
    ahead._listen(asked)
    assert [asked.get(), asked.get()] == ["one\n", ""]
