"""One stage of contrastive pretraining: what it needs, its method and data, its model folder."""

from pathlib import Path

import torch

from tasks.contrastive.config import CoCLRConfig, MiningConfig, PretrainConfig
from tasks.contrastive.data import PairPicker, PairViews, source_numbers
from tasks.contrastive.method import METHODS, InfoNCE
from tasks.core.checkpoint import encoder_weights, find_model, load_config, load_strict, load_weights
from tasks.core.clips.flow_source import check_flow_folder
from tasks.core.clips.prepare import flow_input
from tasks.core.data.rows import Rows
from tasks.core.engine import setup
from tasks.core.engine.description import preprocessing
from tasks.core.engine.run import Run
from tasks.core.errors import InputError, UsageError
from tasks.core.nn.encoders import saved_settings
from tasks.core.towers.start import differences
from tasks.core.world import world


def check(config: PretrainConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    rows = setup.training_rows(config.data)
    method = config.method
    clips = config.train.batch_size * config.data.repeats * world().size
    if method.queue % clips:
        near = max(1, round(method.queue / clips)) * clips
        raise UsageError(f"method.queue ({method.queue}) is not a multiple of the {clips} clips of a batch", f"--set method.queue={near}")
    if config.data.clip.sampling != "dense":
        raise UsageError("data.clip.sampling must be dense: query and key are windows of a video")
    if method.name == "ubernce":
        labels(rows)
    if isinstance(method, MiningConfig):
        if config.data.flow is None:
            raise UsageError(f"{method.name} needs flow beside the frames", "--set data.flow.folder=FOLDER (of vid data flow)")
        if method.topk >= method.queue:
            raise UsageError(f"method.topk ({method.topk}) must be below method.queue ({method.queue})")
    if config.init:
        check_encoder(config.init, config, config.view, "train", head=False)
    check_flow_folder(config.data, rows)
    if isinstance(method, CoCLRConfig):
        if method.miner is None:
            raise UsageError("coclr needs a frozen encoder of the other view", "--set method.miner=RUN (of contrastive/infonce-...)")
        check_encoder(method.miner, config, other_view(method), "mine", head=True)


def other_view(method: CoCLRConfig) -> str:
    """The view that the miner sees."""
    return "flow" if method.view == "rgb" else "rgb"


def check_encoder(reference: str, config: PretrainConfig, view: str, use: str, head: bool) -> None:
    """UsageError unless a model has the architecture of this run and was trained on a view, with flow as it is here.

    Args:
        reference: model folder, run folder or hf:// id.
        view: `rgb` or `flow`.
        use: what for, named in errors.
        head: whether it needs the projection head.
    """
    saved = load_config(find_model(reference))
    found = saved_settings(saved, reference)
    if found.family != config.model.family:
        raise UsageError(f"the encoder in {reference}, to {use} with, is of the family '{found.family}'; this run needs an S3D")
    if wrong := differences(config.model, found, () if head else ("projection",)):
        told = "; ".join(f"{key} is {own}, there {other}" for key, own, other in wrong)
        hint = "take it over: " + " ".join(f"--set {key}={other}" for key, _, other in wrong)
        raise UsageError(f"the encoder in {reference}, to {use} with, has another architecture than this run: {told}", hint)
    there = saved.get("preprocessing", {}).get("flow_input")
    seen = "flow" if there else "rgb"
    if seen != view:
        raise UsageError(f"{reference} was trained on {seen}; to {use} here it must have been trained on {view}")
    if view == "flow" and there["compute"] != flow_input(config.data.flow)["compute"]:
        raise UsageError(
            f"{reference} was trained on flow that was computed otherwise than data.flow says", f"it has {dict(there['compute'])}"
        )


def labels(rows: Rows) -> list[str]:
    """Label names; InputError where a row has none."""
    numbers, names = rows.codes("label")
    if (numbers < 0).any():
        raise InputError(f"{(numbers < 0).sum()} of {len(rows)} videos have no label, which ubernce needs", "add a label column")
    return names


def build(config: PretrainConfig, *stream: int) -> InfoNCE:
    """The method with seeded weights, or with the encoder of `config.init`; with the miner's weights in place.

    Args:
        config: of the run, or of a stage.
        stream: tells apart networks that are made one after the other.
    """
    setup.seed_weights(config, *stream)
    method = METHODS[config.method.name](config)
    if config.init:
        method.start_from(encoder_weights(load_weights(find_model(config.init))), config.init)
    if isinstance(config.method, CoCLRConfig):
        weights = encoder_weights(load_weights(find_model(config.method.miner)))
        load_strict(method.miner.encoder, weights, config.method.miner)
    return method


def feed(config: PretrainConfig, rows: Rows) -> setup.Feed:
    """Pairs of clips of all rows; labels where there are any."""
    names = rows.codes("label")[1]
    views = PairViews(config, source_numbers(rows, getattr(config.method, "siblings", False)), bool(names))
    return setup.clip_feed(rows, config, views, names or None, PairPicker.from_config(config))


def publish(run: Run, config: PretrainConfig, method: InfoNCE, rows: Rows, folder: Path | None = None) -> None:
    """Writes the model folder: the query encoder with its projection head. Key encoder, miner and queues stay in the checkpoints."""
    weights: dict[str, torch.Tensor] = {f"encoder.{name}": tensor for name, tensor in method.encoder.state_dict().items()}
    model = config.model
    saved = {
        "task": "contrastive",
        "method": config.method.name,
        "view": config.view,
        "architecture": model.model_dump(),
        "contrast": config.method.model_dump(mode="json"),
        "preprocessing": preprocessing(one_view(config), rows),
    }
    facts = {
        "method": f"{config.method.name}, queue of {config.method.queue} keys",
        "view": {"rgb": "RGB", "flow": "optical flow"}[config.view],
        "encoder": f"S3D, width {model.width:g}, clips of {config.data.clip.frames} frames of {model.image_size} px",
    }
    use = "vid finetune --preset classify/... --from {run} --data TRAIN --val VAL"
    card = setup.Card("Contrastive video encoder", facts, use, ["video", "contrastive-learning"])
    setup.publish(run, config, weights, saved, card, rows, folder)


def one_view(config: PretrainConfig) -> PretrainConfig:
    """The configuration with the data that the published encoder takes: one of the two streams of CoCLR."""
    flow = config.data.flow if config.view == "flow" else None
    data = config.data.model_copy(update={"flow": flow and flow.model_copy(update={"frames": False})})
    return config.model_copy(update={"data": data})
