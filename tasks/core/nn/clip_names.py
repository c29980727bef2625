"""CLIP's tensors under the names of transformers and of OpenAI, which OpenCLIP shares, and the settings that their shapes tell."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.convert import Names, Tensors, give_names, take_names
from tasks.core.errors import InputError
from tasks.core.nn.clip_config import ClipImageConfig, ClipTextConfig


@dataclass(frozen=True)
class Layout:
    """How a program names the tensors of one transformer.

    Attributes:
        whole: our name: name there.
        layers: how the names of layers begin there, before their number.
        layer: our name in a layer: name there, or the names there that are joined.
        turned: whether the projection is kept as (width, dim).
    """

    whole: Mapping[str, str]
    layers: str
    layer: Mapping[str, str | tuple[str, ...]]
    turned: bool

    def names(self, depth: int) -> Names:
        """The table of a transformer of so many layers."""
        found: Names = {ours: (theirs,) for ours, theirs in self.whole.items()}
        for i in range(depth):
            for ours, theirs in self.layer.items():
                parts = (theirs,) if isinstance(theirs, str) else theirs
                found[f"layers.{i}.{ours}"] = tuple(f"{self.layers}{i}.{part}" for part in parts)
        return found

    def owns(self, name: str) -> bool:
        """Whether a name there is one of this transformer."""
        return name in self.whole.values() or name.startswith(self.layers)

    def take(self, tensors: Tensors, source: str) -> Tensors:
        """Its tensors under our names, float32. Raises InputError, naming `source`, where one is missing or has no place."""
        found = take_names(tensors, self.names(count_layers(tensors, self.layers)), source)
        if self.turned:
            found["projection.weight"] = found["projection.weight"].T.contiguous()
        return found

    def give(self, tensors: Tensors) -> Tensors:
        """The inverse of `take`."""
        turned = {"projection.weight": tensors["projection.weight"].T} if self.turned else {}
        return give_names({**tensors, **turned}, self.names(count_layers(tensors, "layers.")))


def _both(**modules: str) -> dict[str, str]:
    """Weight and bias of modules: our name -> name there."""
    return {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in modules.items() for part in ("weight", "bias")}


_THEIR_LAYER = {
    **_both(norm1="layer_norm1", norm2="layer_norm2", out="self_attn.out_proj", fc1="mlp.fc1", fc2="mlp.fc2"),
    **{f"qkv.{part}": tuple(f"self_attn.{which}_proj.{part}" for which in "qkv") for part in ("weight", "bias")},
}
_OPEN_LAYER = {
    **_both(norm1="ln_1", norm2="ln_2", out="attn.out_proj", fc1="mlp.c_fc", fc2="mlp.c_proj"),
    **{f"qkv.{part}": f"attn.in_proj_{part}" for part in ("weight", "bias")},
}
TRANSFORMERS = {
    "image": Layout(
        {
            "class_token": "vision_model.embeddings.class_embedding",
            "positions": "vision_model.embeddings.position_embedding.weight",
            "patches.weight": "vision_model.embeddings.patch_embedding.weight",
            **_both(norm_in="vision_model.pre_layrnorm", norm_out="vision_model.post_layernorm"),
            "projection.weight": "visual_projection.weight",
        },
        "vision_model.encoder.layers.",
        _THEIR_LAYER,
        False,
    ),
    "text": Layout(
        {
            "positions": "text_model.embeddings.position_embedding.weight",
            "tokens.weight": "text_model.embeddings.token_embedding.weight",
            **_both(norm_out="text_model.final_layer_norm"),
            "projection.weight": "text_projection.weight",
        },
        "text_model.encoder.layers.",
        _THEIR_LAYER,
        False,
    ),
}
OPENAI = {
    "image": Layout(
        {
            "class_token": "visual.class_embedding",
            "positions": "visual.positional_embedding",
            "patches.weight": "visual.conv1.weight",
            **_both(norm_in="visual.ln_pre", norm_out="visual.ln_post"),
            "projection.weight": "visual.proj",
        },
        "visual.transformer.resblocks.",
        _OPEN_LAYER,
        True,
    ),
    "text": Layout(
        {
            "positions": "positional_embedding",
            "tokens.weight": "token_embedding.weight",
            **_both(norm_out="ln_final"),
            "projection.weight": "text_projection",
        },
        "transformer.resblocks.",
        _OPEN_LAYER,
        True,
    ),
}
LOGIT_SCALE = "logit_scale"
NO_WEIGHTS = re.compile(r"(.*\.)?(position_ids|attn_mask)|input_resolution|context_length|vocab_size")
"""Tensors that hold no weights: numbers of positions, a mask, sizes."""


def image_settings(weights: Tensors, heads: int, source: str, **known: Any) -> ClipImageConfig:
    """The settings of an image transformer from its tensors under our names.

    Args:
        weights: of `Layout.take`.
        heads: of the attention, which no shape tells.
        source: named in errors.
        known: `activation`, and what else is known.

    Raises:
        InputError: the shapes are not those of an image transformer.
    """
    patches, positions = weights["patches.weight"], weights["positions"]
    side = round((len(positions) - 1) ** 0.5) if positions.ndim == 2 else 0
    if patches.ndim != 4 or patches.shape[1] != 3 or patches.shape[2] != patches.shape[3] or side**2 != len(positions) - 1:
        raise InputError(f"{source} has no patches of square pictures in three colours: {tuple(patches.shape)}, {tuple(positions.shape)}")
    size = known.pop("image_size", None) or side * patches.shape[-1]
    return ClipImageConfig(**_sizes(weights, source), heads=heads, patch=patches.shape[-1], image_size=size, **known)


def text_settings(weights: Tensors, heads: int, source: str, **known: Any) -> ClipTextConfig:
    """The settings of a text transformer; arguments and errors as `image_settings`."""
    sizes = {"vocabulary": len(weights["tokens.weight"]), "context": len(weights["positions"])}
    return ClipTextConfig(**_sizes(weights, source), heads=heads, **sizes, **known)


def _sizes(weights: Tensors, source: str) -> dict[str, int]:
    depth, projection = count_layers(weights, "layers."), weights["projection.weight"]
    if not depth or projection.ndim != 2:
        raise InputError(f"{source} has no layers, or no projection of its vectors")
    hidden = len(weights["layers.0.fc1.weight"])
    return {"width": projection.shape[1], "projection": projection.shape[0], "depth": depth, "hidden": hidden}


def count_layers(names: Iterable[str], start: str) -> int:
    """The number of layers whose names begin so, from the highest number."""
    numbers = [re.match(r"\d{1,4}(?=\.)", name.removeprefix(start)) for name in names if name.startswith(start)]
    return max((int(number[0]) + 1 for number in numbers if number), default=0)
