"""A picture classifier and a text tower that were never trained together, as one image-text model.

Source: Norouzi et al., Zero-Shot Learning by Convex Combination of Semantic Embeddings (ICLR 2014), section 3: a picture is where the names
of its likeliest classes are, weighted by their probabilities.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tasks.core import convert as files
from tasks.core import hub
from tasks.core.checkpoint import (
    CONFIG,
    WEIGHTS,
    build_strict,
    find_model,
    load_config,
    load_weights,
    require_finite,
    save_model,
    weights_hash,
)
from tasks.core.engine.description import card
from tasks.core.errors import InputError, UsageError
from tasks.core.nn.efficientnet import EfficientNetLite, folded
from tasks.core.reporter import Reporter
from tasks.core.towers.bridge_config import BridgeConfig
from tasks.core.towers.encoder import VideoEncoder
from tasks.core.towers.identity import recall
from tasks.core.towers.text import load_text_tower

TASK, METHOD = "bridge", "conse"
MARK = "_blocks.15._project_conv.weight"
"""A tensor by which the published file of EfficientNet-Lite0 is known."""
CPU_BATCH = 4
"""Pictures at once on a CPU: larger arrays are got from the system anew for every layer, which costs half as much again."""
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""What the published EfficientNet-Lite was trained with."""


class Conse(nn.Module):
    """Pictures to the space of a text tower.

    Args:
        config: architecture.

    Attributes:
        config: as given.
        dim: length of a vector.
        words: `(classes, dim)`, the vectors of the classes' names, of length 1.
    """

    output = "tokens"

    def __init__(self, config: BridgeConfig):
        super().__init__()
        self.config, self.dim = config, config.dim
        self.classifier = EfficientNetLite(config.classes)
        self.register_buffer("words", torch.zeros(config.classes, config.dim))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Normalised `(N, 3, S, S)` float to `(N, dim)`, not normalised (Norouzi et al., equation 3)."""
        parts = pictures.split(CPU_BATCH if pictures.device.type == "cpu" else max(1, len(pictures)))
        logits = torch.cat([self.classifier(part.contiguous(memory_format=torch.channels_last)) for part in parts])
        share, number = logits.softmax(1).topk(min(self.config.top, self.config.classes))
        share = share / share.sum(1, keepdim=True)
        return torch.einsum("nt,ntd->nd", share, self.words[number])

    def outputs(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        """`tokens` `(B, T, dim)`, the vectors of the frames of clips `(B, T, 3, S, S)` (the contract of `core.nn.encoders`)."""
        return {"tokens": self(video.flatten(0, 1)).unflatten(0, video.shape[:2])}


def open_pictures(folder: Path, saved: dict[str, Any], device: torch.device | str = "cpu") -> VideoEncoder:
    """The side of pictures of a bridged model, frozen and in evaluation mode; UsageError where its weights do not fit."""
    config = BridgeConfig(**saved["architecture"])
    network = build_strict(lambda: Conse(config), load_weights(folder), str(folder))
    network = network.to(memory_format=torch.channels_last)  # a third of the time on a CPU is saved
    return VideoEncoder(network, saved).requires_grad_(False).to(device).eval()


def open_text(saved: dict[str, Any], source: str, reference: str | None = None, device: torch.device | str = "cpu") -> Any:
    """The text tower of a bridged model.

    Args:
        saved: config.json of the model.
        source: the model, for errors.
        reference: where the tower is now; None: where it was when the model was made, or in the model's folder under the same name.
        device: where it computes.

    Raises:
        UsageError: there is none, or it is another one.
    """
    there = saved["text_tower"]["reference"]
    if reference is None and not there.startswith(hub.PREFIX) and not Path(there).exists():
        reference = str(find_model(source) / Path(there).name)
        if not Path(reference).exists():
            raise UsageError(f"the text tower of {source} is not at {there} any more", "say where it is now: --set text=FOLDER")
    return recall(saved["text_tower"], lambda place: load_text_tower(place, device), source, reference)


def bridge(
    pictures: str, text: str, out: Path, reporter: Reporter, names: Sequence[str] | None = None, top: int = BridgeConfig().top
) -> dict[str, Any]:
    """Writes the model folder of a bridged pair.

    Args:
        pictures: the published `.pth` of EfficientNet-Lite0, or a file with its tensors and another number of classes.
        text: see `load_text_tower`.
        out: the model folder; an existing model folder is replaced.
        reporter: told what was written.
        names: of the classes, in their order; None: those of ImageNet.
        top: likeliest classes that are mixed.

    Returns:
        where the model is, what it is made of, and the hash of its weights.

    Raises:
        UsageError: no such text tower, or `out` holds something else.
        InputError: the file is no classifier that is known here, or the names are not one for each class.
    """
    file = Path(pictures)
    files.check_out(out, file, (WEIGHTS, CONFIG))
    tensors = files.state_dict(files.read_pth(file), file)
    if MARK not in tensors:
        raise InputError(f"{pictures} is no classifier of pictures that is known here", "known: the .pth of EfficientNet-Lite0")
    weights = folded({name.removeprefix("module."): tensor for name, tensor in tensors.items()}, str(file))
    require_finite(weights, file)
    classes = len(weights["classifier.bias"])
    words = class_names(names, classes, pictures)
    tower = load_text_tower(text)
    vectors = nn.functional.normalize(tower(words).float(), dim=1)
    if not torch.isfinite(vectors).all():
        raise InputError(f"{text} makes no finite vector of {words[int((~vectors.isfinite()).any(1).int().argmax())]!r:.60}")
    config = BridgeConfig(classes=classes, dim=tower.dim, top=top)
    weights = {**{f"classifier.{name}": tensor for name, tensor in weights.items()}, "words": vectors}
    files.check_source(lambda: Conse(config), weights, file)
    saved = _described(config, words, {**tower.source, "reference": _lasting(text)}, file)
    save_model(out, weights, saved, _card(file, text, config))
    reporter.info(f"wrote {out}")
    made = {"classes": classes, "dim": tower.dim, "text": text, "weights_hash": weights_hash(out)}
    return {"model": str(out), "task": TASK, "method": METHOD, **made}


def class_names(names: Sequence[str] | None, classes: int, source: str) -> list[str]:
    """The words for the classes of a classifier; InputError where there is not one for each, or one is empty."""
    if names is None:
        from torchvision.models import ResNet50_Weights

        names = ResNet50_Weights.DEFAULT.meta["categories"]
        if classes != len(names):
            raise InputError(f"{source} has {classes} classes, not the {len(names)} of ImageNet", "--names FILE: one name a line")
    found = [" ".join(name.replace("_", " ").split()) for name in names]
    if len(found) != classes:
        raise InputError(f"{source} has {classes} classes, and there are {len(found)} names", "give one name a line, in the classes' order")
    if not all(found):
        raise InputError(f"class {found.index('')} of {source} has an empty name", "every class needs a name")
    return found


def read_names(file: Path) -> list[str]:
    """The lines of a text file; empty lines at its end do not count. InputError where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None


