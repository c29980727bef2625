"""Features of single frames from a frozen image encoder (thesis section 4.3.3: ViFi-CLIP's image tower, one vector per frame).

Encoders: a CLIP image tower with projection in transformers' form (ViFi-CLIP's is one), or an encoder of clips of this suite, which sees
the frame as a still. The encoder's weights are kept in the anomaly model, so that detection needs nothing else.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tasks.core import hub
from tasks.core.cards import public_name
from tasks.core.checkpoint import CONFIG, bounded_by, check_fits, encoder_weights, find_model, load_config, load_strict, load_weights
from tasks.core.clips.augment import TrainTransform
from tasks.core.clips.config import AugmentConfig
from tasks.core.errors import UsageError
from tasks.core.nn.encoders import build_encoder, encoder_settings, pooled_of, saved_settings
from tasks.core.optional import require_transformers
from tasks.core.towers.clip_source import CLIP_MEAN, CLIP_STD

NEEDS = "a CLIP encoder"


class FrameEncoder(nn.Module):
    """Frames to feature vectors, without gradients.

    Args:
        saved: what a model folder keeps: `kind` (clip; vit for any encoder of clips), `source` (where it came from), `architecture`, `mean`
            and `std`.
        weights: tensors of the network; None leaves them random, to be loaded.

    Attributes:
        dim: length of a vector.
    """

    def __init__(self, saved: dict[str, Any], weights: dict[str, torch.Tensor] | None = None):
        super().__init__()
        self.saved = saved
        architecture = saved["architecture"]
        if saved["kind"] == "clip":
            transformers = require_transformers(NEEDS)
            self.network = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**architecture))
            self.dim, size = architecture["projection_dim"], architecture["image_size"]
        else:
            settings = encoder_settings(architecture, saved["source"])
            self.network = build_encoder(settings, final_norm=saved["final_norm"])
            self.dim, size, self.frames = self.network.dim, settings.image_size, settings.frames or 1
        if weights is not None:
            load_strict(self.network, weights, saved["source"])
        self.transform = TrainTransform(AugmentConfig(crop="none", mean=tuple(saved["mean"]), std=tuple(saved["std"])), size)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """`(n, 3, H, W)` uint8 RGB, squeezed to the encoder's square, to `(n, dim)` float32."""
        seen = self.transform.frames(frames)
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=frames.device.type == "cuda"):
            if self.saved["kind"] == "clip":
                found = self.network(pixel_values=seen).image_embeds
            else:
                found = pooled_of(self.network.outputs(seen[:, None].expand(-1, self.frames, -1, -1, -1)))
        return found.float()


def load_encoder(reference: str) -> FrameEncoder:
    """The encoder that a model folder of this suite, a transformers folder or an `hf://` reference names.

    Raises:
        UsageError: it is neither, or lacks weights as safetensors, or is an encoder of clips that sees nothing in a still.
    """
    saved, weights = described(reference)
    check_fits(lambda: FrameEncoder(saved).network, weights, reference)
    return FrameEncoder(saved, weights)


def described(reference: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What `FrameEncoder` takes, from a reference; errors as `load_encoder`."""
    folder = hub.fetch_model(reference) if reference.startswith(hub.PREFIX) else Path(reference)
    source = public_name(reference if reference.startswith(hub.PREFIX) else os.path.abspath(reference))
    text = (folder / CONFIG).read_text(encoding="utf-8") if (folder / CONFIG).is_file() else ""
    if '"model_type"' in text and '"architecture"' not in text:  # a model folder that transformers opens too has both
        return _clip(folder, reference, source)
    folder = find_model(reference)
    config = load_config(folder)
    architecture = saved_settings(config, reference).model_dump()
    if architecture.get("input") == "motion" or any(config["preprocessing"].get(name) for name in ("flow", "flow_input")):
        raise UsageError(
            f"{reference} cannot describe single frames: it must be an encoder that sees colours",
            "give a CLIP folder, or a model of vid pretrain or vid finetune that was trained on frames",
        )
    weights = encoder_weights(load_weights(folder))
    prepared = config["preprocessing"]
    facts = {"kind": "vit", "source": source, "architecture": architecture, "final_norm": "norm.weight" in weights}
    return {**facts, "mean": prepared["mean"], "std": prepared["std"]}, weights


def _clip(folder: Path, reference: str, source: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    transformers = require_transformers(NEEDS)
    if not any(folder.glob("*.safetensors")):
        raise UsageError(f"{reference} has no weights as safetensors", "save it again with transformers: save_pretrained(FOLDER)")
    try:
        with bounded_by(folder):
            model, told = transformers.CLIPVisionModelWithProjection.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(f"{reference} cannot be loaded as a CLIP image tower: {str(error).splitlines()[0]}") from None
    if told["missing_keys"]:
        raise UsageError(f"{reference} is no CLIP image tower: it lacks {min(told['missing_keys'])}", "it needs CLIP's vision model")
    kept = model.config.to_diff_dict()
    kept |= {name: getattr(model.config, name) for name in ("projection_dim", "image_size")}
    idle = ("architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path")
    architecture = {name: value for name, value in kept.items() if name not in idle}
    weights = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    saved = {"kind": "clip", "source": source, "architecture": architecture, "mean": list(CLIP_MEAN), "std": list(CLIP_STD)}
    return saved, weights
