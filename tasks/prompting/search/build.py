"""`vid index`: what an image-text model sees in videos, and what is said in them, kept to be searched."""

import hashlib
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core import hub
from tasks.core.data.grid import Grid
from tasks.core.data.inputs import Input
from tasks.core.data.rows import Row
from tasks.core.errors import InputError, UsageError
from tasks.core.inference.loop import Advance, each_input, failure, still
from tasks.core.reporter import Reporter
from tasks.core.shard import Shard
from tasks.prompting.search.config import IndexConfig
from tasks.prompting.search.spoken import digest_of, sentences_about
from tasks.prompting.search.store import (
    Key,
    Part,
    Video,
    claim,
    file_of,
    key_of,
    name_of,
    part_names,
    read_head,
    read_videos,
    read_words,
    row_bytes,
)

PICTURE_HOP_S = 2.0
"""Seconds from one picture to the next where nothing else is said."""


class Windows:
    """What makes the vectors of an index.

    Args:
        config: names a model.

    Attributes:
        head: index.json of an index of these vectors.

    Raises:
        UsageError: there is no such model, or its text tower cannot be read.
    """

    def __init__(self, config: IndexConfig):
        from tasks.core.towers.config import ExtractConfig
        from tasks.core.towers.extract import Extractor
        from tasks.core.towers.image_text import load_pair

        pair = load_pair(config.model, vocabulary=config.vocabulary, text=config.text)
        text_hash = pair.text_hash if pair.has_text else None
        made = {name: getattr(config, name) for name in ("dtype", "decoder", "batch_size", "device")}
        plain = ExtractConfig(model=config.model, per="window", hop_s=config.hop_s, **made)
        self.extractor = Extractor(plain)
        if config.hop_s is None and self.extractor.sampler.frames == 1:
            self.extractor.config = plain.model_copy(update={"hop_s": PICTURE_HOP_S})
        hop_s = self.extractor.config.hop_s
        seen = {"picture_hash": self.extractor.made_by["weights_hash"], "preprocessing": self.extractor.made_by["preprocessing"]}
        facts = json.dumps([seen, text_hash, hop_s, config.dtype], sort_keys=True)
        place = {"vocabulary": config.vocabulary and os.path.abspath(config.vocabulary), "text": config.text and lasting(config.text)}
        self.head = {
            "version": 1,
            "id": hashlib.sha256(facts.encode()).hexdigest()[:16],
            "model": {"reference": lasting(config.model), **place, **seen, "text_hash": text_hash},
            "dim": self.extractor.dim,
            "dtype": config.dtype,
            "hop_s": hop_s,
        }

    def of(self, row: Row, advance: Advance = still) -> tuple[np.ndarray, Grid, float, str | None]:
        """A video's windows.

        Returns:
            (n, dim) float32 of length 1; when they are; end of the part that was seen, seconds; damage of the file, or None.

        Raises:
            VideoError: it cannot be decoded.
            InputError: a vector is not finite, or has no direction.
        """
        from tasks.core.clips.clips import duration_s
        from tasks.core.video.open import open_video

        with open_video(row.path, self.extractor.config.decoder) as reader:
            found, grid, _ = self.extractor.features(reader, row.start_s, row.end_s, advance)
            until = float(reader.pts[0]) + duration_s(reader.pts, None)
            return units(found, row.path), grid, until if row.end_s is None else min(until, row.end_s), reader.damage


