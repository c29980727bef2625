"""Model folders: `model.safetensors`, `config.json` and a model card. The only form in which tasks exchange weights.

What is read here may come from a stranger: nothing is executed, nothing outside the folder is opened, and whatever does not fit is one
clear UsageError.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tasks.core import hub
from tasks.core.errors import UsageError
from tasks.core.files import replacing_folder, write_json, write_text

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
MAX_CONFIG_BYTES = 10_000_000
MAX_SIZES = {"image_size": 16_384, "short_side": 16_384, "frames": 65_536}
"""Of `preprocessing`: videos are brought to these sizes, px and frames."""
MAPPINGS = (
    "preprocessing",
    "provenance",
    "metrics",
    "head",
    "window",
    "merge",
    "decoder",
    "target",
    "calibration",
    "turbo",
    "pair",
    "text_tower",
)
"""Parts of a config.json that are mappings, where a task has them."""
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""Of a zip archive, which `torch.save` writes, and of bare pickles. A safetensors file may begin so too, but has `{` as its ninth byte."""


def save_model(folder: Path, weights: dict[str, Any], config: dict[str, Any], card: str) -> None:
    """Writes a model folder; an existing one is replaced whole.

    Args:
        weights: name -> tensor (any device or dtype).
        config: JSON-able architecture, preprocessing, labels, provenance.
    """
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    with replacing_folder(folder) as partial:
        save_file(tensors, partial / WEIGHTS, metadata=weights_metadata(config))
        write_json(partial / CONFIG, config)
        write_text(partial / CARD, card)


