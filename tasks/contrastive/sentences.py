"""What video-text pretraining reads: rows with sentences, the clip around a sentence, and what is made of its text."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from tasks.contrastive.config import PretrainConfig
from tasks.core.clips.augment import TrainTransform
from tasks.core.clips.clips import ClipSampler, duration_s, nearest
from tasks.core.clips.loader import Picked
from tasks.core.data.captions import sentences_of
from tasks.core.data.rows import Row, Rows
from tasks.core.errors import InputError
from tasks.core.profile import moved
from tasks.core.text.bpe import Tokenizer
from tasks.core.towers.text_tower import token_numbers

MEMO = 1 << 16
"""Sentences whose vectors are remembered."""


def captioned(rows: Rows, what: str) -> Rows:
    """A row for every sentence: rows with a text, and of those that only name subtitles one for each entry.

    Args:
        rows: of a manifest.
        what: which videos they are, for errors.

    Raises:
        InputError: a row has neither; a subtitle file cannot be used.
    """
    if all(text is not None for text in rows.values("text")):
        return rows
    found, bare = [], []
    for row in rows:
        sentences = sentences_of(row)
        if not sentences:
            bare.append(row.path)
        found += [
            row if row.text else replace(row, text=each.text, start_s=each.start_s, end_s=None if math.isinf(each.end_s) else each.end_s)
            for each in sentences
        ]
    if bare:
        raise InputError(
            f"{len(bare)} of {len(rows)} {what} rows have no sentence, the first is {bare[0]}",
            "add a column text to the manifest, or subtitles with the names of SRT files",
        )
    return Rows.of(found)


@dataclass(frozen=True)
class SentencePicker:
    """The clip of a sentence: inside its part of the video; where the clip is longer than that, around the middle, which is moved a little
    in training. A sentence with a start alone is said at that moment. A clip leaves the video at neither end while the video is longer.

    Attributes:
        clip: of one clip.
        jitter_s: how far the middle is moved at most, seconds.
        train: False: always the middle.
    """

    clip: ClipSampler
    jitter_s: float = 0.0
    train: bool = True

    @classmethod
    def from_config(cls, config: PretrainConfig, train: bool = True) -> "SentencePicker":
        """Clips as `data.clip` says."""
        return cls(ClipSampler.from_config(config.data.clip), config.method.jitter_s, train)

    def __call__(self, pts: np.ndarray, rng: np.random.Generator, row: Row) -> Picked:
        """(1, T) frame numbers."""
        stride = self.stride_s(pts)
        last = pts[0] + duration_s(pts, None)
        start = pts[0] if row.start_s is None else max(row.start_s, pts[0])
        end = last if row.start_s is None and row.end_s is None else min(max(row.end_s or start, start), last)
        place = rng.random() if self.train else 0.5
        room = end - start - self.clip.frames * stride
        middle = (start + end) / 2 + (room if room > 0 else 2 * self.jitter_s * self.train) * (place - 0.5)
        return Picked(frames_around(pts, middle, self.clip.frames, stride)[None])

    def stride_s(self, pts: np.ndarray) -> float:
        """Seconds between the frames of a clip."""
        interval = (pts[-1] - pts[0]) / (len(pts) - 1) if len(pts) > 1 else duration_s(pts, None)
        return self.clip.stride_s or self.clip.stride_frames * interval


def frames_around(pts: np.ndarray, middle: float, frames: int, stride: float) -> np.ndarray:
    """(T,) int64, the frames a stride apart of a clip around a time; moved into the video where it would lie beyond an end.

    Args:
        pts: (n,) presentation times, seconds, increasing.
        middle: seconds.
        frames: T.
        stride: seconds between two of them.
    """
    begin = middle - frames * stride / 2
    begin = max(pts[0], min(begin, pts[-1] - (frames - 1) * stride))
    return nearest(pts, begin + stride * np.arange(frames) - 1e-6)


class Reader(Protocol):
    """What makes of sentences what `video_text.VideoText.text_vectors` takes."""

    def __call__(self, texts: Sequence[str], device: torch.device) -> dict[str, torch.Tensor]: ...


class FrozenReader:
    """A frozen text tower, which is no part of what is trained: it is used in evaluation mode and without gradients.

    Args:
        tower: of `load_text_tower`.

    Attributes:
        tower, dim, source: as given, and its own.
    """

    def __init__(self, tower: torch.nn.Module):
        self.tower, self.dim, self.source = tower.requires_grad_(False).eval(), tower.dim, dict(tower.source)
        self._known: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __call__(self, texts: Sequence[str], device: torch.device) -> dict[str, torch.Tensor]:
        """`text` `(N, dim)` float, on `device`; of sentences that it has met lately, what was made of them then.

        Raises:
            InputError: a sentence gives a vector that is not finite.
        """
        texts = [" ".join(text.split()) for text in texts]
        found = {text: self._known[text] for text in texts if text in self._known}
        if missing := [text for text in dict.fromkeys(texts) if text not in found]:
            self.tower.to(device)
            made = self.tower(missing)
            if not made.isfinite().all():
                worst = int((~made.isfinite().all(1)).nonzero()[0])
                raise InputError(f"the text tower makes no finite vector of {missing[worst]!r:.60}")
            found |= zip(missing, made.cpu(), strict=True)
        for text in texts:
            self._known[text] = found[text]
            self._known.move_to_end(text)
        while len(self._known) > MEMO:
            self._known.popitem(last=False)
        made = torch.stack([found[text] for text in texts]) if texts else torch.zeros(0, self.dim)
        return {"text": made.to(device=device, dtype=torch.get_default_dtype())}


class TokenReader:
    """A tokenizer, for text that is trained.

    Args:
        tokenizer: of the sentences.
        context: tokens of a sentence at most.
    """

    def __init__(self, tokenizer: Tokenizer, context: int):
        self.tokenizer, self.context = tokenizer, context

    def __call__(self, texts: Sequence[str], device: torch.device) -> dict[str, torch.Tensor]:
        """`ids` `(N, L)` int64 and `end` `(N,)` int64, on `device`."""
        ids, end = token_numbers(self.tokenizer, texts, self.context)
        return {"ids": ids.to(device), "end": end.to(device)}


class SentenceBatch:
    """From a batch of the loader to what `video_text.VideoTextPretraining` takes.

    Args:
        config: of the run.
        rows: with sentences.
        reader: of these.
    """

    def __init__(self, config: PretrainConfig, rows: Rows, reader: Reader):
        self.rows, self.reader = rows, reader
        self.transform = TrainTransform(config.augment, config.model.image_size)

    def __call__(self, batch: dict[str, Any], device: torch.device) -> dict[str, torch.Tensor]:
        """`video` `(N, T, 3, S, S)` float32, augmented and normalised on `device`, and what the reader makes of the sentences."""
        texts = [self.rows[number].text for number in batch["uid"].tolist()]
        return {"video": self.transform(moved(batch, device)), **self.reader(texts, device)}
