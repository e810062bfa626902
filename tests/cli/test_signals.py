import contextlib
import os
import signal

import pytest

from surefoot.cli.signals import Stopped, StopSignals

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
