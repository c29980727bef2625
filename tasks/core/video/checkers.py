"""The processes of `vid data check`: what is known of a file stays known when its decoder hangs or crashes later."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tasks.core.video.children import DIED, DONE, run_children

DECORD_TIMEOUT_S = 60.0


def run_all(
    paths: list[str], workers: int, timeout_s: float, seek: bool, stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, facts of `tasks.core.video.check.examine`) for every path, as they get done, until `stopped` says True."""

    def patience(facts: dict[str, Any] | None) -> float | None:
        if facts is None:
            return timeout_s
        return DECORD_TIMEOUT_S if facts.get("seek") else None

    known: dict[int, dict[str, Any]] = {}
    for number, kind, what in run_children(partial(_examine, seek), paths, workers, patience, stopped):
        if kind == DONE:
            yield paths[number], known.get(number) or {"ok": False, "problems": ["nothing was found out"]}
        elif kind == DIED:
            yield paths[number], _ended(known.get(number), what)
        else:
            known[number] = what


def _examine(seek: bool, path: str, note: Any) -> None:
    from tasks.core.video.examine import examine

    for facts in examine(path, seek):
        note(facts)


def _ended(facts: dict[str, Any] | None, reason: str) -> dict[str, Any]:
    """Facts after a violent end: all but decord's part where PyAV's had come."""
    if facts is None:
        return {"ok": False, "problems": [reason]}
    return {**facts, "seek": {**facts.get("seek", {}), "decord": {"error": "hangs or crashes"}}}
