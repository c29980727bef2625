"""Starting a network from the encoder of a model folder (`--from`)."""

from typing import Any

from torch import nn

from tasks.core.checkpoint import encoder_weights, find_model, load_config, load_strict, load_weights
from tasks.core.errors import UsageError
from tasks.core.nn.encoders import saved_settings, usable_weights


def check_start(reference: str, wanted: Any, but: tuple[str, ...] = ()) -> None:
    """UsageError where the encoder of a model is not of the settings that a run has; it says which differ.

    Args:
        reference: model folder, run folder or `hf://` id.
        wanted: settings of the run's encoder (`core.nn.config`).
        but: settings that may differ, since they say how weights begin.
    """
    found = saved_settings(load_config(find_model(reference)), reference)
    if found.family != wanted.family:
        raise UsageError(
            f"the encoder in {reference} is of the family '{found.family}', this run has '{wanted.family}'",
            f"start from a model of the family '{wanted.family}', or set model.family={found.family} where the preset allows it",
        )
    if wrong := differences(wanted, found, but):
        told = "; ".join(f"{key} is {own}, there {other}" for key, own, other in wrong)
        hint = "take it over: " + " ".join(f"--set {key}={other}" for key, _, other in wrong)
        raise UsageError(f"the encoder in {reference} has another architecture than this run: {told}", hint)


def differences(own: Any, other: Any, but: tuple[str, ...] = ()) -> list[tuple[str, Any, Any]]:
    """(key below the configuration, own value, other value) of the settings in which two encoders of a family differ."""
    a, b = own.model_dump(mode="json"), other.model_dump(mode="json")
    return [(f"model.{key}", a[key], b[key]) for key in a if key in b and key not in but and a[key] != b[key]]


def start_from(encoder: nn.Module, reference: str) -> None:
    """Loads the encoder of a model folder into one of the same settings. Raises UsageError where the tensors do not fit."""
    folder = find_model(reference)
    load_strict(encoder, usable_weights(encoder, encoder_weights(load_weights(folder))), str(folder))
