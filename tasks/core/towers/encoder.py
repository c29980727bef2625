"""The video transformer of a model folder, whichever task trained it."""

from typing import Any

import torch

from tasks.core.checkpoint import build_strict, encoder_weights, find_model, load_config, load_weights
from tasks.core.nn.config import VitConfig
from tasks.core.nn.vit import VideoTransformer


def load_encoder(reference: str, device: torch.device | str = "cpu") -> tuple[VideoTransformer, dict[str, Any]]:
    """The encoder of any model folder that has one, in evaluation mode, and its config.json."""
    folder = find_model(reference)
    config = load_config(folder)
    weights = encoder_weights(load_weights(folder))
    model = VitConfig(**config["architecture"])
    encoder = build_strict(lambda: VideoTransformer(model, final_norm="norm.weight" in weights), weights, str(folder))
    return encoder.to(device).eval(), config
