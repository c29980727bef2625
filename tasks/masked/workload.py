"""What is counted of masked pretraining, for `vid pretrain --plan`."""

import torch

from tasks.core.engine.workload import Example
from tasks.masked.config import PretrainConfig
from tasks.masked.method import MaskedPretraining


def example(config: PretrainConfig, classes: int) -> Example:
    """A micro-batch at the end of the run, when a learned sampler is past its warm-up; there are no classes here."""
    clips, model = config.train.batch_size * config.data.repeats, config.model
    batch = {"video": torch.empty(clips, model.frames, 3, model.image_size, model.image_size)}
    if config.sampler.needs_boxes:
        batch["boxes"] = torch.zeros(clips, model.frames, 4)
    return Example(MaskedPretraining(config), batch)


EXAMPLES = {"pretrain": example}
