"""What is counted of training prompts, for `vid finetune --plan`."""

import torch

from tasks.core.engine.workload import Example
from tasks.core.nn.clip import TextTransformer
from tasks.core.nn.clip_config import ClipTextConfig
from tasks.prompting.config import FinetuneConfig
from tasks.prompting.method import Prompting
from tasks.prompting.names import NameTokens
from tasks.prompting.towers import text_tower

NAME_TOKENS = 3
"""Of a class of the example."""


class UnnamedTower(torch.nn.Module):
    """The text transformer beside ViT-B, where no CLIP model is named."""

    def __init__(self):
        super().__init__()
        self.network, self.source = TextTransformer(ClipTextConfig()), {}
        self.width, self.context, self.dim = self.network.config.width, self.network.config.context, self.network.dim


def example(config: FinetuneConfig, classes: int) -> Example:
    """Clips of features of a micro-batch; on torch's default device."""
    device = torch.get_default_device()
    named = config.text or config.clip
    tower = text_tower(named, config.vocabulary).to(device) if named else UnnamedTower()
    lengths = torch.full((classes,), NAME_TOKENS)
    tokens = NameTokens(torch.zeros(classes, NAME_TOKENS, dtype=torch.int64), lengths, torch.tensor([0, 1]))
    clips = config.train.batch_size * config.data.repeats
    batch = {"clip": torch.empty(clips, config.model.frames, tower.dim)}
    batch |= {name: torch.zeros(clips, dtype=torch.int64) for name in ("gap", "label")}
    return Example(Prompting(config, tower, tokens, tower.dim), batch)


EXAMPLES = {"finetune": example}
