"""Videos with their sentences: which there are, what is cut out of them, and what of it is right."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tasks.alignment.config import PretrainConfig
from tasks.core.data.batch import Batch
from tasks.core.data.captions import Sentence, sentences_of
from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Row, Rows
from tasks.core.errors import InputError

REACH = 2.5
"""Standard deviations beyond which a given time is not wrong."""


@dataclass(frozen=True)
class Narrated:
    """Videos with timed sentences.

    Attributes:
        rows: one for each sentence, with its times as they were given and its text; those of a video stand together.
        sentences: video -> its sentences, in order.
        skipped: (path, reason) of videos that cannot be used.
    """

    rows: Rows
    sentences: dict[str, list[Sentence]]
    skipped: list[tuple[str, str]]


def narrated(rows: Sequence[Row]) -> Narrated:
    """The sentences of the rows of a manifest: their texts, else their subtitles.

    Raises:
        InputError: no row has a sentence.
    """
    found: dict[str, list[Sentence]] = {}
    skipped: dict[str, str] = {}
    for row in rows:
        try:
            sentences = [sentence for sentence in sentences_of(row) if sentence.text]
        except InputError as error:
            skipped[row.path] = error.message
            continue
        if sentences:
            found.setdefault(row.path, []).extend(sentences)
        else:
            skipped.setdefault(row.path, "it has no sentences: its row has neither text nor subtitles")
    if not found:
        path, reason = next(iter(skipped.items()))
        raise InputError(
            f"none of {len(skipped)} videos has sentences; {path}: {reason}", "a manifest names them in a column subtitles or text"
        )
    given = (Row(path, start_s=s.start_s, end_s=_end(s), text=s.text) for path, several in found.items() for s in several)
    return Narrated(Rows.of(given), found, [(path, reason) for path, reason in skipped.items() if path not in found])


def _end(sentence: Sentence) -> float | None:
    return sentence.end_s if np.isfinite(sentence.end_s) else None


class SentenceCropper:
    """Windows that begin with a random sentence, of those that leave a whole window before the last one ends; else anywhere."""

    def __call__(self, times: np.ndarray, length: int, rng: np.random.Generator, rows: Sequence[Row]) -> int:
        last = len(times) - length
        begins = np.searchsorted(times.mean(1), [row.start_s or 0.0 for row in rows])
        fitting = begins[begins <= last]
        return int(rng.choice(fitting)) if len(fitting) else int(rng.integers(last + 1))


class Windows:
    """From a batch of pieces of features to what the method takes.

    Args:
        config: of the run.
        sentences: of every video.
        encode: sentences to numbers of words (K, L) or to vectors (K, C).
        folders: of the streams, in the order in which they are joined.
    """

    def __init__(
        self,
        config: PretrainConfig,
        sentences: Mapping[str, list[Sentence]],
        encode: Callable[[list[str]], torch.Tensor],
        folders: Mapping[str, FeatureFolder],
    ):
        self.spread_s, self.edges = config.window.spread_s, getattr(config.method, "edges", 0.0)
        self.folders, self.names = folders, list(folders)
        self.times = {path: np.array([(s.start_s, s.end_s) for s in several]) for path, several in sentences.items()}
        self.texts = {path: encode([s.text for s in several]) for path, several in sentences.items()}
        self._ends: dict[str, float] = {}

    def __call__(self, batch: Batch, device: torch.device) -> Batch:
        """Sentences of a window are those that overlap it, or may do so.

        Args:
            batch: of `core.data.feature_loader`.
            device: where the method runs.

        Returns:
            `video` (B, T, D) float32, all streams side by side; `video_mask` (B, T), `text_mask` (B, K) bool; `text` (B, K, ...);
            `given` (B, K, T) bool, features at the times of a sentence, one at least; `right` (B, K, T) float32, see `weights_of`; `edge`
            (B, K) bool, the middle of the sentence is in the first or last `method.edges` of the video.
        """
        parts = [
            self._window(path, times[:n].double().numpy())
            for path, times, n in zip(batch["path"], batch["times"], batch["length"].tolist(), strict=True)
        ]
        found = {"video": joined_streams(batch, self.names), "video_mask": batch["mask"], **padded(parts, batch["mask"].shape[1])}
        return {name: values.to(device, non_blocking=True) for name, values in found.items()}

    def _window(self, path: str, times: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Of the sentences of one window: texts, given and right masks over its features, edge."""
        spans = self.times[path]
        right = weights_of(spans, times, self.spread_s)
        near = np.isfinite(right).any(1)
        given, right = inside(spans[near], times), right[near]
        for row, weights in zip(given, right, strict=True):
            if not row.any():
                row[weights.argmax()] = True
        edge = np.zeros(len(given), bool)
        if self.edges:
            middle = spans[near].mean(1) / self._end_of(path)
            edge = (middle < self.edges) | (middle > 1 - self.edges)
        return (
            self.texts[path][torch.from_numpy(near)],
            torch.from_numpy(given),
            torch.from_numpy(right),
            torch.from_numpy(edge),
        )

    def _end_of(self, path: str) -> float:
        if path not in self._ends:
            self._ends[path] = float(self.folders[self.names[0]].of(Row(path)).times[-1, 1])
        return self._ends[path]


