"""What is counted of DPC and MemDPC, for `vid pretrain --plan`."""

import torch

from tasks.core.engine.workload import Example
from tasks.predictive.config import PretrainConfig
from tasks.predictive.data import picker
from tasks.predictive.method import Prediction


def example(config: PretrainConfig, classes: int) -> Example:
    """A micro-batch of clips; there are no classes here."""
    clips, side = config.train.batch_size * config.data.repeats, config.model.image_size
    video = torch.empty(clips, config.data.clip.frames, 3, side, side)
    return Example(Prediction(config), {"video": video}, picker=picker(config))


EXAMPLES = {"pretrain": example}
