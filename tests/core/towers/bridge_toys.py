"""A picture classifier with random weights in its published form, bridged to a toy CLIP model's text tower."""

from pathlib import Path

import torch
from clip_toys import clip_folder

from tasks.core.nn.efficientnet import STAGES
from tasks.core.reporter import Quiet
from tasks.core.towers.bridge import bridge

NAMES = ("red_square", "blue circle", "running dog", "resting cat", "rain")


def published(classes: int = len(NAMES), seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors of EfficientNet-Lite0 under their published names, in float64."""
    drawn = torch.Generator().manual_seed(seed)
    found: dict[str, torch.Tensor] = {}

    def convolution(name: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        shape = (outputs, inputs, kernel, kernel)
        found[f"{name}.weight"] = torch.randn(shape, generator=drawn, dtype=torch.float64) * (2 / (inputs * kernel**2)) ** 0.5
        for part in ("weight", "running_var"):
            found[f"{norm}.{part}"] = 0.5 + torch.rand(outputs, generator=drawn, dtype=torch.float64)
        for part in ("bias", "running_mean"):
            found[f"{norm}.{part}"] = 0.3 * torch.randn(outputs, generator=drawn, dtype=torch.float64)
        found[f"{norm}.num_batches_tracked"] = torch.tensor(3)

    convolution("_conv_stem", "_bn0", 32, 3, 3)
    width, number = 32, 0
    for repeats, outputs, expansion, kernel, _ in STAGES:
        for _ in range(repeats):
            name, inner = f"_blocks.{number}", width * expansion
            if expansion > 1:
                convolution(f"{name}._expand_conv", f"{name}._bn0", inner, width, 1)
            convolution(f"{name}._depthwise_conv", f"{name}._bn1", inner, 1, kernel)
            convolution(f"{name}._project_conv", f"{name}._bn2", outputs, inner, 1)
            width, number = outputs, number + 1
    convolution("_conv_head", "_bn1", 1280, 320, 1)
    found["_fc.weight"] = torch.randn((classes, 1280), generator=drawn, dtype=torch.float64) / 10
    found["_fc.bias"] = torch.randn(classes, generator=drawn, dtype=torch.float64)
    return found


def write_classifier(file: Path, classes: int = len(NAMES), seed: int = 0) -> Path:
    """A file as published, in float32."""
    torch.save({name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in published(classes, seed).items()}, file)
    return file


def bridged(folder: Path, **changes) -> Path:
    """`folder/model`, with `folder/clip` and `folder/lite0.pth` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    clip = clip_folder(folder / "clip")
    bridge(str(write_classifier(folder / "lite0.pth")), str(clip), folder / "model", Quiet(), **{"names": NAMES, "top": 3, **changes})
    return folder / "model"
