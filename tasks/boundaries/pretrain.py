"""`vid pretrain` of cVCLR."""

from typing import Any

from tasks.boundaries.config import PretrainConfig
from tasks.boundaries.data import PretrainViews, TuplePicker
from tasks.boundaries.method import TASKS, ClipContrast
from tasks.boundaries.weights import check_encoder, load_encoder
from tasks.core.checkpoint import find_model, load_config, load_strict
from tasks.core.engine import setup
from tasks.core.engine.run import Run
from tasks.core.errors import UsageError


def plan(config: PretrainConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    frames = config.data.clip.frames if config.contrast.clip_tasks else 1
    planned = setup.plan(lambda: ClipContrast(config), config, setup.training_rows(config.data))
    return {**planned, "frames_per_clip": frames, "queue": config.contrast.queue}


def check(config: PretrainConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    setup.check_no_mixing(config, "cVCLR")
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
    setup.seed_weights(config)
    method = ClipContrast(config)
    if config.init:
        head = {name.removeprefix("head."): tensor for name, tensor in load_encoder(method.encoder, config.init).items()}
        own_kind = load_config(find_model(config.init))["task"] == "boundaries"
        if own_kind and head.keys() == next(iter(method.heads.values())).state_dict().keys():  # a detector's head is of another kind
            for own in method.heads.values():
                load_strict(own, head, config.init)
        method.copy_to_keys()
    return method


def run(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Trains, writes `model/` and the pictures; returns the result."""
    check(config)
    rows = setup.training_rows(config.data)
    feed = setup.clip_feed(rows, config, PretrainViews(config), picker=TuplePicker.from_config(config))
    trainer = setup.train(run, config, build(config), feed, name(config), rows)

    def result() -> dict[str, Any]:
        publish(run, config, trainer.evaluated_model, rows)
        found = setup.numbers(run, "loss", *TASKS)
        if config.visualize and config.model.motion is not None:
            from tasks.boundaries.visualize import visualize

            found["pictures"] = str(visualize(trainer.evaluated_model.encoder, config, rows, run))
        return found

    return setup.conclude(run, trainer, result)


def name(config: PretrainConfig) -> str:
    """The method's name: `cvclr`, or `vclr` without clip tasks."""
    return "cvclr" if config.contrast.clip_tasks else "vclr"


def publish(run: Run, config: PretrainConfig, method: ClipContrast, rows: list) -> None:
    """Writes the model folder: the query encoder. Heads, key encoder and queues stay in the checkpoints."""
    weights = {f"encoder.{key}": tensor for key, tensor in method.encoder.state_dict().items()}
    model = config.model
    saved = {
        "task": "boundaries",
        "method": name(config),
        "architecture": model.model_dump(),
        "contrast": config.contrast.model_dump(mode="json"),
    }
    facts = {
        "method": "four contrastive and order tasks on frames and clips" if config.contrast.clip_tasks else "VCLR, on frames",
        "encoder": f"{model.size}, width {model.width}, TSM {'on' if model.shift else 'off'}, "
        f"MotionSqueeze {'off' if model.motion is None else 'after conv3_x'}",
    }
    use = "vid finetune --preset boundaries/... --from {run} --data TRAIN --val VAL"
    card = setup.Card("Encoder for event boundaries", facts, use, ["video", "event-boundary-detection"])
    setup.publish(run, config, weights, saved, card, rows)
