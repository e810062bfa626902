"""`surefoot report` and the page at the end of a command: written, said, and never the loss of a run."""

import json
import shutil

import pytest

from surefoot.cli.app import run
from surefoot.cli.report import say_report
from surefoot.record import store
from surefoot.record.decision import Decision

MADE = Decision(
    step=1,
    name="wiring",
    verdict="pass",
    claim="the loss is wired",
    reason="all is wired",
    value={},
    evidence={},
    seconds=0.1,
)


@pytest.fixture
def searched(tmp_path):
    folder = tmp_path / "search"
    folder.mkdir()
    (folder / store.DECISIONS).write_text(json.dumps(MADE.to_dict()) + "\n", encoding="utf-8")
    return folder


def test_the_page_is_written_into_the_folder_and_its_place_is_said(searched, capsys):
    say_report(searched, as_json=False, quiet=True)
    seen = capsys.readouterr()
    assert seen.out.split() == ["report", str(searched / "report.html")]
    assert seen.err == ""
    assert "all is wired" in (searched / "report.html").read_text(encoding="utf-8")


def test_where_stdout_is_json_nothing_is_said_on_it(searched, capsys):
    say_report(searched, as_json=True, quiet=False)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "report.html" in seen.err
    assert (searched / "report.html").is_file()


def test_a_page_that_cannot_be_drawn_is_a_note_and_no_error(tmp_path, capsys):
    (tmp_path / "comparison.json").write_text("{", encoding="utf-8")
    say_report(tmp_path, as_json=False, quiet=True)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "comparison.json" in seen.err
    assert ".. " not in seen.err
    assert not (tmp_path / "report.html").exists()


def test_several_runs_go_into_the_file_that_out_names(searched, tmp_path, capsys):
    other = shutil.copytree(searched, tmp_path / "other")
    target = tmp_path / "both.html"
    assert run(["report", str(searched), str(other), "--out", str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    page = target.read_text(encoding="utf-8")
    assert "search" in page
    assert "other" in page


def test_no_run_is_refused_with_one_message(capsys):
    assert run(["report"]) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "no run" in seen.err
    assert "Traceback" not in seen.err
