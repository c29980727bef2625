"""CLIP models as they are published: folders of transformers and of OpenCLIP, files of OpenAI."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.core import hub
from tasks.core.checkpoint import CONFIG, links_stay_inside, require_finite
from tasks.core.convert import BIN, BIN_INDEX, SAFE, SAFE_INDEX, Tensors, read_folder, read_json, read_part, read_pth, state_dict
from tasks.core.errors import InputError, UsageError
from tasks.core.nn.clip import ACTIVATIONS
from tasks.core.nn.clip_config import ClipImageConfig, ClipTextConfig
from tasks.core.nn.clip_names import LOGIT_SCALE, NO_WEIGHTS, OPENAI, TRANSFORMERS, Layout, image_settings, text_settings
from tasks.core.torchscript import is_torchscript, read_torchscript

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
OPEN_CONFIG, PROCESSOR = "open_clip_config.json", "preprocessor_config.json"
OPEN_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
THEIR_TYPES = {"clip": None, "clip_text_model": "text", "clip_vision_model": "image"}
"""`model_type` of transformers: the one part that such a model has."""
FILES = (".pt", ".pth", ".bin", ".safetensors")
_IMAGE = ("visual.", "vision_model.", "visual_projection.")
_OPEN_KNOWN = {
    "image": {"image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio", "patch_dropout"},
    "text": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pad_id", "eos_id"},
}
_OPEN_DEFAULTS = {
    "pool_type": ("tok", "argmax", "eos"),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
    "block_type": ("default",),
}


@dataclass(frozen=True)
class ClipSource:
    """One published model, read as far as asked.

    Attributes:
        name: what errors call it.
        tensors: of the whole model, by their names there.
        layouts: how it names them.
        parts: `image` and `text`, what its configuration says of each: `heads` (None: a head has 64 channels), `activation`, and what
            else is known.
        folder: where its vocabulary lies.
        pictures: `mean`, `std` and `resample` of its input.
    """

    name: str
    tensors: Tensors
    layouts: Mapping[str, Layout]
    parts: Mapping[str, Mapping[str, Any]]
    folder: Path
    pictures: Mapping[str, Any]

    def image(self) -> tuple[ClipImageConfig, Tensors]:
        """Settings and float32 tensors of the image transformer, under our names; UsageError where there is none that we know."""
        if any(name.startswith("visual.layer1.") for name in self.tensors):
            raise UsageError(f"{self.name} has a ResNet for pictures, which is not known here", "take one with a ViT, such as ViT-B/16")
        return self._part("image", image_settings)

    def text(self) -> tuple[ClipTextConfig, Tensors]:
        """Settings and float32 tensors of the text transformer, under our names; UsageError where there is none that we know."""
        return self._part("text", text_settings)

    def logit_scale(self) -> float | None:
        """What cosines are multiplied with before the softmax, 1 over the temperature; None where it is not kept."""
        scale = self.tensors.get(LOGIT_SCALE)
        return None if scale is None or scale.numel() != 1 else float(scale.float().exp())

    def _part(self, which: str, settings: Any) -> tuple[Any, Tensors]:
        known = dict(self.parts.get(which) or {})
        own = {name: tensor for name, tensor in self.tensors.items() if name.startswith(_IMAGE) == (which == "image")}
        own = {name: tensor for name, tensor in own.items() if name != LOGIT_SCALE and not NO_WEIGHTS.fullmatch(name)}
        if not known or not any(map(self.layouts[which].owns, own)):
            raise UsageError(f"{self.name} has no transformer of {'pictures' if which == 'image' else 'text'}")
        with as_usage_error(self.name):
            weights = self.layouts[which].take(own, self.name)
            require_finite(weights, self.name)
            heads = known.pop("heads")
            heads = max(1, weights["projection.weight"].shape[1] // 64) if heads is None else heads
            return settings(weights, heads, self.name, **known), weights


def locate(reference: str) -> Path:
    """The folder or file that a reference names; what is `hf://` is fetched. Raises UsageError where there is none."""
    place = hub.fetch_model(reference) if reference.startswith(hub.PREFIX) else Path(reference)
    if not place.exists():
        raise UsageError(f"no model at '{reference}': it does not exist", "give a folder, a file or hf://org/repo")
    return place


def clip_kind(place: Path) -> str | None:
    """`transformers`, `openclip` or `openai`, by which a place holds a CLIP model; None: it holds something else."""
    if place.is_file():
        if place.suffix == ".safetensors" or (place.parent / OPEN_CONFIG).is_file():
            return "openclip" if place.suffix in FILES else None
        return "openai" if place.suffix in FILES else None
    opened = (place / OPEN_CONFIG).is_file()
    if model_type(place) in THEIR_TYPES and (not opened or any((place / name).is_file() for name in (SAFE, SAFE_INDEX, BIN, BIN_INDEX))):
        return "transformers"
    return "openclip" if opened else None


def model_type(folder: Path) -> str | None:
    """`model_type` in the config.json of a folder of transformers; None where it is not one, or is a model folder of this suite."""
    try:
        found = read_json(folder / CONFIG)
    except InputError:
        return None
    kind = found.get("model_type")
    return kind if isinstance(kind, str) and "architecture" not in found else None


def read_clip(reference: str) -> ClipSource:
    """The CLIP model that a reference names.

    Args:
        reference: a folder of transformers or OpenCLIP, an `hf://` id of one, or a file with the tensors of an OpenAI model
            (TorchScript archives too), or of OpenCLIP beside its `open_clip_config.json`.

    Raises:
        UsageError: it is none, it cannot be read, or has settings without a counterpart here.
    """
    place = locate(reference)
    kind = clip_kind(place)
    if kind is None:
        raise UsageError(
            f"{reference} is not a CLIP model", "give a folder of transformers (model_type: clip) or OpenCLIP, or OpenAI's .pt file"
        )
    if place.is_dir():
        links_stay_inside(place)
    with as_usage_error(reference):
        return {"transformers": _theirs, "openclip": _open, "openai": _openai}[kind](place, reference)


@contextmanager
def as_usage_error(name: str) -> Iterator[None]:
    """Within it, what readers of foreign files find wrong with a model is a UsageError."""
    try:
        yield
    except InputError as error:
        raise UsageError(error.message, error.hint) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{name} describes no CLIP model: {'.'.join(map(str, first['loc']))} {first['msg']}".replace("  ", " ")) from None
    except (
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
    ) as error:  # settings or shapes of a wrong kind
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"{name} describes no CLIP model: {why:.120}", "its configuration or its tensors are damaged") from error


def _theirs(folder: Path, reference: str) -> ClipSource:
    config = read_json(folder / CONFIG)
    only = THEIR_TYPES[config["model_type"]]
    parts = {}
    for which, section in (("image", "vision_config"), ("text", "text_config")):
        own = config if only == which else {} if only else {**_mapping(config, section), **_mapping(config, f"{section}_dict")}
        if only in (None, which):
            activation = own.get("hidden_act", "quick_gelu")
            if activation not in ACTIVATIONS:
                raise InputError(f"{folder / CONFIG}: the activation {activation!r:.40} is not known", f"known: {', '.join(ACTIVATIONS)}")
            heads = own.get("num_attention_heads", {"image": 12, "text": 8}[which])
            parts[which] = {"heads": heads, "activation": activation, "norm_eps": own.get("layer_norm_eps", 1e-5)}
            if which == "image":
                parts[which]["image_size"] = own.get("image_size", 224)
    return ClipSource(reference, read_folder(folder), TRANSFORMERS, parts, folder, _their_pictures(folder / PROCESSOR))


def _their_pictures(file: Path) -> dict[str, Any]:
    """What the image processor does; CLIP's own where a folder has none."""
    found = read_json(file) if file.is_file() else {}
    if found.get("do_normalize") is False:
        return _pictures([0.0] * 3, [1.0] * 3, "bicubic", file)
    resample = {2: "bilinear", 3: "bicubic"}.get(found.get("resample", 3))
    return _pictures(found.get("image_mean", CLIP_MEAN), found.get("image_std", CLIP_STD), resample, file)


