"""The networks of contrastive pretraining: a query encoder, a key encoder that follows it, a frozen miner, and the queues."""

import torch
from torch import nn

from tasks.contrastive.config import PretrainConfig
from tasks.core.nn.encoders import build_encoder
from tasks.core.nn.momentum import follow, follower
from tasks.core.nn.queue import KeyQueue
from tasks.core.nn.shared_norm import share_norms


class KeyedEncoder(nn.Module):
    """A query encoder with its key encoder and their queue.

    The key encoder stays in training mode: its batch norms take the statistics of the batch and keep running ones of their own (MoCo).

    Args:
        config: of the run.
    """

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.encoder = build_encoder(config.model)
        if config.method.norm == "sync":
            share_norms(self.encoder)
        self.key_encoder = follower(self.encoder)
        self.queue = KeyQueue(config.method.queue, config.model.projection)

    def follow(self, momentum: float) -> None:
        """One step of the key encoder towards the query encoder."""
        follow(self.key_encoder.parameters(), self.encoder.parameters(), momentum)

    def copy_to_keys(self) -> None:
        """Makes the key encoder equal to the query encoder."""
        self.key_encoder.load_state_dict(self.encoder.state_dict())


class Miner(nn.Module):
    """The frozen encoder of the other view, always in evaluation mode, and the queue of what it made of the clips whose keys are queued.

    Entry i of this queue and of the keys' is of the same clip.
    """

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.encoder = build_encoder(config.model)
        self.requires_grad_(False)
        self.queue = KeyQueue(config.method.queue, config.model.projection)
        self.eval()

    def train(self, mode: bool = True) -> "Miner":
        return super().train(False)

    @torch.no_grad()
    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """(B, T, 3, S, S) of the other view to directions (B, D)."""
        return self.encoder.outputs(video)["projection"]
