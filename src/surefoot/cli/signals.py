"""SIGINT and SIGTERM: they stop at once, but while training they are noted, and the loop saves first."""

from __future__ import annotations

import signal
from types import FrameType


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
