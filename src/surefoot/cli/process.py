"""What keeps the process of a command short beside its training: how it loads, who draws its report, how it ends."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NoReturn

from surefoot.report.ahead import Drawer


def open_streams() -> None:
    """Give the process the standard streams that it was started without, as by `>&-`: what is said there goes nowhere.

    Python has None in their place, and the next file that is opened would get their number.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest that is free
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115 - as long as the process
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - likewise
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - likewise


@contextmanager
def loading() -> Iterator[None]:
    """Let the collector of garbage rest while a command imports torch, and never look at what that makes.

    Its 400,000 objects stay as long as the process does. Looking at them again and again was 0.15 s of the 1.37 s that
    the import took. Nothing is changed where torch is there already: then the process is somebody else's.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def report_ahead(wanted: bool) -> AbstractContextManager[Drawer | None]:
    """Return a process that gets ready to draw the report while this one imports torch; None where that is done."""
    return Drawer() if wanted and "torch" not in sys.modules else nullcontext()


def leave(code: int) -> NoReturn:
    """End the process of a command: all that Python does at its end, save taking apart what the system frees anyway.

    Taking down the modules of torch takes 0.3 s. What was registered with `atexit` runs, and every file that is still
    open, as one of a user's model may be, is flushed. With a thread that is to be waited for the end is the usual one.
    mypy ends so, too (`mypy.util.hard_exit`).
    """
    others = [each for each in threading.enumerate() if each is not threading.main_thread() and not each.daemon]
    if "torch" not in sys.modules or others:
        sys.exit(code)
    atexit._run_exitfuncs()
    # `loading` hides from the collector what was there before it, as the standard streams were.
    for each in (sys.stdout, sys.stderr, *gc.get_objects()):
        if issubclass(type(each), io.IOBase):  # `isinstance` would ask each object for its class, and some answer
            with contextlib.suppress(Exception):  # closed, its reader has gone, or what a class of anyone's raises
                each.flush()
    os._exit(code)
