"""`vid pretrain` of an inpainting model on normal video."""

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.core.checkpoint import load_strict
from tasks.core.data.batch import Batch, size_of
from tasks.core.engine import setup
from tasks.core.engine.random import derive_seed
from tasks.core.engine.run import Run
from tasks.core.files import replacing, replacing_folder, write_json
from tasks.core.profile import moved
from tasks.pseudo.config import PretrainConfig
from tasks.pseudo.latent import INDEX, LatentInpainter, load_parts
from tasks.pseudo.method import LatentInpainting, training_holes
from tasks.pseudo.model import fold
from tasks.pseudo.pipeline import latent_folder

PICTURE = "pictures/fills.png"


def plan(config: PretrainConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    method: list[LatentInpainting] = []

    def built() -> LatentInpainting:
        method.append(LatentInpainting(config))
        return method[0]

    rows = setup.plan(built, config, setup.training_rows(config.data))
    first = method[0].autoencoder_steps(rows["steps"])
    parts = {f"{name}_parameters": sum(p.numel() for p in getattr(method[0], name).parameters()) for name in ("autoencoder", "unet")}
    return {**rows, **parts, "autoencoder_steps": first, "unet_steps": rows["steps"] - first}


def check(config: PretrainConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    setup.check_no_mixing(config, "inpainting")
    setup.training_rows(config.data)
    if config.init:
        latent_folder(config.init)


def build(config: PretrainConfig) -> LatentInpainting:
    """The method with seeded weights, or those of `config.init`."""
    setup.seed_weights(config)
    method = LatentInpainting(config)
    if config.init:
        folder = latent_folder(config.init)
        autoencoder, unet, _ = load_parts(folder)
        load_strict(method.autoencoder, autoencoder.state_dict(), str(folder / "vqvae"))
        load_strict(method.unet, unet.state_dict(), str(folder / "unet"))
    return method


def run(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Trains, writes `model/` and a picture of fills; returns the result."""
    from tasks.core.clips.augment import TrainTransform

    check(config)
    rows = setup.training_rows(config.data)
    transform = TrainTransform(config.augment, config.model.image_size)

    def prepare(batch: Batch, device: torch.device) -> Batch:
        holes = training_holes(batch["seed"].tolist(), config.model.image_size, mask_scale_px(config))
        return {"video": transform(moved(batch, device)), "holes": holes.to(device)}

    feed = setup.clip_feed(rows, config, prepare)
    trainer = setup.train(run, config, build(config), feed, "latent inpainting", rows)

    def result() -> dict[str, Any]:
        publish(run, config, trainer.evaluated_model, rows)
        found = setup.numbers(run, "reconstruction", "denoising")
        if config.visualize:
            shown = prepare(first(feed.loader(0), config.visualize), torch.device("cpu"))
            found["picture"] = str(draw(run, shown["video"][:, 0], shown["holes"], trainer.accelerator.device))
        return found

    return setup.conclude(run, trainer, result)


def first(batches: Iterable[Batch], count: int) -> Batch:
    """`video`, `size` and `seed` of at most `count` clips of the first batch in which there are any; a batch too."""
    batch = next(batch for batch in batches if size_of(batch))
    return {"main": "video", **{key: batch[key][:count] for key in ("video", "size", "seed")}}


def mask_scale_px(config: PretrainConfig) -> int:
    """Short side of a whole frame at the scale of the training squares: to it the sizes of random masks belong."""
    whole = config.augment.crop == "none" or config.data.short_side is None
    return config.model.image_size if whole else config.data.short_side


def preprocessing(config: PretrainConfig) -> dict[str, Any]:
    """How frames are brought to the trained model: whole frames as squares, or at the scale of the crops it was trained on."""
    if config.augment.crop == "none":
        return {"size": config.model.image_size, "short_side": None}
    return {"size": None, "short_side": config.data.short_side}


def publish(run: Run, config: PretrainConfig, method: LatentInpainting, rows: list) -> None:
    """Writes `model/`: a model folder of this tool that is a diffusers folder too (its weights are therefore in it twice)."""
    saved = {
        "task": "pseudo",
        "method": "ldm-inpaint",
        "architecture": config.model.model_dump(mode="json"),
        "preprocessing": preprocessing(config),
    }
    facts = {
        "method": "latent diffusion inpainting, 7 channels (noised latent 3, masked latent 3, mask 1), DDIM",
        "trained on": f"squares of {config.model.image_size} px",
        "weights": "`model.safetensors` holds those of `vqvae/` and `unet/` once more",
    }
    use = "vid gen-pseudo NORMAL --out pseudo --model {run} --masks random"
    card = setup.Card("Inpainting of normal video", facts, use, ["inpainting", "anomaly-detection", "latent-diffusion"])
    autoencoder, unet, scheduler = folded(config, method)
    weights = {f"{name}.{key}": value for name, net in (("vqvae", autoencoder), ("unet", unet)) for key, value in net.state_dict().items()}
    with replacing_folder(run.folder / "model") as folder:
        setup.publish(run, config, weights, saved, card, rows, folder)
        save_parts(folder, autoencoder, unet, scheduler)


def folded(config: PretrainConfig, method: LatentInpainting) -> tuple[Any, Any, Any]:
    """The trained parts on the CPU, fp32, with the latents' mean and standard deviation inside the autoencoder."""
    from tasks.pseudo.model import build as build_parts

    autoencoder, unet, scheduler = build_parts(config.model)
    autoencoder.load_state_dict(method.autoencoder.state_dict())
    unet.load_state_dict(method.unet.state_dict())
    fold(autoencoder, method.mean.cpu(), method.std.cpu())
    return autoencoder, unet, scheduler


def save_parts(folder: Path, autoencoder: Any, unet: Any, scheduler: Any) -> None:
    """Writes the diffusers part of a model folder: `vqvae/ unet/ scheduler/ model_index.json`."""
    parts = {"vqvae": autoencoder, "unet": unet, "scheduler": scheduler}
    for name, part in parts.items():
        part.save_pretrained(folder / name, **({} if name == "scheduler" else {"safe_serialization": True}))
    index = {name: ["diffusers", type(part).__name__] for name, part in parts.items()}
    write_json(folder / INDEX, {"_class_name": "LatentInpaintingPipeline", "_diffusers_version": version("diffusers"), **index})


def draw(run: Run, pictures: Tensor, holes: Tensor, device: torch.device) -> Path:
    """Fills of `(B, 3, S, S)` training pictures by the published model, as a PNG: pictures, holes in grey, fills."""
    from tasks.core.report.strips import tile
    from tasks.pseudo.inpaint import inpaint

    frames = pictures.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    masks = holes[:, 0].bool().numpy()
    filler = LatentInpainter(*load_parts(run.folder / "model"), device, size=frames.shape[1])
    filled = inpaint(filler, frames, masks, [derive_seed(run.config.train.seed, i) for i in range(len(frames))])
    grey = np.where(masks[..., None], np.uint8(128), frames)
    path = run.folder / PICTURE
    with replacing(path) as temporary:
        temporary.write_bytes(tile([("pictures", frames), ("holes", grey), ("fills", filled)]))
    run.reporter.info(f"wrote {path}")
    return path
