"""`vid pretrain` of cVCLR."""

from typing import Any

import torch

from tasks.boundaries.config import PretrainConfig
from tasks.boundaries.data import PretrainViews, TuplePicker
from tasks.boundaries.method import TASKS, ClipContrast
from tasks.boundaries.weights import check_encoder, load_encoder
from tasks.core.checkpoint import load_strict, save_model
from tasks.core.engine import setup
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.loop import Trainer
from tasks.core.engine.random import STREAMS, derive_seed
from tasks.core.engine.run import Run, last_logged
from tasks.core.errors import UsageError


def plan(config: PretrainConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    frames = config.data.clip.frames if config.contrast.clip_tasks else 1
    return {**setup.plan(lambda: ClipContrast(config), config), "frames_per_clip": frames, "queue": config.contrast.queue}


def check(config: PretrainConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    if config.augment.mixup or config.augment.cutmix:
        raise UsageError("augment.mixup and augment.cutmix mix labels; cVCLR has none", "set them to 0")
    if config.augment.time_reverse:
        raise UsageError("augment.time_reverse would play some clips of a tuple backwards", "set it to 0")
    if config.data.clip.sampling != "dense":
        raise UsageError("data.clip.sampling must be dense: the clips of cVCLR are windows, one per segment")
    if config.contrast.clip_tasks and config.data.clip.frames < 2:
        raise UsageError("a clip needs at least 2 frames", "set data.clip.frames, or contrast.clip_tasks=false for single frames")
    if not config.contrast.clip_tasks and (config.model.motion is not None or config.model.shift):
        raise UsageError("without clip tasks nothing trains TSM and MotionSqueeze", "add --set model.motion=null --set model.shift=false")
    setup.training_rows(config.data)
    if config.init:
        check_encoder(config.init, config.model)


def build(config: PretrainConfig) -> ClipContrast:
    """The method with seeded weights, or with the encoder of `config.init`; a head there starts all four heads."""
    torch.manual_seed(derive_seed(config.train.seed, STREAMS["init"]))
    method = ClipContrast(config)
    if config.init:
        head = {name.removeprefix("head."): tensor for name, tensor in load_encoder(method.encoder, config.init).items()}
        if head.keys() == next(iter(method.heads.values())).state_dict().keys():  # a detector's head is of another kind
            for own in method.heads.values():
                load_strict(own, head, config.init)
        method.copy_to_keys()
    return method


def run(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Trains, writes `model/` and the pictures; returns the result."""
    check(config)
    rows = setup.training_rows(config.data)
    method = build(config)
    accelerator = make_accelerator(config.train, run)
    parameters = sum(p.numel() for p in method.encoder.parameters())
    run.record_data(rows)
    run.record(device=str(accelerator.device), parameters=parameters, seed=config.train.seed)
    run.reporter.info(
        f"{name(config)}: encoder of {parameters / 1e6:.1f} M, {len(rows)} videos, {accelerator.device}, {accelerator.mixed_precision}"
    )
    loader, per_epoch = setup.build_train_loader(rows, config, None, TuplePicker.from_config(config))
    trainer = Trainer(method, run, accelerator, config.train, config.optim, loader, PretrainViews(config), per_epoch, config.data.repeats)
    trainer.fit()
    if accelerator.is_main_process:
        publish(run, config, trainer.evaluated_model, rows)
        result = final_numbers(run)
        if config.visualize and config.model.motion is not None:
            from tasks.boundaries.visualize import visualize

            result["pictures"] = str(visualize(trainer.evaluated_model.encoder, config, rows, run))
        run.finish(result)
    accelerator.wait_for_everyone()
    return run.result


def name(config: PretrainConfig) -> str:
    """The method's name: `cvclr`, or `vclr` without clip tasks."""
    return "cvclr" if config.contrast.clip_tasks else "vclr"


def final_numbers(run: Run) -> dict[str, Any]:
    """Steps and the last logged losses."""
    last = last_logged(run.metrics_file)
    return {
        "run": str(run.folder),
        "model": str(run.folder / "model"),
        "steps": last["step"],
        **{loss: last[loss] for loss in ("loss", *TASKS)},
        "n_skipped": len(run.skipped),
    }


def publish(run: Run, config: PretrainConfig, method: ClipContrast, rows: list) -> None:
    """Writes the model folder: the query encoder. Heads, key encoder and queues stay in the checkpoints."""
    weights = {f"encoder.{key}": tensor for key, tensor in method.encoder.state_dict().items()}
    saved = {
        "library": "vid",
        "task": "boundaries",
        "method": name(config),
        "architecture": config.model.model_dump(),
        "contrast": config.contrast.model_dump(mode="json"),
        "preprocessing": setup.preprocessing(config, rows),
        "provenance": setup.provenance(run, config),
    }
    model = config.model
    facts = {
        "method": "four contrastive and order tasks on frames and clips" if config.contrast.clip_tasks else "VCLR, on frames",
        "encoder": f"{model.size}, width {model.width}, TSM {'on' if model.shift else 'off'}, "
        f"MotionSqueeze {'off' if model.motion is None else 'after conv3_x'}",
        "training videos": f"{len(rows)} (hash {saved['provenance']['data_hash']})",
        "epochs": config.train.epochs,
        "started from": config.init or "random weights",
        "frame stride": f"{saved['preprocessing']['stride_s']} s",
    }
    use = f"vid finetune --preset boundaries/... --from {setup.relative_name(run.folder)} --data TRAIN --val VAL"
    card = setup.card("Encoder for event boundaries", facts, use, {"tags": ["video", "event-boundary-detection"]})
    save_model(run.folder / "model", weights, saved, card)
