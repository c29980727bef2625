"""What is counted of training a localiser, for `vid finetune --plan`."""

import torch

from tasks.core.engine.workload import Example
from tasks.core.errors import UsageError
from tasks.localization.config import FinetuneConfig
from tasks.localization.method import EventTraining

EVENTS = 4
"""In each video of the example."""
UNKNOWN = {"visual": 2048, "audio": 128}
"""Channels that are counted where no folder of features is there to ask."""


def example(config: FinetuneConfig, classes: int) -> Example:
    """Features of a micro-batch, as `data.TrainPieces` makes them; as long as the longest crop."""
    length = config.resize or config.data.max_length
    if length is None:
        raise UsageError("nothing says how long the features of a video are", "--plan needs data.max_length or resize")
    videos, dims = config.train.batch_size * config.data.repeats, channels(config)
    names = {"visual": "video", "audio": "audio"}
    batch = {names[name]: torch.empty(videos, dims[name], length) for name in config.model.needed}
    batch["mask"] = torch.ones(videos, length, dtype=torch.bool)
    starts = torch.arange(EVENTS, dtype=torch.float32) * length / EVENTS
    batch["segments"] = torch.stack([starts, starts + length / EVENTS], 1).repeat(videos, 1, 1)
    batch["labels"] = (torch.arange(EVENTS) % classes).repeat(videos, 1)
    return Example(EventTraining(config, dims, classes), batch)


def channels(config: FinetuneConfig) -> dict[str, int]:
    """Channels of every stream that the model takes: of the folders of features where they are there, else UNKNOWN."""
    from tasks.core.data.streams import open_streams

    if config.towers is not None:
        from tasks.localization.prepare import makers

        with torch.device("cpu"):
            return {name: maker.dim for name, maker in makers(config).items()}
    try:
        found = {name: folder.dim for name, folder in open_streams(config.data).items()}
    except UsageError:
        found = {}
    return {name: found.get(name, UNKNOWN[name]) for name in config.model.needed}


EXAMPLES = {"finetune": example}
