"""Model folders: `model.safetensors`, `config.json` and a model card. The only form in which tasks exchange weights."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tasks.core import hub
from tasks.core.errors import UsageError
from tasks.core.files import write_json, write_text

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def save_model(folder: Path, weights: dict[str, Any], config: dict[str, Any], card: str) -> None:
    """Writes a model folder; an existing one is replaced whole.

    Args:
        weights: name -> tensor (any device or dtype). config: JSON-able architecture, preprocessing, labels, provenance.
    """
    from safetensors.torch import save_file

    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    save_file(
        tensors, partial / WEIGHTS, metadata={"format": "pt", "library": "vid", "task": config["task"], "method": config.get("method", "")}
    )
    write_json(partial / CONFIG, config)
    write_text(partial / CARD, card)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def find_model(reference: str) -> Path:
    """The model folder that a model folder, a run folder or an `hf://` reference names; UsageError with the reason otherwise."""
    folder = hub.fetch_model(reference) if reference.startswith(hub.PREFIX) else Path(reference)
    if not folder.exists():
        raise UsageError(f"no model at '{reference}': the folder does not exist", "give a model folder, a run folder or hf://org/repo")
    for candidate in (folder, folder / "model"):
        if (candidate / WEIGHTS).exists() and (candidate / CONFIG).exists():
            return candidate
    if (folder / "config.yaml").exists():
        raise UsageError(f"the run in '{reference}' has not finished: it has no model yet", "run its command again to continue it")
    raise UsageError(f"'{reference}' is no model folder: it needs {WEIGHTS} and {CONFIG}")


def load_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / CONFIG} cannot be read: {error}") from None
    if not isinstance(config, dict) or "architecture" not in config or "task" not in config:
        raise UsageError(f"{folder / CONFIG} is not the configuration of a model of this tool", "it needs 'task' and 'architecture'")
    return config


def load_weights(folder: Path) -> dict[str, Any]:
    """The tensors of a model folder, on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{folder / WEIGHTS} is not a readable safetensors file: {error}") from None


def load_strict(module: Any, weights: dict[str, Any], source: str) -> None:
    """Loads tensors into a module; any missing, unexpected or misshapen key is a UsageError that names it."""
    own = module.state_dict()
    problems = [f"missing {k}" for k in own.keys() - weights.keys()]
    problems += [f"unexpected {k}" for k in weights.keys() - own.keys()]
    problems += [
        f"{k} has shape {tuple(weights[k].shape)}, not {tuple(own[k].shape)}"
        for k in own.keys() & weights.keys()
        if own[k].shape != weights[k].shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise UsageError(f"the weights in {source} do not fit this model: {shown}")
    module.load_state_dict(weights)


def encoder_weights(weights: dict[str, Any], prefix: str = "encoder.") -> dict[str, Any]:
    """The part of a model's tensors that belongs to its encoder, without the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
