"""Inpainting by any pipeline of diffusers, and the choice between it and the latent model: what `--model` takes."""

import inspect
import json
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.core import hub
from tasks.core.cards import read_card
from tasks.core.checkpoint import bounded_by
from tasks.core.errors import UsageError
from tasks.pseudo.config import GenerateConfig
from tasks.pseudo.inpaint import Filler, fitted
from tasks.pseudo.latent import DEFAULT_SIZE, INDEX, TAKES, LatentInpainter, is_latent_folder, load_parts, read_index

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CONFIG = "config.json"


@dataclass
class Loaded:
    """An inpainting model that is ready.

    Attributes:
        filler: fills holes.
        facts: what it is, for the record: model, kind, licence, and where it comes from if it says so.
    """

    filler: Filler
    facts: dict[str, Any]


class PipelineInpainter:
    """Fills holes with a pipeline of diffusers' `AutoPipelineForInpainting`.

    Its own safety checker, where it has one, stays in force: a picture that it blacks out has a black hole.

    Args:
        size: side of the square the pipeline sees, px; None: its own default.
    """

    def __init__(self, pipeline: Any, device: torch.device, steps: int, size: int | None, prompt: str):
        self.pipeline = pipeline.to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.steps, self.prompt = steps, prompt
        self.size = size or _own_size(pipeline)
        self.takes = set(inspect.signature(pipeline.__call__).parameters)

    @torch.no_grad()
    def fill(self, frames: np.ndarray, masks: np.ndarray, seeds: list[int]) -> np.ndarray:
        """See `inpaint.Filler`. In another batch, arithmetic may differ in the last bits; the noise does not."""
        from PIL import Image

        n, height, width = masks.shape
        square = (self.size, self.size)
        given = {
            "prompt": [self.prompt] * n,
            "image": [Image.fromarray(frame).resize(square, Image.Resampling.LANCZOS) for frame in frames],
            "mask_image": [_covering(mask, square) for mask in masks],
            "height": self.size,
            "width": self.size,
            "num_inference_steps": self.steps,
            "strength": 1.0,
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "output_type": "np",
        }
        if not self.prompt:
            given["guidance_scale"] = 1.0  # without a text there is nothing to be guided to
        made = self.pipeline(**{key: value for key, value in given.items() if key in self.takes}).images
        levels = np.clip(np.asarray(made) * 255 + 0.5, 0, 255).astype(np.uint8)
        return np.stack([fitted(picture, height, width) for picture in levels])


def _covering(mask: np.ndarray, square: tuple[int, int]) -> Any:
    """A mask at another size; a pixel into which any hole falls is a hole (white)."""
    from PIL import Image

    small = Image.fromarray(mask.astype(np.uint8) * 255).resize(square, Image.Resampling.BILINEAR)
    return small.point(lambda level: 255 * (level > 0))


def _own_size(pipeline: Any) -> int:
    """The side a pipeline was made for: that of its denoiser's sample, in pixels."""
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    side = getattr(getattr(denoiser, "config", None), "sample_size", None)
    side = side if isinstance(side, int) else 64
    return side * getattr(pipeline, "vae_scale_factor", 8)


def load(config: GenerateConfig, device: torch.device) -> Loaded:
    """The inpainting model that a configuration names: a run folder, a folder of this tool, a diffusers folder, or `hf://org/repo`.

    Weights are read from safetensors only, and no code that comes with a model is executed.

    Raises:
        UsageError: there is none, or it cannot be used; the reason and a way out are named.
    """
    reference = config.model
    if reference is None:
        raise UsageError(
            "--spatial ldm needs an inpainting model",
            "give --model FOLDER or hf://org/repo; train one on your own normal video: vid pretrain --preset pseudo/ldm-inpaint-256; "
            "or take --spatial telea or patch",
        )
    dtype = DTYPES[config.precision if config.precision != "auto" else "bf16" if device.type == "cuda" else "fp32"]
    folder = find_folder(reference)
    if folder is None or not is_latent_folder(read_index(folder)):
        return _pipeline(folder, reference, config, device, dtype)
    own = _own_config(folder)
    working = own.get("preprocessing", {"size": DEFAULT_SIZE})
    parts = load_parts(folder)
    short_side = None if config.size else working.get("short_side")
    filler = LatentInpainter(*parts, device, config.steps, config.size or working.get("size"), short_side, dtype)
    facts = {"model": reference, "kind": "latent diffusion, 7 channels", "licence": licence(folder), "provenance": own.get("provenance")}
    return Loaded(filler, facts)


