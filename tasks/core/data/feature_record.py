"""What a model that learns from features remembers of them, and how it refuses others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.data.feature_sidecar import SHARED, SIDECAR, steps_of
from tasks.core.data.features import FeatureFolder
from tasks.core.data.grid import Grid, same_s
from tasks.core.errors import UsageError


def record_of(folder: FeatureFolder) -> dict[str, Any]:
    """What a model that learned from these features needs, for its config.json: `encoder`, `dim`, `grid` (`stride_s`, `span_s` or None)."""
    return {"encoder": dict(folder.encoder), "dim": folder.dim, "grid": folder.steps}


def check_encoder(saved: Mapping[str, Any], folder: FeatureFolder) -> None:
    """Raises UsageError unless a folder holds what a model learned from: the same encoder, which sees the same, on the same grid.

    Weights are told apart by their hash; the same weights at another place are the same encoder. Encoders without weights are told apart
    by their names.

    Args:
        saved: of `record_of`.
    """
    check_record(saved, record_of(folder), f"{folder.path} holds")


def open_like(saved: Mapping[str, Any], path: str) -> FeatureFolder:
    """A folder of features such as a model learned from; where another program wrote it they lie as those did.

    Args:
        saved: of `record_of`.
        path: the folder.

    Raises:
        UsageError: it cannot be used, or holds features of another encoder or on another grid.
    """
    foreign = not (Path(path) / SIDECAR).is_file()
    steps = saved["grid"]
    grid = Grid(**steps, offset_s=0.0) if foreign and steps and None not in steps.values() else None
    folder = FeatureFolder(path, grid, encoder=saved["encoder"].get("reference") if foreign else None)
    check_encoder(saved, folder)
    return folder


def check_record(saved: Mapping[str, Any], there: Mapping[str, Any], whose: str) -> None:
    """As `check_encoder`, of features that may not be made yet.

    Args:
        saved, there: of `record_of`.
        whose: subject and verb of the message: `FOLDER holds`.
    """
    problem = _difference(saved, there)
    if problem is None:
        return
    ours, theirs = (_named(record) for record in (saved, there))
    raise UsageError(
        f"{whose} features of {theirs}; the model learned from {ours}: {problem}",
        f"extract features with the model's own encoder: {saved['encoder'].get('reference') or 'it has no name'}",
    )


def _difference(saved: Mapping[str, Any], there: Mapping[str, Any]) -> str | None:
    """In what two records differ."""
    mine, other = saved["encoder"], there["encoder"]
    hashes = mine.get("weights_hash"), other.get("weights_hash")
    if hashes[0] != hashes[1] or (hashes[0] is None and mine.get("reference") != other.get("reference")):
        return "another encoder"
    seen = sorted(k for k in {*mine, *other} - {"reference"} if mine.get(k) != other.get(k))
    if seen:
        return f"it sees something else ({', '.join(seen)})"
    if saved["dim"] != there["dim"]:
        return f"{there['dim']} channels, not {saved['dim']}"
    if (saved["grid"] is None) != (there["grid"] is None):
        return "features of windows against features of whole videos"
    for name in SHARED if saved["grid"] else ():
        a, b = saved["grid"][name], there["grid"][name]
        if (a is None) != (b is None) or (a is not None and not same_s(a, b)):
            return f"another {name[:-2]}"
    return None


def _named(record: Mapping[str, Any]) -> str:
    encoder = record["encoder"]
    weights = f" ({encoder['weights_hash']})" if encoder.get("weights_hash") else ""
    return f"{encoder.get('reference') or 'an unnamed encoder'}{weights}, {record['dim']} channels, {steps_of(record['grid'])}"
