"""What is counted of contrastive pretraining, for `vid pretrain --plan`."""

from pathlib import Path

import torch

from tasks.contrastive.config import CyclesConfig, MiningConfig, PretrainConfig, VideoTextConfig
from tasks.contrastive.cycles import stages
from tasks.contrastive.data import PairPicker
from tasks.contrastive.method import METHODS
from tasks.contrastive.sentences import SentencePicker
from tasks.contrastive.video_text import VideoTextPretraining
from tasks.core.engine.workload import Example


def example(config: PretrainConfig, classes: int) -> Example:
    """Pairs of clips of a micro-batch, as `data.PairViews` makes them; of cycles a stage of co-training, the dearest."""
    if isinstance(config.method, VideoTextConfig):
        return words_example(config)
    if isinstance(config.method, CyclesConfig):
        config = stages(config, Path("RUN"))[-1][1]
    clips, side = config.train.batch_size * config.data.repeats, config.model.image_size
    pairs = torch.empty(clips, 2, config.data.clip.frames, 3, side, side)
    batch = {"video": pairs, **({"flow": torch.empty_like(pairs)} if isinstance(config.method, MiningConfig) else {})}
    numbers = {"source": torch.arange(clips), "label": torch.arange(clips)}
    return Example(METHODS[config.method.name](config), {**batch, **numbers}, picker=PairPicker.from_config(config))


def words_example(config: PretrainConfig) -> Example:
    """Clips with sentences of a micro-batch. A frozen text tower, which is no part of the method, is not opened: its vectors are taken to
    be as long as those of the video encoder. Sentences that are trained are taken to fill their context.
    """
    clips, model, new = config.train.batch_size, config.model, config.method.text.new
    batch = {"video": torch.empty(clips, model.frames, 3, model.image_size, model.image_size)}
    if new is None:
        method = VideoTextPretraining(config, model.widths()[0])
        batch["text"] = torch.empty(clips, model.widths()[0])
    else:
        method = VideoTextPretraining(config, None, new.vocabulary)
        batch |= {"ids": torch.zeros(clips, new.context, dtype=torch.int64), "end": torch.zeros(clips, dtype=torch.int64)}
    return Example(method, batch, picker=SentencePicker.from_config(config))


EXAMPLES = {"pretrain": example}
