"""The law for real processes: killed or stopped from outside at any moment, the same command ends the run the same.

The model waits a little in every training batch while SLOW is set, so that a signal comes before the end however
busy the machine is; what it computes is the shipped mlp.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from small import bare

from surefoot.cli.app import run as surefoot
from surefoot.record import store
from surefoot.record.run import read_rows

MODEL = """
import os, time
from surefoot.models.mlp import Mlp

class Slow(Mlp):
    def forward(self, x):
        if self.training and os.environ.get("SLOW"):
            time.sleep(0.01)
        return super().forward(x)
"""
COMMAND = [
    "train", "digits", "--model", "slow_mlp:Slow", "--epochs", "16", "--batch-size", "128", "--lr", "0.1",
    "--ema-decay", "0.9", "--checkpoint-seconds", "0", "--seed", "3", "--precision", "fp32", "--json",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the model's file, the working directory of all runs here."""
    folder = tmp_path_factory.mktemp("kills")
    (folder / "slow_mlp.py").write_text(MODEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.delenv("SLOW", raising=False)
        yield folder


@pytest.fixture(scope="module")
def undisturbed(place) -> Path:
    assert surefoot([*COMMAND, "--name", "undisturbed"]) == 0
    return place / "runs" / "undisturbed"


def begin(place: Path, name: str, words: Sequence[str] = COMMAND) -> subprocess.Popen[str]:
    environment = os.environ | {"SLOW": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    command = [sys.executable, "-m", "surefoot", *words, "--name", name]
    return subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_rows(run: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until the process has written so many rows."""
    until = time.monotonic() + 60
    while not (run / store.METRICS).is_file() or len((run / store.METRICS).read_text().splitlines()) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.002)


def assert_same(run: Path, other: Path) -> None:
    for name in (store.WEIGHTS, "best.safetensors", "last.safetensors", store.START):
        assert (run / name).is_file() == (other / name).is_file(), name
        assert not (run / name).is_file() or (run / name).read_bytes() == (other / name).read_bytes(), name
    newest = [sorted((folder / store.CHECKPOINTS).iterdir())[-1] for folder in (run, other)]
    assert newest[0].name == newest[1].name
    for name in ("model.safetensors", "state.safetensors"):
        assert (newest[0] / name).read_bytes() == (newest[1] / name).read_bytes()
    assert bare(read_rows(run)) == bare(read_rows(other))
    results = [json.loads((folder / store.RESULT).read_text()) for folder in (run, other)]
    clocks = {"run", "folder", "train_seconds", "examples_per_second", "reached", "files", "seal"}
    assert all(results[0][key] == results[1][key] for key in results[0].keys() - clocks)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_and_the_run_goes_on_to_the_same_end(number, code, place, undisturbed, capsys):
    name = f"stopped-{code}"
    run = place / "runs" / name
    with begin(place, name) as process:
        wait_for_rows(run, 3, process)
        if number == signal.SIGINT:  # while it is held, nobody else may write there
            capsys.readouterr()
            assert surefoot([*COMMAND, "--name", name]) == 1
            assert f"is in use by process {process.pid}" in capsys.readouterr().err
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == "", "a result comes only at the end"
    assert f"go on with: surefoot resume {name}" in err
    assert "Traceback" not in err
    newest = sorted((run / store.CHECKPOINTS).iterdir())[-1]
    said = int(err.split("stopped at step ")[1].split()[0])
    assert newest.name == f"step-{said:08d}"
    assert not (run / store.RESULT).exists()
    capsys.readouterr()
    assert surefoot(["resume", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 160
    assert_same(run, undisturbed)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_a_random_moment_the_same_command_ends_the_same(seed, place, undisturbed):
    rng = random.Random(seed)
    name = f"killed-{seed}"
    run = place / "runs" / name
    with begin(place, name) as process:
        wait_for_rows(run, rng.randint(1, 6), process)
        time.sleep(rng.random() * 0.1)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (run / store.RESULT).exists()
    assert surefoot([*COMMAND, "--name", name]) == 0
    assert_same(run, undisturbed)


def test_the_same_command_on_a_finished_run_prints_its_result_and_trains_nothing(undisturbed, capsys):
    files = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert surefoot([*COMMAND, "--name", "undisturbed"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result.pop("curves")["name"] == "curves"
    assert result == json.loads((undisturbed / store.RESULT).read_text())
    assert "is finished" in printed.err
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()} == files


def test_another_command_under_the_same_name_is_refused_and_each_difference_named(undisturbed, capsys):
    capsys.readouterr()
    assert surefoot([*COMMAND, "--name", "undisturbed", "--momentum", "0.5", "--clip-norm", "2"]) == 2
    message = capsys.readouterr().err
    assert "momentum (0.9 there, 0.5 here)" in message
    assert "clip_norm (None there, 2.0 here)" in message
    assert "lr (" not in message


STOPPED_EARLY = [
    "train", "--from", "undisturbed", "--epochs", "40", "--lr", "1", "--momentum", "0.95", "--schedule", "constant",
    "--early-stopping-epochs", "5", "--json",
]  # fmt: skip
"""From the weights of another run, at a rate that soon spoils them, until it stops by itself."""


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_a_run_from_weights_that_stops_early_ends_the_same(seed, place, undisturbed, capsys):
    plain = place / "runs" / "early"
    assert surefoot([*STOPPED_EARLY, "--name", "early"]) == 0
    result = json.loads((plain / store.RESULT).read_text())
    assert "stopped early" in result["reason"]
    assert (result["weights"], result["steps"] < 400) == ("best", True)
    rng, name = random.Random(seed), f"early-{seed}"
    with begin(place, name, STOPPED_EARLY) as process:
        wait_for_rows(place / "runs" / name, rng.randint(1, 4), process)
        time.sleep(rng.random() * 0.1)
        process.kill()
        process.communicate()
    assert not (place / "runs" / name / store.RESULT).exists()
    capsys.readouterr()
    assert surefoot(["resume", "--json"]) == 0, "the newest that is not finished"
    assert json.loads(capsys.readouterr().out)["run"] == name
    assert_same(place / "runs" / name, plain)
