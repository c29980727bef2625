"""Processes that work on files and may be killed: a decoder that hangs or crashes costs one file, not the whole command."""

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from tasks.core.errors import VidError
from tasks.core.interpreter import usable_cores
from tasks.core.reporter import Progress, Reporter
from tasks.core.signals import HANDLED, StopFlag, exit_for, signals_blocked
from tasks.core.video.frame_count import FrameCount, VideoCount
from tasks.core.video.guard import decode_in_process

STALL_S = 120.0
"""A file from which nothing has come for this long is given up."""
OPENING_S = 600.0
"""The same before the first frame: a large file on a slow disk is indexed first."""
_BEAT_S = 0.5
_POLL_S = 0.5

NOTE, DONE, DIED = "note", "done", "died"
_RAISED = "raised"
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # a full or closed disk is not a fault of the file
Work = Callable[[Any, Callable[[Any], None]], Any]


@dataclass
class _Child:
    process: Any
    pipe: Connection
    item: int | None = None
    deadline: float = 0.0
    limit: float = 0.0


def default_workers(given: int | None) -> int:
    """`given`, else $VID_WORKERS, else one per usable core up to 8; at least 1."""
    if given is None and os.environ.get("VID_WORKERS", "").isdigit():
        given = int(os.environ["VID_WORKERS"])
    cores = usable_cores()
    return max(1, min(8, cores) if given is None else given)


def run_children(
    work: Work, items: Sequence[Any], workers: int, patience: Callable[[Any], float | None], stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[int, str, Any]]:
    """Works on items in processes of their own (spawned, so that nothing is shared), each item in one of them.

    Args:
        work: importable function (or a partial of one) of an item and a function `note` that sends anything to the caller.
        patience: from a note, or None at the start of an item, to the seconds from now until the item is given up; None: as before.
        stopped: asked now and then; True ends everything.

    Raises:
        whatever `work` raises that a person can act on (VidError), and a full or read-only disk (OSError).

    Yields:
        (item number, NOTE, what was noted), and once per item (number, DONE, result) or (number, DIED, reason), as they come.
    """
    context = multiprocessing.get_context("spawn")
    todo = list(reversed(range(len(items))))
    children = [_start(context, work) for _ in range(min(workers, len(items)))]
    try:
        while not stopped():
            for place, child in enumerate(children):
                if child.item is None and todo:
                    if not child.process.is_alive():
                        child = children[place] = _start(context, work)
                    child.item = todo.pop()
                    _expect(child, patience(None))
                    child.pipe.send(items[child.item])
            busy = [child for child in children if child.item is not None]
            if not busy:
                return
            nearest = min(child.deadline for child in busy) - time.monotonic()
            ready = wait([child.pipe for child in busy], min(_POLL_S, max(0.0, nearest)))
            if stopped():
                return
            for child in busy:
                yield from _hear(child, patience) if child.pipe in ready else _overdue(child)
    finally:
        for child in children:
            _kill(child)


def each(
    work: Callable[[Any, Callable[[int], None]], Any],
    inputs: Sequence[Any],
    workers: int,
    reporter: Reporter,
    description: str,
    unit: str,
    failed: Callable[[Any, str], Any],
) -> Iterator[Any]:
    """Results of `work(input, advance)` in the order of the inputs; `advance(n)` tells of n more frames done, and
    `frame_count.expect(advance, n)` that the video has n. Videos are shown by frames, inputs with another `unit` are counted.

    Args:
        workers: processes; 0: work here, one input after the other, which cannot survive a decoder that hangs or crashes.
        failed: from an input and the reason why its process ended to what stands for its result.

    Raises:
        Preempted, Interrupted: a signal asked to stop; what is written stays.
    """
    framed = unit == "video"
    with StopFlag() as stop, reporter.progress(description, *((None, "frame") if framed else (len(inputs), unit))) as bar:

        def leave() -> None:
            if stop.received:
                raise exit_for(stop.received)("stopped by a signal; what is finished is written", "run the same command again to continue")

        count = FrameCount(bar, len(inputs), leave) if framed else _ItemCount(bar, leave)
        if workers == 0:
            for number, source in enumerate(inputs):
                yield work(source, count.of(number))
                count.finish(number)
            return
        waiting: dict[int, Any] = {}
        following = 0
        for number, kind, what in run_children(
            _Beating(work), inputs, workers, lambda note: OPENING_S if note is None else STALL_S, lambda: bool(stop.received)
        ):
            if kind == NOTE:
                frames, length = what
                if length is not None:
                    count.expect(number, length)
                count.advance(number, frames)
                continue
            count.finish(number)
            waiting[number] = what if kind == DONE else failed(inputs[number], what)
            while following in waiting:
                yield waiting.pop(following)
                following += 1
        leave()


