"""A trained aligner: what it makes of the features of a video and its sentences, window after window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tasks.alignment.config import AlignerConfig, WordsConfig
from tasks.alignment.model import Aligner
from tasks.alignment.text import BagOfWords, Tokenizer
from tasks.core.checkpoint import build_strict, find_model, load_config, load_weights
from tasks.core.data.features import Features
from tasks.core.data.grid import Grid
from tasks.core.data.streams import resample
from tasks.core.errors import UsageError

OVERLAP = 4
"""Windows begin a part of their length after one another."""
CONTEXT = 1
"""A window's sentences are those whose given times lie no further from it than so many windows."""


@dataclass(frozen=True)
class Similarities:
    """Of K sentences and T features.

    Attributes:
        values: (K, T) float64, mean cosine of both encoders; NaN where no window saw the pair.
        alignable: (K,) float64, logits of the alignability head; NaN for a sentence that no window saw.
    """

    values: np.ndarray
    alignable: np.ndarray


class AlignmentModel(nn.Module):
    """An aligner with what makes vectors of sentences.

    Args:
        saved: config.json of the model folder.
        text: from numbers of words to vectors; None: `encode` gives vectors.
        aligner: the network.

    Attributes:
        saved: as given.
        window: features of a window in training; None: whole videos.
    """

    def __init__(self, saved: Mapping[str, Any], aligner: Aligner, text: BagOfWords | None):
        super().__init__()
        self.saved, self.aligner, self.text = saved, aligner, text
        self.window: int | None = saved["preprocessing"].get("window")
        self.tokenizer = None
        if text is not None:
            self.tokenizer = Tokenizer(saved.get("vocabulary") or [], text.config.max_words)

    @torch.no_grad()
    def encode(self, sentences: Sequence[str]) -> torch.Tensor:
        """(K, text_dim) vectors of sentences; UsageError where the model has no words or its frozen tower is gone."""
        if self.text is None:
            return torch.from_numpy(self._tower()(list(sentences)))
        if not self.tokenizer.words:
            raise UsageError("this model does not know its words", "convert it again with --vocabulary s3d_dict.npy of MIL-NCE")
        return self.text(self.tokenizer(sentences).to(self.text.fc2.weight.device))

    def _tower(self) -> Any:
        from tasks.core.towers import load_text_tower
        from tasks.core.towers.identity import recall
        from tasks.core.towers.text_cache import text_features

        vocabulary = self.saved["text"].get("vocabulary")
        tower = recall(self.saved["tower"], lambda reference: load_text_tower(reference, vocabulary=vocabulary), "the model")
        return lambda sentences: text_features(tower, sentences)

    @torch.no_grad()
    def similarities(self, features: np.ndarray, text: torch.Tensor, places: np.ndarray | None = None) -> Similarities:
        """Of all sentences of a video and all of its features, averaged over overlapping windows (thesis section 7.4).

        Args:
            features: (T, video_dim), of all streams.
            text: (K, text_dim) of `encode`.
            places: (K,) features at which sentences are said to be; those far from a window are not shown to it. None: all are shown
                to all.
        """
        length, total = len(features), torch.zeros(len(text), len(features), dtype=torch.float64)
        seen, heads, times = torch.zeros_like(total), torch.zeros(len(text), dtype=torch.float64), torch.zeros(len(text))
        window = min(self.window or length, length)
        device = self.aligner.video_in.weight.device
        for start in starts(length, window):
            shown = torch.ones(len(text), dtype=torch.bool)
            if places is not None and window < length:
                near = CONTEXT * window
                shown = torch.from_numpy((places >= start - near) & (places <= start + window + near))
            if not shown.any():
                continue
            part = torch.from_numpy(np.asarray(features[start : start + window], np.float32))[None].to(device)
            words = text[shown.to(text.device)][None].to(device)
            masks = (torch.ones(x.shape[:2], dtype=torch.bool, device=device) for x in (part, words))
            found = self.aligner(part, words, *masks)
            rows = shown.nonzero()[:, 0]
            total[rows, start : start + window] += (sum(found.similarities())[0] / 2).double().cpu()
            seen[rows, start : start + window] += 1
            heads[rows] += found.alignable[0].double().cpu()
            times[rows] += 1
        return Similarities((total / seen.where(seen > 0, torch.nan)).numpy(), (heads / times.where(times > 0, torch.nan)).numpy())


def starts(length: int, window: int) -> list[int]:
    """First features of overlapping windows that cover everything, the last one at the end."""
    if window >= length:
        return [0]
    hop = max(1, window // OVERLAP)
    return [*range(0, length - window, hop), length - window]


def load_aligner(reference: str, device: torch.device | str = "cpu") -> AlignmentModel:
    """The aligner of a model folder, run folder or `hf://` id, in evaluation mode; UsageError where it is none."""
    folder = find_model(reference)
    saved = load_config(folder)
    if saved["task"] != "alignment":
        raise UsageError(
            f"{reference} is a model of task '{saved['task']}', not an aligner", "give one of vid pretrain --preset alignment/..."
        )
    model = build_strict(lambda: from_config(saved), load_weights(folder), str(folder))
    return model.to(device).eval()


def from_config(saved: Mapping[str, Any]) -> AlignmentModel:
    """The model that a config.json describes, with random weights."""
    video_dim = sum(stream["dim"] for stream in saved["streams"].values())
    text, width = None, saved.get("text_dim")
    if saved["text"]["kind"] == "words":
        config = WordsConfig(**saved["text"])
        text, width = BagOfWords(config, saved["words"]), config.width
    return AlignmentModel(saved, Aligner(AlignerConfig(**saved["architecture"]), video_dim, width), text)


def joined(found: Sequence[Features], how: str) -> tuple[Grid, np.ndarray]:
    """The grid of the first of several streams of a video, and all of them side by side on it, (n, D) float32.

    Args:
        found: the streams.
        how: `align` of the features' settings.
    """
    grid, size = found[0].grid, len(found[0].values)
    others = [resample(each, grid.centers(size), "linear" if how == "linear" else "nearest")[0] for each in found[1:]]
    return grid, np.concatenate([np.asarray(found[0].values, np.float32), *others], 1)


def lengths_of(durations: Sequence[float], grid: Grid, size: int) -> np.ndarray:
    """(K,) features of sentences that last so many seconds, from 1 to `size`."""
    return np.clip(np.round(np.asarray(durations, np.float64) / grid.stride_s), 1, size).astype(np.int64)


def weighted(values: np.ndarray, times: Sequence[tuple[float, float]] | None, grid: Grid, saved: Mapping[str, Any]) -> np.ndarray:
    """Similarities (K, T), less what speaks against times far from those given, where the model learned how wrong these are."""
    spread_s = saved.get("spread_s")
    if not spread_s or times is None:
        return values
    apart = (grid.centers(values.shape[1]) - np.mean(times, axis=1)[:, None]) / spread_s
    return values - saved["temperature"] * apart**2 / 2


def share_of(best: np.ndarray) -> np.ndarray:
    """Scores in [0, 1] of the highest similarities (K,) of sentences; 0 of what was not seen."""
    return np.where(np.isfinite(best), np.clip((1 + best) / 2, 0, 1), 0.0)
