"""What one item of a data set of features gives, and how items are padded to a batch."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

MAIN = "features"


@dataclass
class Piece:
    """Some neighbouring features of one video.

    Attributes:
        first: number of the first among all features of the video.
        times: (L, 2) float64, seconds.
        streams: name -> (L, d) float32;
        known: name -> (L,) bool, where a further stream has something.
    """

    first: int
    times: np.ndarray
    streams: dict[str, np.ndarray]
    known: dict[str, np.ndarray]


@dataclass
class FeatureSample:
    """What one item gives: pieces with their seeds, or the reason why there are none.

    Attributes:
        segments: (k, 2) float32, start and end of the timed things of a video, seconds; None for an item that is one row.
        segment_labels: (k,) int64.
    """

    uid: int
    path: str
    label: int
    pieces: list[Piece] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    segments: np.ndarray | None = None
    segment_labels: np.ndarray | None = None
    skipped: str | None = None
    read_s: float = 0.0


def collate(samples: list[FeatureSample], length: int = 0, multiple_of: int = 1) -> dict[str, Any]:
    """Stack pieces, padded with zeros at the end.

    Args:
        samples: of `FeatureDataset`.
        length: the least that L is; it is as much more as the longest piece needs.
        multiple_of: L divides by this.

    Returns:
        main, `features`: the name of what follows; features (N, L, d) float32 of the first stream; mask (N, L) bool, True where there is a
        feature; times (N, L, 2) float32, begin and end of what each sees, presentation time in seconds, 0 where there is none; length (N,)
        int64, features of a piece; first (N,) int64, number of its first feature among all of the video; label, uid, seed, clip (N,) int64;
        path, N names; skipped, (path, reason) of items that could not be read; read_s, the seconds that reading took. For each further
        stream NAME, on the same grid: NAME (N, L, d') float32 and NAME_mask (N, L) bool. For videos with their rows: segments, N tensors
        (k, 2) float32 of start and end in seconds, and segment_label, N tensors (k,) int64. N = 0, and nothing of the last two sentences,
        where none could be read.
    """
    good = [sample for sample in samples if sample.skipped is None]
    pieces = [piece for sample in good for piece in sample.pieces]
    counts = [len(sample.pieces) for sample in good]
    lengths = [len(piece.times) for piece in pieces]
    long = -(-max([length, *lengths]) // multiple_of) * multiple_of if pieces else 0

    def padded(arrays: list[np.ndarray], kind: torch.dtype) -> torch.Tensor:
        out = torch.zeros((len(arrays), long, *arrays[0].shape[1:]), dtype=kind)
        for place, array in zip(out, arrays, strict=True):
            place[: len(array)] = torch.from_numpy(np.ascontiguousarray(array))
        return out

    def spread(values: list[int]) -> torch.Tensor:
        return torch.tensor([v for v, count in zip(values, counts, strict=True) for _ in range(count)], dtype=torch.int64)

    names = list(pieces[0].streams) if pieces else []
    further = {name: padded([piece.streams[name] for piece in pieces], torch.float32) for name in names[1:]}
    masks = {f"{name}_mask": padded([piece.known[name] for piece in pieces], torch.bool) for name in names[1:]}
    lists: dict[str, list[torch.Tensor]] = {}
    if good and good[0].segments is not None:
        lists["segments"] = [torch.from_numpy(sample.segments) for sample in good for _ in sample.pieces]
        lists["segment_label"] = [torch.from_numpy(sample.segment_labels) for sample in good for _ in sample.pieces]
    return {
        **further,
        **masks,
        **lists,
        "main": MAIN,
        MAIN: padded([piece.streams[names[0]] for piece in pieces], torch.float32) if pieces else torch.zeros((0, 0, 0)),
        "mask": torch.arange(long) < torch.tensor(lengths, dtype=torch.int64)[:, None],
        "times": padded([piece.times for piece in pieces], torch.float32) if pieces else torch.zeros((0, 0, 2)),
        "length": torch.tensor(lengths, dtype=torch.int64),
        "first": torch.tensor([piece.first for piece in pieces], dtype=torch.int64),
        "label": spread([sample.label for sample in good]),
        "uid": spread([sample.uid for sample in good]),
        "seed": torch.tensor([seed for sample in good for seed in sample.seeds], dtype=torch.int64),
        "clip": torch.tensor([number for count in counts for number in range(count)], dtype=torch.int64),
        "path": [sample.path for sample in good for _ in sample.pieces],
        "skipped": [(sample.path, sample.skipped) for sample in samples if sample.skipped is not None],
        "read_s": sum(sample.read_s for sample in samples),
    }
