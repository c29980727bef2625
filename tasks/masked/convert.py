"""Masked autoencoders to and from `transformers` (VideoMAEForPreTraining), from original VideoMAE checkpoints, and to ONNX."""

import shlex
from pathlib import Path
from typing import Any

import torch

from tasks.core import convert as files
from tasks.core.checkpoint import CONFIG, WEIGHTS, build_strict, find_model, load_config, load_strict, load_weights, save_model
from tasks.core.convert import Names, Tensors
from tasks.core.convert_transformers import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    read_preprocessing,
    read_transformers,
    refuse_flow,
    report,
    video_preprocessing,
)
from tasks.core.convert_transformers import write_transformers as write_folder
from tasks.core.engine.description import card
from tasks.core.errors import NoCounterpart, UsageError
from tasks.core.nn import videomae
from tasks.core.nn.config import DecoderConfig, TargetConfig, VitConfig, n_visible
from tasks.core.nn.masked import take
from tasks.core.reporter import Reporter
from tasks.masked.model import MaskedAutoencoder

SOURCES = {
    "transformers": "a folder with VideoMAEForPreTraining",
    "videomae-pth": "a pretraining checkpoint of MCG-NJU/VideoMAE",
}
ARCHITECTURE = "VideoMAEForPreTraining"


def convert(source: Path, kind: str, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Writes a model folder that `--from` takes.

    Args:
        source: a folder or file as published.
        kind: a key of `SOURCES`.
        out: the model folder; an existing model folder is replaced.

    Returns:
        where the model is, how many tensors and parameters it has.

    Raises:
        InputError: the source is not what `kind` says, or has what this suite has not.
        UsageError: `out` holds something else.
    """
    files.check_out(out, source, (WEIGHTS, CONFIG))
    weights, saved = _from_transformers(source, reporter) if kind == "transformers" else _from_original(source)
    model, decoder = VitConfig(**saved["architecture"]), DecoderConfig(**saved["decoder"])
    files.check_source(lambda: MaskedAutoencoder(model, decoder), weights, source)
    saved |= {"library": "vid", "task": "masked", "method": "videomae", "sampler": {"name": "tube"}}
    saved["provenance"] = {"source": kind, "file": source.name}
    facts = {"method": "VideoMAE", "encoder": f"ViT-{model.size}, {model.frames} frames of {model.image_size} px", "source": SOURCES[kind]}
    use = f"vid finetune --preset classify/... --from {shlex.quote(str(out))} --data TRAIN --val VAL"
    save_model(out, weights, saved, card("Masked video encoder", facts, use, {"tags": ["video", "masked-video-modeling"]}))
    reporter.info(f"wrote {out}; start from it with --from {out}")
    parameters = sum(tensor.numel() for tensor in weights.values())
    return {"model": str(out), "task": "masked", "source": kind, "tensors": len(weights), "parameters": parameters}


def export_transformers(reference: str | Path, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Writes encoder and decoder as a folder for `VideoMAEForPreTraining.from_pretrained`; a learned sampler stays behind.

    Returns:
        where it is, and the largest difference between outputs of the model and of what was written.

    Raises:
        UsageError: no masked model, one that transformers cannot represent, or `out` holds something else.
    """
    folder = find_model(str(reference))
    files.check_out(out, folder, (WEIGHTS, CONFIG))
    autoencoder, saved = load_model(folder)
    refuse_flow(saved["preprocessing"], str(reference))
    model, decoder = VitConfig(**saved["architecture"]), DecoderConfig(**saved["decoder"])
    config = {**videomae.config_to_transformers(model, str(reference)), **_decoder_config(autoencoder, saved["target"])}
    config["vid"] = {key: saved[key] for key in ("task", "method", "mask_ratio", "target", "preprocessing")}
    names = _transformers_names(model, decoder.depth)
    use = f"python -c \"from transformers import {ARCHITECTURE} as M; M.from_pretrained('{out}')\""
    facts = {"class": ARCHITECTURE, "method": saved["method"], "written by": "vid convert --to transformers"}
    about = card("Masked video encoder", facts, use, {"library_name": "transformers", "tags": ["video", "masked-video-modeling"]})
    tensors, settings = files.give_names(autoencoder.state_dict(), names), saved["preprocessing"]
    difference = write_folder(out, config, tensors, settings, about, lambda written: _difference(autoencoder, written, reporter))
    return report(out, ARCHITECTURE, difference, settings, reporter)


def load_model(folder: Path) -> tuple[MaskedAutoencoder, dict[str, Any]]:
    """The autoencoder of a model folder, without its sampler, in evaluation mode, and its config.json. Raises UsageError."""
    saved = load_config(folder)
    if saved["task"] != "masked":
        raise UsageError(f"{folder} is a model of task '{saved['task']}', not a masked autoencoder")
    model, decoder = VitConfig(**saved["architecture"]), DecoderConfig(**saved["decoder"])
    weights = {name: tensor for name, tensor in load_weights(folder).items() if not name.startswith("sampler.")}
    return build_strict(lambda: MaskedAutoencoder(model, decoder), weights, str(folder / WEIGHTS)).eval(), saved


def _transformers_names(model: VitConfig, depth: int) -> Names:
    names = videomae.transformers_encoder(model, model.final_norm)
    names |= {"proj.weight": ("encoder_to_decoder.weight",), "mask_token": ("mask_token",)}
    names |= videomae.transformers_blocks("decoder", "decoder.decoder_layers", depth)
    return names | videomae.both("decoder_norm", "decoder.norm") | videomae.both("head", "decoder.head")


def _decoder_config(autoencoder: MaskedAutoencoder, target: dict[str, Any]) -> dict[str, Any]:
    """The decoder's part of config.json; NoCounterpart for a target whose loss transformers does not have."""
    if target["kind"] != "pixels":
        raise NoCounterpart(f"transformers' VideoMAE reconstructs pixels, this model {target['kind']}", "--to onnx takes any model")
    dim = autoencoder.proj.out_features
    return {
        "architectures": [ARCHITECTURE],
        "use_mean_pooling": isinstance(autoencoder.encoder.norm, torch.nn.Identity),  # there: no norm behind the encoder
        "decoder_hidden_size": dim,
        "decoder_num_hidden_layers": len(autoencoder.decoder),
        "decoder_num_attention_heads": autoencoder.decoder[0].attn.heads,
        "decoder_intermediate_size": 4 * dim,
        "norm_pix_loss": target["normalize"],
    }


def _from_transformers(folder: Path, reporter: Reporter) -> tuple[Tensors, dict[str, Any]]:
    config, tensors = read_transformers(folder, ARCHITECTURE)
    value = {**videomae.DEFAULTS, **config}
    final_norm = not value["use_mean_pooling"]
    model = videomae.config_from_transformers(config, folder).model_copy(update={"final_norm": final_norm})
    dim, depth = value["decoder_hidden_size"], value["decoder_num_hidden_layers"]
    videomae.refuse(value["decoder_intermediate_size"] != 4 * dim, folder, f"decoder_intermediate_size is not 4 x {dim}")
    decoder = DecoderConfig(dim=dim, depth=depth, heads=value["decoder_num_attention_heads"], norm_eps=videomae.LAST_NORM_EPS)
    known = config.get("vid") if isinstance(config.get("vid"), dict) else {}
    saved = {
        "architecture": model.model_dump(),
        "decoder": decoder.model_dump(),
        "mask_ratio": known.get("mask_ratio", 0.9),
        "target": known.get("target", TargetConfig(normalize=value["norm_pix_loss"]).model_dump()),
        "preprocessing": read_preprocessing(folder, config, model, reporter),
    }
    return files.take_names(tensors, _transformers_names(model, depth), str(folder)), saved


DECODER_HEADS = {192: 3, 384: 6, 512: 8, 640: 8}  # of the four published models


def _from_original(file: Path) -> tuple[Tensors, dict[str, Any]]:
    tensors, settings = videomae.read_original(file)
    model = videomae.config_from_original(tensors, settings, "encoder.", file)
    depth = videomae.count_blocks(tensors, "decoder.blocks.")
    dim = videomae.entry(tensors, "encoder_to_decoder.weight", file).shape[0]
    videomae.refuse(dim not in DECODER_HEADS, file, f"no published decoder is {dim} wide")
    names = videomae.original_encoder(model, "encoder.") | videomae.both("encoder.norm", "encoder.norm")
    names |= {"proj.weight": ("encoder_to_decoder.weight",), "mask_token": ("mask_token",)}
    names |= videomae.original_blocks("decoder", "decoder.blocks", depth)
    names |= videomae.both("decoder_norm", "decoder.norm") | videomae.both("head", "decoder.head")
    saved = {
        "architecture": model.model_dump(),
        "decoder": DecoderConfig(dim=dim, depth=depth, heads=DECODER_HEADS[dim]).model_dump(),
        "mask_ratio": settings.get("mask_ratio", 0.9),
        "target": TargetConfig(normalize=settings.get("normlize_target", True)).model_dump(),  # the published spelling
        "preprocessing": video_preprocessing(model, IMAGENET_MEAN, IMAGENET_STD, settings.get("sampling_rate", 4)),
    }
    return files.take_names(tensors, names, str(file)), saved


@torch.no_grad()
def _difference(autoencoder: MaskedAutoencoder, folder: Path, reporter: Reporter) -> float:
    """Largest difference of predictions on noise, between the model and what was written, read as transformers reads it."""
    weights, saved = _from_transformers(folder, reporter)
    written = MaskedAutoencoder(VitConfig(**saved["architecture"]), DecoderConfig(**saved["decoder"])).eval()
    load_strict(written, weights, str(folder))
    c = autoencoder.encoder.config
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(1, c.frames, 3, c.image_size, c.image_size, generator=generator)
    order, seen = torch.randperm(c.n_tokens(), generator=generator)[None], n_visible(c.n_tokens(), 0.9)
    visible, masked = order[:, :seen], order[:, seen:]

    def predict(model: MaskedAutoencoder) -> torch.Tensor:
        return model.decode(model.encode(take(model.embed(model.encoder.cubes(video)), visible), visible), visible, masked)

    return float((predict(autoencoder) - predict(written)).abs().max())
