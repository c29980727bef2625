"""Checkpoints of the public code of CoCLR as model folders, and back. Files are read as tensors only: nothing is executed."""

import shlex
from pathlib import Path
from typing import Any

from torch import nn

from tasks.core import convert as files
from tasks.core.checkpoint import find_model, load_config, load_weights, save_model
from tasks.core.convert import Tensors
from tasks.core.engine.description import card
from tasks.core.errors import UsageError
from tasks.core.nn.config import S3DConfig
from tasks.core.nn.encoders import saved_settings
from tasks.core.nn.s3d import S3D
from tasks.core.reporter import Reporter

SOURCES = {"coclr": "TengdaHan/CoCLR: a checkpoint of InfoNCE, UberNCE or CoCLR with S3D, or its classifier"}
"""What `export` writes into its folder."""
PRETRAINED = {"encoder_q.0.": "encoder.", "encoder_q.2.": "encoder.projection.0.", "encoder_q.4.": "encoder.projection.2."}
CLASSIFIER = {"backbone.": "encoder.", "final_bn.": "head.norm.", "final_fc.0.": "head.linear.", "final_fc.1.": "head.linear."}
TRAINING = ("encoder_k.", "sampler.", "queue")
"""Begins what only training goes on with."""
BLOCKS = {  # the modules of S3D go by two names there
    **{"block1.0.": "Conv_1a.", "block2.1.": "Conv_2b.", "block2.2.": "Conv_2c."},
    **{"block3.1.": "Mixed_3b.", "block3.2.": "Mixed_3c."},
    **{f"block4.{number}.": f"Mixed_4{letter}." for number, letter in enumerate("bcdef", 1)},
    **{"block5.1.": "Mixed_5b.", "block5.2.": "Mixed_5c."},
}
FRAMES, STRIDE_S, IMAGE = 32, 1 / 30, 128
STEM = "encoder.conv_1a.conv1.weight"
DROPOUT = 0.9
"""Of the public classifier when all of it is trained."""


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
    classifier = any(name.startswith("final_fc.") for name in tensors)
    places, left_out = (CLASSIFIER, ()) if classifier else (PRETRAINED, TRAINING)
    weights = files.place_tensors(tensors, places, source, file, _module, left_out)
    saved = {"library": "vid", **(_classifier(weights, file) if classifier else _pretrained(weights, file))}
    if flow:
        weights = files.swap_flow_channels(weights, STEM)
    shown = files.flow_preprocessing(preprocessing()) if flow else preprocessing()
    saved |= {"preprocessing": shown, "provenance": {"source": source, "file": file.name}}
    saved |= {} if classifier else {"view": "flow" if flow else "rgb"}
    facts = {"converted from": file.name, "source": SOURCES[source], "encoder": "S3D", "licence": "that of the source"}
    use = "vid eval classify --model {} --data VAL" if classifier else "vid finetune --preset classify/... --from {} --data TRAIN --val VAL"
    use = use.format(shlex.quote(str(out)))
    save_model(
        out,
        weights,
        saved,
        card("CoCLR video encoder", facts, use, {"tags": ["video", "contrastive-learning"]}),
    )
    reporter.info(f"wrote {out}; {'test it with --model' if classifier else 'start from it with --from'} {out}")
    parameters = sum(
        tensor.numel() for name, tensor in weights.items() if not name.rpartition(".")[2].startswith(("running_", "num_batches"))
    )
    return {"model": str(out), "task": saved["task"], "source": source, "tensors": len(weights), "parameters": parameters}


def _module(name: str) -> str:
    """Our name of a tensor of the backbone; others stay."""
    block = next((block for block in BLOCKS if name.startswith(block)), None)
    if block is not None:
        name = BLOCKS[block] + name.removeprefix(block)
    return name[0].lower() + name[1:] if name.startswith(("Conv_", "Mixed_")) else name


def _pretrained(weights: Tensors, file: Path) -> dict[str, Any]:
    head = weights.get("encoder.projection.2.bias")
    model = S3DConfig(image_size=IMAGE, projection=None if head is None else len(head))
    files.check_source(lambda: nn.ModuleDict({"encoder": S3D(model)}), weights, file)
    return {"task": "contrastive", "method": "coclr", "architecture": model.model_dump()}


def _classifier(weights: Tensors, file: Path) -> dict[str, Any]:
    """Trained whole it has no norm; a linear probe has unit length and batch norm before its layer (the public code's two settings)."""
    classes, model, normed = len(weights["head.linear.bias"]), S3DConfig(image_size=IMAGE), "head.norm.weight" in weights

    def build() -> nn.Module:
        encoder = S3D(model)
        norm = {"norm": nn.BatchNorm1d(encoder.dim)} if normed else {}
        return nn.ModuleDict({"encoder": encoder, "head": nn.ModuleDict({**norm, "linear": nn.Linear(encoder.dim, classes)})})

    files.check_source(build, weights, file)
    head = {"mode": "linear", "norm": "l2-batch", "affine": True, "norm_eps": 1e-5} if normed else {"mode": "finetune", "norm": "none"}
    head |= {"dropout": 0.0 if normed else DROPOUT, "smoothing": 0.0}
    labels = [str(number) for number in range(classes)]
    described = {"head": head, "labels": labels, "metrics": {}}
    return {"task": "classify", "method": head["mode"], "architecture": model.model_dump(), **described}


def preprocessing() -> dict[str, Any]:
    """How the public code shows videos to its networks: 32 consecutive frames, about 30 per second, a square of 128 px."""
    clip = {"frames": FRAMES, "sampling": "dense", "stride_frames": 1, "stride_s": STRIDE_S, "stretch": False}
    look = {"crop": "center", "motion_margin": 1.4, "flow": None, "flow_input": None, "short_side": None, "color": "RGB"}
    return {"image_size": IMAGE, **clip, **look, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


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
    model = saved_settings(saved, str(reference)) if saved["task"] in ("contrastive", "classify") else None
    if not isinstance(model, S3DConfig) or model.width != 1:
        raise UsageError(f"{reference} is not an S3D of {kind} at its published width", "--to onnx takes any encoder")
    weights = files.public_flow_weights(weights, STEM, saved["preprocessing"], preprocessing(), reporter)
    tensors = _public_names(weights, saved["task"] == "classify", str(reference))
    return files.write_published(out, {"epoch": 0, "state_dict": tensors, "best_acc": 0.0, "iteration": 0}, "s3d", reporter)


def _public_names(weights: Tensors, classifier: bool, reference: str) -> Tensors:
    """The tensors of a model under the names of a public checkpoint; UsageError where it has none of them."""
    places = {ours: theirs for theirs, ours in (CLASSIFIER if classifier else PRETRAINED).items()}
    if classifier and "head.norm.weight" in weights:
        places["head.linear."] = "final_fc.0."  # a linear probe has no dropout before its layer
    starts = sorted(places, key=len, reverse=True)
    aliases = {theirs: block for block, theirs in BLOCKS.items()}
    found: Tensors = {}
    for name, tensor in weights.items():
        start = next((start for start in starts if name.startswith(start)), None)
        if start is None:
            raise UsageError(f"{reference} has {name}, which coclr has not")
        rest = name.removeprefix(start)
        if start != "encoder.":
            found[places[start] + rest] = tensor
            continue
        theirs = rest[0].upper() + rest[1:]
        module = theirs.partition(".")[0] + "."
        for own in (module, aliases[module]):
            found[places[start] + own + theirs.removeprefix(module)] = tensor
    return found
