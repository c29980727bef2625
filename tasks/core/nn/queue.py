"""Keys of past batches as negatives (MoCo, He et al., CVPR 2020)."""

import torch
from torch import nn
from torch.nn import functional as F


class KeyQueue(nn.Module):
    """A ring of the newest keys, with the videos that they came from; filled with random directions at first.

    All of it is buffers, so that a checkpoint holds it. Every process enqueues the same keys, so that the copies stay equal.
    """

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("videos", torch.full((size,), -1))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))

    def negatives(self, videos: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (size, D) as they are now, and (B, size) bool, true where one is of the video `videos` (B,) int64."""
        return self.keys.clone(), videos[:, None] == self.videos

    @torch.no_grad()
    def enqueue(self, keys: torch.Tensor, videos: torch.Tensor) -> None:
        """Writes keys (n, D) of `videos` (n,) int64 over the oldest."""
        size = len(self.keys)
        keys, videos = keys[-size:], videos[-size:]
        places = (self.next + torch.arange(len(keys), device=keys.device)) % size
        self.keys.index_copy_(0, places, keys.to(self.keys.dtype))
        self.videos.index_copy_(0, places, videos)
        self.next.add_(len(keys)).remainder_(size)