def units(vectors: np.ndarray, source: str) -> np.ndarray:
    """(n, dim) float32 of length 1; InputError where a vector is not finite or is 0."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(length).all() or not length.all():
        number = int(np.argmin(np.isfinite(length[:, 0]) & (length[:, 0] > 0)))
        raise InputError(f"{source}: the model makes no usable vector of window {number}: it is not finite, or 0")
    return (vectors / length).astype(np.float32)


def lasting(reference: str) -> str:
    """A reference that means the same wherever a command runs, and whatever is pushed to the Hub."""
    return hub.pinned(reference) if reference.startswith(hub.PREFIX) else os.path.abspath(reference)


def run(
    config: IndexConfig, inputs: list[Input], out: Path, overwrite: bool, reporter: Reporter, shard: Shard | None = None
) -> Iterator[dict[str, Any]]:
    """Puts videos into an index; those that are in it, and have not changed since, are left as they are.

    Args:
        config: the model and how windows lie. Without a model that of the index is used; without an index, words alone are put in.
        inputs: of this job.
        out: the index, which is made where there is none.
        overwrite: do again what is there.
        reporter: progress.
        shard: which share this job has.

    Yields:
        `video`, `windows`, `sentences`, and `skipped` where both were there; `{"video", "error"}` for one that cannot be used.

    Raises:
        UsageError: the index is of another model, or another process writes this share.
    """
    config = _continued(config, out)
    windows = None if config.model is None else Windows(config)
    head = windows.head if windows else {"version": 1, "id": None, "model": None}
    if windows is None and read_head(out) is None:
        reporter.info("no --model: what is said is put in, not what is seen; find it with vid search --by words")
    claim(out, head)
    known, said = _known(out, head)
    part = Part(out, str(shard or Shard()).replace("/", "-of-"), head, reporter)
    try:
        work = partial(_one, config, windows, part, {} if overwrite else known, said, reporter)
        yield from each_input(work, inputs, 0, reporter, "indexing")
    finally:
        part.close()


def _continued(config: IndexConfig, out: Path) -> IndexConfig:
    """The settings with the model and the step of the index that is there, where they name none."""
    head = read_head(out)
    made = head["model"] if head else None
    if config.model is not None or made is None:
        return config
    kept = {"model": made["reference"], "text": config.text or made["text"], "vocabulary": config.vocabulary or made["vocabulary"]}
    return config.model_copy(update={**kept, "hop_s": config.hop_s or head["hop_s"], "dtype": head["dtype"]})


def _known(out: Path, head: dict[str, Any]) -> tuple[dict[Key, Video], dict[Key, str]]:
    """The videos that are in an index, and the digest of what is said in each."""
    videos: dict[Key, Video] = {}
    said: dict[Key, tuple[float, str]] = {}
    for name in part_names(out):
        for video in read_videos(out, name, row_bytes(head))[0]:
            if video.key not in videos or videos[video.key].written <= video.written:
                videos[video.key] = video
        for key, line in read_words(out, name):
            if key not in said or said[key][0] <= line["written"]:
                said[key] = line["written"], line["digest"]
    return videos, {key: digest for key, (_, digest) in said.items()}


def _one(
    config: IndexConfig,
    windows: Windows | None,
    part: Part,
    known: dict[Key, Video],
    said: dict[Key, str],
    reporter: Reporter,
    source: Input,
    advance: Advance,
) -> dict[str, Any]:
    row, key = source.row, key_of(source.row)
    before, damage = known.get(key), None
    fresh = before is None or before.file != file_of(row.path) or (windows is not None and not before.n)
    try:
        if fresh and windows is not None:
            vectors, grid, until, damage = windows.of(row, advance)
            before = part.add(row, source.shown, vectors, grid, until)
        elif fresh:
            _require(row.path)
            before = part.add(row, source.shown)
    except InputError as error:
        return failure(source, error)
    sentences, wrong = sentences_about(row) if config.words else ([], [])
    for message in wrong:
        reporter.warn(message)
    digest = digest_of(sentences)
    told = config.words and said.get(key, digest_of([])) != digest
    if told:
        part.say(row, sentences, digest)
    record = {"video": source.shown, "windows": before.n, "sentences": len(sentences), "damage": damage}
    return record if fresh or told else {**record, "skipped": True}


def _require(path: str) -> None:
    """Raises InputError where a path is not there."""
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")


def check_same(head: dict[str, Any], picture_hash: str, where: Path, reference: str) -> None:
    """UsageError where a model is not the one that an index was made by."""
    if head["model"]["picture_hash"] != picture_hash:
        raise UsageError(
            f"{where} was made by {name_of(head)}; {reference} is another model or revision ({picture_hash})",
            "index the videos again, or say where the model is now: --model",
        )
