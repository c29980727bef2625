"""Checkpoints of the public code of Efficient-Prompt as model folders. Files are read as tensors only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tasks.core import convert as files
from tasks.core.checkpoint import require_finite, save_model
from tasks.core.convert import Names, Tensors
from tasks.core.engine.description import card
from tasks.core.errors import InputError, UsageError
from tasks.core.files import replacing_folder, write_json
from tasks.core.nn.clip_config import ClipImageConfig, ClipTextConfig
from tasks.core.nn.clip_names import LOGIT_SCALE, OPENAI
from tasks.core.reporter import Reporter
from tasks.core.text.bpe import read_tokenizer
from tasks.core.towers.clip_source import OPEN_CONFIG, ClipSource
from tasks.core.towers.clip_write import write_tokenizer
from tasks.core.towers.identity import identity, tensors_hash
from tasks.prompting.config import PromptedConfig
from tasks.prompting.model import PromptedModel
from tasks.prompting.towers import STREAM, weights_alone

SOURCES = {"efficient-prompt": "ju-chen/Efficient-Prompt: a checkpoint of recognition, with the frozen CLIP in it"}
SETTINGS = {"prefix": 16, "postfix": 16, "tfm_heads": 8, "text_heads": None, "image_heads": None}
"""What tensors do not say, with the published values; null: a head of CLIP has 64 channels."""
BESIDE = "settings.json"
"""A file with them, beside the checkpoint."""
TOWERS = "{}-clip"
"""The folder of the frozen towers, beside the model folder."""
_LAYERS = "temporalModelling.resblocks."
_OWN = ("embedding.weight", "temporalEmbedding.weight", _LAYERS)
_CLIP = "clipmodel."
_TEMPORAL = {
    **{
        f"{ours}.{part}": f"{theirs}.{part}"
        for ours, theirs in (("norm1", "ln_1"), ("norm2", "ln_2"), ("out", "attn.out_proj"), ("fc1", "mlp.c_fc"), ("fc2", "mlp.c_proj"))
        for part in ("weight", "bias")
    },
    **{f"qkv.{part}": f"attn.in_proj_{part}" for part in ("weight", "bias")},
}


def convert(
    file: Path, source: str, out: Path, reporter: Reporter, settings: Mapping[str, Any] | None = None, vocabulary: str | Path | None = None
) -> dict[str, Any]:
    """Writes a model folder that `--model` and `--from` take, and beside it, in `NAME-clip`, the frozen towers that the file holds.

    Args:
        file: as published.
        source: a key of `SOURCES`.
        out: the model folder; an existing model folder is replaced.
        reporter: told what was written, and what was assumed.
        settings: what tensors do not say (`SETTINGS`); it is looked for in `settings.json` beside the file too.
        vocabulary: CLIP's, which the file does not hold: kept with the towers. None: give it where the model is used.

    Returns:
        where the model is, and how many tensors and parameters it has.

    Raises:
        UsageError: unknown source or setting, or `out` holds something else.
        InputError: the file is not what `source` says.
    """
    tensors = files.read_published(file, source, SOURCES, out)
    towers = out.parent / TOWERS.format(out.resolve().name)
    files.check_out(towers, file, (OPEN_CONFIG,))
    given = read_settings(file, settings)
    reporter.info("; ".join(f"{name} {value}" for name, value in given.items() if value is not None))
    config, weights, clip = take(tensors, given, file)
    (text, text_weights), (image, image_weights) = clip.text(), clip.image()
    tokenizer = read_tokenizer(vocabulary, text.vocabulary) if vocabulary else None
    read = [text.model_dump(), tokenizer.vocabulary, tokenizer.merges] if tokenizer else None
    text_hash = tensors_hash(text_weights, read) if read else weights_alone(text_weights, text)
    text_source = identity(f"../{towers.name}", "clip-text", text_hash)
    image_source = identity(f"../{towers.name}", "clip-image", weights_alone(image_weights, image))
    sizes = {"width": text.width, "context": text.context, "dim": text.projection}
    files.check_source(lambda: PromptedModel(config, **sizes), weights, file)
    saved = {
        "library": "vid",
        "task": "prompting",
        "method": "recognition",
        "architecture": config.model_dump(),
        "sizes": sizes,
        "labels": [],
        "names": [],
        "text_tower": {**text_source, "no_vocabulary": tokenizer is None},
        "streams": {STREAM: {"encoder": {"reference": None, "weights_hash": None}, "dim": text.projection, "grid": None}},
        "image_tower": image_source,
        "preprocessing": {"grid": None},
        "metrics": {},
        "provenance": {"source": source, "file": file.name, "settings": given},
    }
    save_model(out, weights, saved, _card(file, source, config))
    write_towers(towers, clip, text, image, tokenizer)
    if tokenizer is None:
        reporter.warn(f"{out} has no vocabulary, which the file does not hold: give CLIP's where it is used, --set vocabulary=FOLDER")
    reporter.info(f"wrote {out}, its frozen towers in {towers}")
    parameters = sum(tensor.numel() for tensor in weights.values())
    return {"model": str(out), "task": "prompting", "source": source, "tensors": len(weights), "parameters": parameters}


def read_settings(file: Path, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`SETTINGS`, changed by the file beside a checkpoint and by what is given; UsageError or InputError for strange ones."""
    beside = file.parent / BESIDE
    found = {**(files.read_json(beside) if beside.is_file() else {}), **(given or {})}
    for name, value in found.items():
        if name not in SETTINGS:
            raise UsageError(f"there is no setting '{name}' of this checkpoint", f"known: {', '.join(SETTINGS)}")
        if type(value) is not int or value < (0 if name.endswith("fix") else 1):
            raise UsageError(f"{name} is a whole number, not {value!r:.40}")
    return {**SETTINGS, **found}


