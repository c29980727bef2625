"""Model folders from published `.pth` files. The file is read as tensors only: nothing in it is executed."""

import shlex
from pathlib import Path
from typing import Any

import torch

from tasks.boundaries.method import projection
from tasks.core.checkpoint import CONFIG, WEIGHTS, encoder_weights, load_strict, save_model
from tasks.core.convert import check_out, read_pth, state_dict
from tasks.core.engine.description import card
from tasks.core.errors import InputError, UsageError
from tasks.core.nn.config import ResNetConfig
from tasks.core.nn.resnet_tsm import MotionResNet
from tasks.core.reporter import Reporter

SOURCES = {
    "moco-v2": "MoCo v2 of facebookresearch/moco: the query encoder, and its fc as the head that starts all four heads of cVCLR",
    "torchvision-resnet50": "torchvision's resnet50 (a plain state dict), without its classifier",
}
PICTURES = {"frames": 1, "sampling": "dense", "stride_frames": 1, "stride_s": None, "crop": "center", "short_side": None}
"""Clips of these networks are single frames."""
DIM = 128
"""Length of MoCo v2's embedding."""


def convert(file: Path, source: str, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Writes a model folder that `--from` takes.

    Args:
        file: as published.
        source: a key of `SOURCES`.
        out: the model folder; an existing model folder is replaced.

    Returns:
        where the model is, and how many tensors and parameters it has.

    Raises:
        UsageError: unknown source, or `out` holds something else.
        InputError: the file is not what `source` says.
    """
    if source not in SOURCES:
        raise UsageError(f"cannot convert from '{source}'", f"known sources: {', '.join(SOURCES)}")
    check_out(out, file, (WEIGHTS, CONFIG))
    tensors = state_dict(read_pth(file), file)
    weights = _from_moco(tensors, file) if source == "moco-v2" else _from_torchvision(tensors, file)
    config = ResNetConfig(shift=False, motion=None)
    _verify(weights, config, str(file))
    saved = {
        "library": "vid",
        "task": "boundaries",
        "method": source,
        "architecture": config.model_dump(),
        "preprocessing": {**PICTURES, "image_size": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "color": "RGB"},
        "provenance": {"file": file.name, "source": source},
    }
    parameters = sum(tensor.numel() for name, tensor in weights.items() if name.startswith("encoder.") and tensor.is_floating_point())
    facts = {"encoder": "ResNet-50", "converted from": file.name, "source": SOURCES[source], "licence": "that of the source"}
    use = f"vid pretrain --preset boundaries/cvclr-resnet50-kinetics-gebd --from {shlex.quote(str(out))} --data TRAIN"
    save_model(out, weights, saved, card("ResNet-50 for event boundaries", facts, use, {"tags": ["event-boundary-detection"]}))
    reporter.info(f"wrote {out}; start from it with --from {out}")
    return {"model": str(out), "source": source, "tensors": len(weights), "numbers_in_encoder": parameters}


def _from_moco(tensors: dict[str, torch.Tensor], file: Path) -> dict[str, torch.Tensor]:
    """`module.encoder_q.*` with `fc` as `head`; the key encoder and the queue are left out."""
    known, left_out = "module.encoder_q.", ("module.encoder_k.", "module.queue")
    if strange := sorted(name for name in tensors if not name.startswith((known, *left_out))):
        raise InputError(f"{file} is no MoCo v2 checkpoint: it has {strange[0]}")
    query = {name.removeprefix(known): tensor for name, tensor in tensors.items() if name.startswith(known)}
    return {f"head.{name.removeprefix('fc.')}" if name.startswith("fc.") else f"encoder.{name}": tensor for name, tensor in query.items()}


def _from_torchvision(tensors: dict[str, torch.Tensor], file: Path) -> dict[str, torch.Tensor]:
    """Everything but the classifier, which must be the one of torchvision."""
    classifier = {"fc.weight", "fc.bias"}
    if missing := classifier - tensors.keys():
        raise InputError(f"{file} is not torchvision's resnet50: it lacks {min(missing)}")
    return {f"encoder.{name}": tensor for name, tensor in tensors.items() if name not in classifier}


def _verify(weights: dict[str, torch.Tensor], config: ResNetConfig, file: str) -> None:
    """Raises InputError unless every tensor has its place and every place its tensor.

    Counters of batch norm, which files from before 2018 lack and nothing here uses, become 0.
    """
    encoder = MotionResNet(config)
    for name in encoder.state_dict():
        if name.endswith("num_batches_tracked"):
            weights.setdefault(f"encoder.{name}", torch.zeros((), dtype=torch.int64))
    try:
        load_strict(encoder, encoder_weights(weights), file)
        if head := encoder_weights(weights, "head."):
            load_strict(projection(encoder.channels, DIM), head, file)
    except UsageError as error:
        raise InputError(error.message, "it must be a ResNet-50 of standard width") from None
