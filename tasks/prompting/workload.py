"""What is counted of training prompts, for `vid finetune --plan`."""

from types import SimpleNamespace

import torch

from tasks.core.engine.workload import Example
from tasks.core.nn.clip import TextTransformer
from tasks.core.nn.clip_config import ClipTextConfig
from tasks.prompting.config import FinetuneConfig
from tasks.prompting.method import EventPrompting, Prompting, SentencePrompting
from tasks.prompting.names import NameTokens
from tasks.prompting.towers import text_tower

NAME_TOKENS, SENTENCE_TOKENS = 3, 15
"""Of a class, and of a sentence, of the example."""


class UnnamedTower(torch.nn.Module):
    """The text transformer beside ViT-B, where no CLIP model is named."""

    def __init__(self):
        super().__init__()
        self.network, self.source = TextTransformer(ClipTextConfig()), {}
        self.tokenizer = SimpleNamespace(start=0, end=1)
        self.width, self.context, self.dim = self.network.config.width, self.network.config.context, self.network.dim


def example(config: FinetuneConfig, classes: int) -> Example:
    """Clips of features of a micro-batch; on torch's default device."""
    device = torch.get_default_device()
    named = config.text or config.clip
    tower = text_tower(named, config.vocabulary).to(device) if named else UnnamedTower()
    clips = config.train.batch_size * config.data.repeats
    batch = {"clip": torch.empty(clips, config.model.frames, tower.dim), "gap": torch.zeros(clips, dtype=torch.int64)}
    if config.method == "retrieval":
        batch |= {"ids": torch.zeros(clips, SENTENCE_TOKENS, dtype=torch.int64), "lengths": torch.full((clips,), SENTENCE_TOKENS)}
        return Example(SentencePrompting(config, tower, tower.dim), batch)
    tokens = NameTokens(torch.zeros(classes, NAME_TOKENS, dtype=torch.int64), torch.full((classes,), NAME_TOKENS), torch.tensor([0, 1]))
    batch["label"] = torch.zeros(clips, dtype=torch.int64)
    if config.method == "localization":  # an event in each snippet
        batch |= {"owner": torch.arange(clips), "inside": torch.tensor([[0, config.model.frames]]).repeat(clips, 1)}
        return Example(EventPrompting(config, tower, tokens, tower.dim), batch)
    return Example(Prompting(config, tower, tokens, tower.dim), batch)


EXAMPLES = {"finetune": example}
