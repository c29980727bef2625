"""`transformers` folders: config.json, model.safetensors, the settings of the image processor and a card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.core.checkpoint import CARD, CONFIG
from tasks.core.convert import SAFE, Tensors, read_folder, read_json
from tasks.core.errors import InputError, NoCounterpart
from tasks.core.files import replacing_folder, write_json, write_text
from tasks.core.nn.config import VitConfig
from tasks.core.nn.videomae import add_zero_biases, join_spellings, split_spellings
from tasks.core.reporter import Reporter

PROCESSOR = "preprocessor_config.json"
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TOLERANCE = 1e-5
"""Largest difference between outputs of the two programs that passes without a warning."""
LIMIT = 1e-3
"""Largest difference that rounding and an epsilon of 1e-6 in the place of 1e-5 explain, with a margin."""
EPSILONS = "there the last layer norm has epsilon 1e-5 (head.norm_eps, decoder.norm_eps) and positions are pos: sincos1d-double"


def read_transformers(folder: Path, architecture: str) -> tuple[dict[str, Any], Tensors]:
    """(config.json, tensors with one spelling of biases) of a folder of this architecture. Raises InputError."""
    config = read_json(folder / CONFIG)
    named = config.get("architectures")
    named = [str(name) for name in named] if isinstance(named, list) else []
    if config.get("model_type") != "videomae" or architecture not in named:
        found = ", ".join(named) or config.get("model_type", "nothing")
        raise InputError(f"{folder} holds {found}, not {architecture}")
    tensors = join_spellings(read_folder(folder), str(folder))
    biases = config.get("qv_bias", config.get("qkv_bias", True))
    return config, tensors if biases else add_zero_biases(tensors)


def write_transformers(
    out: Path, config: dict[str, Any], tensors: Tensors, preprocessing: dict[str, Any], card: str, difference: Callable[[Path], float]
) -> float:
    """Writes the folder; an existing one is replaced whole. Returns the difference that was measured.

    Args:
        config: of transformers.
        tensors: under the names of transformers.
        preprocessing: of our config.json.
        card: README.md.
        difference: from the folder that was written to the largest difference between its outputs and those of the model.

    Raises:
        NoCounterpart: they differ so much that it is another model; nothing is left then.
    """
    from safetensors.torch import save_file

    with replacing_folder(out) as partial:
        save_file(split_spellings(tensors), partial / SAFE, metadata={"format": "pt"})
        write_json(partial / CONFIG, config)
        write_json(partial / PROCESSOR, processor(preprocessing))
        write_text(partial / CARD, card)
        found = difference(partial)
        if not found <= LIMIT:
            raise NoCounterpart(f"transformers' VideoMAE cannot represent this model: outputs differ by {found:.1e}", EPSILONS)
    return found


def processor(preprocessing: dict[str, Any]) -> dict[str, Any]:
    """Settings of `VideoMAEImageProcessor` that bring frames to the model as testing here does: short side to S, centre square."""
    side = preprocessing["image_size"]
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 2,  # bilinear
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": preprocessing["mean"],
        "image_std": preprocessing["std"],
    }


def read_preprocessing(folder: Path, config: dict[str, Any], model: VitConfig, reporter: Reporter) -> dict[str, Any]:
    """Our `preprocessing` of a transformers folder: what this suite wrote into it, else the settings of its image processor.

    Published folders say nothing about the distance between frames: 4, as VideoMAE has it on Kinetics.
    """
    known = config["vid"].get("preprocessing") if isinstance(config.get("vid"), dict) else None
    if isinstance(known, dict):
        known = {"flow": None, "stretch": False, **known}  # folders of before had none
        if known.keys() == video_preprocessing(model, IMAGENET_MEAN, IMAGENET_STD, 4).keys():
            return known
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if (folder / PROCESSOR).exists():
        found = read_json(folder / PROCESSOR)
        mean, std = found.get("image_mean", [0.5] * 3), found.get("image_std", [0.5] * 3)
        if found.get("do_normalize") is False:
            mean, std = [0.0] * 3, [1.0] * 3
        if not all(isinstance(v, list | tuple) and len(v) == 3 and all(type(x) in (int, float) for x in v) for v in (mean, std)):
            raise InputError(f"{folder / PROCESSOR}: image_mean and image_std must be three numbers each")
    else:
        reporter.warn(f"{folder} has no {PROCESSOR}: ImageNet's mean and standard deviation are assumed")
    reporter.info("the frame stride is not in the folder: 4 frames are assumed (preprocessing in config.json)")
    return video_preprocessing(model, list(mean), list(std), stride=4)


def video_preprocessing(model: VitConfig, mean: list[float], std: list[float], stride: int, sampling: str = "dense") -> dict[str, Any]:
    """Our `preprocessing` of published weights."""
    return {
        "image_size": model.image_size,
        "frames": model.frames,
        "sampling": sampling,
        "stride_frames": stride,
        "stride_s": None,
        "stretch": False,
        "crop": "center",
        "motion_margin": 1.4,
        "flow": None,
        "short_side": None,
        "mean": mean,
        "std": std,
        "color": "RGB",
    }


def refuse_flow(preprocessing: dict[str, Any], model: str) -> None:
    """NoCounterpart for a model that takes what no image processor of transformers makes."""
    if preprocessing.get("flow") or preprocessing.get("flow_input"):
        raise NoCounterpart(f"transformers cannot make the optical flow that {model} was trained on", "--to onnx takes any model")


def report(out: Path, name: str, difference: float, preprocessing: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """The result of an export; warns where the folder cannot do all that the model does."""
    warn_about(difference, preprocessing, reporter)
    reporter.info(f"wrote {out}, checked: outputs differ by at most {difference:.1e}")
    return {"model": str(out), "format": "transformers", "class": name, "max_difference": difference}


def warn_about(difference: float, preprocessing: dict[str, Any], reporter: Reporter) -> None:
    """Says where a model in the form of transformers cannot do all that it does here."""
    if preprocessing["crop"] == "motion":
        reporter.warn("the image processor of transformers takes the centre square; this model was trained on the square around what moves")
    if difference > TOLERANCE:
        reporter.warn(f"outputs differ by up to {difference:.1e}: {EPSILONS}; a model trained with these settings has the same outputs")
