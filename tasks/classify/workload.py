"""What is counted of fine-tuning and probing, for `vid finetune --plan`."""

import torch

from tasks.classify.config import FinetuneConfig
from tasks.classify.finetune import architecture
from tasks.classify.turbo import build_method
from tasks.core.engine.workload import Example


def example(config: FinetuneConfig, classes: int) -> Example:
    """A micro-batch of clips with their soft targets."""
    clips, model = config.train.batch_size * config.data.repeats, architecture(config)
    video = torch.empty(clips, config.data.clip.frames, 3, model.image_size, model.image_size)
    boxes = {"boxes": torch.zeros(clips, config.data.clip.frames, 4)} if config.head.mca else {}
    return Example(build_method(config, model, classes), {"video": video, "target": torch.empty(clips, classes), **boxes})


EXAMPLES = {"finetune": example}
