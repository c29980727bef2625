"""The video transformer as others name it: `transformers` VideoMAE (Hugging Face) and the original VideoMAE checkpoints.

Facts about `transformers`: versions to 5.0 and from 5.22 keep the biases of queries and values as `q_bias` and `v_bias`; those between
keep `query.bias`, `key.bias` and `value.bias`, and load published folders with zeros there. Both spellings are read here, and both are
written. A bias of the keys adds the same number to all scores of a query, which softmax takes out again; it is read and dropped.
The epsilon of the norm in front of the classifier and of the last norm of the decoder is always 1e-5 there.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from tasks.core.convert import Names, Tensors, read_pth, state_dict
from tasks.core.errors import InputError, NoCounterpart
from tasks.core.nn.config import SIZES, VitConfig

LAST_NORM_EPS = 1e-5
BLOCK = {  # our name in a block: name in a layer of transformers
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
ATTENTION = "attention.attention."
BIASES = {"query.bias": "q_bias", "value.bias": "v_bias"}


def both(ours: str, theirs: str) -> Names:
    """Weight and bias of a module."""
    return {f"{ours}.{part}": (f"{theirs}.{part}",) for part in ("weight", "bias")}


def transformers_blocks(ours: str, theirs: str, depth: int) -> Names:
    """Names of the blocks `<ours>.0...` as the layers `<theirs>.0...` of transformers."""
    names: Names = {}
    for i in range(depth):
        here, there = f"{ours}.{i}", f"{theirs}.{i}"
        for mine, other in BLOCK.items():
            names |= both(f"{here}.{mine}", f"{there}.{other}")
        names[f"{here}.attn.qkv.weight"] = tuple(f"{there}.{ATTENTION}{part}.weight" for part in ("query", "key", "value"))
        names |= {f"{here}.attn.{bias}": (f"{there}.{ATTENTION}{bias}",) for bias in ("q_bias", "v_bias")}
    return names


def transformers_encoder(config: VitConfig, final_norm: bool) -> Names:
    """Names of our `encoder.*` in a VideoMAE model of transformers."""
    names = both("encoder.embed", "videomae.embeddings.patch_embeddings.projection")
    names |= transformers_blocks("encoder.blocks", "videomae.encoder.layer", config.widths()[1])
    return names | both("encoder.norm", "videomae.layernorm") if final_norm else names


def original_blocks(ours: str, theirs: str, depth: int) -> Names:
    """Names of the blocks `<ours>.0...` as `<theirs>.0...` of an original checkpoint, which names the inside of a block as we do."""
    parts = [f"{module}.{part}" for module in BLOCK for part in ("weight", "bias")] + ["attn.qkv.weight", "attn.q_bias", "attn.v_bias"]
    return {f"{ours}.{i}.{part}": (f"{theirs}.{i}.{part}",) for i in range(depth) for part in parts}


def join_spellings(tensors: Tensors, source: str) -> Tensors:
    """The tensors with biases under `q_bias` and `v_bias` only: the other spelling is renamed, biases of keys are dropped, and a model
    without biases gets zeros. InputError where two spellings disagree.
    """
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(f".{ATTENTION}key.bias")}
    for name in list(found):
        stem, attention, part = name.rpartition(ATTENTION)
        if attention and part in BIASES:
            old, tensor = f"{stem}{ATTENTION}{BIASES[part]}", found.pop(name)
            if old in found and not torch.equal(found[old], tensor):
                raise InputError(
                    f"{source} has two different biases, {name} and {old}", "it was saved by a version that had lost one of them"
                )
            found[old] = tensor
    return found


def add_zero_biases(tensors: Tensors) -> Tensors:
    """Zeros for the biases of a model that was made without them (`qkv_bias: false`)."""
    queries = {name: tensor for name, tensor in tensors.items() if name.endswith(f".{ATTENTION}query.weight")}
    zeros = {
        name.removesuffix("query.weight") + bias: torch.zeros(tensor.shape[0])
        for name, tensor in queries.items()
        for bias in BIASES.values()
    }
    return zeros | tensors


def split_spellings(tensors: Tensors) -> Tensors:
    """The tensors with biases under both spellings, so that no version of transformers loads zeros in their place."""
    more = {}
    for name, tensor in tensors.items():
        stem, attention, part = name.rpartition(ATTENTION)
        for new, old in BIASES.items():
            if attention and part == old:
                more[f"{stem}{ATTENTION}{new}"] = tensor.clone()
    return tensors | more


def config_from_transformers(config: Mapping[str, Any], source: Path) -> VitConfig:
    """The architecture that a VideoMAE config.json describes. InputError names what this suite has no counterpart for."""
    value = {**DEFAULTS, **config}
    dim = value["hidden_size"]
    refuse(value["num_channels"] != 3, source, f"it takes {value['num_channels']} channels, here are 3")
    refuse(value["hidden_act"] != "gelu", source, f"its activation is {value['hidden_act']}, here is gelu")
    refuse(value["intermediate_size"] != 4 * dim, source, f"intermediate_size {value['intermediate_size']} is not 4 x {dim}")
    return vit_config(
        source,
        dim,
        value["num_hidden_layers"],
        value["num_attention_heads"],
        image_size=square(value["image_size"], "image_size", source),
        frames=value["num_frames"],
        tubelet=value["tubelet_size"],
        patch=square(value["patch_size"], "patch_size", source),
        norm_eps=value["layer_norm_eps"],
    )


DEFAULTS = {  # of transformers' VideoMAEConfig, for keys that a config.json leaves out
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "num_frames": 16,
    "tubelet_size": 2,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "use_mean_pooling": True,
    "decoder_num_attention_heads": 6,
    "decoder_hidden_size": 384,
    "decoder_num_hidden_layers": 4,
    "decoder_intermediate_size": 1536,
    "norm_pix_loss": True,
}


def vit_config(source: Path, dim: int, depth: int, heads: int, **settings: Any) -> VitConfig:
    """A `VitConfig` of published weights: the named size where there is one. InputError for sizes that do not fit each other."""
    size = next((name for name, widths in SIZES.items() if widths == (dim, depth, heads)), None)
    widths = {"size": size} if size else {"size": "tiny", "dim": dim, "depth": depth, "heads": heads}
    try:
        return VitConfig(**widths, **settings, pos="sincos1d-double")
    except ValidationError as error:
        reasons = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise InputError(f"{source} cannot be converted: {reasons}") from None


def config_to_transformers(config: VitConfig, model: str) -> dict[str, Any]:
    """The encoder's part of a VideoMAE config.json. NoCounterpart names what transformers cannot represent."""
    wrong = []
    if config.pos == "sincos3d":
        wrong.append("pos is sincos3d, transformers computes sincos1d")
    if config.pos_scale != 1:
        wrong.append(f"pos_scale is {config.pos_scale:g}, there it is 1")
    if config.input != "rgb":
        wrong.append(f"input is {config.input}, there it is rgb")
    if config.class_token:
        wrong.append("it has a class token")
    if config.pos_frames not in (None, config.frames):
        wrong.append("its position codes are stretched over time")
    if wrong:
        raise NoCounterpart(f"transformers' VideoMAE cannot represent {model}: {'; '.join(wrong)}", "--to onnx takes any model")
    dim, depth, heads = config.widths()
    return {
        "model_type": "videomae",
        "image_size": config.image_size,
        "patch_size": config.patch,
        "num_channels": 3,
        "num_frames": config.frames,
        "tubelet_size": config.tubelet,
        "hidden_size": dim,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": 4 * dim,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": config.norm_eps,
        "qkv_bias": True,
        "torch_dtype": "float32",
    }


