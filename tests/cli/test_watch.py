import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from surefoot.cli.app import run
from surefoot.record import store
from surefoot.record.progress import PROGRESS
from surefoot.training.configure import resolve
from surefoot.training.open import open_run

CONFIG = resolve({"data": "digits", "model": "linear", "recipe": {"epochs": 6, "lr": 0.1}})


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_it_shows_rows_as_another_trains_and_then_the_result(capsys):
    with open_run(CONFIG, name="a") as training:
        training.advance(30)

        def go_on():
            time.sleep(0.6)
            while not training.done:
                training.advance()
            training.finish()

        thread = threading.Thread(target=go_on)
        thread.start()
        code = run(["watch", "a"])
        thread.join()
        out, err = capsys.readouterr()
    assert code == 0
    shown = [int(line.split()[1]) for line in err.splitlines() if line.strip()[:1].isdigit()]
    assert shown == [row.step for row in training.rows]  # each row once, in order
    assert "test " in out
    assert "outcome" in out


def test_a_run_that_is_done_shows_its_result_at_once_and_nothing_is_written(tmp_path, capsys):
    with open_run(CONFIG, name="a") as training:
        while not training.done:
            training.advance()
        training.finish()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    assert run(["watch", str(training.folder)]) == 0
    assert "outcome" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before


def test_a_run_that_nobody_trains_is_said_to_be_so(capsys):
    with open_run(CONFIG, name="a") as training:
        training.advance(30)
        training.save()
    (training.folder / PROGRESS).unlink()
    assert run(["watch", "a"]) == 1
    assert "nobody is training runs/a now; go on with: surefoot resume a" in capsys.readouterr().err


def test_what_is_no_run_is_one_message(capsys):
    assert run(["watch", "nothing"]) == 1
    assert "'nothing' is not a run" in capsys.readouterr().err


def test_a_search_is_shown_with_its_decisions_then_its_training(tmp_path):
    words = [sys.executable, "-m", "surefoot"]
    tuning = subprocess.Popen(
        [*words, "tune", "digits", "--model", "linear", "--budget", "1x", "--name", "t", "--no-report", "-q"],
        stdout=subprocess.DEVNULL,
    )
    try:
        folder, until = tmp_path / "runs" / "t", time.monotonic() + 60
        while not (folder / store.TUNE).is_file():
            assert time.monotonic() < until
            time.sleep(0.02)
        watched = subprocess.run([*words, "watch", "t"], capture_output=True, text=True, check=False, timeout=100)
        assert tuning.wait(60) == 0
    finally:
        tuning.kill()
    decisions = [json.loads(line) for line in (folder / store.DECISIONS).read_text().splitlines()]
    if "step 0   wiring" in watched.stderr:  # else it was quicker than we: then the result alone is shown
        for each in decisions:
            assert f"step {each['step']}   {each['name']}" in watched.stderr
    assert watched.returncode == 0, watched.stderr
    assert "outcome    finished" in watched.stdout


def test_ctrl_c_ends_the_watching_and_not_the_run(tmp_path):
    with open_run(CONFIG, name="a") as training:
        training.advance(30)
        watching = subprocess.Popen(
            [sys.executable, "-m", "surefoot", "watch", "a"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        time.sleep(0.1)
        assert watching.stderr is not None
        line = watching.stderr.readline()
        assert "watched" in line
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
        assert "the run goes on" in watching.stderr.read()
        watching.stdout.close()
        watching.stderr.close()
        while not training.done:
            training.advance()
        assert training.finish().record.outcome.kind == "finished"
