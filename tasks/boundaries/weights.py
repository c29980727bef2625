"""Encoder weights of model folders: what may start from what."""

from typing import Any

from torch import Tensor

from tasks.core.checkpoint import check_fits, encoder_weights, find_model, load_config, load_strict, load_weights
from tasks.core.errors import UsageError
from tasks.core.nn.config import ResNetConfig
from tasks.core.nn.encoders import saved_settings
from tasks.core.nn.resnet_tsm import MotionResNet


def check_encoder(reference: str, wanted: ResNetConfig) -> dict[str, Any]:
    """The config.json of a model whose encoder fits `wanted`; UsageError where it does not.

    Size and width must agree, and the MotionSqueeze layer where the model has one; a model without one (MoCo v2, ImageNet) fits too.
    """
    saved = load_config(find_model(reference))
    found = saved_settings(saved, reference)
    if not isinstance(found, ResNetConfig):
        raise UsageError(
            f"the encoder in {reference} is of the family '{found.family}'; boundaries need a ResNet", "make one with: vid convert"
        )
    same = (found.size, found.width) == (wanted.size, wanted.width) and found.motion in (None, wanted.motion)
    if not same:
        raise UsageError(
            f"the encoder in {reference} has another architecture than this run: {_facts(found)}, not {_facts(wanted)}",
            "take over its model settings with --set model.KEY=VALUE",
        )
    return saved


def read_weights(reference: str) -> dict[str, Tensor]:
    """The tensors of a model; UsageError unless its encoder is as large as its config.json says, from which a network may be built then."""
    folder = find_model(reference)
    weights, config = load_weights(folder), saved_settings(load_config(folder), reference)
    check_fits(lambda: MotionResNet(config), encoder_weights(weights), reference)
    return weights


def load_encoder(encoder: MotionResNet, reference: str, weights: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Loads an encoder's weights; a MotionSqueeze layer that the model lacks keeps its own.

    Args:
        weights: all tensors of the model, where they have been read already.

    Returns:
        the other tensors of the model, by name.
    """
    saved = check_encoder(reference, encoder.config)
    weights = load_weights(find_model(reference)) if weights is None else weights
    found = encoder_weights(weights)
    if saved["architecture"]["motion"] is None and encoder.motion is not None:
        found |= {f"motion.{name}": tensor for name, tensor in encoder.motion.state_dict().items()}
    load_strict(encoder, found, reference)
    return {name: tensor for name, tensor in weights.items() if not name.startswith("encoder.")}


def _facts(config: ResNetConfig) -> str:
    motion = "no MotionSqueeze" if config.motion is None else f"MotionSqueeze {tuple(config.motion.model_dump().values())}"
    return f"{config.size}, width {config.width}, {motion}"
