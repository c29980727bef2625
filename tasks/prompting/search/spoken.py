"""What is said in a video or was written about it: a manifest's columns, and the subtitle files beside the video."""

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path

from tasks.core.data.captions import Sentence, read_subtitles
from tasks.core.data.rows import Row
from tasks.core.errors import InputError

SUFFIXES = (".srt", ".vtt")
_TAG = r"(?:\.[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*)?(?:\.(?:sdh|cc|forced|default))?"
"""Between the video's name and the ending: a language, and what kind of subtitles they are."""


def sentences_about(row: Row) -> tuple[list[Sentence], list[str]]:
    """(sentences in the order of their files, what could not be read) of a video or its part.

    Args:
        row: its `text` holds for all of it; its `subtitles`, else the files beside it that are named like it, give times.
    """
    start_s, end_s = row.start_s or 0.0, float("inf") if row.end_s is None else row.end_s
    found = [Sentence(start_s, end_s, " ".join(row.text.split()))] if row.text and row.text.strip() else []
    wrong = []
    for path in [Path(row.subtitles)] if row.subtitles else beside(row.path):
        try:
            said = read_subtitles(path).sentences
        except InputError as error:
            wrong.append(error.message)
            continue
        found += [sentence for sentence in said if sentence.end_s > start_s and sentence.start_s < end_s]
    return found, wrong


def beside(path: str) -> list[Path]:
    """The subtitle files beside a video, sorted: `film.srt`, `film.en.vtt`, `film.de.sdh.srt` for `film.mp4`."""
    folder, name = os.path.split(path)
    stem = name if os.path.isdir(path) else os.path.splitext(name)[0]
    pattern = re.compile(re.escape(stem) + _TAG + r"\.(?:srt|vtt)", re.IGNORECASE)
    return [Path(folder, file) for file in _subtitles_in(folder) if pattern.fullmatch(file)]


@lru_cache(maxsize=64)
def _subtitles_in(folder: str) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry for entry in os.listdir(folder or ".") if entry.lower().endswith(SUFFIXES)))
    except OSError:
        return ()


def digest_of(sentences: list[Sentence]) -> str:
    """By which it is seen whether they have changed."""
    return hashlib.sha256(repr([(s.start_s, s.end_s, s.text) for s in sentences]).encode("utf-8", "surrogatepass")).hexdigest()[:16]
