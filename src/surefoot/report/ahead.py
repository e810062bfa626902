"""A process that is ready to draw a report when a run ends: what draws is imported and warm by then.

Importing what draws, and its first picture, take a second, and then the page half of one. While a command imports
torch, which keeps one core busy, this process does that on another. It is asked by a line on stdin and answers by one
on stdout, both JSON. It ends with its stdin, so it never outlives the command; and by itself after a minute without a
question: beside a training of minutes a second is little, and its 150 MB would lie there for hours.
"""

from __future__ import annotations

import contextlib
import gc
import json
import queue
import subprocess
import sys
import threading
from pathlib import Path

from surefoot.errors import SurefootError

_IDLE_SECONDS = 60.0
"""How long it waits to be asked. Chosen by hand."""
_START = "import sys; sys.path.append({root!r}); from surefoot.report.ahead import serve; serve()"
"""At the end of the path: what lies beside this package never takes the place of what Python has."""


class Drawer:
    """The process as its parent sees it. Use it with `with`, which ends it.

    >>> with Drawer() as drawer:
    ...     drawer.ask("there-is-no-such-run", "report.html")
    ...     list(drawer.answer())
    ['error']
    """

    def __init__(self) -> None:
        root, self._process = str(Path(__file__).parents[2]), None
        with contextlib.suppress(OSError):  # no room for another process: the report is drawn without one
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START.format(root=root)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
                start_new_session=True,  # Ctrl-C at a terminal is for the command, which may have a checkpoint to write
            )  # fmt: skip

    def ask(self, folder: str | Path, out: str | Path) -> None:
        """Ask for the report of the run in `folder`, to be written to `out`; nothing is waited for."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has gone: `answer` says so
                self._process.stdin.write(json.dumps([str(folder), str(out)]) + "\n")
                self._process.stdin.flush()

    def answer(self) -> dict[str, str] | None:
        """Wait for what was asked; return "path" of the page, or "error"; None if the process has gone."""
        if self._process is None or self._process.stdout is None:
            return None
        try:
            return json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """End the process."""
        if (process := self._process) is not None:
            self._process = None
            process.kill()
            process.communicate()

    def __enter__(self) -> Drawer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def drawn(folder: str | Path, out: str | Path) -> dict[str, str]:
    """Draw the report of a run; return "path" of the page, or "error" in a sentence, whatever it was."""
    try:
        from surefoot.report.page import save_report
        from surefoot.report.run_folder import read_run_folder

        return {"path": str(save_report([read_run_folder(folder)], out))}
    except Exception as error:  # whatever it is: the run is done and on disk
        return {"error": str(error) if isinstance(error, SurefootError) else f"{type(error).__name__}: {error}."}


def get_ready() -> None:
    """Import what draws, and draw a first picture, which starts the engine of JavaScript."""
    from surefoot.report.look import svg
    from surefoot.report.page import program

    program()
    svg({"data": {"values": [{"x": 1}]}, "mark": "point", "encoding": {"x": {"field": "x", "type": "quantitative"}}})


def serve() -> None:
    """Get ready, then draw what stdin asks for until it ends."""
    gc.disable()  # it lives for a minute, and what it makes is kept until it ends
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    with contextlib.suppress(Exception):  # what is wrong is said when something is asked for
        get_ready()
    with contextlib.suppress(queue.Empty):
        while line := asked.get(timeout=_IDLE_SECONDS):
            print(json.dumps(drawn(*json.loads(line))), flush=True)


def _listen(asked: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        asked.put(line)
    asked.put("")
