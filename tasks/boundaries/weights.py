"""Encoder weights of model folders: what may start from what."""

from typing import Any

from tasks.boundaries.config import EncoderConfig
from tasks.boundaries.model import MotionResNet
from tasks.core.checkpoint import check_fits, encoder_weights, find_model, load_config, load_strict, load_weights
from tasks.core.errors import UsageError


def check_encoder(reference: str, wanted: EncoderConfig) -> dict[str, Any]:
    """The config.json of a model whose encoder fits `wanted`; UsageError where it does not.

    Size and width must agree, and the MotionSqueeze layer where the model has one; a model without one (MoCo v2, ImageNet) fits too.
    """
    saved = load_config(find_model(reference))
    if saved["task"] != "boundaries":
        raise UsageError(f"{reference} is a model of task '{saved['task']}'; boundaries need a ResNet", "make one with: vid convert")
    found = EncoderConfig(**saved["architecture"])
    same = (found.size, found.width) == (wanted.size, wanted.width) and found.motion in (None, wanted.motion)
    if not same:
        raise UsageError(
            f"the encoder in {reference} has another architecture than this run: {_facts(found)}, not {_facts(wanted)}",
            "take over its model settings with --set model.KEY=VALUE",
        )
    return saved


def check_weights(reference: str) -> None:
    """UsageError unless the encoder of a model is as large as its config.json says; to be asked before a network is built from that."""
    config = EncoderConfig(**load_config(find_model(reference))["architecture"])
    check_fits(lambda: MotionResNet(config), encoder_weights(load_weights(find_model(reference))), reference)


def load_encoder(encoder: MotionResNet, reference: str) -> dict[str, Any]:
    """Loads an encoder's weights; a MotionSqueeze layer that the model lacks keeps its own.

    Returns:
        the other tensors of the model, by name.
    """
    saved = check_encoder(reference, encoder.config)
    weights = load_weights(find_model(reference))
    found = encoder_weights(weights)
    if saved["architecture"]["motion"] is None and encoder.motion is not None:
        found |= {f"motion.{name}": tensor for name, tensor in encoder.motion.state_dict().items()}
    load_strict(encoder, found, reference)
    return {name: tensor for name, tensor in weights.items() if not name.startswith("encoder.")}


def _facts(config: EncoderConfig) -> str:
    motion = "no MotionSqueeze" if config.motion is None else f"MotionSqueeze {tuple(config.motion.model_dump().values())}"
    return f"{config.size}, width {config.width}, {motion}"
