"""The sentences that a person wants aligned: subtitles, plain text with a sentence a line, JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.data.captions import FALLBACK, Sentence, Subtitles, read_subtitles, read_text
from tasks.core.errors import InputError

TIMED = (".srt", ".vtt")
WORDS_PER_S = 2.5
"""How fast people speak, for sentences of unknown length."""
SHORTEST_S = 0.5


@dataclass(frozen=True)
class Script:
    """Sentences in the order of their file.

    Attributes:
        path: of the file.
        texts: one line each, none empty.
        times: (start, end) in seconds of each; None: the file has no times.
        subtitles: the file, where it is a subtitle file.
        notes: what a person must know of how it was read.
    """

    path: Path
    texts: list[str]
    times: list[tuple[float, float]] | None
    subtitles: Subtitles | None
    notes: list[str]

    @property
    def durations(self) -> list[float]:
        """Seconds of each sentence: as given, else as long as it takes to say it."""
        if self.times is not None:
            return [max(end - start, 0.0) for start, end in self.times]
        return [max(SHORTEST_S, len(text.split()) / WORDS_PER_S) for text in self.texts]

    def retimed(self, times: list[tuple[float, float]]) -> str | None:
        """The subtitle file with other times and nothing else changed; None where it is none.

        Args:
            times: of each sentence; entries of the file that say nothing keep theirs.
        """
        if self.subtitles is None:
            return None
        left = iter(times)
        cues = [cue.sentence for cue in self.subtitles.cues]
        return self.subtitles.retimed([next(left) if cue.text else (cue.start_s, cue.end_s) for cue in cues])


def read_script(path: str | Path) -> Script:
    """Sentences of a file: SRT or WebVTT by its ending or content, JSON by its ending, else a sentence a line.

    JSON is a list, or an object with `sentences`, of texts, of objects with `text` and perhaps `start` and `end`, or of
    [flag, start, end, text].

    Raises:
        InputError: it cannot be read, or holds no sentences.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        return _of_json(path)
    content, encoding = read_text(path)
    notes = [f"{path.name} is not in UTF-8: it was read as Windows-1252"] if encoding == FALLBACK else []
    if path.suffix.lower() in TIMED or content.startswith("WEBVTT"):
        found = read_subtitles(path)
        sentences = found.sentences
        if not sentences:
            raise InputError(f"{path}: its subtitles say nothing")
        return Script(path, [s.text for s in sentences], [(s.start_s, s.end_s) for s in sentences], found, notes)
    texts = [" ".join(line.split()) for line in content.splitlines() if line.strip()]
    if not texts:
        raise InputError(f"{path}: no sentences in it", "a sentence a line")
    return Script(path, texts, None, None, notes)


def script_of(path: str, sentences: list[Sentence]) -> Script:
    """Sentences of a manifest's row."""
    if not sentences:
        raise InputError(f"{path}: no sentences to align", "--text FILE, or a manifest with a column subtitles or text")
    timed = all(sentence.end_s < float("inf") for sentence in sentences)
    return Script(Path(path), [s.text for s in sentences], [(s.start_s, s.end_s) for s in sentences] if timed else None, None, [])


def _of_json(path: Path) -> Script:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({str(error).splitlines()[0]})") from None
    items = content.get("sentences") if isinstance(content, Mapping) else content
    if not isinstance(items, list) or not items:
        raise InputError(f"{path}: no sentences in it", 'a list of texts, or of {"text": ..., "start": ..., "end": ...}')
    texts, times = [], []
    for number, item in enumerate(items, 1):
        text, start, end = _entry(item)
        if not isinstance(text, str):
            raise InputError(f"{path}: sentence {number} has no text")
        if start is not None and not (0 <= start <= end):
            raise InputError(f"{path}: sentence {number} ends at {end:g} s, before it begins at {start:g} s")
        if text.strip():
            texts.append(" ".join(text.split()))
            times.append(None if start is None else (start, end))
    if not texts:
        raise InputError(f"{path}: its sentences are empty")
    known = sum(time is not None for time in times)
    if 0 < known < len(times):
        raise InputError(f"{path}: {known} of {len(times)} sentences have times", "give all of them times, or none")
    return Script(path, texts, times if known else None, None, [])


def _entry(item: Any) -> tuple[Any, float | None, float | None]:
    """(text, start, end) of one entry; text None where it is none."""
    if isinstance(item, str):
        return item, None, None
    if isinstance(item, Mapping):
        text, times = item.get("text"), [item.get("start"), item.get("end")]
    elif isinstance(item, list) and len(item) == 4:
        text, times = item[3], item[1:3]
    else:
        return None, None, None
    numbers = all(isinstance(time, int | float) and not isinstance(time, bool) for time in times)
    return text, *((float(times[0]), float(times[1])) if numbers else (None, None))
