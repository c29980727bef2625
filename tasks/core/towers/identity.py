"""Which tower it is: its reference, the revision that it was taken at, and a hash of its weights, which no name can belie."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from tasks.core import hub
from tasks.core.errors import UsageError

Tower = TypeVar("Tower")


def tensors_hash(tensors: Mapping[str, torch.Tensor], facts: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of tensors and of what else makes outputs what they are.

    Args:
        tensors: by name; the same weights have the same hash in whichever file and precision they were kept, float32 at most.
        facts: JSON-able: settings, vocabulary.
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:16]


def identity(reference: str, kind: str, weights_hash: str) -> dict[str, Any]:
    """What is recorded of a tower in the place of its weights.

    Args:
        reference: as it was given.
        kind: `clip-image`, `clip-text` or `sentence`.
        weights_hash: of `tensors_hash`.

    Returns:
        `reference`, `revision` (the commit on the Hub, else None), `kind`, `weights_hash`.
    """
    revision = hub.parse(hub.pinned(reference))[2] if reference.startswith(hub.PREFIX) else None
    return {"reference": reference, "revision": revision, "kind": kind, "weights_hash": weights_hash}


def recall(recorded: Mapping[str, Any], load: Callable[[str], Tower], source: str, reference: str | None = None) -> Tower:
    """The tower that a model was trained with.

    Args:
        recorded: of `identity`, as the model's config.json keeps it.
        load: `load_text_tower` or `load_image_tower`.
        source: the model, for errors.
        reference: where the tower is now; None: where it was then, at the same revision.

    Raises:
        UsageError: there is none, or it is another one.
    """
    there, revision = recorded["reference"], recorded.get("revision")
    if reference is None and revision and there.startswith(hub.PREFIX):
        repo, path, _ = hub.parse(there)
        there = hub.reference_of(repo, path, revision)
    tower = load(reference or there)
    found = tower.source["weights_hash"]
    if found != recorded["weights_hash"]:
        raise UsageError(
            f"{source} was trained with the frozen tower {recorded['reference']} ({recorded['weights_hash']}); {reference or there} is"
            f" another ({found})",
            "give the folder or file of the one that it was trained with",
        )
    return tower
