"""Random VideoMAE models of `transformers`, saved as folders, and the same weights as an original checkpoint names them."""

from pathlib import Path
from typing import Any

import torch

SMALL = {
    "image_size": 16,
    "patch_size": 8,
    "num_frames": 4,
    "tubelet_size": 2,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 1,
    "decoder_intermediate_size": 64,
}
LABELS = ["wave", "point", "clap"]


def classifier(**changes: Any):
    """A VideoMAEForVideoClassification whose biases, norms and head are far from their starting values."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    return shaken(VideoMAEForVideoClassification(VideoMAEConfig(**{**SMALL, **labels, **changes})))


def pretrainer(**changes: Any):
    """A VideoMAEForPreTraining whose biases and norms are far from their starting values."""
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    return shaken(VideoMAEForPreTraining(VideoMAEConfig(**{"use_mean_pooling": False, **SMALL, **changes})))


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """The model in evaluation mode with every parameter moved; biases of queries and values are certainly not zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += (0.1 if parameter.ndim == 1 else 0.02) * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def video(config: Any, n: int = 2) -> torch.Tensor:
    """`(n, T, 3, S, S)` noise."""
    return torch.randn(n, config.num_frames, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(1))


def save(model: Any, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The model as `save_pretrained` writes it, with the settings of an image processor."""
    from transformers import VideoMAEImageProcessor

    model.to(dtype).save_pretrained(folder)
    model.float()
    side = model.config.image_size
    size = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    VideoMAEImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.6, 0.7], **size).save_pretrained(folder)
    return folder


ORIGINAL = (  # what stands in a name of transformers: what stands there in a name of the original code
    ("videomae.embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("videomae.encoder.layer.", "blocks."),
    ("decoder.decoder_layers.", "decoder.blocks."),
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("attention.output.dense.", "attn.proj."),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
    ("attention.attention.query.bias", "attn.q_bias"),
    ("attention.attention.value.bias", "attn.v_bias"),
    ("attention.attention.q_bias", "attn.q_bias"),
    ("attention.attention.v_bias", "attn.v_bias"),
    ("videomae.layernorm.", "norm."),
    ("classifier.", "head."),
)


def original(model: torch.nn.Module, pretraining: bool) -> dict[str, torch.Tensor]:
    """The state dict of a model under the names of the original code."""
    found: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict().items():
        encoder = name.startswith("videomae.")
        for theirs, old in ORIGINAL:
            name = name.replace(theirs, old)
        if encoder and pretraining:
            name = f"encoder.{name}"
        stem, found_qkv, rest = name.partition("attention.attention.")
        if not found_qkv:
            found[name] = tensor.clone()
        elif rest.endswith(".weight"):
            parts.setdefault(stem, {})[rest] = tensor
    for stem, qkv in parts.items():
        found[f"{stem}attn.qkv.weight"] = torch.cat([qkv[f"{part}.weight"] for part in ("query", "key", "value")])
    return found
