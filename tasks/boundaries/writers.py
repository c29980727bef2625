"""Boundaries as files: CSV, CMX 3600 edit decision list, HTML report, scores. Nothing here detects anything."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from tasks.boundaries.result import Detection
from tasks.boundaries.scores import SUFFIX as SCORES_SUFFIX
from tasks.boundaries.scores import write_scores
from tasks.core import files
from tasks.core.report.outputs import readable
from tasks.core.video.reader import VideoReader

SUFFIXES = {
    "json": ".boundaries.json",
    "csv": ".boundaries.csv",
    "edl": ".boundaries.edl",
    "html": ".boundaries.html",
    "scores": SCORES_SUFFIX,
}
"""Kind of file -> how its name ends; `json` is the record, see `tasks.core.inference.output`."""
_NTSC = (15, 24, 30, 48, 60)  # counts per second that also exist slowed down by 1000/1001
_MAX_COUNT = 99  # the frames field of a timecode has two digits
_MAX_TITLE = 70


def write_file(
    kind: str, path: Path, detection: Detection, reader: VideoReader | None = None, advance: Callable[[int], None] = lambda n: None
) -> None:
    """Writes one kind of file; it appears whole or not at all.

    Args:
        kind: of `SUFFIXES`, without the record.
        path: the file.
        detection: what was found.
        reader: the video, for the pictures of the report; None: a report without.
        advance: called with 0 now and then: still at work.

    Raises:
        VideoError: the video cannot be read again.
    """
    if kind == "html":
        from tasks.boundaries.report import pictures, write_report

        write_report(path, detection, None if reader is None else pictures(detection, reader, advance))
    else:
        {"csv": write_csv, "edl": write_edl, "scores": write_scores}[kind](path, detection)


def write_csv(path: Path, detection: Detection) -> None:
    """Writes one line per boundary: `t` (s), `frame`, `score`, `kind` (empty where it is not told); times and scores with six decimals."""
    rows = (f"{b.t:.6f},{b.frame},{b.score:.6f},{b.kind or ''}\n" for b in detection.boundaries)
    files.write_text(path, "t,frame,score,kind\n" + "".join(rows))


def timecode_rate(fps: float) -> tuple[int, Fraction]:
    """How a video's frames are counted in timecodes, and how many of them pass per second.

    Timecodes count whole frames: 23.976, 29.97 and 59.94 fps are counted as 24, 30 and 60, without dropped numbers, while
    24000/1001, 30000/1001 and 60000/1001 of them pass per second, so that every frame has its own number and an hour of timecode
    lasts 3.6 s longer than an hour. Every other rate takes the nearest whole number. Above 99 frames per second, which two digits
    cannot hold, the rate is halved until it fits.

    Args:
        fps: average frames per second, > 0.

    Returns:
        (count, rate): frames per second of timecode; frames per second of presentation time.
    """
    while round(fps) > _MAX_COUNT:
        fps /= 2
    count = max(1, round(fps))
    slowed = Fraction(count * 1000, 1001)
    if count in _NTSC and abs(fps - slowed) < abs(fps - count):
        return count, slowed
    return count, Fraction(count)


def timecode(frame: int, count: int) -> str:
    """Frame number -> HH:MM:SS:FF without dropped numbers; hours count on past 23.

    Args:
        frame: from 0.
        count: frames per second of timecode.
    """
    seconds, frames = divmod(frame, count)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}:{frames:02d}"


def segments(detection: Detection, rate: Fraction) -> list[tuple[int, int]]:
    """The stretches between boundaries as frame numbers (in, out), out exclusive; each begins where the one before ends.

    A time becomes the nearest number at `rate`, counted from the video's first frame. Where the frame rate varies, two boundaries can
    fall on one number: they make one cut. Boundaries that fall on the first or beyond the last frame make none.
    """
    total = max(1, round(detection.duration_s * rate))
    cuts = {round((b.t - detection.start_s) * rate) for b in detection.boundaries}
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < total), total]
    return list(pairwise(edges))


def write_edl(path: Path, detection: Detection) -> None:
    """Writes a CMX 3600 edit decision list: one cut event per segment, in the order of the video.

    Source timecodes count from 00:00:00:00 at the first frame of the file, record timecodes from the first frame that was looked at.
    The format does not say at what rate: a comment at the first event does. The reel is AX, the format's name for a source that is no
    tape; the file's name is in the comment of every event. CMX 3600 ends at event 999 and at 24 hours: longer lists go on with four
    digits, as today's editors write them; longer videos with hours above 23, so that no two frames have one timecode.
    """
    name = _one_line(Path(readable(detection.path)).name)
    count, rate = timecode_rate(detection.fps)
    lines = [f"TITLE: {name[:_MAX_TITLE]}", "FCM: NON-DROP FRAME", ""]
    offset = round((detection.start_s - detection.file_start_s) * rate)
    for number, (first, last) in enumerate(segments(detection, rate), start=1):
        source, record = (f"{timecode(first + by, count)} {timecode(last + by, count)}" for by in (offset, 0))
        lines.append(f"{number:03d}  {'AX':<8} {'V':<5} {'C':<8} {source} {record}")
        lines.append(f"* FROM CLIP NAME: {name}")
        if number == 1:
            lines.append(f"* COMMENT: {float(rate):.6g} FPS, TIMECODES COUNT {count} FRAMES PER SECOND")
        lines.append("")
    files.write_text(path, "\n".join(lines))


def _one_line(text: str) -> str:
    """A file name may hold line breaks, a line of the list may not."""
    return "".join(char if char.isprintable() else " " for char in text)
