"""Sentences with times: of a row of a manifest, and of the subtitle file (SRT or WebVTT) that it names."""

import codecs
import hashlib
import html
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.core.data.rows import Row
from tasks.core.errors import InputError

FALLBACK = "cp1252"
"""Encoding of subtitle files that are not in UTF-8."""

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_TIME = {"srt": r"\d{1,2}:[0-5]?\d:[0-5]?\d[,.]\d{1,3}", "vtt": r"(?:\d{1,9}:)?[0-5]?\d:[0-5]?\d\.\d{1,3}"}
_TIMES = {kind: re.compile(rf"\s*({time})\s*-->\s*({time})(?!\d)") for kind, time in _TIME.items()}
_LIKE_TIMES = {"srt": re.compile(r"\s*-?\d.*-->"), "vtt": re.compile(r".*-->")}
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>|\{\\[^{}]*\}")
_LARGEST = 64 << 20  # bytes; a film has a hundred thousand


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and when it holds or is said.

    Attributes:
        start_s, end_s: presentation time in seconds; `end_s` is inf where it is that of the end of the video.
        text: one line without markup.
    """

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Cue:
    """An entry of a subtitle file.

    Attributes:
        sentence: what it says and when; its text is empty where the file shows nothing.
        line: of its times, from 1.
        start, end: where in the file's content these times are written.
    """

    sentence: Sentence
    line: int
    start: slice
    end: slice


@dataclass(frozen=True)
class Subtitles:
    """A subtitle file, read.

    Attributes:
        path: of the file.
        format: told by the content.
        encoding: of the file, to write `content` with; FALLBACK where it is neither in UTF-8 nor in UTF-16.
        content: the whole text of the file without byte order mark, ends of lines as they are.
        cues: its entries in the order of the file.
    """

    path: Path
    format: Literal["srt", "vtt"]
    encoding: str
    content: str
    cues: tuple[Cue, ...]

    @property
    def sentences(self) -> list[Sentence]:
        """The entries that say something, in the order of the file."""
        return [cue.sentence for cue in self.cues if cue.sentence.text]

    def retimed(self, times: Sequence[tuple[float, float]]) -> str:
        """The content with other times and nothing else changed: numbers, markup, positions, comments and order stay.

        Args:
            times: (start, end) in seconds of every entry of `cues`, written to the millisecond; before 0 is 0.
        """
        parts, done = [], 0
        for cue, moved in zip(self.cues, times, strict=True):
            for place, seconds in zip((cue.start, cue.end), moved, strict=True):
                parts += [self.content[done : place.start], _written(seconds, self.content[place])]
                done = place.stop
        return "".join([*parts, self.content[done:]])


def sentences_of(row: Row) -> list[Sentence]:
    """The sentences of a row: its text, else those of its subtitles that are not wholly outside its part of the video.

    A text without times is that of the whole video, 0 to inf. A row that has both is the text; its subtitles are then what surrounds it.

    Raises:
        InputError: the subtitle file cannot be used.
    """
    start_s, end_s = row.start_s or 0.0, math.inf if row.end_s is None else row.end_s
    if row.text:
        return [Sentence(start_s, end_s, " ".join(row.text.split()))]
    if not row.subtitles:
        return []
    found = read_subtitles(row.subtitles).sentences
    return [sentence for sentence in found if sentence.end_s > start_s and sentence.start_s < end_s]


def read_subtitles(path: str | os.PathLike) -> Subtitles:
    """An SRT or WebVTT file; in UTF-8, in UTF-16 with a byte order mark, else taken to be in Windows-1252.

    Raises:
        InputError: the file is missing, is not a subtitle file or has times that cannot be used; the line is named where there is one.
    """
    path = Path(path)
    content, encoding = read_text(path)
    kind = "vtt" if content.startswith("WEBVTT") else "srt"
    if kind == "srt" and path.suffix.lower() == ".vtt":
        raise InputError(f"{path}, line 1: a WebVTT file begins with WEBVTT", "name it .srt if that is what it is")
    lines = [(match.start(), match[0].rstrip("\r\n")) for match in _LINE.finditer(content)]
    timed = _timed_lines(path, lines, kind)
    texts = (_vtt_texts if kind == "vtt" else _srt_texts)([line for _, line in lines])
    for (number, times, _), entry in zip(timed, [*texts, None], strict=False):
        if entry is None or entry[0] != times:
            raise InputError(f"{path}, line {number}: the entry at these times or the one before it cannot be read")
    cues = [
        Cue(Sentence(start / 1000, end / 1000, _plain(text)), number, *spans)
        for (number, (start, end), spans), (_, text) in zip(timed, texts, strict=True)
    ]
    return Subtitles(path, kind, encoding, content, tuple(cues))


def subtitles_digest(path: str) -> str:
    """Short hash of the content of a subtitle file; `missing` where it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError:
        return "missing"


