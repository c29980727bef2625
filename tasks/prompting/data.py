"""Videos with their class names: what is read, and what of it makes a clip."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from tasks.core.data.batch import Batch
from tasks.core.data.feature_config import FeatureConfig
from tasks.core.data.features import FeatureFolder
from tasks.core.errors import UsageError
from tasks.prompting.config import PromptedConfig
from tasks.prompting.sampling import draw_clip
from tasks.prompting.towers import STREAM


def check_stream(data: FeatureConfig) -> None:
    """UsageError unless there is at most one folder of features."""
    if len(data.streams) > 1:
        raise UsageError(f"prompts take one stream of features, not {', '.join(data.streams)}", f"leave all but {STREAM} out")


def whole(data: FeatureConfig) -> FeatureConfig:
    """The settings with which features of whole videos are read."""
    return data.model_copy(update={"max_length": None, "pad": "longest", "test": "whole"})


def clips_of(batch: Batch, config: PromptedConfig, draws: Callable[[int], list[np.random.Generator]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Random clips of a batch of features of whole videos.

    Args:
        batch: of `core.data.feature_batch.collate`, N videos.
        config: frames and gaps.
        draws: from the number of a video to a generator for each of its clips; equally many.

    Returns:
        (N * clips, frames, dim) float32; (N * clips,) int64, the number of each gap.
    """
    clips, gaps = [], []
    for number, length in enumerate(batch["length"].tolist()):
        for rng in draws(number):
            places, gap = draw_clip(length, config.frames, config.gaps, rng)
            clips.append(batch["features"][number, torch.from_numpy(places)])
            gaps.append(gap)
    return torch.stack(clips), torch.tensor(gaps, dtype=torch.int64)


def train_batch(config: PromptedConfig) -> Callable[[Batch, torch.device], Batch]:
    """What brings a CPU batch of features to `method.Prompting`: one clip of every piece."""

    def prepare(batch: Batch, device: torch.device) -> Batch:
        seeds = batch["seed"].tolist()
        clips, gaps = clips_of(batch, config, lambda number: [np.random.default_rng(seeds[number])])
        made = {"clip": clips, "gap": gaps, "label": batch["label"]}
        return {name: values.to(device, non_blocking=True) for name, values in made.items()}

    return prepare


def one_folder(folders: Mapping[str, FeatureFolder], dim: int, source: Any) -> FeatureFolder:
    """The folder of features; UsageError where its channels are not those of the text tower."""
    (folder,) = folders.values()
    if folder.dim != dim:
        raise UsageError(
            f"{folder.path} holds features of {folder.dim} channels, the text tower of {source} gives {dim}",
            "features and text must come from the two towers of one CLIP model",
        )
    return folder
