"""`vid finetune` for action recognition: end to end, or a probe on a frozen encoder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.classify import mca, turbo
from tasks.classify.config import FinetuneConfig, ViewConfig
from tasks.classify.method import Classification
from tasks.classify.views import Outputs, check_views, classify_views
from tasks.core.checkpoint import check_fits, encoder_weights, find_model, load_config, load_strict, load_weights
from tasks.core.clips.box_source import check_boxes, warn_of_missing
from tasks.core.clips.flow_source import check_flow_folder
from tasks.core.clips.prepare import boxes_input
from tasks.core.config import build as build_config
from tasks.core.data.batch import Batch
from tasks.core.data.labels import labelled
from tasks.core.data.rows import Rows
from tasks.core.engine import setup
from tasks.core.engine.description import preprocessing
from tasks.core.engine.loop import Trainer
from tasks.core.engine.run import Run
from tasks.core.errors import InputError, UsageError
from tasks.core.files import replacing
from tasks.core.metrics.classification import confusion_matrix, summarize
from tasks.core.nn.config import VitConfig
from tasks.core.nn.encoders import (
    FAMILIES,
    build_for,
    check_tokens,
    finetuned_settings,
    saved_settings,
    usable_weights,
    without_projection,
)
from tasks.core.nn.prediction import discrepancy_settings, discrepancy_weights
from tasks.core.report.probabilities import write_probabilities
from tasks.core.towers.start import differences


def architecture(config: FinetuneConfig) -> Any:
    """The encoder's settings: those of the model to start from, else the configured ones; they may not contradict each other."""
    if not config.init:
        if config.model is None:
            raise UsageError("nothing says which network to train", "give --from RUN, or set model in the preset to train from scratch")
        return with_class_token(config.model, config)
    saved = load_config(find_model(config.init))
    found = without_projection(saved_settings(saved, config.init))
    if config.discrepancy:
        found = discrepancy_settings(saved, found, config.init)
    if config.head.mode == "finetune":
        found = finetuned_settings(found)
    found = lengthened(with_class_token(found, config), config)
    if config.model is not None and (wanted := with_class_token(config.model, config)) != found:
        wrong = ", ".join(f"{k} is {a}, there {b}" for k, a, b in differences(wanted, found))
        raise UsageError(
            f"the configured architecture is not that of {config.init}: {wrong}", "leave model out to take over that of --from"
        )
    whole = saved.get("head", {}).get("mode") == "finetune"
    if whole and config.head.mode != "finetune" and "final_norm" in FAMILIES[found.family].options:
        return found.model_copy(update={"final_norm": False})  # there the head had it
    return found


def with_class_token(model: Any, config: FinetuneConfig) -> Any:
    """The encoder's settings with the class token that `head.pool` asks for. UsageError where there can be none."""
    if config.head.pool == "mean" or getattr(model, "class_token", False):
        return model
    check_tokens(model, "head.pool=cls")
    if config.head.mode != "finetune":
        raise UsageError(f"a {config.head.mode} probe cannot read a class token that nothing has trained", "set head.pool to mean")
    return model.model_copy(update={"class_token": True})


def lengthened(model: Any, config: FinetuneConfig) -> Any:
    """The settings for clips of `data.clip.frames` frames, where `longer` allows more of them than the model to start from has."""
    frames = config.data.clip.frames
    if config.longer is None or model.frames is None or frames <= model.frames:
        return model
    known = (model.pos_frames or model.frames) if config.longer == "stretch" else model.pos_frames
    return build_config(VitConfig, {**model.model_dump(), "frames": frames, "pos_frames": known})