def weights_hash(folder: Path) -> str:
    """Tells models of the same name apart: 16 hexadecimal digits of the SHA-256 of a model folder's weights."""
    with open(folder / WEIGHTS, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def weights_metadata(config: dict[str, Any]) -> dict[str, str]:
    """What the header of a safetensors file says; `format: pt` is what other loaders ask for."""
    try:
        own = version("vid-suite")
    except PackageNotFoundError:
        own = "unknown"
    return {"format": "pt", "library": "vid", "vid_version": own, "task": config["task"], "method": config.get("method", "")}


def find_model(reference: str) -> Path:
    """The model folder that a model folder, a run folder or an `hf://` reference names; UsageError with the reason otherwise."""
    fetched = reference.startswith(hub.PREFIX)
    folder = hub.fetch_model(reference) if fetched else Path(reference)
    if not folder.exists():
        raise UsageError(f"no model at '{reference}': the folder does not exist", "give a model folder, a run folder or hf://org/repo")
    for candidate in (folder, folder / "model"):
        if (candidate / WEIGHTS).exists() and (candidate / CONFIG).exists():
            if not fetched:
                for name in (WEIGHTS, CONFIG):
                    stay_inside(folder, candidate / name)
            return candidate
    if (folder / "config.yaml").exists():
        raise UsageError(f"the run in '{reference}' has not finished: it has no model yet", "run its command again to continue it")
    pickled = next((file.name for file in sorted(folder.iterdir()) if file.suffix in hub.PICKLES), None) if folder.is_dir() else None
    if pickled:
        raise UsageError(f"'{reference}' has its weights as a pickle ({pickled}), which is never read", f"it needs {WEIGHTS} and {CONFIG}")
    raise UsageError(f"'{reference}' is not a model folder: it needs {WEIGHTS} and {CONFIG}")


def stay_inside(folder: Path, file: Path) -> None:
    """Raises UsageError where a file of a folder lies outside of it, by way of symbolic links.

    The Hub's cache is made of links: one of its snapshots may point into the blobs of the cache.
    """
    real, base = file.resolve(), folder.resolve()
    if real.is_relative_to(base):
        return
    storages = [above.parent for above in base.parents if above.name == "snapshots" and above.parent.name.startswith("models--")]
    if any(real.is_relative_to(store / "blobs") for storage in storages for store in (storage, storage.parent)):
        return
    raise UsageError(f"{file} is a link that leads out of its folder", "put the file itself in its place")


def links_stay_inside(folder: Path) -> None:
    """`stay_inside` of every link in a folder that another program has written."""
    for file in folder.rglob("*"):
        if file.is_symlink():
            stay_inside(folder, file)


class Description(dict):
    """A config.json, or a mapping within it: to ask for a key that it lacks is a UsageError which names the file and the key."""

    def __init__(self, values: dict[str, Any], file: Path, place: str = ""):
        super().__init__(
            {key: Description(value, file, f"{place}{key}.") if isinstance(value, dict) else value for key, value in values.items()}
        )
        self.file, self.place = file, place

    def __missing__(self, key: str) -> Any:
        raise UsageError(f"{self.file} lacks {_shown(f'{self.place}{key}')}", "it was edited, or made by another version")


def load_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder: a mapping with `task` (text) and `architecture` (a mapping), see `Description`."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise UsageError(f"{path} is larger than {MAX_CONFIG_BYTES // 1_000_000} MB", "it is not the configuration of a model")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), dict) or not isinstance(config.get("task"), str):
        raise UsageError(f"{path} is not the configuration of a model of this tool", "it needs 'task' and 'architecture'")
    for key in MAPPINGS:
        if not isinstance(config.get(key, {}), dict):
            raise UsageError(f"{path}: '{key}' must be a mapping")
    for key in ("preset", "init"):
        if not isinstance(config.get("provenance", {}).get(key), str | None):
            raise UsageError(f"{path}: provenance.{key} must be text")
    for key, largest in MAX_SIZES.items():
        size = config.get("preprocessing", {}).get(key)
        if size is not None and not (type(size) is int and 0 < size <= largest):
            raise UsageError(f"{path}: preprocessing.{key} must be a whole number from 1 to {largest}")
    labels = config.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.isprintable() for label in labels):
        raise UsageError(f"{path}: 'labels' must be a list of names")
    return Description(config, path)


def load_weights(folder: Path) -> dict[str, Any]:
    """The tensors of a model folder, on the CPU; UsageError where they are not safetensors or not all finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    try:
        with open(path, "rb") as file:
            start = file.read(9)
        if start.startswith(PICKLE_STARTS) and start[8:] != b"{":
            raise UsageError(f"{path} is a pickle, which is never read", "weights are read from safetensors only")
        weights = load_file(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise UsageError(f"{path} is not a readable safetensors file: {str(error).splitlines()[0]}") from None
    require_finite(weights, path)
    return weights


def require_finite(weights: dict[str, Any], source: Path | str) -> None:
    """UsageError, naming `source`, where not all values of some tensors are finite."""
    import torch

    _refuse([name for name, tensor in weights.items() if not _finite(torch, tensor)], source)


def check_finite(path: Path) -> None:
    """UsageError where a safetensors file cannot be read or not all of its values are finite; one tensor is in memory at a time."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            bad = [name for name in file.keys() if not _finite(torch, file.get_tensor(name))]  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, KeyError) as error:
        raise UsageError(f"{path} is not a readable safetensors file: {str(error).splitlines()[0]}") from None
    _refuse(bad, path)


def _refuse(bad: list[str], path: Path | str) -> None:
    if bad:
        raise UsageError(f"{path} holds NaN or infinite weights: {_some(bad)}", "a training run diverged, or the file is damaged")


def _finite(torch: Any, tensor: Any) -> bool:
    """Whether every value is finite. One sum tells in nearly all cases: it is not finite where a value is not."""
    if not tensor.is_floating_point() or tensor.is_meta:
        return True
    if tensor.element_size() == 1:
        tensor = tensor.float()
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32))) or bool(torch.isfinite(tensor).all())


