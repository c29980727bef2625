"""Signals set a flag; loops look at it where it is safe to stop."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tasks.core.errors import Interrupted, Preempted, VidError

_HANDLED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_ECHO_S = 2.0  # a batch system may send one signal to a process directly and again through its parent


class StopFlag:
    """Catches SIGTERM, SIGUSR1 and SIGINT while active.

    The first signal is remembered; Ctrl-C more than two seconds later ends the process at once. Handlers inherited by
    forked workers do nothing there.
    """

    def __init__(self):
        self.received = 0
        self._first = 0.0
        self._owner = os.getpid()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopFlag":
        for number in _HANDLED:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return
        if not self.received:
            self.received, self._first = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._first > _ECHO_S:
            os._exit(Interrupted.exit_code)


@contextmanager
def stopping(message: str, hint: str) -> Iterator[None]:
    """Outside of loops that look at a `StopFlag` (start-up, writing the model) a signal ends the work where it is.

    Raises:
        Preempted, Interrupted: with these words. What appears by temporary name and rename is whole or absent.
    """

    def leave(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            raise exit_for(number)(message, hint)

    owner = os.getpid()
    previous = {number: signal.signal(number, leave) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def exit_for(number: int) -> type[VidError]:
    """The error that ends a run stopped by signal `number`."""
    return Interrupted if number == signal.SIGINT else Preempted
