"""`vid finetune` for event boundaries: the pretrained encoder learns, end to end, to tell boundaries from background."""

from collections.abc import Callable
from typing import Any

import torch

from tasks.boundaries.config import FinetuneConfig
from tasks.boundaries.supervised import BoundaryTraining
from tasks.boundaries.truth import AnnotatedVideo, present, read_truth
from tasks.boundaries.validation import Validation
from tasks.boundaries.weights import check_encoder, load_encoder, read_weights
from tasks.boundaries.windows import micro_batches, trainable, window_loader
from tasks.core.checkpoint import find_model, load_config
from tasks.core.clips.config import ClipConfig
from tasks.core.data.batch import Batch
from tasks.core.engine import setup
from tasks.core.engine.description import stride_seconds
from tasks.core.engine.loop import Trainer
from tasks.core.engine.run import Run, hash_rows
from tasks.core.errors import InputError, UsageError
from tasks.core.nn.config import ResNetConfig
from tasks.core.nn.encoders import saved_settings
from tasks.core.profile import moved
from tasks.core.world import world

_CLIP = FinetuneConfig.model_fields["data"].default.clip


def architecture(config: FinetuneConfig) -> ResNetConfig:
    """The encoder's architecture: the configured one, else that of the model to start from, which must fit (`weights.check_encoder`)."""
    if not config.init:
        if config.model is None:
            raise UsageError("nothing says which network to train", "give --from RUN, or set model in the preset to train from scratch")
        return config.model
    saved = load_config(find_model(config.init))
    wanted = config.model
    if wanted is None:
        found = saved_settings(saved, config.init)
        wanted = found if isinstance(found, ResNetConfig) else ResNetConfig()
    check_encoder(config.init, wanted)
    return wanted


