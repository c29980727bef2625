"""CLIP's image tower: an encoder of frames one by one."""

from typing import Any

import torch

from tasks.core.checkpoint import build_strict
from tasks.core.nn.clip import ImageTransformer
from tasks.core.towers.clip_source import read_clip
from tasks.core.towers.encoder import VideoEncoder
from tasks.core.towers.identity import identity, tensors_hash


class ImageTower(VideoEncoder):
    """A CLIP image transformer with the way pictures are brought to it; what it makes of clips is what it makes of their frames.

    Args:
        network: with its weights.
        pictures: `mean`, `std` and `resample` of its input.
        source: of `identity`.
        scale: what cosines with text are multiplied with before the softmax; None: unknown.

    Attributes:
        dim: length of a vector.
        preprocessing: as in config.json of a model folder, clips being single frames.
        source, scale: as given.
    """

    def __init__(self, network: ImageTransformer, pictures: dict[str, Any], source: dict[str, Any], scale: float | None = None):
        prepared = {"image_size": network.config.image_size, "frames": 1, "sampling": "dense", "stride_frames": 1, "crop": "center"}
        architecture = network.config.model_dump()
        super().__init__(network, {"architecture": architecture, "preprocessing": {**prepared, **pictures, "color": "RGB"}})
        self.source, self.scale = source, scale

    @torch.no_grad()
    def frames(self, clips: torch.Tensor) -> torch.Tensor:
        """Vectors of frames, `(B, T, dim)`, not normalised, of what `forward` takes: `(T, H, W, 3)` uint8 or `(B, T, 3, S, S)` float."""
        return self(clips)["tokens"]


def load_image_tower(reference: str, device: torch.device | str = "cpu") -> ImageTower:
    """The image tower of a CLIP model, frozen and in evaluation mode.

    Args:
        reference: see `clip_source.read_clip`.
        device: where it computes.

    Raises:
        UsageError: there is no such model, it cannot be read, or its pictures go through a network that is not known here (ResNet).
    """
    source = read_clip(str(reference))
    settings, weights = source.image()
    with torch.device("cpu"):  # whatever device a method is built on
        network = build_strict(lambda: ImageTransformer(settings), weights, str(reference))
    found = identity(str(reference), "clip-image", tensors_hash(weights, settings.model_dump()))
    tower = ImageTower(network, dict(source.pictures), found, source.logit_scale())
    return tower.requires_grad_(False).to(device).eval()