def take(tensors: Tensors, settings: Mapping[str, Any], file: Path) -> tuple[PromptedConfig, Tensors, ClipSource]:
    """(architecture, weights of a `PromptedModel`, the frozen CLIP) of public tensors.

    Args:
        tensors: by their public names, without `module.`.
        settings: `SETTINGS`.
        file: named in errors.

    Raises:
        InputError: they are not those of a checkpoint of prompts.
    """
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(_CLIP)}
    if strange := sorted(name for name in own if not name.startswith(_OWN)):
        raise InputError(
            f"{file} is not a checkpoint of efficient-prompt: it has {strange[0]!r:.80}", f"known: {', '.join((*_OWN, _CLIP))}"
        )
    layers = 1 + max((int(number) for name in own if (number := name.removeprefix(_LAYERS).split(".")[0]).isdigit()), default=-1)
    names: Names = {"prompts.table": ("embedding.weight",), "temporal.positions": ("temporalEmbedding.weight",)}
    for number in range(layers):
        names |= {f"temporal.layers.{number}.{ours}": (f"{_LAYERS}{number}.{theirs}",) for ours, theirs in _TEMPORAL.items()}
    weights = files.take_names(own, names, str(file))
    require_finite(weights, file)
    table, places = weights["prompts.table"], weights["temporal.positions"]
    if table.ndim != 2 or places.ndim != 2:
        raise InputError(f"{file}: embedding.weight and temporalEmbedding.weight are tables, a row for each position")
    if not layers:
        del weights["temporal.positions"]  # nothing reads it
    config = PromptedConfig(
        prompts={"before": settings["prefix"], "after": settings["postfix"], "layout": "positional"},
        temporal={"layers": layers, "heads": settings["tfm_heads"]},
        frames=len(places),
    )
    if layers and places.shape[1] % settings["tfm_heads"]:
        raise InputError(
            f"{file}: {places.shape[1]} channels do not divide by tfm_heads {settings['tfm_heads']}", "say the number of heads"
        )
    if config.prompts.added >= len(table):
        raise InputError(f"{file}: {config.prompts.shown()} leaves no room for a name in {len(table)} tokens", "give prefix and postfix")
    inner = {name.removeprefix(_CLIP): tensor for name, tensor in tensors.items() if name.startswith(_CLIP)}
    parts = {which: {"heads": settings[f"{which}_heads"], "activation": "quick_gelu"} for which in ("text", "image")}
    return config, weights, ClipSource(str(file), inner, OPENAI, parts, file.parent, {})


def write_towers(out: Path, clip: ClipSource, text: ClipTextConfig, image: ClipImageConfig, tokenizer: Any = None) -> None:
    """Writes the frozen towers as a folder of OpenCLIP, which `load_text_tower` and `load_image_tower` take."""
    from safetensors.torch import save_file

    vision = {"image_size": image.image_size, "layers": image.depth, "width": image.width, "patch_size": image.patch}
    words = {"context_length": text.context, "vocab_size": text.vocabulary, "width": text.width, "heads": text.heads, "layers": text.depth}
    model = {"embed_dim": text.projection, "quick_gelu": True}
    model["vision_cfg"] = {**vision, "head_width": image.width // image.heads, "mlp_ratio": image.hidden / image.width}
    model["text_cfg"] = {**words, "mlp_ratio": text.hidden / text.width}
    tensors = OPENAI["text"].give(clip.text()[1]) | OPENAI["image"].give(clip.image()[1])
    tensors[LOGIT_SCALE] = clip.tensors.get(LOGIT_SCALE, torch.tensor(0.0)).float()
    with replacing_folder(out) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial / "open_clip_model.safetensors")
        write_json(partial / OPEN_CONFIG, {"model_cfg": model, "preprocess_cfg": {}})
        if tokenizer is not None:
            write_tokenizer(partial, tokenizer)


def _card(file: Path, source: str, config: PromptedConfig) -> str:
    facts = {"converted from": file.name, "source": SOURCES[source], "prompts": config.prompts.shown(), "licence": "that of the source"}
    facts["temporal layers"] = config.temporal.layers
    use = "vid eval classify --model FOLDER --data VAL --set classes=data"
    return card("Prompted CLIP", facts, use, {"tags": ["video", "clip"]})
