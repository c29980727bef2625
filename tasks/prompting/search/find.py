"""`vid search`: the moments of an index that answer a sentence, are like an example, or in which something is said."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core import hub
from tasks.core.data.captions import Sentence
from tasks.core.errors import InputError, UsageError
from tasks.core.reporter import Reporter
from tasks.prompting.search.build import check_same
from tasks.prompting.search.config import SearchConfig
from tasks.prompting.search.example import Example, example_vector
from tasks.prompting.search.moments import Moment, Span, moments
from tasks.prompting.search.store import Index, Key, Video, name_of
from tasks.prompting.search.words import bm25, words_of

BLOCK_BYTES = 1 << 19
"""Of vectors in float32 that are worked on at once: they stay in a processor's cache."""


@dataclass(frozen=True)
class Found:
    """A result.

    Attributes:
        video: where it is.
        moment: when.
        said: sentences of that time, or the sentence that was found.
    """

    video: Video
    moment: Moment
    said: tuple[Sentence, ...] = ()


def run(config: SearchConfig, index: Path, query: str | Example, reporter: Reporter) -> list[Found]:
    """The best moments first.

    Args:
        config: how many, by what, of each video how many.
        index: folder of the index.
        query: a sentence, or an example.
        reporter: told what was cut off.

    Raises:
        UsageError: no such index, it has nothing of this kind, or the model is not the one that made it.
        InputError: an empty query, or an example that cannot be read.
    """
    opened = Index(index)
    if isinstance(query, str) and not query.strip():
        raise InputError("the query is empty", 'for example: vid search "a dog barks" --in INDEX')
    if config.by == "words":
        if not isinstance(query, str):
            raise UsageError("an example is looked for by pictures, not by words", "leave --by words out")
        return by_words(opened, query, config)
    if opened.head["model"] is None:
        raise UsageError(f"{index} holds words alone", "--by words, or vid index VIDEOS --model MODEL -o INDEX puts in what is seen")
    vector = sentence_vector(opened, query, config, reporter) if isinstance(query, str) else _like(opened, query, config)
    return by_pictures(opened, vector, config, query if isinstance(query, Example) else None)


def by_pictures(index: Index, vector: np.ndarray, config: SearchConfig, example: Example | None = None) -> list[Found]:
    """The moments that a unit vector (dim,) float32 is nearest to; the example itself is left out."""
    scores, spans, videos = similarities(index, vector)
    if not spans:
        raise UsageError(f"{index.folder} has no windows", "vid index VIDEOS -o INDEX puts some in")
    if example is not None:
        _leave_out(scores, spans, videos, example, config.apart_s)
    found = moments(scores, spans, config.top, config.apart_s, config.per == "video")
    said = index.sentences({videos[moment.video].path for moment in found})
    return [Found(videos[m.video], m, _during(said.get(videos[m.video].key, []), m)) for m in found]


def similarities(index: Index, vector: np.ndarray) -> tuple[np.ndarray, list[Span], list[Video]]:
    """Cosines of all windows with a vector, exactly: every one is computed.

    Args:
        index: of vectors.
        vector: (dim,) float32 of length 1.

    Returns:
        (N,) float32, the windows of the videos one after the other; where each video's are; the videos, those without windows left out.
    """
    videos = [video for video in index.videos if video.n]
    parts = {part: dots(index.vectors(part), vector) for part in dict.fromkeys(video.part for video in videos)}
    spans, found, first = [], [], 0
    for video in videos:
        spans.append(Span(first, video.n, video.grid, video.until_s))
        found.append(parts[video.part][video.first : video.first + video.n])
        first += video.n
    return (found[0] if len(found) == 1 else np.concatenate(found or [np.zeros(0, np.float32)])), spans, videos


