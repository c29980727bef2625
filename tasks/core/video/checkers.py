"""Processes that examine files and may be killed: a decoder that hangs or crashes costs one file, not the whole check."""

import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

DECORD_TIMEOUT_S = 60.0


@dataclass
class _Child:
    process: Any
    pipe: Connection
    path: str | None = None
    deadline: float = 0.0
    facts: dict[str, Any] | None = None


def run_all(paths: list[str], workers: int, timeout_s: float, seek: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, facts of `tasks.core.video.check.examine`) for every path, as they get done."""
    todo = list(reversed(paths))
    context = multiprocessing.get_context("spawn")
    children = [_start(context, seek) for _ in range(min(workers, len(paths)))]
    try:
        while True:
            for child in children:
                if child.path is None and todo:
                    child.path, child.facts, child.deadline = todo.pop(), None, time.monotonic() + timeout_s
                    child.pipe.send(child.path)
            busy = [child for child in children if child.path is not None]
            if not busy:
                return
            ready = wait([child.pipe for child in busy], max(0.0, min(c.deadline for c in busy) - time.monotonic()))
            for child in busy:
                done = _hear(child) if child.pipe in ready else _overdue(child, timeout_s)
                if done is None:
                    continue
                yield child.path, done
                child.path = None
                if not child.process.is_alive():
                    children[children.index(child)] = _start(context, seek)
    finally:
        for child in children:
            _kill(child)


def _start(context: Any, seek: bool) -> _Child:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, seek), daemon=True)
    process.start()
    theirs.close()
    return _Child(process, ours)


def _serve(pipe: Connection, seek: bool) -> None:
    from tasks.core.video.check import examine

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act upon
    while True:
        try:
            path = pipe.recv()
        except EOFError:
            return
        try:
            for facts in examine(path, seek):
                pipe.send(facts)
        except Exception as error:  # whatever a decoder raises is a finding about the file, not a failure of the check
            pipe.send({"ok": False, "problems": [f"cannot be read ({type(error).__name__}: {error})"]})
        pipe.send(None)


def _hear(child: _Child) -> dict[str, Any] | None:
    """The facts once the child has finished its file or died; None while it goes on."""
    try:
        message = child.pipe.recv()
    except (EOFError, OSError):
        child.process.join()
        return _ended(child, f"its decoder crashed (exit {child.process.exitcode})")
    if message is None:
        return child.facts or {"ok": False, "problems": ["nothing was found out"]}
    child.facts = message
    if message.get("seek"):
        child.deadline = time.monotonic() + DECORD_TIMEOUT_S
    return None


def _overdue(child: _Child, timeout_s: float) -> dict[str, Any] | None:
    if time.monotonic() < child.deadline:
        return None
    _kill(child)
    return _ended(child, f"no answer within {timeout_s:g} s")


def _ended(child: _Child, reason: str) -> dict[str, Any]:
    """Facts after a violent end: all but decord's part where PyAV's had come."""
    _kill(child)
    if child.facts is None:
        return {"ok": False, "problems": [reason]}
    from tasks.core.video.cache import keep_decord_verdict

    keep_decord_verdict(child.path, False)
    return {**child.facts, "seek": {**child.facts.get("seek", {}), "decord": {"error": "hangs or crashes"}}}


def _kill(child: _Child) -> None:
    if child.process.is_alive():
        child.process.kill()
    child.process.join()
    child.pipe.close()
