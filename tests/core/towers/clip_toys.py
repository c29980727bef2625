"""Small CLIP models with random weights in the forms in which they are published, and a vocabulary learned from a few sentences."""

import json
from functools import lru_cache
from pathlib import Path

import torch

from tasks.core.nn.clip import ImageTransformer, TextTransformer
from tasks.core.nn.clip_config import ClipImageConfig, ClipTextConfig
from tasks.core.text.bpe import Tokenizer
from tasks.core.text.learn import learn_tokenizer
from tasks.core.towers.clip_write import write_clip, write_tokenizer

SENTENCES = (
    "a red square moves to the left and a blue circle rests",
    "the dog's running, isn't it? we'll see what they've done in 1999",
    "photographs of the running dogs and the resting cats, photographed in the rain",
    "naïve cafés — 日本語 и русский ☀ 🐶",
)
CONTEXT, IMAGE_SIZE = 24, 36


@lru_cache
def tokenizer() -> Tokenizer:
    """A vocabulary of 600 tokens at most."""
    return learn_tokenizer(SENTENCES * 3, 600)


def text_config(**changes) -> ClipTextConfig:
    sizes = {"width": 64, "depth": 2, "heads": 1, "hidden": 96, "projection": 20, "vocabulary": len(tokenizer()), "context": CONTEXT}
    return ClipTextConfig(**{**sizes, **changes})


def image_config(**changes) -> ClipImageConfig:
    sizes = {"width": 128, "depth": 2, "heads": 2, "hidden": 96, "projection": 20, "image_size": IMAGE_SIZE, "patch": 9}
    return ClipImageConfig(**{**sizes, **changes})


def networks(**changes) -> tuple[ImageTransformer, TextTransformer]:
    """Both transformers, far from their first weights."""
    torch.manual_seed(0)
    pair = ImageTransformer(image_config(**changes)), TextTransformer(text_config(**changes))
    with torch.no_grad():
        for parameter in (p for network in pair for p in network.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return tuple(network.eval().requires_grad_(False) for network in pair)


def clip_folder(folder: Path, **changes) -> Path:
    """A folder of transformers with `networks`."""
    write_clip(folder, *networks(**changes), tokenizer(), 14.0, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
    return folder


def openai_tensors(**changes) -> dict[str, torch.Tensor]:
    """The tensors of `networks` by the names of OpenAI and OpenCLIP, written down once more: not by the tables under test."""
    image, text = (network.state_dict() for network in networks(**changes))
    found = {"logit_scale": torch.tensor(2.0), "text_projection": text["projection.weight"].T.contiguous()}
    found |= {"visual.proj": image["projection.weight"].T.contiguous(), "visual.conv1.weight": image["patches.weight"]}
    found |= {"visual.class_embedding": image["class_token"], "visual.positional_embedding": image["positions"]}
    found |= {"token_embedding.weight": text["tokens.weight"], "positional_embedding": text["positions"]}
    for end in ("weight", "bias"):
        found |= {f"visual.ln_pre.{end}": image[f"norm_in.{end}"], f"visual.ln_post.{end}": image[f"norm_out.{end}"]}
        found |= {f"ln_final.{end}": text[f"norm_out.{end}"]}
        for prefix, own in (("visual.", image), ("", text)):
            for i in range(2):
                here, there = f"layers.{i}", f"{prefix}transformer.resblocks.{i}"
                found |= {f"{there}.attn.in_proj_{end}": own[f"{here}.qkv.{end}"], f"{there}.attn.out_proj.{end}": own[f"{here}.out.{end}"]}
                found |= {f"{there}.ln_1.{end}": own[f"{here}.norm1.{end}"], f"{there}.ln_2.{end}": own[f"{here}.norm2.{end}"]}
                found |= {f"{there}.mlp.c_fc.{end}": own[f"{here}.fc1.{end}"], f"{there}.mlp.c_proj.{end}": own[f"{here}.fc2.{end}"]}
    return found


def openclip_folder(folder: Path, vision: dict | None = None, text: dict | None = None, **model) -> Path:
    """A folder of OpenCLIP; `vision`, `text` and `model` change its configuration."""
    from safetensors.torch import save_file

    folder.mkdir()
    save_file(openai_tensors(activation="gelu"), folder / "open_clip_model.safetensors")
    vision = {"image_size": IMAGE_SIZE, "layers": 2, "width": 128, "patch_size": 9, "head_width": 64, "mlp_ratio": 0.75, **(vision or {})}
    text = {"context_length": CONTEXT, "vocab_size": len(tokenizer()), "width": 64, "heads": 1, "layers": 2, **(text or {})}
    config = {
        "model_cfg": {"embed_dim": 20, "vision_cfg": vision, "text_cfg": text, **model},
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    write_tokenizer(folder, tokenizer())
    return folder


def pictures(n: int = 3, side: int = IMAGE_SIZE) -> torch.Tensor:
    """(n, 3, side, side) of normal noise."""
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))