def check(config: FinetuneConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    if architecture(config).motion is not None and config.window.two_groups and config.window.before < 2:
        raise UsageError("MotionSqueeze needs two frames on each side", "set window.before to 2 or more, or window.two_groups=false")
    if config.data.clip != _CLIP:
        raise UsageError("data.clip says nothing to event boundaries", "set window.before and window.stride_frames or window.stride_s")
    if config.patience and not config.data.val:
        raise UsageError("patience needs videos to validate on", "add --val PATH, or set patience to null")
    read_sets(config)


def read_sets(config: FinetuneConfig) -> tuple[list[AnnotatedVideo], list[AnnotatedVideo], list[tuple[str, str]]]:
    """(training videos, validation videos, (path, reason) of the missing); InputError where a set is empty."""
    if not config.data.train:
        raise UsageError(
            "no training videos given", "add --data TRAIN.json (annotated boundaries) or a manifest with a column 'boundaries'"
        )
    train, missing = present(read_truth(config.data.train, "train"))
    _some(train, "training videos", missing)
    train = trainable(train, config.balanced)
    _some(train, "training videos with a boundary", [])
    if not config.data.val:
        return train, [], missing
    val, also_missing = present(read_truth(config.data.val, "val"))
    _some(val, "validation videos", also_missing)
    return train, val, missing + also_missing


def _some(videos: list[AnnotatedVideo], what: str, missing: list[tuple[str, str]]) -> None:
    if not videos:
        found = f": none of the {len(missing)} files exists, the first is {missing[0][0]}" if missing else ""
        raise InputError(f"no {what}{found}", "paths in a JSON file or manifest are relative to its folder")


def plan(config: FinetuneConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    model, (train, val, missing) = architecture(config), read_sets(config)
    rows = [video.row for video in train]
    planned = setup.plan(
        lambda: BoundaryTraining(config, model), config, rows, micro_batches(len(rows), config, world().size), best=bool(val)
    )
    windows = planned.pop("clips_per_step")
    return {
        **planned,
        "windows_per_step": windows,
        "val_videos": len(val),
        "missing_videos": len(missing),
        "start": config.init or "scratch",
        "writes": "config.yaml run.json metrics.jsonl log.txt predictions/ checkpoints/ model/",
    }


def build(config: FinetuneConfig, model: ResNetConfig) -> BoundaryTraining:
    """The method with seeded weights and the pretrained encoder in place."""
    weights = read_weights(config.init) if config.init else None
    setup.seed_weights(config)
    method = BoundaryTraining(config, model)
    if config.init:
        load_encoder(method.classifier.encoder, config.init, weights)
    return method


def run(config: FinetuneConfig, run: Run) -> dict[str, Any]:
    """Trains, validates on `data.val` where given, writes `model/` with the weights of the best validation; returns the result."""
    check(config)
    model, (train, val, missing) = architecture(config), read_sets(config)
    rows = [video.row for video in train]
    setup.warn_untested(run, config.data)
    if run.main:
        run.skip(missing, config.train.strict)
    validation = Validation(config, val, model.image_size)

    def evaluate(trainer: Trainer, stop: Callable[[], None]) -> dict[str, float]:
        return validation(trainer.evaluated_model.classifier, run, trainer.step, stop)

    trainer = setup.train(
        run,
        config,
        build(config, model),
        window_feed(train, config, model.image_size),
        f"fine-tuning from {config.init or 'scratch'}",
        rows,
        evaluate if val else None,
        best_of="avg_f1" if val else None,
        patience=config.patience,
        val_hash=hash_rows([video.row for video in val]),
    )

    def result() -> dict[str, Any]:
        publish(run, config, model, trainer, rows)
        return summary(run, config, trainer)

    return setup.conclude(run, trainer, result)


def window_feed(train: list[AnnotatedVideo], config: FinetuneConfig, image_size: int) -> setup.Feed:
    """Batches of windows with their targets."""
    from tasks.core.clips.augment import TrainTransform

    transform = TrainTransform(config.augment, image_size)

    def prepare(batch: Batch, device: torch.device) -> Batch:
        video = transform(moved(batch, device))
        return {"video": video, **{k: batch[k].to(device, non_blocking=True) for k in ("target", "boundary")}}

    def loader(start: int) -> Any:
        return window_loader(train, config, start, *world())

    return setup.Feed(loader, prepare, micro_batches(len(train), config, world().size), config.data.repeats)


def summary(run: Run, config: FinetuneConfig, trainer: Trainer) -> dict[str, Any]:
    """What the run reports: the best validation, and which it was."""
    result = {"run": str(run.folder), "model": str(run.folder / "model"), "steps": trainer.step}
    if trainer.best.step is None:
        return {**result, "n_skipped": len(run.skipped)}
    return {
        **result,
        **trainer.best.metrics,
        "best_step": trainer.best.step,
        "predictions": str(run.folder / "predictions" / f"step-{trainer.best.step:08d}.json"),
        "protocol": f"{config.protocol}: F1 at relative distance, rater with the best F1, consistency >= {config.min_consistency:g}",
        "merge": config.merge.model_dump(),
    }


def publish(run: Run, config: FinetuneConfig, model: ResNetConfig, trainer: Trainer, rows: list) -> None:
    """Writes the model folder of a boundary detector."""
    window, best = config.window, trainer.best
    clip = ClipConfig(frames=2 * window.before, stride_frames=window.stride_frames, stride_s=window.stride_s)
    stride_s = stride_seconds(clip, rows, config.data.decoder)
    saved = {
        "task": "boundaries",
        "method": f"gebd-{config.label.kind}",
        "architecture": model.model_dump(),
        "window": window.model_dump(),
        "label": config.label.model_dump(),
        "merge": config.merge.model_dump(),
        "preprocessing": {
            "image_size": model.image_size,
            "frames": clip.frames,
            "stride_frames": window.stride_frames,
            "stride_s": stride_s,
            "crop": "none" if config.augment.crop == "none" else "center",
            "short_side": config.data.short_side,
            "mean": list(config.augment.mean),
            "std": list(config.augment.std),
            "color": "RGB",
        },
        "metrics": {**best.metrics, "step": best.step, "protocol": config.protocol} if best.step is not None else {},
    }
    chosen = f"step {best.step} of {trainer.step}, the best on the validation set" if best.step is not None else f"step {trainer.step}"
    facts = {
        "task": "generic event boundary detection",
        "trained": f"{config.label.kind} labels; weights of {chosen}",
        "encoder": f"{model.size}, width {model.width}, TSM {'on' if model.shift else 'off'}, "
        f"MotionSqueeze {'on' if model.motion else 'off'}, {model.image_size} px",
        "window": f"{window.before} frames before and {window.before} after, {stride_s} s apart in training",
    }
    use = "vid detect-boundaries VIDEO --model {run}"
    tags = ["video", "generic-event-boundary-detection"]
    card = setup.Card("Event boundary detector", facts, use, tags, numbers=best.metrics)
    weights = {name.removeprefix("classifier."): tensor for name, tensor in trainer.best_model.state_dict().items()}
    setup.publish(run, config, weights, saved, card, rows)
