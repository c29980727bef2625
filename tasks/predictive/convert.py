"""Checkpoints of the public code of DPC and MemDPC as model folders, and back. Files are read as tensors only: nothing is executed."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tasks.core import convert as files
from tasks.core.checkpoint import find_model, load_config, load_weights, save_model
from tasks.core.convert import Tensors
from tasks.core.engine.description import card
from tasks.core.errors import InputError, UsageError
from tasks.core.nn.config import R2D3DConfig
from tasks.core.nn.encoders import saved_settings
from tasks.core.nn.r2d3d import BlockEncoder
from tasks.core.reporter import Reporter
from tasks.predictive.config import DPCConfig, MemDPCConfig
from tasks.predictive.model import PredictiveCoder

SOURCES = {
    "dpc": "TengdaHan/DPC: a pretraining checkpoint, or its classifier",
    "memdpc": "TengdaHan/MemDPC: a pretraining checkpoint, or its classifier",
}
"""What `export` writes into its folder."""
PLACES = {  # (source, classifier) -> what begins their names, and ours
    ("dpc", False): {"backbone.": "encoder.backbone.", "agg.": "encoder.aggregator.", "network_pred.": "predictor."},
    ("dpc", True): {"resnet.": "encoder.backbone.", "convrnn.": "encoder.aggregator."},
    ("memdpc", False): {
        "backbone.": "encoder.backbone.",
        "agg_f.": "encoder.aggregator.",
        "agg_b.": "encoder.backward_aggregator.",
        "network_pred.": "predictor.",
        "mb": "memory",
    },
    ("memdpc", True): {
        "backbone.": "encoder.backbone.",
        "agg_f.": "encoder.aggregator.",
        "agg_b.": "encoder.backward_aggregator.",
    },
}
HEAD = {"final_bn.": "head.norm.", "final_fc.1.": "head.linear."}
CELLS = ("ConvGRUCell_00.", "cell_list.0.")
"""The one cell of an aggregator goes by two names there."""
STEM = "encoder.backbone.conv1.weight"
WRAPPED = "module."
"""Begins every name of a network that was trained on several GPUs."""
STATISTICS = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0}
"""Of batch norm, as they begin; DPC's pretraining keeps none."""
BLOCKS, STRIDE_S, DROPOUT = 8, 0.1, {"dpc": 0.5, "memdpc": 0.9}
IMAGE = {"resnet18": 128, "resnet34": 224}
"""Side of the input of the published networks, px; a checkpoint does not say."""


def convert(file: Path, source: str, out: Path, reporter: Reporter, flow: bool = False) -> dict[str, Any]:
    """Writes a model folder: of a pretraining checkpoint one that `--from` takes, of a classifier one that `--model` takes.

    Args:
        file: as published.
        source: a key of `SOURCES`.
        out: the model folder; an existing model folder is replaced.
        reporter: told what was written.
        flow: whether it was trained on optical flow, which a checkpoint does not say.

    Returns:
        where the model is, and how many tensors and parameters it has.

    Raises:
        UsageError: unknown source, or `out` holds something else.
        InputError: the file is not what `source` says.
    """
    tensors = files.read_published(file, source, SOURCES, out)
    classifier = "final_fc.1.weight" in tensors
    places = {**PLACES[source, classifier], **(HEAD if classifier else {})}
    weights = files.place_tensors(tensors, places, source, file, _inner)
    model = _architecture(weights, file)
    weights = _with_statistics(weights)
    shown = _preprocessing(model)
    if flow:
        weights, shown = files.swap_flow_channels(weights, STEM), files.flow_preprocessing(shown)
    saved = {"library": "vid", "architecture": model.model_dump(), "preprocessing": shown}
    saved |= _classifier(weights, source, model, file) if classifier else _pretraining(weights, source, model, file)
    saved["provenance"] = {"source": source, "file": file.name}
    facts = {"converted from": file.name, "source": SOURCES[source], "encoder": f"2D3D-{model.size}, width {model.width}"}
    use = "vid eval classify --model {} --data VAL" if classifier else "vid finetune --preset classify/... --from {} --data TRAIN --val VAL"
    use = use.format(shlex.quote(str(out)))
    text = card(f"{source} {saved['task']}", {**facts, "licence": "that of the source"}, use, {"tags": ["video"]})
    save_model(out, weights, saved, text)
    reporter.info(f"wrote {out}; {'test it with --model' if classifier else 'start from it with --from'} {out}")
    parameters = sum(tensor.numel() for tensor in weights.values() if tensor.is_floating_point())
    return {"model": str(out), "task": saved["task"], "source": source, "tensors": len(weights), "parameters": parameters}


def _inner(name: str) -> str:
    """Our name of a tensor within its place."""
    return name.removeprefix(next((cell for cell in CELLS if name.startswith(cell)), ""))


def _architecture(weights: Tensors, file: Path) -> R2D3DConfig:
    """What shapes and names say of the encoder; the rest is as published."""
    stem = weights.get(STEM)
    if stem is None or stem.ndim != 5:
        raise InputError(f"{file} has no 2D3D-ResNet")
    size = "resnet34" if any(name.startswith("encoder.backbone.layer3.5.") for name in weights) else "resnet18"
    return R2D3DConfig(
        size=size,
        width=len(stem),
        image_size=IMAGE[size],
        bidirectional=any(name.startswith("encoder.backward_aggregator.") for name in weights),
        statistics="running" if "encoder.backbone.bn1.running_mean" in weights else "batch",
    )