def read_text(path: Path) -> tuple[str, str]:
    """The text of a file and the name of its encoding, as `Subtitles` has them.

    Raises:
        InputError: it cannot be read, or is no text.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path}: {path.stat().st_size >> 20} MiB are too many for a subtitle file")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = next((name for mark, name in marks.items() if data.startswith(mark)), "utf-8")
    if encoding != "utf-16" and b"\0" in data:
        raise InputError(f"{path}: not a text file", "subtitles are SRT or WebVTT")
    for name in (encoding, FALLBACK):
        try:
            return data.decode(name), name
        except UnicodeDecodeError:
            continue
    raise InputError(f"{path}: neither in UTF-8 nor in Windows-1252", "save it in UTF-8")


def _timed_lines(path: Path, lines: list[tuple[int, str]], kind: str) -> list[tuple[int, tuple[int, int], tuple[slice, slice]]]:
    """(number of the line, (start, end) in ms, where in the content these stand) of every line with times.

    Raises:
        InputError: there are none, or a line looks like one and is not.
    """
    found = []
    for number, (offset, line) in enumerate(lines, 1):
        if "-->" not in line:
            continue
        match = _TIMES[kind].match(line)
        if match is None:
            if _LIKE_TIMES[kind].match(line) and not line.startswith("NOTE"):
                raise InputError(f"{path}, line {number}: '{line.strip()[:60]}' is not a range of times", _HINTS[kind])
            continue
        start, end = _milliseconds(match[1]), _milliseconds(match[2])
        if end < start:
            raise InputError(f"{path}, line {number}: the entry ends at {match[2]}, before it begins at {match[1]}")
        spans = tuple(slice(offset + match.start(part), offset + match.end(part)) for part in (1, 2))
        found.append((number, (start, end), spans))
    if not found:
        raise InputError(f"{path}: no subtitles in it", _HINTS[kind])
    return found


_HINTS = {"srt": "SRT times are 00:01:02,500 --> 00:01:04,000", "vtt": "WebVTT times are 00:01:02.500 --> 00:01:04.000"}


def _milliseconds(time: str) -> int:
    whole, _, part = time.replace(",", ".").partition(".")
    seconds = 0
    for field in whole.split(":"):
        seconds = seconds * 60 + int(field)
    return seconds * 1000 + int(part.ljust(3, "0"))


def _srt_texts(lines: list[str]) -> list[tuple[tuple[int, int], str]]:
    """((start, end) in ms, text) of every entry; the numbers of entries are left out."""
    import pysubs2

    kept = [line.rstrip() for line in lines]
    kept = [line for place, line in enumerate(kept) if line or (place and kept[place - 1])]
    # the reader takes a number at the end of an entry for that of the next one, which the last entry lacks
    read = pysubs2.SSAFile.from_string("\n".join([*kept, "", "0", ""]), format_="srt", keep_html_tags=True)
    return [((event.start, event.end), event.text.replace(r"\N", "\n")) for event in read]


def _vtt_texts(lines: list[str]) -> list[tuple[tuple[int, int], str]]:
    """((start, end) in ms, text) of every entry; comments, styles, regions and identifiers are left out."""
    import webvtt

    read = webvtt.from_string("\n".join(lines))
    return [((_milliseconds(caption.start), _milliseconds(caption.end)), caption.raw_text) for caption in read.captions]


def _plain(text: str) -> str:
    """One line without tags, override codes and character references."""
    return " ".join(html.unescape(_TAG.sub("", text)).split())


def _written(seconds: float, like: str) -> str:
    """A time in the manner of another one: its separator, and hours only where it has them or they are needed."""
    whole, milliseconds = divmod(round(max(seconds, 0) * 1000), 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours:02d}:" if hours or like.count(":") == 2 else ""
    return f"{head}{minutes:02d}:{whole:02d}{',' if ',' in like else '.'}{milliseconds:03d}"
