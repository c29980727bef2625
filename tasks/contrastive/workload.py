"""What is counted of contrastive pretraining, for `vid pretrain --plan`."""

from pathlib import Path

import torch

from tasks.contrastive.config import CyclesConfig, MiningConfig, PretrainConfig
from tasks.contrastive.cycles import stages
from tasks.contrastive.data import PairPicker
from tasks.contrastive.method import METHODS
from tasks.core.engine.workload import Example


def example(config: PretrainConfig, classes: int) -> Example:
    """Pairs of clips of a micro-batch, as `data.PairViews` makes them; of cycles a stage of co-training, the dearest."""
    if isinstance(config.method, CyclesConfig):
        config = stages(config, Path("RUN"))[-1][1]
    clips, side = config.train.batch_size * config.data.repeats, config.model.image_size
    pairs = torch.empty(clips, 2, config.data.clip.frames, 3, side, side)
    batch = {"video": pairs, **({"flow": torch.empty_like(pairs)} if isinstance(config.method, MiningConfig) else {})}
    numbers = {"source": torch.arange(clips), "label": torch.arange(clips)}
    return Example(METHODS[config.method.name](config), {**batch, **numbers}, picker=PairPicker.from_config(config))


EXAMPLES = {"pretrain": example}
