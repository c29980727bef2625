"""A tiny encoder of every family, and its model folder."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pinned import same_everywhere
from torch import nn

from tasks.core.checkpoint import save_model
from tasks.core.nn.encoders import FAMILIES, build_encoder

FRAMES, SIZE = 4, 32
TINY: dict[str, dict[str, Any]] = {
    "vit": {"size": "tiny", "dim": 32, "depth": 2, "heads": 2, "image_size": SIZE, "frames": FRAMES, "tubelet": 2, "patch": 8},
    "resnet": {"size": "resnet18", "width": 8, "image_size": SIZE, "motion": {"patch": 3, "sigma": 1.0}},
    "r2d3d": {"width": 4, "image_size": SIZE, "block_frames": 2, "predict": 1, "bidirectional": True},
    "discrepancy": {"width": 4, "image_size": SIZE, "block_frames": 2, "predict": 1, "bidirectional": True, "slots": 6},
    "s3d": {"width": 0.125, "image_size": SIZE},
}
PREPROCESSING = {
    "image_size": SIZE,
    "frames": FRAMES,
    "sampling": "dense",
    "stride_frames": 2,
    "stride_s": None,
    "stretch": False,
    "crop": "center",
    "motion_margin": 1.4,
    "flow": None,
    "short_side": None,
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.3, 0.4],
    "color": "RGB",
}


def tiny_settings(family: str) -> Any:
    """Settings of a tiny encoder."""
    return FAMILIES[family].settings(**TINY[family])


def tiny_encoder(family: str) -> nn.Module:
    """The same network each time, in evaluation mode, with no weight and no running statistic left where it begins."""
    encoder = same_everywhere(build_encoder(tiny_settings(family)), vectors=0.05).train()
    clips = torch.from_numpy(np.random.default_rng(1).standard_normal((4, FRAMES, 3, SIZE, SIZE), np.float32))
    with torch.no_grad():
        for _ in range(20):
            encoder.outputs(clips)
    return encoder.eval()


def encoder_folder(folder: Path, family: str, task: str = "toy", **changes: Any) -> nn.Module:
    """Writes a model folder with a tiny encoder, and gives the encoder.

    Args:
        folder: the model folder.
        family: of the encoder.
        task: of the model.
        changes: to its preprocessing.
    """
    encoder = tiny_encoder(family)
    weights = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    saved = {
        "library": "vid",
        "task": task,
        "method": "toy",
        "architecture": tiny_settings(family).model_dump(),
        "preprocessing": {**PREPROCESSING, **changes},
        "provenance": {},
    }
    save_model(folder, weights | {"decoder.bias": torch.zeros(1)}, saved, "# card\n")
    return encoder
