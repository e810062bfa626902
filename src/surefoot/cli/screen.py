"""Where a live display is drawn: a few times a second, for at most 1 % of the time, and never an error into the run.

It is drawn between two pieces of training, by whoever calls `draw`: there is no thread that would run beside a step.
"""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

EVERY_SECONDS = 0.25
"""Between two pictures at least. Chosen by hand: as often as a person can follow."""
SHARE = 0.01
"""Of the time that drawing may take: after a picture that took t, the next waits for t / SHARE."""
_NARROWEST, _LOWEST = 20, 6

Frame = Callable[[int, int], Sequence[Text]]
"""From width and height of the terminal to the lines of a picture, none wider."""


class Terminal(Console):
    """A console whose loss is an error like any other; by rich's own rule the whole process would exit."""

    def on_broken_pipe(self) -> None:
        """Be called while a `BrokenPipeError` is handled."""
        raise


class Screen:
    """A context that shows lines, and under them a picture that changes. All of it goes to stderr.

    Args:
        quiet: show nothing.
        console: to draw on; one on stderr if left out.
        clock: seconds.

    Attributes:
        live: whether pictures are drawn: on a terminal that can move its cursor.
        ascii_only: whether the terminal knows no letters but ASCII.
    """

    def __init__(
        self, *, quiet: bool = False, console: Terminal | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.console = console or Terminal(file=sys.stderr, highlight=False, soft_wrap=True, quiet=quiet)
        self.live = self.console.is_terminal and not self.console.is_dumb_terminal and not quiet
        self.ascii_only = not self.console.encoding.startswith("utf")
        self._quiet, self._clock, self._due, self._failed = quiet, clock, 0.0, False
        self._live = Live(console=self.console, auto_refresh=False, transient=False) if self.live else None
        self._frame: Frame | None = None

    def __enter__(self) -> Screen:
        if self._live is not None:
            with self._unharmed():
                self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            with self._unharmed():
                if self._frame is not None and kind is None:
                    self._draw(self._frame)
            with self._unharmed():  # also after a picture that failed: the cursor is to be seen again
                self._live.stop()

    def say(self, text: str, style: str | None = None) -> None:
        """Show a line above the picture; on a terminal it is broken between words, and hangs under its second word."""
        with self._unharmed():
            self.console.print(self._wrapped(text), markup=False, style=self._style(style))

    def draw(self, frame: Frame) -> None:
        """Draw this picture if one is due, and keep it for the end."""
        self._frame = frame
        if self._live is None or self._failed or self._clock() < self._due:
            return
        with self._unharmed():
            began = self._clock()
            self._draw(frame)
            ended = self._clock()
            self._due = max(began + EVERY_SECONDS, ended + (ended - began) / SHARE)

    def _draw(self, frame: Frame) -> None:
        assert self._live is not None
        lines = list(frame(max(_NARROWEST, self.console.width), max(_LOWEST, self.console.height)))
        if self.console.no_color:  # which rich takes for "no colours", and would still embolden
            lines = [Text(line.plain) for line in lines]
        for line in lines:
            line.no_wrap, line.overflow = True, "crop"
        self._live.update(Group(*lines), refresh=True)

    def _style(self, style: str | None) -> str | None:
        return None if self.console.no_color else style

    def _wrapped(self, text: str) -> str:
        if not self.live:
            return text
        width, lines = max(_NARROWEST, self.console.width), list[str]()
        for line in text.split("\n"):
            word = line.find("   ")
            hang = " " * (len(line) - len(line[word:].lstrip())) if 0 < word < 12 else ""
            hang = hang if len(hang) < width // 2 else ""
            lines += textwrap.wrap(
                line, width, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False,
                replace_whitespace=False, drop_whitespace=True,
            ) or [""]  # fmt: skip
        return "\n".join(lines)

    @contextmanager
    def _unharmed(self) -> Iterator[None]:
        """Keep whatever goes wrong with showing from the run, and show nothing more.

        A terminal that has gone, a stream that is closed or a letter that it cannot write ends the display alone.
        """
        try:
            yield
        except Exception:
            self._failed = True
