"""What is counted of the inpainting model, for `vid pretrain --plan`."""

import torch

from tasks.core.engine.workload import Example
from tasks.pseudo.config import PretrainConfig
from tasks.pseudo.method import LatentInpainting


def example(config: PretrainConfig, classes: int) -> Example:
    """A micro-batch of pictures with holes, in the midst of either stage; there are no classes here."""
    pictures, side, first = config.train.batch_size * config.data.repeats, config.model.image_size, config.autoencoder_share
    batch = {"video": torch.empty(pictures, 1, 3, side, side), "holes": torch.empty(pictures, 1, side, side)}
    return Example(LatentInpainting(config), batch, ((first / 2, first), ((1 + first) / 2, 1 - first)))


EXAMPLES = {"pretrain": example}
