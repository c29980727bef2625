"""A trained localiser over the features of a video of any length, window by window."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tasks.core.checkpoint import build_strict, find_model, load_config, load_weights, weights_hash
from tasks.core.device import usable_device
from tasks.core.errors import UsageError
from tasks.localization.config import EventsConfig, LocalizerConfig
from tasks.localization.data import resized
from tasks.localization.decode import Candidates, decode, settle, window_steps
from tasks.localization.model import EventLocalizer, Output
from tasks.localization.windows import Window

KEPT = 500
"""Candidates of a window that go on to the suppression over the whole video."""


@dataclass(frozen=True)
class Piece:
    """What one window says.

    Attributes:
        candidates: before suppression, on the grid of all features of the video.
        curve: (n, K) float16, scores of the features that count in this window.
    """

    candidates: Candidates
    curve: np.ndarray


class Localizer:
    """A model of `vid finetune` for events, ready for features.

    Args:
        reference: model folder, run folder or `hf://` id.
        device: of `usable_device`.
        proposals: leave the classes open.

    Attributes:
        config: the model's config.json.
        labels: names of the classes.
        events: how candidates become events.
        weights_hash: tells models of the same name apart.
        window: features of a window; None: a video is seen whole.
        hop: from one window to the next.

    Raises:
        UsageError: there is no such model, or it is not a localiser.
    """

    def __init__(self, reference: str, device: str = "auto", proposals: bool = False):
        folder = find_model(reference)
        self.config: dict[str, Any] = load_config(folder)
        if self.config["task"] != "localization":
            raise UsageError(f"{reference} is not a localiser of events", "train one: vid finetune --preset localization/av-events")
        self.labels: list[str] = list(self.config["labels"])
        self.events = EventsConfig(**self.config["events"])
        self.proposals, self.weights_hash = proposals, weights_hash(folder)
        model = LocalizerConfig(**self.config["architecture"])
        dims = {name: record["dim"] for name, record in self.config["streams"].items()}
        build = lambda: EventLocalizer(model, dims, len(self.labels))  # noqa: E731 (built twice, once without memory)
        self.model = build_strict(build, load_weights(folder), str(folder)).to(usable_device(device)).eval()
        self.needed = model.needed
        step, window = 2 ** (model.levels - 1), self.events.window
        self.window, self.hop = (None, step) if window is None else window_steps(window, self.events.overlap, step)
        self.resize: int | None = self.config["preprocessing"].get("resize")

    @torch.inference_mode()
    def piece(self, window: Window) -> Piece:
        """What a window says."""
        device = next(self.model.parameters()).device
        streams = {name: torch.from_numpy(window.streams[name].T.copy()) for name in self.needed}
        length = window.length
        if self.resize:
            streams, _ = resized(streams, np.zeros((0, 2)), self.resize)
        size = self.resize or length
        inputs = {name: values[None].to(device) for name, values in streams.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = self.model(inputs.get("visual"), inputs.get("audio"), torch.ones(1, size, dtype=torch.bool, device=device))
        low, high = (place * size / length for place in window.counted)
        found = {name: values.cpu() for name, values in decode(output, self.events, [(low, high)])[0].items()}
        segments = (found["segments"] + 0.5) * (length / size) - 0.5 if self.resize else found["segments"]
        best = found["scores"].topk(min(KEPT, len(found["scores"]))).indices
        candidates = {"segments": segments[best] + window.first, "scores": found["scores"][best], "labels": found["labels"][best]}
        return Piece(candidates, curve_of(output, size, length)[slice(*window.counted)])

    def joined(self, pieces: Iterable[Piece], min_score: float | None = None, top: int | None = None) -> tuple[Candidates, np.ndarray]:
        """Events of a video after suppression, the best first, on the grid of its features; the curves (n, K) float16.

        Args:
            pieces: of all windows.
            min_score: events below it are left out; None: the model's own.
            top: events at most; None: as many for each window's length as the model keeps of a video.
        """
        pieces = list(pieces)
        curve = np.concatenate([piece.curve for piece in pieces])
        found = {name: torch.cat([piece.candidates[name] for piece in pieces]) for name in ("segments", "scores", "labels")}
        lengths = 1 if self.window is None else -(-len(curve) // self.window)
        least = self.events.min_score if min_score is None else min_score
        rules = {"keep": top or self.events.keep * lengths, "class_agnostic": self.proposals or self.events.class_agnostic}
        found = settle(found, self.events.model_copy(update=rules))
        kept = found["scores"] >= least
        return {name: values[kept] for name, values in found.items()}, curve


def curve_of(output: Output, size: int, length: int) -> np.ndarray:
    """(length, K) float16: for each feature and class the highest score of the points that stand for it, of all levels.

    Args:
        output: of one video.
        size: features that the model saw.
        length: features of the video; they were stretched where this is another number.
    """
    at = torch.arange(size)
    best = None
    for level, logits in enumerate(output.logits):
        points = (at + 2**level // 2).div(2**level, rounding_mode="floor").clamp(max=logits.shape[1] - 1)
        scores = logits[0].float().sigmoid().cpu()[points]
        best = scores if best is None else torch.maximum(best, scores)
    places = np.clip(np.floor((np.arange(length) + 0.5) * size / length), 0, size - 1).astype(np.int64)
    return best.numpy()[places].astype(np.float16)