def latent_folder(reference: str) -> Path:
    """The folder of the latent inpainting model that a path or `hf://org/repo` names; UsageError with the reason otherwise."""
    folder = find_folder(reference)
    if folder is None or not is_latent_folder(read_index(folder)):
        raise UsageError(f"{reference} is not a latent inpainting model: it has no VQ autoencoder", "give a run of pseudo/ldm-inpaint-*")
    return folder


def find_folder(reference: str) -> Path | None:
    """The diffusers folder that a path or `hf://org/repo` names: itself, the model of a run, or the local copy of a latent model.

    Returns:
        None for a pipeline on the Hub that is not a latent model: diffusers knows which of its files it needs.

    Raises:
        UsageError: there is none; with the reason.
    """
    if reference.startswith(hub.PREFIX):
        repo, inner, _ = hub.parse(reference)
        if inner:
            raise UsageError(f"{reference}: give the repository, not a file in it", hub.reference_of(repo))
        latent = is_latent_folder(read_index(hub.fetch_file(reference, INDEX).parent))
        return hub.fetch_model(reference) if latent else None
    folder = Path(reference)
    if not folder.exists():
        raise UsageError(f"no model at '{reference}': the folder does not exist", "give a model folder, a run folder or hf://org/repo")
    for candidate in (folder, folder / "model"):
        if (candidate / INDEX).exists():
            _refuse_code(candidate, reference)
            return candidate
    if (folder / "config.yaml").exists():
        raise UsageError(f"the run in '{reference}' has no inpainting model (yet)", "run its command again to continue it")
    raise UsageError(f"'{reference}' is not an inpainting model: it has no {INDEX}", TAKES)


def _refuse_code(folder: Path, reference: str) -> None:
    if code := next(folder.rglob("*.py"), None):
        raise UsageError(f"{reference} comes with code ({code.name}), which is never executed", "take a model without it")


def licence(folder: Path) -> str | None:
    """The licence that a model card states."""
    try:
        found = read_card((folder / "README.md").read_text(encoding="utf-8")).head.get("license")
    except (OSError, UnicodeDecodeError, UsageError):
        return None
    return found if isinstance(found, str) else None


def _own_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model that this tool trained; empty for a foreign one."""
    try:
        own = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return own if isinstance(own, dict) and own.get("task") == "pseudo" else {}


def _pipeline(folder: Path | None, reference: str, config: GenerateConfig, device: torch.device, dtype: torch.dtype) -> Loaded:
    """A pipeline of diffusers in a folder; None: the one on the Hub that `reference` names."""
    if find_spec("transformers") is None:
        raise UsageError(f"{reference} needs the package 'transformers' for its text encoder", "pip install 'vid-suite[text]'")
    from diffusers import AutoPipelineForInpainting

    try:
        folder = folder or _fetched(reference)
        with bounded_by(folder):
            pipeline = AutoPipelineForInpainting.from_pretrained(folder, use_safetensors=True, local_files_only=True).to(dtype=dtype)
    except (OSError, ValueError, RuntimeError, AttributeError, ImportError, LookupError, TypeError) as error:
        raise UsageError(
            f"{reference} cannot be loaded for inpainting: {(str(error) or type(error).__name__).splitlines()[0]}",
            "it has to be an inpainting pipeline of diffusers with weights as safetensors",
        ) from error
    filler = PipelineInpainter(pipeline, device, config.steps, config.size, config.prompt)
    facts = {"model": reference, "kind": type(pipeline).__name__, "licence": licence(folder), "provenance": None}
    return Loaded(filler, facts)


def _fetched(reference: str) -> Path:
    """Local copy of the files that diffusers needs of a pipeline on the Hub, at the commit that its index came from."""
    from diffusers import DiffusionPipeline

    repo, _, commit = hub.parse(hub.pinned(reference))
    folder = Path(DiffusionPipeline.download(repo, revision=commit, use_safetensors=True))
    _refuse_code(folder, reference)
    with suppress(UsageError):  # it states the licence, where there is one
        hub.fetch_file(reference, "README.md")
    return folder
