"""The table of backbones: family -> settings and network. Imports no torch; a network's module is imported when it is built.

A family joins with a settings class in `core.nn.config`, one file with its network and one line in `FAMILIES`. What the rest of the suite
relies on:

Settings, a `Config`:
    family: `Literal[NAME] = NAME`, the key of the table; a saved architecture without it is from before there was a choice.
    image_size: side of the square input, px. frames: length of its clips, or None (a ClassVar) where any length will do.
    check_clip(frames): UsageError where it takes no clips of so many frames, where some do not do.
    finetuned(): the settings with which a classifier trains the whole network, where they are others.

Network, an `nn.Module` built from the settings and those keyword arguments of `build_encoder` that the family lists in `options`:
    config: the settings. dim: width of what comes out. depth: layers, for layer-wise learning rates.
    output: `tokens`, `(B, N, dim)`, or `map`, `(B, dim, t, h, w)`: what it makes of clips.
    outputs(video): normalised `(B, T, 3, S, S)` float clips to a dict with that, and with what the family adds (`context`, `projection`).
        `pooled` `(B, dim)` is the mean over tokens or places unless the family gives it. A family whose map is not what a classifier
        should see gives tokens beside it, and its map may have a shape of its own (r2d3d: `(B, N, D, h, w)` of N blocks).
    layer_of(name): of a parameter: 0 where the frames come in, 1 to depth the layers, depth + 1 what follows them.
    norm.*: the names of a final norm that `final_norm=False`, as an option or a setting, leaves to the head; where the family has it.
    outputs(video, index): the same of chosen tokens, `(B, n)`, where the family can leave tokens out (`drops_tokens`).
    cls_token: the name of a learned token, there where the setting `class_token` is set; it then is `pooled`.
    projection.*: the names of a head of pretraining, there where the setting `projection` is not None; `without_projection` leaves it out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Union

from tasks.core.config import Config
from tasks.core.errors import UsageError
from tasks.core.nn.config import DiscrepancyConfig, R2D3DConfig, ResNetConfig, S3DConfig, VitConfig
from tasks.core.nn.precision import full_precision

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Family:
    """One kind of backbone.

    Attributes:
        settings: its configuration class.
        network: `module.Class` below `tasks.core.nn`.
        options: keyword arguments of `build_encoder` that its constructor takes.
        drops_tokens: whether it makes tokens of places of a clip, of which some can be left out.
    """

    settings: type[Config]
    network: str
    options: tuple[str, ...] = ()
    drops_tokens: bool = False


FAMILIES = {
    "vit": Family(VitConfig, "vit.VideoTransformer", ("drop_path", "final_norm"), drops_tokens=True),
    "resnet": Family(ResNetConfig, "resnet_tsm.MotionResNet"),
    "r2d3d": Family(R2D3DConfig, "r2d3d.BlockEncoder"),
    "discrepancy": Family(DiscrepancyConfig, "prediction.DiscrepancyEncoder"),
    "s3d": Family(S3DConfig, "s3d.S3D"),
}
DEFAULT_FAMILY = "vit"
FAMILY_BEFORE = {"masked": "vit", "classify": "vit", "boundaries": "resnet"}
"""What the encoders of a task were when model folders did not say their family."""

AnyEncoder = Union[tuple(family.settings for family in FAMILIES.values())]  # noqa: UP007 - made from the table
"""Type of a setting that takes any family: `Field(..., discriminator="family")`, with `family_given` before it."""


def family_given(value: Any) -> Any:
    """Settings as a mapping that says its family: a transformer where it says none. For a validator before the choice is made."""
    return {"family": DEFAULT_FAMILY, **value} if isinstance(value, Mapping) else value


def saved_settings(saved: Mapping[str, Any], source: str) -> Any:
    """The settings of the encoder that a model folder holds.

    Args:
        saved: its config.json.
        source: named in errors.

    Raises:
        UsageError: its task has no encoder of clips, or its family is unknown here.
        ValidationError: settings that the family lacks.
    """
    if "family" not in saved["architecture"] and saved["task"] not in FAMILY_BEFORE:
        raise UsageError(
            f"{source} is a model of task '{saved['task']}', which has no encoder of clips",
            "encoders come from vid pretrain and vid finetune",
        )
    return encoder_settings(saved["architecture"], source, FAMILY_BEFORE.get(saved["task"], DEFAULT_FAMILY))


def finetuned_settings(settings: Any) -> Any:
    """The settings with which a classifier trains the whole network: the same, unless the family says otherwise."""
    return settings.finetuned() if hasattr(settings, "finetuned") else settings


def encoder_settings(architecture: Mapping[str, Any], source: str, otherwise: str = DEFAULT_FAMILY) -> Any:
    """Settings from a mapping.

    Args:
        architecture: as saved.
        source: named in errors.
        otherwise: the family where it says none.

    Raises:
        UsageError: the family is unknown here.
        ValidationError: settings that the family lacks.
    """
    family = architecture.get("family", otherwise)
    if not isinstance(family, str) or family not in FAMILIES:
        near = get_close_matches(family, FAMILIES, 1) if isinstance(family, str) else []
        meant = f"; did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"{source} has an encoder of the unknown family {family!r:.40}{meant}", f"known families: {', '.join(FAMILIES)}")
    return FAMILIES[family].settings(**architecture)


def build_encoder(settings: Any, drop_path: float = 0.0, final_norm: bool = True) -> "nn.Module":
    """A network with random weights.

    Args:
        settings: of a class in `FAMILIES`.
        drop_path: largest rate of stochastic depth, for families that have it.
        final_norm: False leaves the norm behind the last layer to the head, for families that have one.
    """
    family = FAMILIES[settings.family]
    module, _, name = family.network.partition(".")
    given = {"drop_path": drop_path, "final_norm": final_norm}
    network = getattr(import_module(f"tasks.core.nn.{module}"), name)
    return network(settings, **{option: given[option] for option in family.options})


def build_for(settings: Any, weights: Mapping[str, Any]) -> "nn.Module":
    """A network that these weights of an encoder fit: with a final norm where they have one."""
    return build_encoder(settings, final_norm=_has_norm(weights))


def check_tokens(settings: Any, what: str) -> None:
    """UsageError where an encoder makes no tokens of which some could be left out; `what` needs them."""
    if not FAMILIES[settings.family].drops_tokens:
        able = " or ".join(name for name, family in FAMILIES.items() if family.drops_tokens)
        raise UsageError(f"{what} needs an encoder of tokens; one of the family '{settings.family}' has none", f"use the family {able}")


def without_projection(settings: Any) -> Any:
    """Settings of an encoder without the projection head that only its pretraining, and what mines with it, has use for."""
    return settings.model_copy(update={"projection": None}) if getattr(settings, "projection", None) else settings


def usable_weights(encoder: "nn.Module", weights: Mapping[str, Any]) -> dict[str, Any]:
    """An encoder's weights to start from: without a final norm that this encoder leaves to its head, without a projection head that it
    lacks, and with its own new class token where they have none.
    """
    own = encoder.state_dict()
    left_out = tuple(part for part in ("norm.", "projection.") if not any(name.startswith(part) for name in own))
    new = {name: own[name] for name in ("cls_token",) if name in own}
    return new | {name: tensor for name, tensor in weights.items() if not name.startswith(left_out)}


def tokens_of(outputs: Mapping[str, "Tensor"]) -> "Tensor":
    """What an encoder gives as tokens `(B, N, dim)`; the places of a map time-major, then row, then column."""
    return outputs["tokens"] if "tokens" in outputs else outputs["map"].flatten(2).transpose(1, 2)


def pooled_of(outputs: Mapping[str, "Tensor"]) -> "Tensor":
    """One feature for each clip, `(B, dim)`, of 16-bit outputs in float32."""
    return full_precision(outputs["pooled"]) if "pooled" in outputs else full_precision(tokens_of(outputs)).mean(1)


def _has_norm(names: Mapping[str, Any]) -> bool:
    return any(name.startswith("norm.") for name in names)
