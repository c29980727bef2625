"""Videos with sentences: what is read, what makes a batch, and the vectors of both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from tasks.core.data.batch import Batch
from tasks.core.data.feature_config import FeatureConfig
from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Row, Rows
from tasks.core.errors import InputError
from tasks.core.metrics.retrieval import text_video_scores
from tasks.core.reporter import Reporter
from tasks.core.text.bpe import Tokenizer
from tasks.prompting.config import PromptedConfig, SamplesConfig
from tasks.prompting.data import clips_of
from tasks.prompting.names import pad
from tasks.prompting.predict import Scorer, score_rows

_ROWS = 1024  # sentences compared at once


@dataclass(frozen=True)
class Captioned:
    """Videos, or parts of them, each with its sentences.

    Attributes:
        videos: a row for each; N.
        texts: the sentences of each, one or more.
    """

    videos: Rows
    texts: list[list[str]]


def captioned(rows: Rows, what: str) -> Captioned:
    """The videos of a manifest with a row for each sentence; rows of one video, with the same times, are several sentences about it.

    Raises:
        InputError: a row has no text, or there is one video only.
    """
    texts: dict[tuple[str, float | None, float | None], list[str]] = {}
    bare = []
    for row in rows:
        sentence = " ".join((row.text or "").split())
        if sentence:
            texts.setdefault((row.path, row.start_s, row.end_s), []).append(sentence)
        else:
            bare.append(row.path)
    if bare:
        raise InputError(
            f"{len(bare)} of {len(rows)} {what} rows have no text, the first is {bare[0]}", "add a text column: a sentence about each video"
        )
    if len(texts) < 2:
        raise InputError(f"{len(texts)} video with sentences in the {what} set: there is nothing to tell apart", "add rows of other videos")
    return Captioned(Rows.of(Row(path, None, start, end) for path, start, end in texts), list(texts.values()))


def pairs(
    config: PromptedConfig, texts: Sequence[Sequence[str]], tokenizer: Tokenizer, room: int
) -> Callable[[Batch, torch.device], Batch]:
    """What brings a CPU batch of features to `method.SentencePrompting`: a random clip of each video, one of its sentences.

    Args:
        config: frames and gaps.
        texts: the sentences of each video, which `uid` of a batch counts.
        tokenizer: of the text tower.
        room: tokens of a sentence that fit beside the prompts.
    """
    encode = lru_cache(1 << 16)(lambda text: tuple(tokenizer.encode(text)[:room]))

    def prepare(batch: Batch, device: torch.device) -> Batch:
        rngs = [np.random.default_rng(seed) for seed in batch["seed"].tolist()]
        clips, gaps = clips_of(batch, config, lambda number: [rngs[number]])
        choices = zip((texts[uid] for uid in batch["uid"].tolist()), rngs, strict=True)
        tokens = pad([encode(own[int(rng.integers(len(own)))]) for own, rng in choices], tokenizer.start, tokenizer.end)
        made = {"clip": clips, "gap": gaps, "ids": tokens.ids, "lengths": tokens.lengths}
        return {name: values.to(device, non_blocking=True) for name, values in made.items()}

    return prepare


@dataclass(frozen=True)
class Retrieved:
    """How alike the sentences and the videos of a test set are.

    Attributes:
        similarity: name of a scorer -> (T, V) float32, cosines.
        video: (T,) int64, the number of the video of each sentence.
        texts: the T sentences.
        paths: of the V videos.
        skipped: (path, reason) of what could not be read; its sentences are left out.
    """

    similarity: dict[str, np.ndarray]
    video: np.ndarray
    texts: list[str]
    paths: list[str]
    skipped: list[tuple[str, str]]

    def numbers(self, name: str) -> dict[str, dict[str, float]]:
        """As `core.metrics.retrieval.text_video_scores`, of one scorer."""
        return text_video_scores(self.similarity[name], self.video)


def retrieve(
    given: Captioned,
    vectors: Mapping[str, tuple[Scorer, Callable[[list[str]], torch.Tensor]]],
    data: FeatureConfig,
    folder: FeatureFolder,
    config: PromptedConfig,
    settings: SamplesConfig,
    device: torch.device,
    stop: Callable[[], None],
    reporter: Reporter,
) -> Retrieved:
    """Compares all sentences with all videos that can be read; all processes share the work on videos and get the same.

    Args:
        given: the test set.
        vectors: name -> (what makes vectors of length 1 of clips, what makes vectors (T, dim) of sentences).
        data, folder, config, settings, device, stop, reporter: as `predict.score_rows`.

    Raises:
        InputError: nothing could be read.
    """
    scorers = {name: scorer for name, (scorer, _) in vectors.items()}
    tested = score_rows(given.videos, None, data, folder, config, settings, scorers, device, stop, reporter)
    texts, video = _kept(given, tested.uids.tolist())
    similarity = {}
    for name, (_, encode) in vectors.items():
        sentences = F.normalize(encode(texts).double(), dim=-1).cpu().numpy()
        videos = tested.outputs[name].astype(np.float64).T
        parts = [(sentences[at : at + _ROWS] @ videos).astype(np.float32) for at in range(0, len(sentences), _ROWS)]
        similarity[name] = np.concatenate(parts)
    return Retrieved(similarity, video, texts, tested.paths, tested.skipped)


def _kept(given: Captioned, uids: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """The sentences of the videos with these numbers, and the place of the video of each."""
    texts = [given.texts[uid] for uid in uids]
    return [text for own in texts for text in own], np.repeat(np.arange(len(texts)), [len(own) for own in texts])
