"""What models make of videos, averaged over random clips of their features: probabilities of classes, or vectors; several at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from tasks.core.data.feature_config import FeatureConfig
from tasks.core.data.feature_loader import make_eval_loader
from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Rows
from tasks.core.errors import InputError
from tasks.core.nn.precision import full_precision
from tasks.core.reporter import Reporter
from tasks.core.towers.text_tower import BATCH, TextTower
from tasks.core.world import world
from tasks.prompting.config import PromptedConfig, SamplesConfig
from tasks.prompting.data import clips_of, whole
from tasks.prompting.model import PromptedModel, scores
from tasks.prompting.names import tokens_of
from tasks.prompting.sampling import draws_of
from tasks.prompting.towers import STREAM

Scorer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From clips `(B, T, dim)` and the numbers of their gaps `(B,)` to what is averaged, `(B, C)`: probabilities, or vectors of length 1."""


@dataclass
class Tested:
    """What a test found, of this process or of all.

    Attributes:
        outputs: name of a scorer -> (n, C) float32.
        labels, uids: (n,) int64.
        paths: n.
        skipped: (path, reason) of what could not be read.
    """

    outputs: dict[str, np.ndarray]
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
        names = dict.fromkeys(name for part in parts for name in part.outputs)
        order = np.argsort(np.concatenate([part.uids for part in parts]), kind="stable")
        paths = [path for part in parts for path in part.paths]
        return Tested(
            {name: np.concatenate([part.outputs[name] for part in parts if part.paths])[order] for name in names},
            np.concatenate([part.labels for part in parts])[order],
            np.concatenate([part.uids for part in parts])[order],
            [paths[place] for place in order],
            [item for part in parts for item in part.skipped],
        )


def prompted_scorer(model: PromptedModel, text: torch.Tensor) -> Scorer:
    """Scores by a prompted model, with the vectors `(C, dim)` that it makes of names."""
    return lambda clips, gap: model.logits(model.video_features(clips, gap), text).softmax(-1)


def zero_shot_scorer(text: torch.Tensor, temperature: float) -> Scorer:
    """Scores by the mean of the frames and vectors `(C, dim)` of hand-written prompts."""
    return lambda clips, gap: scores(clips.mean(1), text, temperature).softmax(-1)


def vector_scorer(model: PromptedModel | None) -> Scorer:
    """Vectors of videos by a prompted model; None: the means of their frames."""
    return lambda clips, gap: F.normalize(full_precision(clips.mean(1) if model is None else model.video_features(clips, gap)), dim=-1)


@torch.no_grad()
def text_of(model: PromptedModel, tower: TextTower, names: list[str], reporter: Reporter | None = None) -> torch.Tensor:
    """What a prompted model makes of names or sentences, `(C, dim)`, on the tower's device."""
    tokens = tokens_of(names, tower.tokenizer, tower.context - model.config.prompts.added, reporter)
    device = tower.network.positions.device
    ids, lengths, marks = (each.to(device) for each in (tokens.ids, tokens.lengths, tokens.marks))
    parts = zip(ids.split(BATCH), lengths.split(BATCH), strict=True)
    return torch.cat([model.text_features(tower.network, *part, marks) for part in parts])


@torch.no_grad()
def score_rows(
    rows: Rows,
    labels: Sequence[str] | None,
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
        labels: classes in the order of their numbers; None: there are none.
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
    loader = make_eval_loader(rows, whole(data), {STREAM: folder}, labels and list(labels), settings.batch_size, rank, size)
    found: dict[str, list[np.ndarray]] = {name: [] for name in scorers}
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
    kept.outputs = {name: np.concatenate(parts) for name, parts in found.items() if parts}
    tested = kept.gathered()
    if not tested.paths:
        reason = tested.skipped[0][1] if tested.skipped else "there are none"
        raise InputError(f"no features of the videos to test on could be read: {reason}")
    return tested


def _of_batch(
    batch: dict[str, Any], config: PromptedConfig, settings: SamplesConfig, scorers: Mapping[str, Scorer], device: torch.device
) -> dict[str, np.ndarray]:
    """Scorer -> means (N, C) of a batch of N videos."""

    def draws(number: int) -> list[np.random.Generator]:
        rng = draws_of(batch["path"][number], settings.seed)
        return [rng] * settings.samples

    clips, gap = clips_of(batch, config, draws)
    clips, gap = clips.to(device), gap.to(device)
    return {name: scorer(clips, gap).unflatten(0, (-1, settings.samples)).mean(1).float().cpu().numpy() for name, scorer in scorers.items()}
