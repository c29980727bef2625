"""A pretrained encoder in Python, without the command line.

from tasks.masked.features import load
model = load("runs/mine")
print(model.features("clip.mp4").shape)
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tasks.core.checkpoint import find_model
from tasks.core.clips.prepare import read_views
from tasks.masked.convert import load_model


class VideoEncoder(nn.Module):
    """An encoder with the way videos must be brought to it.

    Attributes:
        preprocessing: of config.json. encoder: the video transformer.
    """

    def __init__(self, encoder: nn.Module, preprocessing: dict[str, Any]):
        super().__init__()
        self.encoder, self.preprocessing = encoder, preprocessing

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Normalised `(B, T, 3, S, S)` float32 to tokens `(B, N, dim)`, time-major, then row, then column."""
        return self.encoder(video)

    @torch.no_grad()
    def features(self, path: str | Path, clips: int = 5, crops: int = 3) -> torch.Tensor:
        """`(dim,)` float32: tokens of a video averaged, over all tokens and views. Raises InputError.

        Args:
            path: a file or a folder of pictures. clips, crops: the views that are averaged.
        """
        views = read_views(path, self.preprocessing, clips, crops).to(next(self.parameters()).device)
        return torch.stack([self(view[None])[0].float().mean(0) for view in views]).mean(0)


def load(reference: str | Path, device: torch.device | str = "cpu") -> VideoEncoder:
    """The encoder of a masked model folder, run folder or `hf://` id, in evaluation mode. Raises UsageError when there is none."""
    autoencoder, saved = load_model(find_model(str(reference)))
    return VideoEncoder(autoencoder.encoder, saved["preprocessing"]).eval().to(device)
