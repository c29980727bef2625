"""Aligned sentences as files: subtitles, similarities, a page. Nothing here aligns anything."""

import io
from pathlib import Path

import numpy as np

from tasks.alignment.result import Aligned, Alignment
from tasks.core import files

SUFFIXES = {
    "json": ".alignment.json",
    "srt": ".alignment.srt",
    "vtt": ".alignment.vtt",
    "npz": ".alignment.npz",
    "html": ".alignment.html",
}
"""Kind of file -> how its name ends; `json` is the record, see `tasks.core.inference.output`."""


def write_file(kind: str, path: Path, found: Alignment) -> None:
    """Writes one kind of file; it appears whole or not at all.

    Args:
        kind: of `SUFFIXES`, without the record.
        path: the file.
        found: what was aligned.
    """
    if kind == "html":
        from tasks.alignment.report import write_report

        write_report(path, found)
    elif kind == "npz":
        write_similarities(path, found)
    else:
        write_subtitles(path, found, kind)


def write_subtitles(path: Path, found: Alignment, kind: str) -> None:
    """Writes SRT or WebVTT. Where the sentences came in a file of this kind it is this file, in its encoding, with other times; sentences
    that do not belong to the video keep theirs. Else a plain file of those that do, in order of time.
    """
    own = found.script.subtitles
    if own is not None and own.format == kind:
        shown = [tuple(t - found.file_start_s for t in each.shown) if each.shown != each.given else each.given for each in found.sentences]
        with files.replacing(path) as temporary:
            temporary.write_bytes(found.script.retimed(shown).encode(own.encoding))
        return
    chosen = sorted((each for each in found.sentences if each.alignable), key=lambda each: (each.start, each.end))
    cues = [_cue(number, each, found.file_start_s, kind) for number, each in enumerate(chosen, 1)]
    files.write_text(path, ("WEBVTT\n\n" if kind == "vtt" else "") + "\n".join(cues))


def _cue(number: int, each: Aligned, zero: float, kind: str) -> str:
    start, end = (_time(t - zero, "," if kind == "srt" else ".") for t in (each.start, each.end))
    text = each.text.replace("-->", "->")
    return f"{number}\n{start} --> {end}\n{text}\n"


def _time(seconds: float, mark: str) -> str:
    ms = max(0, round(seconds * 1000))
    minutes, rest = divmod(ms // 1000, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}{mark}{ms % 1000:03d}"


def write_similarities(path: Path, found: Alignment) -> None:
    """Writes `similarity` (K, T) float32, sentences in the order of their file, `stride_s` and `offset_s` of its columns, seconds: column i
    lies at offset_s + i stride_s to offset_s + (i + 1) stride_s. Without a model `similarity` is empty.
    """
    values = np.zeros((0, 0)) if found.similarity is None else found.similarity
    grid = found.grid
    offset = 0.0 if grid is None else grid.offset_s + (grid.span_s - grid.stride_s) / 2
    content = io.BytesIO()
    np.savez(content, similarity=values.astype(np.float32), stride_s=1.0 if grid is None else grid.stride_s, offset_s=offset)
    with files.replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
