"""The contract of detectors: what finds something in time, with or without a model, in videos or in what was made of them.

A detector is told once to `prepare`. Of each input it gets `open`, `score`, window after window in bounded memory, and `finish`, which
makes results of the scores and looks at nothing else. Scores that were saved are one more way to `score`. The loop around it, files,
resuming and failures are the same for all.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from tasks.core.clips.clips import duration_s, frame_range
from tasks.core.data.inputs import Input
from tasks.core.errors import InputError
from tasks.core.inference.loop import Advance, each_input, failure, still
from tasks.core.inference.output import Output
from tasks.core.reporter import Reporter
from tasks.core.video.frame_count import expect
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoReader

Opened = TypeVar("Opened")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Detector(ABC, Generic[Opened, Piece, Result]):
    """One way to find something; made once, used for every input.

    Attributes:
        method: recorded with every result: `training-free`, or the model as it was named.
        settings: recorded with every result, JSON-able: enough to make the results anew from the scores; results of others are redone.
        suffixes: kind of file -> how its name ends, `.<task>.<ending>`; `json`, the record, is one of them.
        portable: can be sent to worker processes, which survive a decoder that hangs or crashes. A network stays where its memory is.
        decoder: reads videos; see `open_video`.
    """

    method: str
    settings: Mapping[str, Any]
    suffixes: Mapping[str, str]
    portable: bool = False
    decoder: str = "auto"

    def prepare(self, reporter: Reporter, workers: int) -> None:
        """What all inputs need: once, before the first, and not where every input was done before.

        Args:
            reporter: told of it.
            workers: 0: in this process; else in processes of their own, which may hang or crash.
        """
        return None

    def open(self, source: Input) -> AbstractContextManager[Opened]:
        """What is looked at of one input, open; by default `Footage`.

        Raises:
            InputError: it cannot be used.
            VideoError: it cannot be read.
        """
        return open_footage(source, self.decoder)

    @abstractmethod
    def score(self, opened: Opened, advance: Advance = still) -> Iterator[Piece]:
        """Scores of one input, window after window, forwards; what is held does not grow with the input, apart from the scores.

        How much a piece is about is the detector's choice: a batch of windows, or all of them where a score depends on what comes later.

        Args:
            opened: see `open`.
            advance: told of the frames that are behind.

        Raises:
            InputError: the input cannot be used, e.g. is too short.
            VideoError: it cannot be decoded.
        """

    @abstractmethod
    def finish(self, opened: Opened, scores: Iterator[Piece]) -> Result:
        """What was found, from everything that `score` yields; nothing is decoded here."""

    @abstractmethod
    def record(self, result: Result) -> dict[str, Any]:
        """A result as the JSON object of its input: `video`, `method`, `settings`, and what was found; plain Python values."""

    @abstractmethod
    def write(self, kind: str, path: Path, result: Result, opened: Opened, advance: Advance = still) -> None:
        """Writes one kind of file other than the record; it appears whole or not at all.

        Args:
            kind: of `suffixes`.
            path: the file.
            result: see `finish`.
            opened: for pictures.
            advance: told of 0 frames now and then: still at work.
        """


def detect_all(
    detector: Detector, inputs: list[Input], output: Output, workers: int, reporter: Reporter, doing: str = "detecting"
) -> Iterator[dict[str, Any]]:
    """Detects in every input, one after the other or, where the detector is portable, in several processes.

    Yields, in the order of the inputs:
        the detector's record plus `files`; `{"video", "error"}` for an input that cannot be used; a record with `"skipped": True` where
        its files were made before.
    """
    todo = any(output.done_before(detector, source) is None for source in inputs)
    if todo:
        detector.prepare(reporter, workers)
    here = workers if todo and detector.portable else 0
    yield from each_input(partial(detect_one, detector, output), inputs, here, reporter, doing)


def detect_one(detector: Detector, output: Output, source: Input, advance: Advance = still) -> dict[str, Any]:
    """Detects in one input and writes its files; returns its record, see `detect_all`."""
    if (record := output.done_before(detector, source)) is not None:
        return record
    try:
        with detector.open(source) as opened:
            footage = getattr(opened, "footage", opened)
            if isinstance(footage, Footage):
                expect(advance, footage.stop - footage.start)
            result = detector.finish(opened, detector.score(opened, advance))
            return output.write(
                detector, source, detector.record(result), lambda kind, path: detector.write(kind, path, result, opened, advance)
            )
    except InputError as error:
        return failure(source, error)


@dataclass(frozen=True)
class Footage:
    """An open video, and which of its frames count.

    Attributes:
        shown: the video as it was named.
        reader: the video.
        start, stop: frames with start <= number < stop count.
        start_s, end_s: the part as a manifest names it, seconds; None: from the first, to the last frame.
    """

    shown: str
    reader: VideoReader
    start: int
    stop: int
    start_s: float | None = None
    end_s: float | None = None

    @property
    def first_s(self) -> float:
        """Presentation time of the first frame that counts."""
        return float(self.reader.pts[self.start])

    @property
    def duration_s(self) -> float:
        """Seconds from the start of the first to the end of the last frame that counts."""
        return duration_s(self.reader.pts[self.start : self.stop], self.reader.fps)

    def facts(self) -> dict[str, Any]:
        """`path`, `n_frames` (of the file), `fps`, `duration_s`, `start_s`, `width`, `height` (px) and `damage`, as results record them;
        to be asked for when the video has been read, since damage may show on the way.
        """
        reader = self.reader
        return {
            "path": self.shown,
            "n_frames": reader.n_frames,
            "fps": float(reader.fps),
            "duration_s": self.duration_s,
            "start_s": self.first_s,
            "width": reader.width,
            "height": reader.height,
            "damage": reader.damage,
        }


@contextmanager
def open_footage(source: Input, decoder: str = "auto") -> Iterator[Footage]:
    """The video of an input; VideoError where it cannot be read."""
    row = source.row
    with open_video(row.path, decoder) as reader:
        yield Footage(source.shown, reader, *frame_range(reader.pts, row.start_s, row.end_s), row.start_s, row.end_s)
