"""The first look at a file, taken by a process that may be killed: where a decoder hangs or crashes the file is refused, whoever opened it.

Indexing decodes pictures and sound as they will be read later, so this is where a bad file shows. Processes that may be killed themselves
(`tasks.core.video.children`) look by themselves.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from socket import socketpair
from typing import Any

from tasks.core.errors import VidError
from tasks.core.interpreter import same_modules
from tasks.core.signals import signals_blocked
from tasks.core.video.index import VideoIndex, build_index
from tasks.core.video.reader import VideoError

LIMIT_S = 600.0
"""A file whose index takes longer is given up; a large one on a slow disk takes minutes."""
IDLE_S = 60.0
_BEAT_S = 2.0
_ONE_LINE = "from tasks.core.video.guard import serve; serve({fd}, {parent})"


class DecoderCrash(VideoError):
    """A file on which a decoder crashed or hung."""


_own_risk = False
_idle: list["IndexWorker"] = []
_lock = threading.Lock()


def decode_in_process() -> None:
    """From here on this process looks at files itself: it may be killed."""
    global _own_risk
    _own_risk = True


def guarded() -> bool:
    """Whether this process has others look at files."""
    return not _own_risk


def first_look(path: str, full: bool) -> VideoIndex:
    """`build_index` of the file, by `survive`."""
    return survive(build_index, path, full)


def survive(look: Callable[..., Any], path: str, *args: Any) -> Any:
    """`look(path, *args)`, in another process unless this one may be killed.

    Args:
        look: importable function that decodes a file and says what it found; what it returns can be pickled.
        path: the file.
        args: whatever else `look` takes.

    Raises:
        VideoError: as `look`, and where the decoder raises something unforeseen.
        DecoderCrash: it crashes or does not end.
        VidError: no process can be had to look at files.
    """
    if _own_risk:
        return look(path, *args)
    while True:
        looker = acquire_worker()
        try:
            answer = looker.ask(look, path, *args)
        except BaseException:
            looker.kill()
            raise
        if answer is None:
            continue  # it had just gone for want of work
        if looker.alive:
            with _lock:
                _idle.append(looker)
        if isinstance(answer, Exception):
            raise answer
        return answer


def acquire_worker() -> "IndexWorker":
    with _lock:
        while _idle:
            looker = _idle.pop()
            if looker.owner == os.getpid() and looker.alive:
                return looker
    return IndexWorker()


class IndexWorker:
    """A process that looks at one file after the other."""

    def __init__(self) -> None:
        self.owner, self._answered = os.getpid(), False
        ours, theirs = socketpair()
        line = _ONE_LINE.format(fd=theirs.fileno(), parent=self.owner)
        with theirs, signals_blocked():  # a signal to the group is for others to act upon
            self._process = subprocess.Popen(
                [sys.executable, "-c", line],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **same_modules()},
            )
        self._pipe = Connection(ours.detach())

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, look: Callable[..., Any], path: str, *args: Any) -> Any:
        """What `look(path, *args)` returns or raises, or None where the process had ended before; VidError where it cannot begin."""
        try:
            self._pipe.send((look, path, args))
            if self._pipe.poll(LIMIT_S):
                answer = self._pipe.recv()
                self._answered = True
                return answer
            self.kill()
            return DecoderCrash(path, f"its decoder gave no answer within {LIMIT_S:g} s")
        except (EOFError, OSError):
            code = self._process.wait()
            self._pipe.close()
            if code >= 0 and not self._answered:  # a decoder ends it by a signal
                hint = "what it said stands above; see that the environment of this command lets it start Python"
                raise VidError(f"the process that looks at video files does not start (exit {code})", hint) from None
            return DecoderCrash(path, f"its decoder crashed (exit {code})") if code else None

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()


def serve(fd: int, parent: int) -> None:
    """In the process that may be killed: looks at the files that come, until none comes for a while or nobody is there."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    pipe = Connection(fd)
    while pipe.poll(IDLE_S):
        try:
            look, path, args = pipe.recv()
        except (EOFError, OSError):
            break
        pipe.send(_answer(look, path, args))
    os._exit(0)


def _answer(look: Callable[..., Any], path: str, args: tuple[Any, ...]) -> Any:
    try:
        return look(path, *args)
    except VidError as error:
        return error
    except Exception as error:  # whatever a decoder raises is a finding about the file
        return VideoError(path, f"cannot be read ({type(error).__name__}: {error})")


def _end_with(parent: int) -> None:
    """A process that hangs hears nothing of the end of the one that waits for it."""
    while os.getppid() == parent:
        time.sleep(_BEAT_S)
    os._exit(0)