def check(config: FinetuneConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    if config.discrepancy and not config.init:
        raise UsageError("discrepancy looks at the predictions of a pretrained model", "add --from RUN, or set model.family=discrepancy")
    model = architecture(config)
    if model.frames not in (None, config.data.clip.frames):
        longer = ", or --set longer=stretch" if config.init and config.data.clip.frames > model.frames else ""
        raise UsageError(
            f"data.clip.frames is {config.data.clip.frames}, the encoder takes {model.frames}",
            f"--set data.clip.frames={model.frames}{longer}",
        )
    turbo.check(config, model)
    mca.check(config, model)
    if hasattr(model, "check_clip"):
        model.check_clip(config.data.clip.frames)
    if config.init:
        setup.check_flow_input(config)
    if config.head.mode != "finetune" and not config.init:
        raise UsageError(f"a {config.head.mode} probe needs a pretrained encoder", "add --from RUN")
    check_views(config.views, config.data.clip, "motion" if config.augment.crop == "motion" else "center")
    rows = read_sets(config)[0]
    check_flow_folder(config.data, rows)
    check_boxes(config.data, rows)


def read_sets(config: FinetuneConfig) -> tuple[Rows, Rows, list[str]]:
    """(training rows, validation rows, label names); every row has a label, and validation has none that training lacks."""
    from tasks.core.data.manifest import read_sources

    rows = setup.training_rows(config.data)
    labels = labelled(rows, "training")
    val = read_sources(config.data.val, "val")
    labelled(val, "validation", labels)
    return rows, val, labels


def plan(config: FinetuneConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    model, (_, _, labels) = architecture(config), read_sets(config)
    built = setup.plan(lambda: turbo.build_method(config, model, len(labels)), config, setup.training_rows(config.data))
    return {
        **built,
        "classes": len(labels),
        "mode": config.head.mode,
        "start": config.init or "scratch",
        "views": config.views.shown(),
        **turbo.planned(config, model),
    }


def build(config: FinetuneConfig, model: Any, n_classes: int) -> Classification:
    """The method with seeded weights and the pretrained encoder in place."""
    weights = {}
    if config.init:
        folder = find_model(config.init)
        loaded = load_weights(folder)
        weights, there = encoder_weights(loaded), saved_settings(load_config(folder), config.init)
        if config.discrepancy and model.family != there.family:
            weights, there = discrepancy_weights(loaded), model
        check_fits(lambda: build_for(there, weights), weights, str(folder))
    setup.seed_weights(config)
    method = turbo.build_method(config, model, n_classes)
    if config.init:
        encoder = method.classifier.encoder
        load_strict(encoder, usable_weights(encoder, weights), str(folder))
    return method


def run(config: FinetuneConfig, run: Run) -> dict[str, Any]:
    """Trains, tests on `data.val` where given, writes `model/`; returns the result."""
    check(config)
    model, (rows, val, labels) = architecture(config), read_sets(config)

    def evaluate(trainer: Trainer, stop: Callable[[], None]) -> dict[str, float]:
        return validate(trainer, run, config, model.image_size, val, labels, stop)

    setup.warn_untested(run, config.data)
    if run.main:
        warn_of_missing(config.data, rows, run.reporter, "their tokens are averaged")
    start = f"{config.head.mode} from {config.init or 'scratch'}, {len(labels)} classes"
    feed = labelled_feed(rows, config, model.image_size, labels)
    trainer = setup.train(run, config, build(config, model, len(labels)), feed, start, rows, evaluate if val else None)

    def result() -> dict[str, Any]:
        publish(run, config, model, trainer.evaluated_model, rows, labels, trainer.last_evaluation)
        told = {"run": str(run.folder), "model": str(run.folder / "model"), **trainer.last_evaluation}
        return {**told, "views": config.views.shown(), "protocol": protocol(config)} if val else told

    return setup.conclude(run, trainer, result)


def protocol(config: FinetuneConfig) -> str:
    """What the numbers of a test mean: everything was trained, or the named probe."""
    return "finetuned" if config.head.mode == "finetune" else config.head.mode


def labelled_feed(rows: Rows, config: FinetuneConfig, image_size: int, labels: list[str]) -> setup.Feed:
    """Augmented clips with soft targets."""
    from tasks.core.clips.augment import Mixer

    transform = setup.augmented(config, image_size)
    mixer = Mixer(config.augment, len(labels), config.head.smoothing, config.data.repeats)

    def prepare(batch: Batch, device: torch.device) -> Batch:
        streams = transform(batch, device)
        video, target = mixer(streams["video"], batch["label"].to(device, non_blocking=True), batch["seed"])
        return {**streams, "video": video, "target": target}

    return setup.clip_feed(rows, config, prepare, labels)


def validate(
    trainer: Trainer, run: Run, config: FinetuneConfig, image_size: int, val: Rows, labels: list[str], stop: Callable[[], None]
) -> dict[str, float]:
    """Metrics on the validation set, by one view until the last evaluation, which writes `predictions.csv` and `confusion.csv` too."""
    last = trainer.step >= trainer.total
    views, classifier = config.views if last else ViewConfig(clips=1, crops=1), trainer.evaluated_model.classifier
    data, augment, size = config.data, config.augment, config.train.batch_size
    outputs = classify_views(classifier, val, labels, data, views, augment, image_size, size, stop, run.reporter)
    if run.main:
        run.skip(outputs.skipped, config.train.strict)
    if not len(outputs.values):
        raise InputError("none of the validation videos could be read", "run: vid data check MANIFEST")
    if last and run.main:
        write_probabilities(run.folder / "predictions.csv", outputs.paths, outputs.labels, outputs.values, labels)
        write_confusion(run.folder / "confusion.csv", outputs, labels)
    return {**summarize(outputs.values, outputs.labels), "n": len(outputs.labels), "n_skipped": len(outputs.skipped)}


def write_confusion(path: Path, outputs: Outputs, labels: list[str]) -> None:
    """CSV of counts, rows the truth, columns the prediction."""
    import csv

    matrix = confusion_matrix(outputs.values.argmax(1), outputs.labels, len(labels))
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", *labels])
        writer.writerows([name, *counts] for name, counts in zip(labels, np.asarray(matrix).tolist(), strict=True))


def publish(run: Run, config: FinetuneConfig, model: Any, method: Classification, rows: list, labels: list[str], metrics: dict) -> None:
    """Writes the model folder of a classifier."""
    saved = {
        "task": "classify",
        "method": config.head.mode,
        "architecture": model.model_dump(),
        "head": config.head.model_dump(),
        "labels": labels,
        "preprocessing": {**preprocessing(config.model_copy(update={"model": model}), rows), **boxes_input(config.data.boxes)},
        "metrics": {**metrics, "views": config.views.shown()} if metrics else {},
    }
    facts = {"task": f"action recognition, {len(labels)} classes", "trained": config.head.mode}
    if config.turbo is not None:
        saved["turbo"] = config.turbo.model_dump()
        facts["token dropout"] = f"{config.turbo.mask:g} of the tokens, {config.turbo.reconstruct_used():g} reconstructed"
    if config.head.mca is not None:
        facts["head"] = "looks at boxes around what moves, which are computed from the frames of each clip (preprocessing.boxes)"
    use = "vid classify VIDEO --model {run}\nvid eval classify --model {run} --data VAL --json"
    tags = ["video", "video-classification"]
    card = setup.Card("Video classifier", facts, use, tags, "video-classification", saved["metrics"])
    setup.publish(run, config, method.classifier.state_dict(), saved, card, rows)
