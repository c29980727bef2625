"""`vid finetune` of a localiser: learns events from features of videos."""

from collections.abc import Callable
from typing import Any

import torch

from tasks.core.checkpoint import find_model, load_config, load_strict, load_weights
from tasks.core.data.feature_loader import make_train_loader
from tasks.core.data.feature_moments import channel_moments
from tasks.core.data.feature_record import check_encoder, record_of
from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Row, Rows
from tasks.core.data.streams import open_streams
from tasks.core.engine import setup
from tasks.core.engine.loop import Trainer
from tasks.core.engine.run import Run, hash_rows
from tasks.core.errors import UsageError
from tasks.core.world import world
from tasks.localization.config import FinetuneConfig
from tasks.localization.data import EventCropper, EventSets, TrainPieces, check_streams, read_sets
from tasks.localization.method import EventTraining
from tasks.localization.prepare import makers, prepare
from tasks.localization.variation import Variation, layout_of
from tasks.localization.variation_config import VariationConfig

Folders = dict[str, FeatureFolder]
HEAD_ENDS = ("class_head.last.", "boundary_head.last.", "token_scores.classes.", "dependency.")
"""Begins what belongs to the classes of a model."""


def check(config: FinetuneConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    read_sets(config)
    folders = {} if config.towers else open_streams(config.data)
    if config.towers:
        makers(config)
    else:
        check_streams(config, folders)
    if config.resize and config.data.max_length:
        raise UsageError("resize stretches whole videos; data.max_length cuts them", "set data.max_length and data.pad: null and longest")
    if config.init:
        _check_start(config, folders)


def plan(config: FinetuneConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    sets = read_sets(config)
    dims = (
        {name: maker.dim for name, maker in makers(config).items()} if config.towers else check_streams(config, open_streams(config.data))
    )
    videos = _videos(sets.train)
    planned = setup.plan(lambda: EventTraining(config, dims, len(sets.labels)), config, videos)
    planned.pop("clips_per_step")
    facts = {
        "events": len(sets.train),
        "classes": len(sets.labels),
        "val_videos": len(_videos(sets.val)),
        "start": config.init or "scratch",
    }
    return {**planned, **facts, "data_hash": hash_rows(sets.train)}


def build(config: FinetuneConfig, dims: dict[str, int], labels: list[str]) -> EventTraining:
    """The method with seeded weights, and those of `config.init` in place: all of them where the classes are the same, else all but what
    belongs to the classes.
    """
    setup.seed_weights(config)
    method = EventTraining(config, dims, len(labels))
    if config.init:
        folder = find_model(config.init)
        weights, own = load_weights(folder), method.localizer.state_dict()
        if load_config(folder).get("labels") != labels:
            weights = {name: own[name] if name.startswith(HEAD_ENDS) else tensor for name, tensor in weights.items()}
        load_strict(method.localizer, weights, config.init)
    return method


def learn_scales(method: EventTraining, folders: Folders, rows: Rows) -> None:
    """Gives the model mean and deviation of each channel over the features of the training set."""
    paths = [path for path, _ in rows.grouped()]
    for name, scale in method.localizer.frontend.scales.items():
        moments = channel_moments(folders[name], paths)
        if moments is not None:
            scale.learn(*map(torch.from_numpy, moments))


def _check_start(config: FinetuneConfig, folders: Folders) -> None:
    """UsageError where the model to start from learned from other features."""
    saved = load_config(find_model(config.init))
    if saved["task"] != "localization":
        raise UsageError(f"{config.init} is a model of task '{saved['task']}', not a localiser", "give --from a localiser")
    for name, record in saved.get("streams", {}).items():
        if name in folders and record.get("encoder"):
            check_encoder(record, folders[name])


def run(config: FinetuneConfig, run: Run) -> dict[str, Any]:
    """Trains, validates on `data.val` where given, writes `model/` with the averaged weights; returns the result."""
    check(config)
    sets = read_sets(config)
    setup.warn_untested(run, config.data)
    if config.towers:
        config = prepare(config, run, Rows.joined([sets.train, sets.val]))
        if config.init:
            _check_start(config, open_streams(config.data))
    folders = open_streams(config.data)
    dims = check_streams(config, folders)
    if sets.unknown and run.main:
        run.reporter.warn(f"{len(sets.unknown)} classes of the validation set do not occur in training: {', '.join(sets.unknown[:5])}")
    method = build(config, dims, sets.labels)
    if not config.init:
        learn_scales(method, folders, sets.train)
    trainer = setup.train(
        run,
        config,
        method,
        feature_feed(config, sets, folders),
        f"localising {len(sets.labels)} classes in {' and '.join(folders)}",
        sets.train,
        evaluation(config, sets, folders, run),
        counted="events",
        classes=len(sets.labels),
    )

    def result() -> dict[str, Any]:
        publish(run, config, sets, folders, trainer)
        return setup.numbers(run, "loss", **trainer.last_evaluation)

    return setup.conclude(run, trainer, result)


def evaluation(config: FinetuneConfig, sets: EventSets, folders: Folders, run: Run) -> Callable | None:
    """What the loop validates with; None without a validation set."""
    if not len(sets.val):
        return None
    from tasks.localization.validation import Validation

    validation = Validation(config, sets, folders)
    return lambda trainer, stop: validation(trainer.evaluated_model.localizer, run, trainer.step, stop)


def feature_feed(config: FinetuneConfig, sets: EventSets, folders: Folders) -> setup.Feed:
    """Pieces of the features of whole videos with all of their events."""
    videos = sets.train.grouped()

    def loader(start: int) -> Any:
        crop = EventCropper(config.crop)
        return make_train_loader(
            videos, config.data, folders, sets.labels, config.train.batch_size, *world(), config.train.seed, start, crop=crop
        )

    varied = config.variation != VariationConfig()
    variation = Variation(config.variation, {name: layout_of(folder) for name, folder in folders.items()}) if varied else None
    pieces = TrainPieces(config, next(iter(folders)), variation)
    return setup.Feed(loader, pieces, setup.micro_per_epoch(len(videos), config), config.data.repeats)


def _videos(rows: Any) -> list[Row]:
    """One row for each video."""
    return [Row(path) for path, _ in rows.grouped()] if len(rows) else []


def publish(run: Run, config: FinetuneConfig, sets: EventSets, folders: Folders, trainer: Trainer) -> None:
    """Writes the model folder of a localiser."""
    streams = {name: record_of(folder) for name, folder in folders.items()}
    saved = {
        "task": "localization",
        "method": "events",
        "architecture": config.model.model_dump(),
        "labels": sets.labels,
        "streams": streams,
        "events": config.events.model_dump(),
        "preprocessing": {"grid": next(iter(streams.values()))["grid"], "align": config.data.align, "resize": config.resize},
        "metrics": {**trainer.last_evaluation, "protocol": config.protocol} if trainer.last_evaluation else {},
    }
    model = config.model
    parts = [name for name, there in (("alignment", model.aligned), ("contrast", model.contrasted), ("PAN", model.neck.enabled)) if there]
    facts = {
        "task": f"temporal localisation of {len(sets.labels)} classes",
        "input": f"{model.input}: features of {', '.join(str(each['encoder'].get('reference')) for each in streams.values())}",
        "parts": ", ".join(parts) or "none of alignment, contrast and PAN",
        "training events": len(sets.train),
    }
    numbers = {name: value for name, value in trainer.last_evaluation.items() if name.startswith(("map", "average_map"))}
    card = setup.Card(
        "Event localiser", facts, "vid detect-events VIDEO --model {run}", ["video", "temporal-localization"], numbers=numbers
    )
    weights = {
        name.removeprefix("localizer."): tensor
        for name, tensor in trainer.evaluated_model.state_dict().items()
        if name.startswith("localizer.")
    }
    setup.publish(run, config, weights, saved, card, _videos(sets.train))
