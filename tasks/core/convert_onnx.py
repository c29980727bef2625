"""ONNX files of an encoder or a classifier, compared with onnxruntime when they are written."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tasks.core.checkpoint import CONFIG
from tasks.core.convert import check_out, read_json
from tasks.core.errors import UsageError, VidError
from tasks.core.files import replacing_folder, write_json
from tasks.core.reporter import Reporter

MODEL = "model.onnx"
OPSET = 18
TOLERANCE = 1e-4


def write_onnx(
    module: nn.Module,
    output: str,
    preprocessing: dict[str, Any],
    folder: Path,
    out: Path,
    reporter: Reporter,
    boxes: bool = False,
) -> dict[str, Any]:
    """Writes `model.onnx` (weights of more than 2 GB beside it) and config.json, whose preprocessing says what `video` must be.

    Input `video` `(batch, T, 3, S, S)` float32, normalised, perhaps `boxes` `(batch, T, 4)` px; the batch size is free. Nothing is written
    when onnxruntime disagrees.

    Args:
        module: on the CPU, in evaluation mode.
        output: its name in the graph.
        preprocessing: of config.json, which says the size of a clip.
        folder: the model folder it comes from.
        out: the folder to write.
        reporter: told what was written.
        boxes: whether the module takes boxes beside the video.

    Returns:
        where it is, the shapes, and the largest difference between the outputs of torch and of onnxruntime for one clip and for two.

    Raises:
        UsageError: a package is missing, `out` holds something else, or ONNX lacks an operation of the network.
        VidError: the outputs differ by more than 1e-4.
    """
    check_out(out, folder, (MODEL, CONFIG))
    _need_packages()
    generator = torch.Generator().manual_seed(0)
    shape = (preprocessing["frames"], 3, preprocessing["image_size"], preprocessing["image_size"])
    clips = [{"video": torch.randn(n, *shape, generator=generator)} for n in (2, 1)]
    if boxes:
        for clip in clips:
            corners = torch.rand(len(clip["video"]), shape[0], 2, 2, generator=generator).sort(2).values
            clip["boxes"] = corners.flatten(2) * shape[-1]
    with replacing_folder(out) as partial:
        _export(module, clips[0], output, partial / MODEL)
        difference = max(_difference(module, partial / MODEL, clip) for clip in clips)
        if not difference <= TOLERANCE:
            raise VidError(f"the ONNX file gives other numbers than the model: they differ by {difference:.1e}", "nothing was written")
        inputs = "video" if len(clips[0]) == 1 else list(clips[0])
        saved = {**read_json(folder / CONFIG), "onnx": {"opset": OPSET, "input": inputs, "output": output, "max_difference": difference}}
        write_json(partial / CONFIG, saved)
    if boxes:
        reporter.warn("the model takes boxes too: tasks.core.clips.prepare.read_streams makes both of its inputs from a video")
    elif preprocessing.get("crop") == "motion" or preprocessing.get("flow") or preprocessing.get("flow_input"):
        reporter.warn("the model takes more than resized frames: tasks.core.clips.prepare.read_views makes its input from a video")
    reporter.info(f"wrote {out / MODEL}, checked with onnxruntime: outputs differ by at most {difference:.1e}")
    return {
        "model": str(out / MODEL),
        "format": "onnx",
        "opset": OPSET,
        "input": ["batch", *shape],
        "output": output,
        "max_difference": difference,
    }


def _need_packages() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UsageError(f"--to onnx needs {', '.join(missing)}", "pip install 'vid-suite[onnx]'")


def _export(module: nn.Module, clip: dict[str, torch.Tensor], output: str, file: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about its own deprecations
        torch.onnx.export(
            module,
            tuple(clip.values()),
            str(file),
            input_names=list(clip),
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in clip),
            external_data=sum(p.numel() for p in module.parameters()) * 4 > 2**31 - 2**24,  # protobuf's limit
            verbose=False,
        )


@torch.no_grad()
def _difference(module: nn.Module, file: Path, clip: dict[str, torch.Tensor]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in clip.items()})
    return float((module(**clip) - torch.from_numpy(found)).abs().max())
