import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from surefoot import __version__
from surefoot.cli import app, train
from surefoot.cli.app import Stopped, StopSignals, build_app, run
from surefoot.errors import CheckpointError, ConfigError, DataError


def ending(monkeypatch, capsys, error: BaseException) -> tuple[int, str]:
    """Return exit code and message of a command that ends with this error."""

    def fail(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(app, "build_app", lambda: fail)
    code = run(["train"])
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return code, err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("a", "b", "c"), 2, "surefoot: a: b. C."),
        (DataError("a", "b", "c"), 1, "surefoot: a: b. C."),
        (CheckpointError("a", "b", "c"), 1, "surefoot: a: b. C."),
        (Stopped(2), 130, "before training began"),
        (Stopped(15), 143, "before training began"),
        (Stopped(15, again=True), 143, "last checkpoint stays"),
        (Stopped(2, trained=True), 130, "surefoot resume ends it"),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(28, "No space left on device", "runs/a/x"), 1, "runs/a/x: No space left on device"),
        (OSError("odd"), 1, "odd"),
        (PermissionError(13, "Permission denied", "runs"), 1, "runs: Permission denied"),
        (MemoryError(), 1, "out of memory"),
        (MemoryError("cannot allocate 5 GB\nmore"), 1, "cannot allocate 5 GB"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 1, "--micro-batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "--micro-batch-size"),
    ],
)
def test_every_mistake_is_one_message_and_an_exit_code(error, code, message, monkeypatch, capsys):
    found, text = ending(monkeypatch, capsys, error)
    assert found == code
    assert message in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("a bug"), TypeError("a bug")])
def test_a_bug_is_not_dressed_up_as_a_mistake(error, monkeypatch, capsys):
    with pytest.raises(type(error)):
        ending(monkeypatch, capsys, error)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch"], "nosuch"),
        (["train", "digits", "--learning-rate", "1"], "--learning-rate"),
        (["train", "digits", "--lr"], "lr"),
        (["train", "digits", "--lr", "fast"], "lr"),
        (["train", "digits", "--steps", "1.5"], "steps"),
        (["train", "digits", "--momentum-form", "nestorov"], "did you mean 'nesterov'"),
        (["train", "digits", "extra", "words"], "extra"),
        (["evaluate"], "run"),
        (["train", "digits", "--json=maybe"], "json"),
    ],
)
def test_wrong_usage_is_named_in_one_line(words, message, capsys):
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message.lower() in err.lower()
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


def test_help_and_version_need_no_command(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for command in ("train", "resume", "evaluate", "predict", "show", "schedule", "models", "data"):
        assert command in text


def test_every_command_can_be_imported_and_has_help(capsys):
    for command in app._COMMANDS:
        assert run([command, "--help"]) == 0
        assert f"surefoot {command}" in capsys.readouterr().out
    assert train.train in [build_app()["train"].default_command]


def test_the_reader_of_our_output_may_leave():
    """`surefoot models | head -0`: no second error as the process ends."""
    code = "import sys; from surefoot.cli.app import main; sys.argv = ['surefoot', '--help']; main()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(60) in (0, 1)
        assert process.stderr.read() == ""


def test_python_m_surefoot_is_surefoot():
    text = (Path(app.__file__).parents[1] / "__main__.py").read_text()
    assert "main()" in text


BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_before_training_a_signal_stops_at_once(number):
    with pytest.raises(Stopped) as caught, StopSignals():
        os.kill(os.getpid(), number)
    assert caught.value.number == number
    assert not caught.value.again


@BOTH
def test_while_training_the_first_is_noted_and_the_second_stops(number):
    with StopSignals() as signals:
        signals.patient = True
        os.kill(os.getpid(), number)
        assert signals.received == number
        with pytest.raises(Stopped) as caught:
            os.kill(os.getpid(), number)
    assert caught.value.again
    assert signals.received == number


def test_a_stop_is_not_an_error_that_code_in_between_could_catch():
    assert not issubclass(Stopped, Exception)


def test_the_former_handlers_come_back_also_after_an_exception():
    former = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with contextlib.suppress(KeyError), StopSignals():
        assert signal.getsignal(signal.SIGTERM) is not former[1]
        raise KeyError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == former


def test_a_message_that_nobody_can_read_leaves_the_code_as_it_is(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    assert run(["train", "--no-such-flag"]) == 2