class _ItemCount:
    """Counts inputs that are no videos, whatever they tell of frames."""

    def __init__(self, bar: Progress, still: Callable[[], None]):
        self.bar, self.still = bar, still

    def of(self, number: int) -> VideoCount:
        return VideoCount(self, number)

    def expect(self, number: int, frames: int) -> None:
        self.still()

    def advance(self, number: int, frames: int) -> None:
        self.bar.advance(0)
        self.still()

    def finish(self, number: int) -> None:
        self.bar.advance()
        self.still()


class _Beating:
    """Turns what is told of frames into notes, (frames, length of the video or None), two a second at most."""

    def __init__(self, work: Callable[[Any, Callable[[int], None]], Any]):
        self.work = work

    def __call__(self, item: Any, note: Callable[[Any], None]) -> Any:
        beat = _Beat(note)
        result = self.work(item, beat)
        beat.send()
        return result


class _Beat:
    def __init__(self, note: Callable[[Any], None]):
        self._note, self._last, self._frames, self._length = note, time.monotonic(), 0, None

    def __call__(self, frames: int) -> None:
        self._frames += frames
        if time.monotonic() - self._last >= _BEAT_S:
            self.send()

    def expect(self, frames: int) -> None:
        self._length = frames
        self.send()

    def send(self) -> None:
        self._note((self._frames, self._length))
        self._last, self._frames, self._length = time.monotonic(), 0, None


def _start(context: Any, work: Work) -> _Child:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    with signals_blocked():
        process.start()
    theirs.close()
    return _Child(process, ours)


def _serve(pipe: Connection, work: Work) -> None:
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
    decode_in_process()
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            answer = (DONE, work(item, lambda what: pipe.send((NOTE, what))))
        except Exception as error:  # whatever a decoder raises is a finding about the file, not a failure of the command
            ours = isinstance(error, VidError) or (isinstance(error, OSError) and error.errno in _OURS)
            answer = (_RAISED, error) if ours else (DIED, f"cannot be read ({type(error).__name__}: {error})")
        pipe.send(answer)


def _expect(child: _Child, seconds: float | None) -> None:
    if seconds is not None:
        child.limit, child.deadline = seconds, time.monotonic() + seconds


def _hear(child: _Child, patience: Callable[[Any], float | None]) -> Iterator[tuple[int, str, Any]]:
    try:
        kind, what = child.pipe.recv()
    except (EOFError, OSError):
        child.process.join()
        yield from _ended(child, f"its decoder crashed (exit {child.process.exitcode})")
        return
    if kind == NOTE:
        _expect(child, patience(what))
        yield child.item, NOTE, what
        return
    if kind == _RAISED:
        raise what
    number, child.item = child.item, None
    yield number, kind, what


def _overdue(child: _Child) -> Iterator[tuple[int, str, Any]]:
    if time.monotonic() >= child.deadline:
        yield from _ended(child, f"no answer within {child.limit:g} s")


def _ended(child: _Child, reason: str) -> Iterator[tuple[int, str, Any]]:
    _kill(child)
    number, child.item = child.item, None
    yield number, DIED, reason


def _kill(child: _Child) -> None:
    if child.process.is_alive():
        child.process.kill()
    child.process.join()
    child.pipe.close()
