"""What is counted of cVCLR, for `vid pretrain --plan`."""

import torch

from tasks.boundaries.config import PretrainConfig
from tasks.boundaries.data import TuplePicker
from tasks.boundaries.method import ClipContrast
from tasks.core.engine.workload import Example


def example(config: PretrainConfig, classes: int) -> Example:
    """Views of a micro-batch of videos, as `data.PretrainViews` makes them; there are no classes here."""
    videos, side = config.train.batch_size * config.data.repeats, config.model.image_size
    clip = config.data.clip.frames if config.contrast.clip_tasks else 1
    tuples = torch.empty(videos, config.contrast.segments, clip, 3, side, side)
    batch = {"frames": torch.empty(videos, 4, 3, side, side), "anchor": tuples, "positive": torch.empty_like(tuples)}
    return Example(ClipContrast(config), {**batch, "uid": torch.arange(videos)}, picker=TuplePicker.from_config(config))


EXAMPLES = {"pretrain": example}
