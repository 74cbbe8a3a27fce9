"""A signal becomes a request to save and leave."""

import os
import signal

import pytest

from prevalent.runtime.command import Stopped
from prevalent.runtime.signals import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_asks_for_a_stop(number):
    with StopSignal() as stop:
        assert not stop.requested(1)
        os.kill(os.getpid(), number)
        assert stop.requested(1)
        with pytest.raises(Stopped, match="after step 1; run the same command"):
            stop.leave(1)


def test_a_second_interrupt_stops_at_once():
    with StopSignal():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
