"""`vid pretrain` of a masked autoencoder."""

from typing import Any

from tasks.core.clips.box_source import check_boxes, warn_of_missing
from tasks.core.engine import setup
from tasks.core.engine.run import Run
from tasks.core.errors import UsageError
from tasks.core.towers.start import check_start, start_from
from tasks.masked.config import PretrainConfig
from tasks.masked.method import MaskedPretraining


def plan(config: PretrainConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    built = setup.plan(lambda: MaskedPretraining(config), config, setup.training_rows(config.data))
    return {**built, "tokens": config.model.n_tokens(), "visible_tokens": config.n_visible(), "sampler": config.sampler.name}


def check(config: PretrainConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    if config.data.clip.frames != config.model.frames:
        raise UsageError(
            f"data.clip.frames is {config.data.clip.frames}, model.frames is {config.model.frames}", "set both to the same number"
        )
    setup.check_no_mixing(config, "masked pretraining")
    check_boxes(config.data, setup.training_rows(config.data))
    if config.init:
        setup.check_flow_input(config)
        check_start(config.init, config.model, but=("start",))


def past_warmup(config: PretrainConfig) -> PretrainConfig:
    """A configuration whose first step is like most steps of the run: a learned sampler is past its warm-up."""
    sampler = config.sampler
    return config.model_copy(update={"sampler": sampler.model_copy(update={"warmup_epochs": 0})}) if sampler.name == "tats" else config


def build(config: PretrainConfig) -> MaskedPretraining:
    """The method with seeded weights, or the encoder of `config.init`."""
    setup.seed_weights(config)
    method = MaskedPretraining(config)
    if config.init:
        start_from(method.autoencoder.encoder, config.init)
    return method


def run(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Trains, writes `model/` and the pictures; returns the result."""
    check(config)
    rows = setup.training_rows(config.data)
    if run.main:
        warn_of_missing(config.data, rows, run.reporter, "in them all tubes are equally likely to be hidden")
    feed = setup.clip_feed(rows, config, setup.augmented(config, config.model.image_size))
    trainer = setup.train(run, config, build(config), feed, config.sampler.name, rows)

    def result() -> dict[str, Any]:
        publish(run, config, trainer.evaluated_model, rows)
        found = setup.numbers(run, "reconstruction", sampler=config.sampler.name)
        if config.visualize:
            from tasks.masked.visualize import visualize

            found["picture"] = str(visualize(trainer.evaluated_model, config, rows, run))
        return found

    return setup.conclude(run, trainer, result)


def publish(run: Run, config: PretrainConfig, method: MaskedPretraining, rows: list) -> None:
    """Writes the model folder: the whole autoencoder and sampler; other tasks take its `encoder.` part."""
    model = config.model
    saved = {
        "task": "masked",
        "method": config.sampler.name,
        "architecture": model.model_dump(),
        "decoder": config.decoder.model_dump(),
        "sampler": config.sampler.model_dump(mode="json"),
        "mask_ratio": config.mask_ratio,
        "target": config.target.model_dump(),
        **({"boxes": config.data.boxes.model_dump(mode="json", exclude={"file"})} if config.data.boxes else {}),
    }
    facts = {
        "method": f"masked video pretraining, {config.sampler.name} sampler, mask ratio {config.mask_ratio}",
        "encoder": f"ViT-{model.size}, {model.frames} frames of {model.image_size} px, patch {model.patch}",
        "visible tokens": f"{config.n_visible()} of {model.n_tokens()}",
    }
    use = "vid finetune --preset classify/... --from {run} --data TRAIN --val VAL"
    weights = {name.removeprefix("autoencoder."): tensor for name, tensor in method.state_dict().items()}
    setup.publish(run, config, weights, saved, setup.Card("Masked video encoder", facts, use, ["video", "masked-video-modeling"]), rows)
