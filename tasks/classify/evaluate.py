"""`vid eval classify`: test a classifier by multi-view, or an encoder's frozen features by k nearest neighbours and retrieval."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.classify.config import EvalConfig, HeadConfig
from tasks.classify.finetune import labelled, write_predictions
from tasks.classify.model import Classifier
from tasks.classify.views import Outputs, classify_views, collect, view_batches
from tasks.core.checkpoint import build_strict, find_model, load_config, load_weights
from tasks.core.clips.config import AugmentConfig, DataConfig
from tasks.core.clips.prepare import clip_of, flow_for_model, short_side_of, squares_of
from tasks.core.engine.run import hash_rows, source_commit
from tasks.core.errors import InputError, UsageError
from tasks.core.metrics.classification import knn_scores, recall_at, summarize
from tasks.core.nn.config import VitConfig
from tasks.core.reporter import Reporter
from tasks.core.signals import StopFlag, exit_for
from tasks.core.towers.encoder import load_encoder
from tasks.core.world import join


def load_classifier(reference: str, device: torch.device | str = "cpu") -> tuple[Classifier, dict[str, Any]]:
    """A trained classifier in evaluation mode and its config.json.

    Args:
        reference: model folder, run folder or `hf://` id. Raises UsageError when it holds no classifier.
    """
    folder = find_model(reference)
    config = load_config(folder)
    if config["task"] != "classify":
        raise UsageError(
            f"{reference} is a model of task '{config['task']}', not a classifier", "fine-tune it first, or use --protocol knn"
        )
    model, head = VitConfig(**config["architecture"]), HeadConfig(**config["head"])
    classifier = build_strict(lambda: Classifier(model, len(config["labels"]), head), load_weights(folder), str(folder))
    return classifier.to(device).eval(), config


def model_data(data: DataConfig, preprocessing: dict[str, Any]) -> tuple[DataConfig, AugmentConfig]:
    """The reading and normalisation that a model was trained with; an explicit stride in `data` wins."""
    clip = data.clip
    if clip.stride_frames is None and clip.stride_s is None:
        clip = clip_of(preprocessing)
    else:
        clip = clip.model_copy(update={"frames": preprocessing["frames"]})
    short = data.short_side or short_side_of(preprocessing)
    flow = flow_for_model(data.flow, preprocessing)
    return data.model_copy(update={"clip": clip, "short_side": short, "flow": flow}), squares_of(preprocessing)


def run(config: EvalConfig, reporter: Reporter) -> dict[str, Any]:
    """One JSON-able object: `top1`, `top5`, `mean_class` or `r@k` in percent, `n`, `n_skipped`, `views`, `protocol` and where the
    numbers come from.

    Raises:
        InputError: no video could be read, or labels that the model does not know. Preempted, Interrupted: stopped by a signal.
    """
    from tasks.core.data.manifest import read_sources

    if not config.data.val:
        raise UsageError("no videos to test on", "add --data PATH (a manifest or a folder)")
    join()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = read_sources(config.data.val, "val")
    with StopFlag() as flag:

        def stop() -> None:
            if flag.received:
                raise exit_for(flag.received)("evaluation stopped by a signal; nothing was written", "run the same command again")

        if config.protocol == "finetuned":
            result, skipped = _test(config, rows, device, stop, reporter)
        else:
            result, skipped = _frozen(config, rows, device, stop, reporter)
    for path, reason in skipped:
        reporter.warn(f"skipped {path}: {reason}")
    if skipped and config.strict:
        raise InputError(f"{len(skipped)} videos could not be read, the first is {skipped[0][0]}: {skipped[0][1]}")
    return {
        **result,
        "n_skipped": len(skipped),
        "views": f"{config.views.clips}x{config.views.crops}",
        "protocol": config.protocol,
        "data_hash": hash_rows(rows),
        "commit": source_commit(),
        "preset": load_config(find_model(config.model)).get("provenance", {}).get("preset"),
        "model": config.model,
    }


def _test(config: EvalConfig, rows: list, device: torch.device, stop: Any, reporter: Reporter) -> tuple[dict[str, Any], list]:
    classifier, saved = load_classifier(config.model, device)
    labels = saved["labels"]
    labelled(rows, "test", labels)
    data, augment = model_data(config.data, saved["preprocessing"])
    size = saved["preprocessing"]["image_size"]
    outputs = classify_views(classifier, rows, labels, data, config.views, augment, size, config.batch_size, stop, reporter)
    if not len(outputs.values):
        raise InputError("none of the videos could be read", "run: vid data check MANIFEST")
    if config.save_scores:
        write_predictions(Path(config.save_scores), outputs, labels)
    return {**summarize(outputs.values, outputs.labels), "n": len(outputs.labels)}, outputs.skipped


def _frozen(config: EvalConfig, rows: list, device: torch.device, stop: Any, reporter: Reporter) -> tuple[dict[str, Any], list]:
    """k nearest neighbours or retrieval: test videos are queries, training videos the gallery."""
    from tasks.core.data.manifest import read_sources

    if not config.data.train:
        raise UsageError(f"protocol {config.protocol} compares with a gallery", "add --gallery PATH (the training videos)")
    gallery_rows = read_sources(config.data.train, "train")
    labels = labelled(gallery_rows, "gallery")
    labelled(rows, "test", labels)
    queries = features(config, rows, labels, device, stop, reporter)
    gallery = features(config, gallery_rows, labels, device, stop, reporter)
    if not len(queries.values) or not len(gallery.values):
        raise InputError("none of the videos could be read", "run: vid data check MANIFEST")
    similarity = centred_cosine(queries.values, gallery.values)
    if config.protocol == "knn":
        scores = knn_scores(similarity, gallery.labels, len(labels), config.k)
        numbers = {**summarize(scores, queries.labels), "k": config.k}
    else:
        numbers = {f"r@{k}": recall_at(similarity, queries.labels, gallery.labels, k) for k in config.recall_at}
    return {**numbers, "n": len(queries.labels), "n_gallery": len(gallery.labels)}, queries.skipped + gallery.skipped


def features(config: EvalConfig, rows: list, labels: list[str], device: torch.device, stop: Any, reporter: Reporter) -> Outputs:
    """Mean-pooled encoder tokens of every video, averaged over views, `(n, dim)`."""
    from tasks.core.clips.augment import EvalTransform

    encoder, saved = load_encoder(config.model, device)
    data, augment = model_data(config.data, saved["preprocessing"])
    transform = EvalTransform(augment, saved["preprocessing"]["image_size"], config.views.crops)

    def forward(clip: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return encoder(clip).float().mean(1)

    batches = view_batches(rows, data, labels, config.batch_size, config.views.clips)
    return collect(forward, batches, transform, config.views.crops, device, stop, reporter, len(rows)).gathered()


def centred_cosine(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Cosine similarity `(queries, gallery)` after subtracting the gallery's mean, which masked autoencoders' features share too much
    of.
    """
    mean = gallery.mean(0)
    a, b = queries - mean, gallery - mean
    a /= np.linalg.norm(a, axis=1, keepdims=True) + 1e-12
    b /= np.linalg.norm(b, axis=1, keepdims=True) + 1e-12
    return a @ b.T