def square(value: Any, name: str, source: Path) -> int:
    """A side, from a number or from two equal ones."""
    sides = list(value) if isinstance(value, list | tuple) else [value]
    refuse(len(set(sides)) != 1, source, f"{name} {value} is not square")
    return int(sides[0])


def refuse(condition: bool, source: Path, reason: str) -> None:
    """InputError with the reason where the condition holds."""
    if condition:
        raise InputError(f"{source} cannot be converted: {reason}")


HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}  # of the original models, by width


def read_original(file: Path) -> tuple[Tensors, dict[str, Any]]:
    """(tensors, the training script's settings) of an original checkpoint; no settings where it has none. Raises InputError."""
    found = read_pth(file)
    tensors = state_dict(found, file, ("model", "module", "state_dict"))
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors, vars(found["args"]) if isinstance(found.get("args"), argparse.Namespace) else {}


def config_from_original(tensors: Tensors, settings: dict[str, Any], prefix: str, file: Path) -> VitConfig:
    """The architecture, from shapes; picture size and frames are not in the tensors: the settings', else 224 px and 16 frames."""
    dim, _, tubelet, patch, width = entry(tensors, f"{prefix}patch_embed.proj.weight", file).shape
    refuse(patch != width, file, f"patches of {patch}x{width} are not square")
    refuse(dim not in HEADS, file, f"no published encoder is {dim} wide")
    sizes = {"image_size": settings.get("input_size", 224), "frames": settings.get("num_frames", 16)}
    return vit_config(file, dim, count_blocks(tensors, f"{prefix}blocks."), HEADS[dim], tubelet=tubelet, patch=patch, **sizes)


def original_encoder(config: VitConfig, prefix: str) -> Names:
    """Names of our `encoder.*`, less the last norm, in an original checkpoint."""
    depth = config.widths()[1]
    return both("encoder.embed", f"{prefix}patch_embed.proj") | original_blocks("encoder.blocks", f"{prefix}blocks", depth)


def count_blocks(tensors: Tensors, prefix: str) -> int:
    """How many blocks there are."""
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def entry(tensors: Tensors, name: str, file: Path) -> torch.Tensor:
    """A tensor that must be there; InputError that names it."""
    refuse(name not in tensors, file, f"it has no {name}")
    return tensors[name]