def _pictures(mean: Any, std: Any, resample: Any, file: Path) -> dict[str, Any]:
    numbers = all(isinstance(v, list | tuple) and len(v) == 3 and all(type(x) in (int, float) for x in v) for v in (mean, std))
    if not numbers or 0 in std or resample not in ("bilinear", "bicubic"):
        raise InputError(f"{file}: pictures are normalised by three means and three deviations and scaled bilinear or bicubic")
    return {"mean": list(mean), "std": list(std), "resample": resample}


def _open(place: Path, reference: str) -> ClipSource:
    folder = place if place.is_dir() else place.parent
    if not (folder / OPEN_CONFIG).is_file():
        raise InputError(
            f"{place} does not say which activation and heads its model has",
            f"put its {OPEN_CONFIG} beside it, or give OpenAI's weights as .pt",
        )
    found = read_json(folder / OPEN_CONFIG)
    model, prepare = _mapping(found, "model_cfg"), _mapping(found, "preprocess_cfg")
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    sections = {"image": _mapping(model, "vision_cfg"), "text": _mapping(model, "text_cfg")}
    parts = {which: {"activation": activation, **_open_part(which, section, folder)} for which, section in sections.items() if section}
    if prepare.get("resize_mode", "shortest") != "shortest":
        raise InputError(f"{folder / OPEN_CONFIG}: pictures are resized by '{prepare['resize_mode']}', here by their short side")
    pictures = [prepare.get("mean") or CLIP_MEAN, prepare.get("std") or CLIP_STD, prepare.get("interpolation") or "bicubic"]
    return ClipSource(reference, _without_prefix(_open_tensors(place)), OPENAI, parts, folder, _pictures(*pictures, folder / OPEN_CONFIG))


