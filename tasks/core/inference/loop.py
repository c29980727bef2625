"""One input after the other: what cannot be read fails alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tasks.core.data.inputs import Input
from tasks.core.errors import InputError
from tasks.core.reporter import Reporter
from tasks.core.video.children import each
from tasks.core.video.reader import VideoError

Advance = Callable[[int], None]
"""Told of n more frames (or steps) that are behind; 0 says that work goes on."""


def still(n: int) -> None:
    """An `Advance` that tells nobody."""


def each_input(
    work: Callable[[Input, Advance], dict[str, Any]],
    inputs: Sequence[Input],
    workers: int,
    reporter: Reporter,
    doing: str,
    unit: str = "video",
) -> Iterator[dict[str, Any]]:
    """Records of `work(input, advance)` in the order of the inputs.

    Args:
        work: must be importable (or a partial of something importable) where there are workers.
        inputs: what to go through.
        workers: processes, which survive an input on which a decoder hangs or crashes; 0: all work is done here.
        reporter: shows how far it is.
        doing: what is being done, for the person who waits.
        unit: what an input is called.

    Yields:
        what `work` returns; the record of `failure` for an input whose process hung or crashed.

    Raises:
        Preempted, Interrupted: a signal asked to stop; what is written stays.
    """
    yield from each(work, inputs, workers, reporter, doing, unit, lambda source, reason: {"video": source.shown, "error": reason})


def failure(source: Input, error: InputError) -> dict[str, Any]:
    """The record of an input that cannot be used: `video` and `error`, the reason without the path."""
    reason = error.reason if isinstance(error, VideoError) else error.message.removeprefix(f"{source.row.path}: ")
    return {"video": source.shown, "error": reason}