@contextmanager
def bounded(tensors: int, elements: int, source: str) -> Iterator[None]:
    """Within it, building a network of far more tensors or elements than weights were given is a UsageError.

    A config.json may ask for any size; this stops at the first parameter that is too many, before its values are drawn.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    left = [2 * tensors + 100, 2 * elements + 10_000_000]

    def count(module: Any, name: str, parameter: Any) -> None:
        left[0] -= 1
        left[1] -= 0 if parameter is None else parameter.numel()
        if min(left) < 0:
            raise UsageError(f"the weights in {source} do not fit this model: its {CONFIG} describes a far larger one")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    except (RuntimeError, OverflowError, MemoryError) as error:  # sizes that no memory and no 64-bit number holds
        raise UsageError(f"the {CONFIG} of {source} describes no network: {(str(error) or 'too large').splitlines()[0][:200]}") from None
    finally:
        handle.remove()


@contextmanager
def bounded_by(folder: Path) -> Iterator[None]:
    """`bounded` by the safetensors files in a folder, for networks that another library builds."""
    from safetensors import SafetensorError, safe_open

    files, tensors = sorted(folder.rglob("*.safetensors")), 0
    try:
        for file in files:
            with safe_open(file, "pt") as opened:
                tensors += len(opened.keys())
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{file} is not a readable safetensors file: {str(error).splitlines()[0]}") from None
    with bounded(tensors, sum(file.stat().st_size for file in files), str(folder)):  # an element takes a byte at least
        yield


def check_fits(build: Callable[[], Any], weights: dict[str, Any], source: str) -> None:
    """UsageError unless `build()`, which goes by a config.json, makes a module that takes exactly these tensors; nothing is allocated."""
    import torch
    from pydantic import ValidationError

    try:
        with torch.device("meta"), bounded(len(weights), sum(tensor.numel() for tensor in weights.values()), source):
            module = build()
    except ValidationError:
        raise  # it names the setting
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:  # settings of the wrong kind
        raise UsageError(f"the {CONFIG} of {source} describes no network: {_shown(str(error))}") from error
    _compare(module, weights, source)


def build_strict(build: Callable[[], Any], weights: dict[str, Any], source: str) -> Any:
    """The module that `build()` makes, with these tensors: no memory is taken before it is known that they fit. Raises UsageError."""
    check_fits(build, weights, source)
    module = build()
    load_strict(module, weights, source)
    return module


def load_strict(module: Any, weights: dict[str, Any], source: str) -> None:
    """Loads tensors into a module; any missing, unexpected or misshapen key is a UsageError that names it."""
    _compare(module, weights, source)
    module.load_state_dict(weights)


def _compare(module: Any, weights: dict[str, Any], source: str) -> None:
    own = module.state_dict()
    problems = [f"missing {_shown(k)}" for k in own.keys() - weights.keys()]
    problems += [f"unexpected {_shown(k)}" for k in weights.keys() - own.keys()]
    for k in own.keys() & weights.keys():
        if own[k].shape != weights[k].shape:
            problems.append(f"{_shown(k)} has shape {tuple(weights[k].shape)}, not {tuple(own[k].shape)}")
        elif own[k].is_floating_point() != weights[k].is_floating_point() or weights[k].is_complex():
            problems.append(f"{_shown(k)} has type {weights[k].dtype}, not {own[k].dtype}".replace("torch.", ""))
    if problems:
        raise UsageError(f"the weights in {source} do not fit this model: {_some(problems, '; ')}")


def encoder_weights(weights: dict[str, Any], prefix: str = "encoder.") -> dict[str, Any]:
    """The part of a model's tensors that belongs to its encoder, without the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _shown(key: str) -> str:
    """A tensor's name as a terminal can show it: a file may name its tensors with anything."""
    text = key if key.isprintable() else repr(key)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _some(items: list[str], separator: str = ", ") -> str:
    shown = sorted(_shown(item) if separator == ", " else item for item in items)
    return separator.join(shown[:5]) + (f"{separator}and {len(shown) - 5} more" if len(shown) > 5 else "")
