"""The `surefoot` command: its subcommands, and how every mistake or signal becomes one message and an exit code.

Exit codes: 0 done; 1 failed (bad data, a damaged run, a diverged training); 2 wrong usage; 3 a check fails; 130 and
143 stopped by SIGINT or SIGTERM, after a checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from cyclopts import App, CycloptsError, Parameter

from surefoot.cli.flags import Switch, converted, usage_error
from surefoot.cli.process import leave, open_streams
from surefoot.config import __version__
from surefoot.errors import SurefootError, is_out_of_memory
from surefoot.settings import MOST_NESTED

_COMMANDS = {
    "tune": ("surefoot.cli.tune:tune", "Choose all settings by measurement, and train with them: the seven steps."),
    "train": ("surefoot.cli.train:train", "Train a model by SGD, or go on with the run of that name."),
    "check": ("surefoot.cli.check:check", "Check data, model and loss before training: steps 0, 1 and 2."),
    "resume": ("surefoot.cli.train:resume", "Go on with an unfinished run, bit for bit."),
    "evaluate": ("surefoot.cli.evaluate:evaluate", "Measure a trained model: accuracy with its interval, per class."),
    "predict": ("surefoot.cli.predict:predict", "Apply a trained model to images, a folder, an .npz or a .csv."),
    "show": ("surefoot.cli.show:show", "Show a run, or list the runs here."),
    "watch": ("surefoot.cli.watch:watch", "Show how a run goes that another process is doing."),
    "report": ("surefoot.cli.report:report", "Write a report of runs: one HTML file with every picture."),
    "runs": ("surefoot.cli.show:runs", "List, filter and sort the runs here; as CSV too."),
    "find-lr": ("surefoot.cli.find_lr:find_lr", "Measure at which learning rates the loss drops, and suggest one."),
    "noise": ("surefoot.cli.noise:noise", "Measure gradient noise and throughput, and suggest a batch size."),
    "compare": ("surefoot.cli.compare:compare", "Compare update rules from one start, with pictures."),
    "schedule": ("surefoot.cli.schedule:schedule", "Print and draw learning-rate schedules, published ones by name."),
    "doctor": ("surefoot.cli.doctor:doctor", "Measure what this machine can do, and what is wrong with it."),
    "models": ("surefoot.cli.models:models", "List the shipped models."),
}


class Stopped(BaseException):
    """A signal arrived where there was nothing to save, or a second one while saving.

    Args:
        number: of the signal.
        again: whether it was a second one.
        trained: whether all steps were done, and only the result was not yet written.
    """

    def __init__(self, number: int, *, again: bool = False, trained: bool = False) -> None:
        self.number, self.again, self.trained = number, again, trained
        super().__init__(f"signal {number}")


class StopSignals:
    """A context that catches SIGINT and SIGTERM and puts the former handlers back at its end.

    They stop at once, but while training they are noted, and the loop saves first.

    Attributes:
        received: number of the signal noted so far, or None.
        patient: while true, the first signal is only noted; the second raises `Stopped`.
        trained: whether training is over and the result is being written.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.patient = False
        self.trained = False

    def __enter__(self) -> StopSignals:
        self._former = {number: signal.signal(number, self._arrived) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self.patient and self.received is None:
            self.received = number
        else:
            raise Stopped(number, again=self.received is not None, trained=self.trained)


def build_app() -> App:
    """Return the application. Its commands are imported when they are called, so that help is quick."""
    app = App(
        name="surefoot",
        help="Train a model by SGD, and choose its settings by measurement.",
        version=__version__,
        help_format="plaintext",  # the reader of markdown would be a fifth of the time that help takes
        default_parameter=Parameter(converter=converted),
        result_action="return_value",
    )
    for name, (target, summary) in _COMMANDS.items():
        app.command(target, name=name, help=summary)
    data = App(name="data", help="List the named data sets, or check data of your own.", result_action="return_value")
    data.default(_data)
    data.command("surefoot.cli.data:check", name="check", help="Find everything that is wrong with a data set.")
    app.command(data)
    return app


def _data(*, json: Switch = False) -> int | None:
    """List the named data sets: what they are, and whether they are on this machine.

    Args:
        json: Print the list as JSON.
    """
    from surefoot.cli.data import listing

    return listing(json=json)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words after `surefoot`; those of the process if left out.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for word in words:  # the parser takes a list for JSON, and goes down into it
        if word.lstrip()[:1] in ("[", "{") and word.count("[") + word.count("{") > MOST_NESTED:
            what = f"{word[:20]} ... has more than {MOST_NESTED} levels"
            return _say(f"{what}: a list of settings has no lists in it. Write for example 30 60 90.", 2)
    try:
        code = build_app()(words, exit_on_error=False, print_error=False)
        print(end="", flush=True)  # here, where a full disk is said; at the end of the process nobody could
    except CycloptsError as error:
        wrong = usage_error(error, [*_COMMANDS, "data"])
        return _say(str(wrong), wrong.exit_code)
    except SurefootError as error:
        return _say(str(error), error.exit_code)
    except Stopped as stopped:
        what = "before training began; nothing to save"
        if stopped.trained:
            what = "while the result was written; training is done, and the same command or surefoot resume ends it"
        elif stopped.again:
            what = "at once; the last checkpoint stays"
        return _say(f"stopped {what}", 128 + stopped.number)
    except KeyboardInterrupt:
        return _say("stopped", 130)
    except BrokenPipeError:
        # The reader of our output has gone (`surefoot ... | head`). Leave without a second error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # What is wrong with data or a run is named where it is read; here is the rest: a full disk, a folder that went.
        place = f"{error.filename}: " if error.filename else ""
        advice = "What was saved before stays. Make room or mend it, then run the same command again."
        return _say(f"{place}{error.strerror or error}. {advice}", 1)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        what = (str(error) or "it is full").splitlines()[0]
        advice = "Use a smaller --micro-batch-size, which bounds what is computed at once, or a smaller model."
        return _say(f"out of memory: {what}. {advice}", 1)
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of the console script."""
    open_streams()
    leave(run())


def _say(message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # its reader has gone, or the disk is full: the code still says what it was
        print(f"surefoot: {message}", file=sys.stderr, flush=True)
    return code
