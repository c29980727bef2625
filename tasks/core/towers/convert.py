"""The encoder of any model folder for other programs."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tasks.core.checkpoint import find_model
from tasks.core.convert_onnx import write_onnx
from tasks.core.reporter import Reporter
from tasks.core.towers.encoder import load_encoder


class OneOutput(nn.Module):
    """A network that gives one of its outputs.

    Args:
        network: see `core.nn.encoders`.
        output: name of what it gives.
    """

    def __init__(self, network: nn.Module, output: str):
        super().__init__()
        self.network, self.output = network, output

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Normalised `(B, T, 3, S, S)` to that output."""
        return self.network.outputs(video)[self.output]


def export_onnx(reference: str | Path, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Writes an encoder as ONNX: normalised `video` `(B, T, 3, S, S)` float32 to `tokens` `(B, N, dim)` or `map` `(B, dim, t, h, w)`.

    Args:
        reference: model folder, run folder or `hf://` id.
        out: the folder to write.
        reporter: told what was written.

    Returns:
        where it is, and the largest difference to onnxruntime's output.

    Raises:
        UsageError: the model has no encoder of clips, or see `write_onnx`.
    """
    folder = find_model(str(reference))
    encoder = load_encoder(str(folder))
    output = encoder.network.output
    return write_onnx(OneOutput(encoder.network, output), output, encoder.preprocessing, folder, out, reporter)
