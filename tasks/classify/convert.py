"""Classifiers to and from `transformers` (VideoMAEForVideoClassification), from original VideoMAE checkpoints, and to ONNX."""

import shlex
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tasks.classify.config import HeadConfig
from tasks.classify.evaluate import load_classifier
from tasks.classify.model import Classifier
from tasks.core import convert as files
from tasks.core.checkpoint import CONFIG, WEIGHTS, find_model, load_strict, save_model
from tasks.core.convert import Names, Tensors
from tasks.core.convert_onnx import write_onnx
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
from tasks.core.errors import NoCounterpart
from tasks.core.nn import videomae
from tasks.core.nn.config import VitConfig
from tasks.core.reporter import Reporter

SOURCES = {
    "transformers": "a folder with VideoMAEForVideoClassification",
    "videomae-pth": "a fine-tuned checkpoint of MCG-NJU/VideoMAE",
}
ARCHITECTURE = "VideoMAEForVideoClassification"
MAX_CLASSES = 1_000_000
CARD = {"tags": ["video", "video-classification"], "pipeline_tag": "video-classification"}


def convert(source: Path, kind: str, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Writes a model folder that `--model` and `--from` take.

    Args:
        source: a folder or file as published.
        kind: a key of `SOURCES`.
        out: the model folder; an existing model folder is replaced.

    Returns:
        where the model is, how many tensors, parameters and classes it has.

    Raises:
        InputError: the source is not what `kind` says, or has what this suite has not.
        UsageError: `out` holds something else.
    """
    files.check_out(out, source, (WEIGHTS, CONFIG))
    weights, saved = _from_transformers(source, reporter) if kind == "transformers" else _from_original(source, reporter)
    model, head, labels = VitConfig(**saved["architecture"]), HeadConfig(**saved["head"]), saved["labels"]
    files.check_source(lambda: Classifier(model, len(labels), head), weights, source)
    saved |= {"library": "vid", "task": "classify", "method": "finetune", "metrics": {}}
    saved["provenance"] = {"source": kind, "file": source.name}
    facts = {"task": f"action recognition, {len(labels)} classes", "source": SOURCES[kind]}
    save_model(
        out, weights, saved, card("Video classifier", facts, f"vid eval classify --model {shlex.quote(str(out))} --data VAL --json", CARD)
    )
    reporter.info(f"wrote {out}; test it with vid eval classify --model {out}")
    parameters = sum(tensor.numel() for tensor in weights.values())
    return {
        "model": str(out),
        "task": "classify",
        "source": kind,
        "tensors": len(weights),
        "parameters": parameters,
        "classes": len(labels),
    }


def export_transformers(reference: str | Path, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Writes a folder for `AutoModelForVideoClassification.from_pretrained` and the video-classification pipeline.

    Returns:
        where it is, and the largest difference between logits of the model and of what was written.

    Raises:
        UsageError: no classifier, one that transformers cannot represent, or `out` holds something else.
    """
    folder = find_model(str(reference))
    files.check_out(out, folder, (WEIGHTS, CONFIG))
    classifier, saved = load_classifier(str(folder))
    model, labels = classifier.encoder.config, saved["labels"]
    _refuse_other_kinds(model, HeadConfig(**saved["head"]))
    refuse_flow(saved["preprocessing"], str(reference))
    config = {
        **videomae.config_to_transformers(model, str(reference)),
        "architectures": [ARCHITECTURE],
        "use_mean_pooling": True,
        "id2label": {str(number): name for number, name in enumerate(labels)},
        "label2id": {name: number for number, name in enumerate(labels)},
        "problem_type": "single_label_classification",
        "vid": {key: saved[key] for key in ("task", "method", "preprocessing")},
    }
    use = f"python -c \"from transformers import pipeline; print(pipeline('video-classification', '{out}')('clip.mp4'))\""
    facts = {"class": ARCHITECTURE, "classes": len(labels), "written by": "vid convert --to transformers"}
    about = card("Video classifier", facts, use, {"library_name": "transformers", **CARD})
    tensors, settings = files.give_names(classifier.state_dict(), _transformers_names(model)), saved["preprocessing"]
    difference = write_folder(out, config, tensors, settings, about, lambda written: _difference(classifier, written, reporter))
    return report(out, ARCHITECTURE, difference, settings, reporter)


def _refuse_other_kinds(model: Any, head: HeadConfig) -> None:
    """NoCounterpart for an encoder or a head that VideoMAEForVideoClassification has not."""
    what = None
    if not isinstance(model, VitConfig):
        what = f"encoders of the family '{model.family}'"
    elif head.mode != "finetune":
        what = f"{head.mode} probe"
    elif head.mca is not None:
        what = "head that looks at boxes (head.mca)"
    elif head.norm_used() != "layer" or head.hidden_used():
        what = f"head with norm {head.norm_used()}" + (f" and {head.hidden_used()} hidden units" if head.hidden_used() else "")
    if what:
        raise NoCounterpart(f"transformers' VideoMAE has no {what}", "--to onnx takes any classifier")


def export_onnx(reference: str | Path, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Writes encoder and head as ONNX: normalised `video` `(B, T, 3, S, S)` float32, and `boxes` `(B, T, 4)` px for a head that looks at
    them, to `logits` `(B, n_classes)`.

    Returns:
        where it is, and the largest difference to onnxruntime's output. Raises UsageError, InputError (see `write_onnx`).
    """
    folder = find_model(str(reference))
    classifier, saved = load_classifier(str(folder))
    module = WithBoxes(classifier) if classifier.needs_boxes else classifier
    return write_onnx(module, "logits", saved["preprocessing"], folder, out, reporter, boxes=classifier.needs_boxes)


class WithBoxes(nn.Module):
    """A classifier whose two inputs are `video` and `boxes`."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, video: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """As `Classifier`."""
        return self.classifier(video, boxes=boxes)


def _transformers_names(model: VitConfig) -> Names:
    names = videomae.transformers_encoder(model, final_norm=False)
    return names | videomae.both("head.norm", "fc_norm") | videomae.both("head.linear", "classifier")


def _from_transformers(folder: Path, reporter: Reporter) -> tuple[Tensors, dict[str, Any]]:
    config, tensors = read_transformers(folder, ARCHITECTURE)
    value = {**videomae.DEFAULTS, **config}
    videomae.refuse(not value["use_mean_pooling"], folder, "it classifies by its first token, here tokens are averaged")
    model = videomae.config_from_transformers(config, folder)
    saved = {
        "architecture": model.model_dump(),
        "head": HeadConfig(norm_eps=videomae.LAST_NORM_EPS).model_dump(),
        "labels": _labels(config, folder),
        "preprocessing": read_preprocessing(folder, config, model, reporter),
    }
    return files.take_names(tensors, _transformers_names(model), str(folder)), saved


def _labels(config: dict[str, Any], folder: Path) -> list[str]:
    """Class names in the order of their numbers; transformers' own names for two classes where the folder has none."""
    count = config.get("num_labels", 2)
    videomae.refuse(type(count) is not int or not 0 < count <= MAX_CLASSES, folder, f"num_labels is {count!r:.40}")
    found = config.get("id2label") or {str(n): f"LABEL_{n}" for n in range(count)}
    numbered = isinstance(found, dict) and all(str(number).isdecimal() for number in found)
    videomae.refuse(not numbered, folder, "id2label is not a mapping from numbers to names")
    by_number = {int(number): str(name) for number, name in found.items()}
    videomae.refuse(sorted(by_number) != list(range(len(by_number))), folder, "id2label does not number the classes from 0")
    return [by_number[number] for number in range(len(by_number))]


def _from_original(file: Path, reporter: Reporter) -> tuple[Tensors, dict[str, Any]]:
    tensors, settings = videomae.read_original(file)
    model = videomae.config_from_original(tensors, settings, "", file)
    names = videomae.original_encoder(model, "") | videomae.both("head.norm", "fc_norm") | videomae.both("head.linear", "head")
    reporter.warn("the file has no class names: classes are called by their numbers (labels in config.json)")
    sampling = "segments" if str(settings.get("data_set", "")).upper() == "SSV2" else "dense"
    saved = {
        "architecture": model.model_dump(),
        "head": HeadConfig().model_dump(),
        "labels": [str(number) for number in range(len(videomae.entry(tensors, "head.bias", file)))],
        "preprocessing": video_preprocessing(model, IMAGENET_MEAN, IMAGENET_STD, settings.get("sampling_rate", 4), sampling),
    }
    return files.take_names(tensors, names, str(file)), saved


@torch.no_grad()
def _difference(classifier: Classifier, folder: Path, reporter: Reporter) -> float:
    """Largest difference of logits on noise, between the model and what was written, read as transformers reads it."""
    weights, saved = _from_transformers(folder, reporter)
    written = Classifier(VitConfig(**saved["architecture"]), len(saved["labels"]), HeadConfig(**saved["head"])).eval()
    load_strict(written, weights, str(folder))
    c = classifier.encoder.config
    video = torch.randn(1, c.frames, 3, c.image_size, c.image_size, generator=torch.Generator().manual_seed(0))
    return float((classifier(video) - written(video)).abs().max())