def _with_statistics(weights: Tensors) -> Tensors:
    """With the running statistics of batch norms that have none: as they begin, which is how the public classifiers start too."""
    missing: Tensors = {}
    for name, tensor in weights.items():
        norm, _, last = name.rpartition(".")
        if last == "bias" and name.startswith("encoder.backbone."):
            for kind, value in STATISTICS.items():
                start = torch.tensor(0) if kind == "num_batches_tracked" else torch.full_like(tensor, value)
                missing[f"{norm}.{kind}"] = start
    return missing | weights


def _pretraining(weights: Tensors, source: str, model: R2D3DConfig, file: Path) -> dict[str, Any]:
    if source == "memdpc" and weights.get("memory", torch.empty(0)).ndim != 2:
        raise InputError(f"{file} has no memory: mb, k vectors", "is it a checkpoint of memdpc?")
    method = DPCConfig() if source == "dpc" else MemDPCConfig(slots=len(weights["memory"]))
    files.check_source(lambda: PredictiveCoder(model, method), weights, file)
    return {"task": "predictive", "method": source, "prediction": method.model_dump(mode="json")}


def _classifier(weights: Tensors, source: str, model: R2D3DConfig, file: Path) -> dict[str, Any]:
    classes = len(weights["head.linear.weight"])

    def build() -> nn.Module:
        encoder = BlockEncoder(model)
        head = nn.ModuleDict({"norm": nn.BatchNorm1d(encoder.dim), "linear": nn.Linear(encoder.dim, classes)})
        return nn.ModuleDict({"encoder": encoder, "head": head})

    files.check_source(build, weights, file)
    head = {"mode": "finetune", "norm": "batch", "affine": True, "norm_eps": 1e-5, "dropout": DROPOUT[source], "smoothing": 0.0}
    labels = [str(number) for number in range(classes)]
    return {"task": "classify", "method": "finetune", "head": head, "labels": labels, "metrics": {}}


def _preprocessing(model: R2D3DConfig) -> dict[str, Any]:
    clip = {"frames": BLOCKS * model.block_frames, "sampling": "dense", "stride_frames": None, "stride_s": STRIDE_S, "stretch": False}
    look = {"crop": "center", "motion_margin": 1.4, "flow": None, "flow_input": None, "short_side": None, "color": "RGB"}
    return {"image_size": model.image_size, **clip, **look, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def export(reference: str | Path, kind: str, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Writes a checkpoint with the names of the public code.

    Args:
        reference: model folder, run folder or `hf://` id, of this task or of a classifier on its encoder.
        kind: a key of `SOURCES`.
        out: the folder to write `checkpoint.pth.tar` into.
        reporter: told what was written.

    Raises:
        UsageError: the model is of another kind, or `out` holds something else.
    """
    folder = find_model(str(reference))
    files.check_out(out, folder, (files.PUBLISHED,))
    saved, weights = load_config(folder), load_weights(folder)
    tensors = _public_names(saved, weights, kind, str(reference), reporter)
    size = saved["architecture"]["size"]
    network = {"backbone" if kind == "memdpc" and saved["task"] == "classify" else "net": size}
    return files.write_published(out, {"epoch": 0, **network, "state_dict": tensors, "best_acc": 0.0, "iteration": 0}, size, reporter)


def _public_names(saved: Mapping[str, Any], weights: Tensors, kind: str, reference: str, reporter: Reporter) -> Tensors:
    """The tensors of a model under the names of a public checkpoint; UsageError where it has none of them."""
    classifier = saved["task"] == "classify"
    model = saved_settings(saved, reference) if classifier or saved["task"] == "predictive" else None
    if not isinstance(model, R2D3DConfig):
        raise UsageError(f"{reference} is not a model of dpc or memdpc", "--to onnx takes any encoder")
    if model.bidirectional != (kind == "memdpc") or (not classifier and saved["method"] != kind):
        aggregators = "two aggregators" if model.bidirectional else "one aggregator"
        raise UsageError(f"{reference} is a model of {saved['method']} with {aggregators}: not what {kind} has in its public code")
    if classifier and "head.norm.running_mean" not in weights:
        raise UsageError(
            f"the head of {reference} has no batch norm, which that of {kind} has", "train it with head.norm=batch, affine=true"
        )
    weights = files.public_flow_weights(weights, STEM, saved["preprocessing"], _preprocessing(model), reporter)
    places = {ours: theirs for theirs, ours in {**PLACES[kind, classifier], **(HEAD if classifier else {})}.items()}
    wrapped = WRAPPED if kind == "dpc" else ""
    found: Tensors = {}
    for name, tensor in weights.items():
        if not classifier and model.statistics == "batch" and name.rpartition(".")[2] in STATISTICS:
            continue
        start = next((start for start in places if name.startswith(start)), None)
        if start is None:
            raise UsageError(f"{reference} has {name}, which {kind} has not")
        rest = name.removeprefix(start)
        for cell in CELLS if "aggregator" in start else ("",):
            found[f"{wrapped}{places[start]}{cell}{rest}"] = tensor
    return found