def is_bridge(reference: str) -> bool:
    """Whether a reference names a bridged model; False for whatever else, also for what is not there."""
    try:
        return load_config(find_model(reference))["task"] == TASK
    except UsageError:
        return False


def _lasting(reference: str) -> str:
    """A reference that means the same wherever a command runs."""
    return reference if reference.startswith(hub.PREFIX) else os.path.abspath(reference)


def _described(config: BridgeConfig, words: list[str], text_tower: dict[str, Any], file: Path) -> dict[str, Any]:
    prepared = {"image_size": config.image_size, "frames": 1, "sampling": "dense", "stride_frames": 1, "crop": "center"}
    return {
        "library": "vid",
        "task": TASK,
        "method": METHOD,
        "architecture": config.model_dump(),
        "preprocessing": {**prepared, "mean": list(MEAN), "std": list(STD), "color": "RGB"},
        "labels": words,
        "text_tower": text_tower,
        "metrics": {},
        "provenance": {"verb": "bridged", "source": config.network, "init": file.name},
    }


def _card(file: Path, text: str, config: BridgeConfig) -> str:
    facts = {
        "pictures": f"{config.network}, {file.name}",
        "text": text if text.startswith(hub.PREFIX) else Path(text).name,
        "made by": f"ConSE: the names of the {config.top} likeliest of {config.classes} classes, mixed by probability",
        "licence": "of the picture classifier and of the text tower, as they were published",
    }
    return card("A picture classifier that understands words", facts, "vid index VIDEOS --model FOLDER -o INDEX", {"tags": ["video"]})
