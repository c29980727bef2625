"""Our CLIP models as folders that transformers opens and `load_image_tower` and `load_text_tower` too."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tasks.core.checkpoint import CONFIG
from tasks.core.convert import SAFE
from tasks.core.files import replacing_folder, write_json, write_text
from tasks.core.nn.clip import ImageTransformer, TextTransformer
from tasks.core.nn.clip_names import LOGIT_SCALE, TRANSFORMERS
from tasks.core.text.bpe import END, MERGES, START, VOCABULARY, Tokenizer
from tasks.core.towers.clip_source import PROCESSOR


def write_clip(
    out: Path,
    image: ImageTransformer,
    text: TextTransformer,
    tokenizer: Tokenizer,
    scale: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Writes a folder of transformers (CLIPModel, CLIPTokenizer, CLIPImageProcessor); an existing one is replaced whole.

    Args:
        out: the folder.
        image, text: of the same projection.
        tokenizer: of the text.
        scale: what cosines are multiplied with before the softmax.
        mean, std: of colours in [0, 1], by which pictures are normalised; they are scaled bicubic.
    """
    from safetensors.torch import save_file

    weights = {LOGIT_SCALE: torch.tensor(math.log(scale))}
    for layout, network in ((TRANSFORMERS["image"], image), (TRANSFORMERS["text"], text)):
        weights |= layout.give({name: tensor.detach().cpu().float() for name, tensor in network.state_dict().items()})
    with replacing_folder(out) as partial:
        save_file(weights, partial / SAFE, metadata={"format": "pt"})
        write_json(partial / CONFIG, _config(image, text, tokenizer))
        write_json(partial / PROCESSOR, _processor(image.config.image_size, mean, std))
        write_tokenizer(partial, tokenizer)


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Writes `vocab.json`, `merges.txt` and `tokenizer_config.json` into a folder that is there."""
    write_text(folder / VOCABULARY, json.dumps(tokenizer.vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2", *(f"{first} {second}" for first, second in tokenizer.merges)]
    write_text(folder / MERGES, "\n".join(lines) + "\n")
    marks = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", **marks})


def _config(image: ImageTransformer, text: TextTransformer, tokenizer: Tokenizer) -> dict[str, Any]:
    own = text.config
    marks = {"bos_token_id": tokenizer.start, "eos_token_id": tokenizer.end, "pad_token_id": tokenizer.end}
    sizes = {"vocab_size": own.vocabulary, "max_position_embeddings": own.context}
    seen = {"image_size": image.config.image_size, "patch_size": image.config.patch}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": own.projection,
        "text_config": {"model_type": "clip_text_model", **_tower(own), **sizes, **marks},
        "vision_config": {"model_type": "clip_vision_model", **_tower(image.config), **seen},
    }


def _tower(config: Any) -> dict[str, Any]:
    return {
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "projection_dim": config.projection,
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_eps,
    }


def _processor(side: int, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "do_convert_rgb": True,
    }
