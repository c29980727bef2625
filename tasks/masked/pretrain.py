"""`vid pretrain` of a masked autoencoder."""

from typing import Any

import torch

from tasks.core.checkpoint import encoder_weights, find_model, load_config, load_strict, load_weights, save_model
from tasks.core.engine import setup
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.loop import Trainer
from tasks.core.engine.random import STREAMS, derive_seed
from tasks.core.engine.readable import Batch
from tasks.core.engine.run import Run, last_logged
from tasks.core.errors import UsageError
from tasks.core.nn.config import VitConfig
from tasks.core.nn.encoders import saved_settings
from tasks.core.profile import moved
from tasks.masked.config import PretrainConfig
from tasks.masked.method import MaskedPretraining


def plan(config: PretrainConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    built = setup.plan(lambda: MaskedPretraining(config), config)
    from tasks.core.nn.masked import n_visible

    n = config.model.n_tokens()
    return {**built, "tokens": n, "visible_tokens": n_visible(n, config.mask_ratio), "sampler": config.sampler.name}


def check(config: PretrainConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    if config.data.clip.frames != config.model.frames:
        raise UsageError(
            f"data.clip.frames is {config.data.clip.frames}, model.frames is {config.model.frames}", "set both to the same number"
        )
    if config.augment.mixup or config.augment.cutmix:
        raise UsageError("augment.mixup and augment.cutmix mix labels; masked pretraining has none", "set them to 0")
    setup.training_rows(config.data)
    if config.init:
        setup.check_flow_input(config.init, config.augment.flow)
        found = saved_settings(load_config(find_model(config.init)), config.init)
        if not isinstance(found, VitConfig):
            raise UsageError(f"the encoder in {config.init} is of the family '{found.family}'; masked pretraining needs a transformer, vit")
        if found.model_copy(update={"start": config.model.start}) != config.model:
            raise UsageError(
                f"the encoder in {config.init} has another architecture than this run", "take over its model settings with --config"
            )


def past_warmup(config: PretrainConfig) -> PretrainConfig:
    """A configuration whose first step is like most steps of the run: a learned sampler is past its warm-up."""
    sampler = config.sampler
    return config.model_copy(update={"sampler": sampler.model_copy(update={"warmup_epochs": 0})}) if sampler.name == "tats" else config


def build(config: PretrainConfig) -> MaskedPretraining:
    """The method with seeded weights, or the encoder of `config.init`."""
    torch.manual_seed(derive_seed(config.train.seed, STREAMS["init"]))
    method = MaskedPretraining(config)
    if config.init:
        folder = find_model(config.init)
        load_strict(method.autoencoder.encoder, encoder_weights(load_weights(folder)), str(folder))
    return method


def run(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Trains, writes `model/` and the pictures; returns the result."""
    from tasks.core.clips.augment import TrainTransform

    check(config)
    rows = setup.training_rows(config.data)
    method = build(config)
    accelerator = make_accelerator(config.train, run, uneven=method.sampler.optimizer_groups() is not None)
    parameters = sum(p.numel() for p in method.parameters())
    run.record_data(rows)
    run.record(device=str(accelerator.device), parameters=parameters, seed=config.train.seed)
    run.reporter.info(
        f"{config.sampler.name}: {parameters / 1e6:.1f} M, {len(rows)} videos, {accelerator.device}, {accelerator.mixed_precision}"
    )
    transform = TrainTransform(config.augment, config.model.image_size)

    def prepare(batch: Batch, device: torch.device) -> Batch:
        return {"video": transform(moved(batch, device))}

    loader, per_epoch = setup.build_train_loader(rows, config, None)
    trainer = Trainer(method, run, accelerator, config.train, config.optim, loader, prepare, per_epoch, config.data.repeats)
    trainer.fit()
    if accelerator.is_main_process:
        publish(run, config, trainer.evaluated_model, rows)
        result = final_numbers(run, config)
        if config.visualize:
            from tasks.masked.visualize import visualize

            result["picture"] = str(visualize(trainer.evaluated_model, config, rows, run))
        run.finish(result)
    accelerator.wait_for_everyone()
    return run.result


def final_numbers(run: Run, config: PretrainConfig) -> dict[str, Any]:
    """Steps and the last logged reconstruction error."""
    last = last_logged(run.metrics_file)
    return {
        "run": str(run.folder),
        "model": str(run.folder / "model"),
        "sampler": config.sampler.name,
        "steps": last["step"],
        "reconstruction": last["reconstruction"],
        "n_skipped": len(run.skipped),
    }


def publish(run: Run, config: PretrainConfig, method: MaskedPretraining, rows: list) -> None:
    """Writes the model folder: the whole autoencoder and sampler; other tasks take its `encoder.` part."""
    weights = {name.removeprefix("autoencoder."): tensor for name, tensor in method.state_dict().items()}
    saved = {
        "library": "vid",
        "task": "masked",
        "method": config.sampler.name,
        "architecture": config.model.model_dump(),
        "decoder": config.decoder.model_dump(),
        "sampler": config.sampler.model_dump(mode="json"),
        "mask_ratio": config.mask_ratio,
        "target": config.target.model_dump(),
        "preprocessing": setup.preprocessing(config, rows),
        "provenance": setup.provenance(run, config),
    }
    facts = {
        "method": f"masked video pretraining, {config.sampler.name} sampler, mask ratio {config.mask_ratio}",
        "encoder": f"ViT-{config.model.size}, {config.model.frames} frames of {config.model.image_size} px, patch {config.model.patch}",
        "training videos": f"{len(rows)} (hash {saved['provenance']['data_hash']})",
        "epochs": config.train.epochs,
        "frame stride": f"{saved['preprocessing']['stride_s']} s",
    }
    use = f"vid finetune --preset classify/... --from {setup.relative_name(run.folder)} --data TRAIN --val VAL"
    save_model(
        run.folder / "model", weights, saved, setup.card("Masked video encoder", facts, use, {"tags": ["video", "masked-video-modeling"]})
    )
