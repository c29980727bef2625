"""Probabilities of videos: averaged over random clips of their features, by several models at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tasks.core.data.feature_config import FeatureConfig
from tasks.core.data.feature_loader import make_eval_loader
from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Rows
from tasks.core.errors import InputError
from tasks.core.reporter import Reporter
from tasks.core.towers.text import TextTower
from tasks.core.world import world
from tasks.prompting.config import PromptedConfig, SamplesConfig
from tasks.prompting.data import clips_of, whole
from tasks.prompting.model import PromptedModel, scores
from tasks.prompting.names import tokens_of
from tasks.prompting.sampling import draws_of
from tasks.prompting.towers import STREAM

Scorer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From clips `(B, T, dim)` and the numbers of their gaps `(B,)` to logits `(B, C)`."""


@dataclass
class Tested:
    """What a test found, of this process or of all.

    Attributes:
        probabilities: name of a scorer -> (n, C) float32.
        labels, uids: (n,) int64.
        paths: n.
        skipped: (path, reason) of what could not be read.
    """

    probabilities: dict[str, np.ndarray]
    labels: np.ndarray
    uids: np.ndarray
    paths: list[str]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def gathered(self) -> "Tested":
        """Joins the parts of all processes, in the order of the rows."""
        parts: list[Any] = [self]
        if world().size > 1:
            parts = [None] * world().size
            torch.distributed.all_gather_object(parts, self)
        order = np.argsort(np.concatenate([part.uids for part in parts]), kind="stable")
        paths = [path for part in parts for path in part.paths]
        return Tested(
            {name: np.concatenate([part.probabilities[name] for part in parts])[order] for name in self.probabilities},
            np.concatenate([part.labels for part in parts])[order],
            np.concatenate([part.uids for part in parts])[order],
            [paths[place] for place in order],
            [item for part in parts for item in part.skipped],
        )


def prompted_scorer(model: PromptedModel, text: torch.Tensor) -> Scorer:
    """Scores by a prompted model, with the vectors `(C, dim)` that it makes of names."""
    return lambda clips, gap: model.logits(model.video_features(clips, gap), text)


def zero_shot_scorer(text: torch.Tensor, temperature: float) -> Scorer:
    """Scores by the mean of the frames and vectors `(C, dim)` of hand-written prompts."""
    return lambda clips, gap: scores(clips.mean(1), text, temperature)


@torch.no_grad()
def text_of(model: PromptedModel, tower: TextTower, names: list[str], reporter: Reporter | None = None) -> torch.Tensor:
    """What a prompted model makes of names, `(C, dim)`, on the tower's device."""
    tokens = tokens_of(names, tower.tokenizer, tower.context - model.config.prompts.added, reporter)
    device = tower.network.positions.device
    return model.text_features(tower.network, *(each.to(device) for each in (tokens.ids, tokens.lengths, tokens.marks)))


@torch.no_grad()
def classify_rows(
    rows: Rows,
    labels: Sequence[str],
    data: FeatureConfig,
    folder: FeatureFolder,
    config: PromptedConfig,
    settings: SamplesConfig,
    scorers: Mapping[str, Scorer],
    device: torch.device,
    stop: Callable[[], None],
    reporter: Reporter,
) -> Tested:
    """Tests on features; all processes share the work and get the same.

    Args:
        rows: what is tested; times of a row pick its part of a video.
        labels: classes in the order of their numbers.
        data: how features are read.
        folder: of features.
        config: frames and gaps of a clip.
        settings: how many clips, their seed.
        scorers: on `device`; all see the same clips.
        device: where the scorers are.
        stop: called after every batch, equally often by all processes; raises to end.
        reporter: progress.

    Raises:
        InputError: nothing could be read.
    """
    rank, size = world()
    loader = make_eval_loader(rows, whole(data), {STREAM: folder}, list(labels), settings.batch_size, rank, size)
    found: dict[str, list[np.ndarray]] = {name: [np.zeros((0, len(labels)), np.float32)] for name in scorers}
    kept = Tested({}, np.zeros(0, np.int64), np.zeros(0, np.int64), [])
    batches = iter(loader)
    with reporter.progress("testing", len(rows), "video") as bar:
        for at in range(0, len(rows), settings.batch_size * size):  # a process may have one batch less than others
            batch = next(batches, None)
            if batch is not None:
                kept.skipped += batch["skipped"]
                if batch["path"]:
                    for name, values in _of_batch(batch, config, settings, scorers, device).items():
                        found[name].append(values)
                    kept.labels = np.append(kept.labels, batch["label"].numpy())
                    kept.uids = np.append(kept.uids, batch["uid"].numpy())
                    kept.paths += batch["path"]
                bar.advance(min(settings.batch_size * size, len(rows) - at))
            stop()
    kept.probabilities = {name: np.concatenate(parts) for name, parts in found.items()}
    tested = kept.gathered()
    if not tested.paths:
        reason = tested.skipped[0][1] if tested.skipped else "there are none"
        raise InputError(f"no features of the videos to test on could be read: {reason}")
    return tested


def _of_batch(
    batch: dict[str, Any], config: PromptedConfig, settings: SamplesConfig, scorers: Mapping[str, Scorer], device: torch.device
) -> dict[str, np.ndarray]:
    """Scorer -> probabilities (N, C) of a batch of N videos."""

    def draws(number: int) -> list[np.random.Generator]:
        rng = draws_of(batch["path"][number], settings.seed)
        return [rng] * settings.samples

    clips, gap = clips_of(batch, config, draws)
    clips, gap = clips.to(device), gap.to(device)
    return {
        name: scorer(clips, gap).softmax(-1).unflatten(0, (-1, settings.samples)).mean(1).float().cpu().numpy()
        for name, scorer in scorers.items()
    }
