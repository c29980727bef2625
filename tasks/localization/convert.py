"""Checkpoints of the public code of ActionFormer and UnAV as model folders, and back. Files are read as tensors only."""

import shlex
from pathlib import Path
from typing import Any

from tasks.core import convert as files
from tasks.core.checkpoint import CONFIG, WEIGHTS, find_model, load_config, load_weights, save_model
from tasks.core.convert import Tensors
from tasks.core.engine.description import card
from tasks.core.errors import UsageError
from tasks.core.reporter import Reporter
from tasks.localization.config import LocalizerConfig
from tasks.localization.model import EventLocalizer
from tasks.localization.public import Settings, events_of, model_of, read_settings
from tasks.localization.public_names import from_public, names_of, to_public

SOURCES = {
    "actionformer": "happyharrycn/actionformer_release: a checkpoint of its transformer, with the averaged weights",
    "unav": "ttgeng233/UnAV: a checkpoint, with the averaged weights",
}
"""What `export` writes into its folder."""
WHICH = ("state_dict_ema", "state_dict")
"""The averaged weights are those that the public code tests with."""


def convert(file: Path, source: str, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Writes a model folder that `--from` and `--model` take.

    What tensors do not say (heads, windows, positions) comes from the settings beside the file (`config.txt`, as ActionFormer's training
    writes it, `config.yaml` or `config.json`), else from the published settings for data of these sizes.

    Args:
        file: as published.
        source: a key of `SOURCES`.
        out: the model folder; an existing model folder is replaced.
        reporter: told what was written.

    Returns:
        where the model is, and how many tensors and parameters it has.

    Raises:
        UsageError: unknown source, or `out` holds something else.
        InputError: the file is not what `source` says.
    """
    if source not in SOURCES:
        raise UsageError(f"cannot convert from '{source}'", f"known sources: {', '.join(SOURCES)}")
    files.check_out(out, file, (WEIGHTS, CONFIG))
    tensors = files.state_dict(files.read_pth(file), file, WHICH)
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    settings, where = read_settings(file, source, tensors)
    reporter.info(f"heads, windows and positions: {where}")
    config, dims, classes, weights = take(tensors, source, settings, file)
    save_model(out, weights, _saved(config, dims, classes, source, settings, file), _card(file, source, out, dims, classes))
    reporter.info(f"wrote {out}; start from it with --from {out}")
    parameters = sum(tensor.numel() for tensor in weights.values())
    return {"model": str(out), "task": "localization", "source": source, "tensors": len(weights), "parameters": parameters}


def take(tensors: Tensors, source: str, settings: Settings, file: Path) -> tuple[LocalizerConfig, dict[str, int], int, Tensors]:
    """(architecture, channels of the streams, classes, weights of an `EventLocalizer`) of public tensors.

    Args:
        tensors: by their public names, without `module.`.
        source: a key of `SOURCES`.
        settings: what they do not say.
        file: named in errors.

    Raises:
        InputError: they are not what `source` says.
    """
    shaped = from_public(tensors)
    config, dims, classes = model_of(shaped, source, settings, file)
    names = {**names_of(config, source), "boundary_head.scales": ("boundary_head.scales",)}
    weights = files.take_names(shaped, names, str(file))
    files.check_source(lambda: EventLocalizer(config, dims, classes), weights, file)
    return config, dims, classes, weights


def _saved(config: LocalizerConfig, dims: dict[str, int], classes: int, source: str, settings: Settings, file: Path) -> dict[str, Any]:
    unknown = {"encoder": {"reference": None, "weights_hash": None}}
    return {
        "library": "vid",
        "task": "localization",
        "method": "events",
        "architecture": config.model_dump(),
        "labels": [str(number) for number in range(classes)],
        "streams": {name: {**unknown, "dim": dim, "grid": settings.grid} for name, dim in dims.items()},
        "events": events_of(settings).model_dump(),
        "preprocessing": {"grid": settings.grid, "align": "linear", "resize": settings.resize},
        "metrics": {},
        "provenance": {"source": source, "file": file.name},
    }


def _card(file: Path, source: str, out: Path, dims: dict[str, int], classes: int) -> str:
    inputs = ", ".join(f"{name} {dim}" for name, dim in dims.items())
    facts = {"converted from": file.name, "source": SOURCES[source], "input": inputs, "classes": classes, "licence": "that of the source"}
    use = f"vid finetune --preset localization/... --from {shlex.quote(str(out))} --data TRAIN --val VAL"
    return card("Event localiser", facts, use, {"tags": ["video", "temporal-localization"]})


def export(reference: str | Path, kind: str, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Writes a checkpoint with the names of the public code.

    Args:
        reference: model folder, run folder or `hf://` id.
        kind: a key of `SOURCES`.
        out: the folder to write `checkpoint.pth.tar` into.
        reporter: told what was written.

    Raises:
        UsageError: the model is of another kind, or `out` holds something else.
    """
    folder = find_model(str(reference))
    files.check_out(out, folder, (files.PUBLISHED,))
    saved, weights = load_config(folder), load_weights(folder)
    config = LocalizerConfig(**saved["architecture"]) if saved["task"] == "localization" else None
    names = {} if config is None else names_of(config, kind)
    if config is None or set(names) | {"boundary_head.scales"} != set(weights) or (config.branch == "cross") != (kind == "unav"):
        raise UsageError(f"{reference} is not a model that {kind} knows", f"only models with its settings can be written for {kind}")
    tensors = {f"module.{name}": tensor for name, tensor in to_public(weights, names).items()}
    return files.write_published(out, {"epoch": 0, "state_dict": tensors, "state_dict_ema": tensors}, kind, reporter)
