"""`vid pretrain` of DPC and MemDPC."""

from typing import Any

import torch

from tasks.core.checkpoint import encoder_weights, find_model, load_config, load_strict, load_weights
from tasks.core.clips.flow_source import check_flow_folder
from tasks.core.data.batch import Batch
from tasks.core.engine import setup
from tasks.core.engine.run import Run
from tasks.core.errors import UsageError
from tasks.core.nn.config import R2D3DConfig
from tasks.core.nn.encoders import saved_settings
from tasks.core.profile import moved
from tasks.predictive.config import PretrainConfig
from tasks.predictive.data import picker
from tasks.predictive.method import Prediction

FREE = ("predict", "dropout", "image_size", "statistics")
"""Settings of the encoder that no weight depends on: a curriculum may change them."""


def plan(config: PretrainConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    planned = setup.plan(lambda: Prediction(config), config, setup.training_rows(config.data))
    return {**planned, "blocks": config.n_blocks(), "predicted": config.model.predict, "candidates_per_process": candidates(config)}


def candidates(config: PretrainConfig) -> int:
    """B s^2 q: vectors of one process among which each prediction has to find its own."""
    side = -(-config.model.image_size // 32)
    return config.train.batch_size * config.data.repeats * side * side * config.model.predict


def check(config: PretrainConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    setup.check_no_mixing(config, config.method.name)
    check_flow_folder(config.data, setup.training_rows(config.data))
    if config.init:
        check_start(config)


def check_start(config: PretrainConfig) -> None:
    """UsageError unless the encoder of `config.init` is one that this run can go on with."""
    setup.check_flow_input(config)
    saved = load_config(find_model(config.init))
    found = saved_settings(saved, config.init)
    if not isinstance(found, R2D3DConfig):
        raise UsageError(f"the encoder in {config.init} is of the family '{found.family}'; {config.method.name} needs r2d3d")
    there, here = (settings.model_dump(exclude=set(FREE)) for settings in (found, config.model))
    wrong = ", ".join(f"model.{key} is {here[key]}, there {there[key]}" for key in here if here[key] != there[key])
    if wrong:
        raise UsageError(f"the encoder in {config.init} has another architecture: {wrong}", "take over its model settings with --set")
    saw_flow = bool(saved["preprocessing"].get("flow_input"))
    if saw_flow != (config.data.flow is not None):
        seen, shown = ("optical flow", "colours") if saw_flow else ("colours", "optical flow")
        raise UsageError(f"{config.init} was trained on {seen}, this run would show it {shown}", "set data.flow as it was there")


def build(config: PretrainConfig) -> Prediction:
    """The method with seeded weights, or with those of `config.init`; a model of the same method gives predictor and memory too."""
    setup.seed_weights(config)
    method = Prediction(config)
    if not config.init:
        return method
    folder = find_model(config.init)
    saved, weights = load_config(folder), load_weights(folder)
    if saved["task"] == "predictive" and saved.get("method") == config.method.name and "predictor.0.weight" in weights:
        load_strict(method.coder, weights, str(folder))
    else:
        load_strict(method.coder.encoder, encoder_weights(weights), str(folder))
    return method


def run(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Trains, writes `model/` and the picture; returns the result."""
    from tasks.core.clips.augment import TrainTransform

    check(config)
    rows = setup.training_rows(config.data)
    transform = TrainTransform(config.augment, config.model.image_size)

    def prepare(batch: Batch, device: torch.device) -> Batch:
        return {"video": transform(moved(batch, device))}

    feed = setup.clip_feed(rows, config, prepare, picker=picker(config))
    what = f"{config.method.name}, {config.n_blocks() - config.model.predict}pred{config.model.predict}"
    trainer = setup.train(run, config, build(config), feed, what, rows)

    def result() -> dict[str, Any]:
        publish(run, config, trainer.evaluated_model, rows)
        found = setup.numbers(run, "loss", "top1", "address_entropy", "memory_entropy", method=config.method.name)
        if config.visualize:
            from tasks.predictive.visualize import visualize

            found["pictures"] = str(visualize(trainer.evaluated_model.coder, config, rows, run))
        return found

    return setup.conclude(run, trainer, result)


def publish(run: Run, config: PretrainConfig, method: Prediction, rows: list) -> None:
    """Writes the model folder: encoder, predictor and memory; other tasks take its `encoder.` part."""
    model, settings = config.model, config.method
    saved = {
        "task": "predictive",
        "method": settings.name,
        "architecture": model.model_dump(),
        "prediction": settings.model_dump(mode="json"),
    }
    memory = f", memory of {settings.slots} slots" if settings.name == "memdpc" else ""
    facts = {
        "method": f"{settings.name}{memory}, {config.n_blocks() - model.predict} blocks observed, {model.predict} predicted",
        "encoder": f"2D3D-{model.size}, width {model.width}, ConvGRU{' in two directions' if model.bidirectional else ''}",
        "input": f"{config.n_blocks()} blocks of {model.block_frames} frames of {model.image_size} px"
        f"{', optical flow' if config.data.flow else ''}",
    }
    use = "vid finetune --preset classify/... --from {run} --data TRAIN --val VAL"
    card = setup.Card("Predictive video encoder", facts, use, ["video", "self-supervised-learning"])
    setup.publish(run, config, method.coder.state_dict(), saved, card, rows)
