"""Scores of a model of `vid pretrain --preset anomalies/...` over videos of any length."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from tasks.anomalies.config import PARTS, DetectConfig
from tasks.anomalies.result import FrameScores
from tasks.anomalies.score import Calibration, fuse, heat_levels, parts_of, scored_index
from tasks.anomalies.stream import Networks, Raw, raw_scores
from tasks.core.checkpoint import CONFIG, build_strict, find_model, load_config, load_weights
from tasks.core.clips.clips import frame_range
from tasks.core.device import usable_device
from tasks.core.errors import UsageError
from tasks.core.metrics.anomalies import smoothed
from tasks.core.video.reader import VideoReader

THRESHOLDS = {"paper": 0.5, "standard": 3.0}
"""What counts as anomalous where nobody says: half of the way from a video's most normal to its most anomalous frame; three standard
deviations."""


class _Architecture(BaseModel):
    parts: tuple[Literal[PARTS], ...]


class _Preprocessing(BaseModel):
    short_side: int | None
    stride_s: Annotated[FiniteFloat, Field(gt=0)] | None = None


class AnomalyModel(BaseModel):
    """What a config.json says beside the settings of its networks."""

    architecture: _Architecture
    weights: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    calibration: dict[Literal[PARTS], Calibration]
    preprocessing: _Preprocessing


class LearnedScorer:
    """A model, ready to score videos.

    Args:
        reference: model folder, run folder or `hf://` id.
        config: how to fuse, smooth and treat edges.

    Raises:
        UsageError: no anomaly model, or weights that leave none of its parts.

    Attributes:
        config: the model's config.json.
        parts: which indicators it has.
        threshold: `config.threshold` or the one of `THRESHOLDS`.
        settings: what a result records.
        weights: part -> eta, as set; `fuse` spreads those of missing parts.
    """

    def __init__(self, reference: str, config: DetectConfig):
        folder = find_model(reference)
        self.config: dict[str, Any] = load_config(folder)
        if self.config["task"] != "anomalies":
            raise UsageError(f"{reference} is not an anomaly model", "train one: vid pretrain --preset anomalies/tiny --data NORMAL")
        told = AnomalyModel.model_validate(self.config)
        if lacking := set(told.architecture.parts) - told.calibration.keys():
            raise UsageError(f"{folder / CONFIG} lacks calibration.{min(lacking)}", "it was edited, or made by another version")
        self.detect = config
        device = usable_device(config.device)
        self.networks = build_strict(lambda: Networks(self.config["architecture"]), load_weights(folder), str(folder))
        self.networks.to(device).eval()
        self.parts = self.networks.parts
        self.weights = dict(zip(PARTS, config.weights or told.weights, strict=True))
        if not sum(self.weights[part] for part in self.parts):
            raise UsageError(
                f"the weights leave nothing of {reference}, which has {', '.join(self.parts)}", "set others: --set weights=..."
            )
        self.calibration = told.calibration
        self.threshold = THRESHOLDS[config.fusion] if config.threshold is None else config.threshold
        self.settings = {
            "threshold": self.threshold,
            "weights": self.weights,
            **{name: getattr(config, name) for name in ("fusion", "omega2_norm", "edges", "smoothing_s", "window_stride")},
        }

    def score(
        self,
        reader: VideoReader,
        progress: Callable[[int], None] | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> FrameScores:
        """Scores of an open video, or of the part start_s <= t < end_s; arguments and errors as `raw`."""
        found = self.raw(reader, progress, start_s, end_s)
        return self.fused(found, reader.pts[found.frame])

    def raw(
        self,
        reader: VideoReader,
        progress: Callable[[int], None] | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> Raw:
        """What the networks say of an open video, or of the part start_s <= t < end_s.

        The frames are gone through once per part. With `edges: drop` a video shorter than a window gets no score.

        Args:
            reader: the video.
            progress: called with the number of further frames that are behind.
            start_s, end_s: None: from the first, to the last frame.

        Raises:
            VideoError: the video cannot be decoded.
        """
        low, high = frame_range(reader.pts, start_s, end_s)
        config = self.detect
        return raw_scores(
            self.networks,
            reader,
            low,
            high,
            short_side=self.config["preprocessing"]["short_side"],
            edges=config.edges,
            stride=config.window_stride,
            step=self.step(reader),
            batch=config.batch_size,
            progress=progress,
        )

    def fused(self, raw: Raw, t: np.ndarray) -> FrameScores:
        """Scores from what the networks said; t: (N,) seconds."""
        config = self.detect
        parts = parts_of(raw.values, config.fusion, config.omega2_norm, self.calibration)
        score = fuse(parts, self.weights)
        if config.smoothing_s and len(score):
            score = smoothed(score, t, config.smoothing_s)
        heat = None
        if raw.cells:
            levels = [self.weights[part] * heat_levels(cells) for part, cells in raw.cells.items()]
            total = sum(self.weights[part] for part in raw.cells)
            heat = (sum(levels) / total).round().astype(np.uint8) if total else heat_levels(next(iter(raw.cells.values())))
        kept = {part: values.astype(np.float32) for part, values in parts.items()}
        return FrameScores(t.astype(np.float64), raw.frame, score.astype(np.float32), kept, heat)

    def step(self, reader: VideoReader) -> int:
        """Every how manieth frame is seen, so that a clip lasts as long as those of the training. Pictures in a folder have no time: 1."""
        trained = self.config["preprocessing"].get("stride_s")
        if reader.backend == "frames" or not trained or reader.n_frames < 2:
            return 1
        interval = (reader.pts[-1] - reader.pts[0]) / (reader.n_frames - 1)
        return max(1, round(trained / interval))

    def notes(self, reader: VideoReader) -> list[str]:
        """What a reader of the scores of this video must know."""
        config, length, step = self.detect, self.networks.model.frames, self.step(reader)
        before = scored_index(length)
        edge = f"the first {before} and last {length - 1 - before} frames"
        found = [f"{edge} are judged with the edge frame repeated" if config.edges == "pad" else f"{edge} have no score"]
        if step > 1:
            found.append(f"one frame in {step} is seen: the model was trained at {1 / self.config['preprocessing']['stride_s']:g} fps")
        if config.window_stride > 1:
            found.append(f"one frame in {config.window_stride} of those seen is scored, the others take the nearest score")
        if config.fusion == "paper":
            found.append("scores are relative to this video: 0 is its most normal, 1 its most anomalous frame, even if all is normal")
        return found