def _open_part(which: str, section: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a section of OpenCLIP's configuration says; InputError for a setting that would make another network."""
    for key, value in section.items():
        if not value or key in _OPEN_KNOWN[which] or key == "output_tokens" or value in _OPEN_DEFAULTS.get(key, ()):
            continue
        raise InputError(f"{folder / OPEN_CONFIG}: {key} = {json.dumps(value):.60} has no counterpart here", "take a plain ViT of CLIP")
    if which == "text":
        return {"heads": section.get("heads", 8)}
    if not isinstance(section.get("layers", 12), int):
        return {"heads": None}  # a ResNet, which `image` refuses by its tensors
    return {"heads": section.get("width", 768) // section.get("head_width", 64)}


def _open_tensors(place: Path) -> Tensors:
    if place.is_dir():
        file = next((place / name for name in OPEN_WEIGHTS if (place / name).is_file()), None)
        if file is None:
            raise InputError(f"{place} has no weights: none of {', '.join(OPEN_WEIGHTS)}")
        place = file
    return read_part(place)


def _openai(file: Path, reference: str) -> ClipSource:
    tensors = read_torchscript(file) if is_torchscript(file) else state_dict(read_pth(file), file)
    part = {"heads": None, "activation": "quick_gelu"}
    pictures = {"mean": list(CLIP_MEAN), "std": list(CLIP_STD), "resample": "bicubic"}
    return ClipSource(reference, _without_prefix(tensors), OPENAI, {"image": part, "text": part}, file.parent, pictures)


def _without_prefix(tensors: Tensors) -> Tensors:
    """The names without the `module.` of training on several GPUs, and the `text.` of models whose text is apart."""
    found = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return found if "token_embedding.weight" in found else {name.removeprefix("text."): tensor for name, tensor in found.items()}


def _mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key) or {}
    if not isinstance(found, dict):
        raise InputError(f"its configuration has '{key}', which is no mapping")
    return found
