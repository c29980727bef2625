"""Signals set a flag; loops look at it where it is safe to stop."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tasks.core.errors import Interrupted, Preempted, VidError

HANDLED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What a batch system or a person sends to every process of a command; the main process acts upon them."""
_ECHO_S = 2.0  # a batch system may send one signal to a process directly and again through its parent
_open: list[str] = []  # messages of the `stopping` blocks that are entered
_received: list[tuple[int, float, VidError | None]] = []  # signal, when, and the error raised for it, which a library may have swallowed


class StopFlag:
    """Catches SIGTERM, SIGUSR1 and SIGINT while active.

    The first signal is remembered, also one that `stopping` around it has met; Ctrl-C more than two seconds later ends the process at
    once. Handlers inherited by forked workers do nothing there.
    """

    def __init__(self):
        self.received = 0
        self._first = 0.0
        self._owner = os.getpid()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopFlag":
        if _received:
            self.received, self._first, _ = _received[0]
        for number in HANDLED:
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
def stopping(message: str, hint: str) -> Iterator[Callable[[], None]]:
    """Outside of loops that look at a `StopFlag` (start-up, writing the model) a signal ends the work where it is.

    The first signal does so; those that follow change nothing, but Ctrl-C more than two seconds later, which ends the process at once.

    Yields:
        a function after which signals change nothing any more: the work is over, only its exit code is left to tell.

    Raises:
        Preempted, Interrupted: with these words. What appears by temporary name and rename is whole or absent.
    """

    def leave(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            return
        if not _received:
            _received.append((number, time.monotonic(), exit_for(number)(message, hint)))
            raise _received[0][2]
        if number == signal.SIGINT and time.monotonic() - _received[0][1] > _ECHO_S:
            os._exit(Interrupted.exit_code)

    owner = os.getpid()
    _open.append(message)
    previous = {number: signal.signal(number, leave) for number in HANDLED}
    try:
        yield lambda: _received.append((0, time.monotonic(), None))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _open.remove(message)
        if not _open:
            _received.clear()


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes started within it have `HANDLED` blocked from the start; what reaches this one meanwhile comes after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cause(error: BaseException) -> BaseException:
    """The error of the signal that came before `error`, where there was one: raised amid an import, it may come out as any other error."""
    return next((raised for _, _, raised in _received if raised is not None), error)


def exit_for(number: int) -> type[VidError]:
    """The error that ends a run stopped by signal `number`."""
    return Interrupted if number == signal.SIGINT else Preempted