def dots(vectors: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """(n,) float32: products of (n, dim) float16 or float32 with (dim,) float32, in float32."""
    import torch

    rows = _shared(vectors)
    query, found = torch.from_numpy(np.ascontiguousarray(vector, np.float32)), torch.empty(len(vectors))
    size = max(1, BLOCK_BYTES // (4 * len(vector)))
    block = torch.empty(size, len(vector))
    for first in range(0, len(vectors), size):
        part = rows[first : first + size]
        torch.mv(block[: len(part)].copy_(part), query, out=found[first : first + len(part)])
    return found.numpy()


def _shared(vectors: np.ndarray) -> Any:
    """A read-only array as a tensor that nothing writes to, without torch's warning about it."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(vectors)


def sentence_vector(index: Index, sentence: str, config: SearchConfig, reporter: Reporter) -> np.ndarray:
    """(dim,) float32 of length 1: what the index's own model makes of a sentence.

    Raises:
        UsageError: the model is another one now, or knows no words.
        InputError: it makes no finite vector of the sentence.
    """
    from tasks.core.device import usable_device
    from tasks.core.towers.image_text import load_pair

    made = index.head["model"]
    reference = _model_of(index, config)
    device = usable_device(config.device)
    pair = load_pair(reference, device, config.vocabulary or made["vocabulary"], config.text or (None if config.model else made["text"]))
    check_same(index.head, pair.picture_hash, index.folder, reference)
    if pair.text_hash != made["text_hash"]:
        raise UsageError(
            f"{index.folder} was made by {name_of(index.head)} with another text tower ({made['text_hash']}, now {pair.text_hash})",
            "index the videos again, or say where the text tower is now: --set text=FOLDER",
        )
    if pair.text_is_cut(sentence):
        reporter.warn("the sentence is longer than the text tower reads: its end is cut off")
    vector = pair.encode_text([sentence])[0].cpu().numpy()
    if not np.isfinite(vector).all() or not vector.any():
        raise InputError(f"the text tower makes no usable vector of {sentence!r:.60}")
    return vector


def _model_of(index: Index, config: SearchConfig) -> str:
    """Where the model of an index is; UsageError where it was moved and nothing says whereto."""
    there = index.head["model"]["reference"]
    if config.model is None and not there.startswith(hub.PREFIX) and not Path(there).exists():
        raise UsageError(f"the model that made {index.folder} is not at {there} any more", "say where it is now: --model MODEL")
    return config.model or there


def _like(index: Index, example: Example, config: SearchConfig) -> np.ndarray:
    reference = _model_of(index, config)
    vector, made = example_vector(example, reference, index.head["hop_s"], config.device)
    check_same(index.head, made, index.folder, reference)
    return vector


def _leave_out(scores: np.ndarray, spans: list[Span], videos: list[Video], example: Example, apart_s: float) -> None:
    """Sets the scores of the example's own windows to -inf."""
    for span, video in zip(spans, videos, strict=True):
        if video.path == example.path:
            begin = span.grid.times(span.n)[:, 0]
            end = begin + max(span.grid.stride_s, span.grid.span_s)
            at = example.at_s
            own = slice(None) if at is None else (begin <= at + apart_s) & (end >= at - apart_s)
            scores[span.first : span.first + span.n][own] = -np.inf


def by_words(index: Index, query: str, config: SearchConfig) -> list[Found]:
    """The sentences that share words with a query, each with its neighbours in time as one moment."""
    if not words_of(query):
        raise InputError(f"the query {query!r:.60} has no word", "letters or digits")
    said = index.sentences()
    if not said:
        raise UsageError(f"{index.folder} has no words", "subtitles lie beside videos (NAME.srt), or a manifest has the column text")
    rows = [(key, sentence) for key, several in said.items() for sentence in several]
    scores = bm25(query, [sentence.text for _, sentence in rows])
    videos = {video.key: video for video in index.videos}
    found: list[Found] = []
    taken: dict[Key, list[tuple[float, float]]] = {}
    for number in np.argsort(-scores, kind="stable").tolist():
        key, sentence = rows[number]
        if scores[number] <= 0 or len(found) == config.top:
            break
        end = sentence.end_s if np.isfinite(sentence.end_s) else videos[key].until_s or sentence.start_s
        own = taken.setdefault(key, [])
        near = any(sentence.start_s <= b + config.apart_s and end >= a - config.apart_s for a, b in own)
        if near or (own and config.per == "video"):
            continue
        own.append((sentence.start_s, end))
        moment = Moment(0, sentence.start_s, end, sentence.start_s, float(scores[number]))
        found.append(Found(videos[key], moment, (replace(sentence, end_s=end),)))
    return found


def _during(said: list[Sentence], moment: Moment) -> tuple[Sentence, ...]:
    """What is said between the beginning and the end of a moment; texts of the whole video are not."""
    return tuple(s for s in said if s.end_s > moment.start_s and s.start_s < moment.end_s and np.isfinite(s.end_s))


def described(found: Found, rank: int) -> dict[str, Any]:
    """A result as a JSON object."""
    moment = found.moment
    times = {name: round(getattr(moment, name), 3) for name in ("start_s", "end_s", "at_s")}
    said = [sentence.text for sentence in found.said]
    return {"rank": rank, "video": found.video.shown, "path": found.video.path, **times, "score": round(moment.score, 4), "said": said}