def inside(spans: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(K, T) bool: features (T, 2) whose middle lies in spans (K, 2); seconds."""
    middles = times.mean(1)
    return (middles >= spans[:, :1]) & (middles < spans[:, 1:])


def weights_of(spans: np.ndarray, times: np.ndarray, spread_s: float) -> np.ndarray:
    """(K, T) float32, logarithms of the weights with which features (T, 2) belong to sentences said to be at spans (K, 2), seconds.

    Without a spread 0 inside of the span and, for one between two features, at the nearest; with one the logarithm of a Gaussian around its
    middle, up to REACH deviations. -inf elsewhere.
    """
    middles = times.mean(1)
    if spread_s:
        apart = (middles - spans.mean(1, keepdims=True)) / spread_s
        return np.where(np.abs(apart) <= REACH, -(apart**2) / 2, -np.inf).astype(np.float32)
    found = inside(spans, times)
    step = np.diff(times, axis=1).mean() / 2 if len(times) else 0.0
    for row, (start, end) in zip(found, spans, strict=True):
        if not row.any() and len(middles) and middles[0] - step <= (start + end) / 2 <= middles[-1] + step:
            row[np.abs(middles - (start + end) / 2).argmin()] = True
    return np.where(found, 0.0, -np.inf).astype(np.float32)


def joined_streams(batch: Batch, names: Sequence[str]) -> torch.Tensor:
    """(B, T, D): all streams of a batch side by side, the first being `features`."""
    return torch.cat([batch["features"], *(batch[name] for name in names[1:])], -1)


def padded(parts: Sequence[tuple[torch.Tensor, ...]], length: int) -> dict[str, torch.Tensor]:
    """Windows side by side, filled up with sentences and features that their masks leave out; one sentence at least."""
    size = max([1, *(len(text) for text, *_ in parts)])
    shape, kind = (parts[0][0].shape[1:], parts[0][0].dtype) if parts else ((1,), torch.int64)
    found = {
        "text": torch.zeros((len(parts), size, *shape), dtype=kind),
        "text_mask": torch.zeros((len(parts), size), dtype=torch.bool),
        "given": torch.zeros((len(parts), size, length), dtype=torch.bool),
        "right": torch.full((len(parts), size, length), -torch.inf),
        "edge": torch.zeros((len(parts), size), dtype=torch.bool),
    }
    for number, (text, given, right, edge) in enumerate(parts):
        k, t = given.shape
        found["text"][number, :k], found["text_mask"][number, :k], found["edge"][number, :k] = text, True, edge
        found["given"][number, :k, :t], found["right"][number, :k, :t] = given, right
    return found
