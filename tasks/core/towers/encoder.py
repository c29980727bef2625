"""The encoder of a model folder in Python, whichever task trained it and whichever family it is of.

from tasks.core.towers import load_encoder
encoder = load_encoder("runs/mine")
print(encoder.features("clip.mp4").shape)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tasks.core.checkpoint import build_strict, encoder_weights, find_model, load_config, load_weights
from tasks.core.clips.prepare import prepare_frames, read_streams
from tasks.core.errors import UsageError
from tasks.core.nn.encoders import build_for, pooled_of, saved_settings


class VideoEncoder(nn.Module):
    """An encoder with the way videos must be brought to it.

    Args:
        network: see `core.nn.encoders`.
        saved: config.json of the model folder.

    Attributes:
        network: as given.
        saved: as given.
        preprocessing: its part about the input.
        dim: width of what comes out.
    """

    def __init__(self, network: nn.Module, saved: dict[str, Any]):
        super().__init__()
        self.network, self.saved, self.preprocessing, self.dim = network, saved, saved["preprocessing"], network.dim

    def forward(self, x: torch.Tensor | np.ndarray) -> dict[str, torch.Tensor]:
        """What the encoder makes of clips.

        Args:
            x: one clip of RGB frames `(T, H, W, 3)` uint8, which is prepared as the model folder says, or clips `(B, T, 3, S, S)` float
                that are normalised already.

        Returns:
            `tokens` `(B, N, dim)` or `map` `(B, dim, t, h, w)`; `pooled` `(B, dim)`; and what the family adds (`context`,
            `projection`). B is 1 for frames.

        Raises:
            UsageError: x is neither, or not of the size that the network takes.
        """
        out = self.network.outputs(self.video_of(x))
        return {**out, "pooled": pooled_of(out)}

    def video_of(self, x: torch.Tensor | np.ndarray) -> torch.Tensor:
        """What the network sees of x, `(B, T, 3, S, S)` float on its device; arguments and errors as `forward`."""
        x, own = torch.as_tensor(x), next(self.network.parameters())
        if x.dtype == torch.uint8 and x.ndim == 4 and x.shape[-1] == 3 and x.numel():
            return prepare_frames(x.to(own.device), self.preprocessing).to(own.dtype)
        if not (x.is_floating_point() and x.ndim == 5 and x.shape[2] == 3):
            raise UsageError(
                f"an encoder takes frames (T, H, W, 3) uint8 or clips (B, T, 3, S, S) float, not {tuple(x.shape)} {x.dtype}".replace(
                    "torch.", ""
                )
            )
        return x.to(own)

    @torch.no_grad()
    def features(self, path: str | Path, clips: int = 5, crops: int = 3) -> torch.Tensor:
        """`(dim,)` float32: what `vid extract-features --per video` writes of a video.

        Args:
            path: a file or a folder of pictures.
            clips: windows spread over the video, which are averaged.
            crops: squares of each, which are averaged: 1, 3 or 10.

        Raises:
            InputError: the video cannot be read.
        """
        without_boxes = {**self.preprocessing, "boxes": None}  # a head may look at them, encoders do not
        return mean_over_views(lambda video: self(video)["pooled"], path, without_boxes, clips, crops, self)


def mean_over_views(
    function: Callable[..., torch.Tensor],
    path: str | Path,
    preprocessing: dict[str, Any],
    clips: int,
    crops: int,
    module: nn.Module,
) -> torch.Tensor:
    """`(d,)`: the mean of what `function` makes of every view of a video, one after the other.

    Args:
        function: from `video`, normalised `(1, T, 3, S, S)`, and where the model looks at them `boxes` `(1, T, 4)`, to `(1, d)`.
        path: a file or a folder of pictures.
        preprocessing: of config.json.
        clips: windows spread over the video.
        crops: squares of each.
        module: whose parameters lie on the device to compute on.

    Raises:
        InputError: the video cannot be read.
    """
    device = next(module.parameters()).device
    streams = {name: tensor.to(device).split(1) for name, tensor in read_streams(path, preprocessing, clips, crops).items()}
    views = (dict(zip(streams, view, strict=True)) for view in zip(*streams.values(), strict=True))
    return torch.stack([function(**view)[0] for view in views]).mean(0)


def load_encoder(reference: str | Path, device: torch.device | str = "cpu") -> VideoEncoder:
    """The encoder of any model folder that has one, in evaluation mode.

    Args:
        reference: model folder, run folder or `hf://` id.
        device: where it computes.

    Raises:
        UsageError: there is no model, or it has no encoder of clips.
    """
    folder = find_model(str(reference))
    saved = load_config(folder)
    settings = saved_settings(saved, str(reference))
    weights = encoder_weights(load_weights(folder))
    network = build_strict(lambda: build_for(settings, weights), weights, str(folder))
    return VideoEncoder(network, saved).to(device).eval()
