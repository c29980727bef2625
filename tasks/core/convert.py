"""Weights of other programs: reading them as tensors only, renaming them strictly, and writing folders that appear whole or not at all."""

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import numpy as np
import torch

from tasks.core.checkpoint import CONFIG, WEIGHTS, check_fits
from tasks.core.errors import InputError, UsageError
from tasks.core.files import replacing_folder
from tasks.core.flow.flow_config import FlowSettings
from tasks.core.reporter import Reporter

PUBLISHED = "checkpoint.pth.tar"
"""Name of the checkpoints that are written for public code."""
SAFE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
BIN, BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

Tensors = dict[str, torch.Tensor]
Names = dict[str, tuple[str, ...]]
"""Our name -> the name there; several names there are joined along the first dimension, in this order."""


def read_pth(file: Path) -> dict[str, Any]:
    """What a `.pth` file holds. Only tensors, plain values, numpy's numbers (the best accuracy that training scripts save) and
    `argparse.Namespace` (their settings) are read.

    Tensors stay in the file until they are used, unless torch before 1.6 wrote it or it was compressed. Raises InputError, which names
    what else is in it.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    try:
        with torch.serialization.safe_globals([argparse.Namespace, *_numpy_numbers()]):
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=_mappable(file))
    except Exception as error:  # torch raises many kinds: damaged archives, forbidden types, short reads
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
        if isinstance(error, UnpicklingError):  # torch's words advise to read the file unsafely
            asked = re.search(r"(?:GLOBAL|global:?) ([\w.]+\.\w+)", str(error))
            reason = f"it asks for {asked[1]}" if asked else "it is damaged, or holds something else"
        raise InputError(
            f"{file} cannot be read as tensors: {reason}", "give the file as published; files that hold code are not opened"
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"{file} holds no state dict: names with tensors")
    return found


def _mappable(file: Path) -> bool:
    """Whether tensors lie in a file as they lie in memory."""
    if not is_zipfile(file):
        return False
    with ZipFile(file) as archive:
        return all(entry.compress_type == ZIP_STORED for entry in archive.infolist())


def _numpy_numbers() -> list[Any]:
    """What a pickled numpy scalar names, as numpy 1 and 2 call it."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]


def state_dict(found: dict[str, Any], file: Path, keys: tuple[str, ...] = ("state_dict", "model", "module")) -> Tensors:
    """The tensors of a checkpoint: the entry under the first of `keys` that it has, else all of it. Raises InputError."""
    inner = next((found[key] for key in keys if isinstance(found.get(key), Mapping)), found)
    if not inner or not all(isinstance(value, torch.Tensor) for value in inner.values()):
        raise InputError(f"{file} holds no state dict: names with tensors")
    return dict(inner)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object; InputError where there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{file} is no JSON object")
    return found


def read_folder(folder: Path) -> Tensors:
    """The tensors of a `transformers` folder: safetensors, whole or in parts, else `pytorch_model.bin`. Raises InputError."""
    for name, index in ((SAFE, SAFE_INDEX), (BIN, BIN_INDEX)):
        if (folder / name).exists():
            return read_part(folder / name)
        if (folder / index).exists():
            weight_map = read_json(folder / index).get("weight_map")
            if not isinstance(weight_map, dict):
                raise InputError(f"{folder / index} has no weight_map")
            tensors: Tensors = {}
            for part in sorted(set(weight_map.values())):
                if Path(part).name != part:
                    raise InputError(f"{folder / index} names a file outside its folder: {part}")
                tensors |= read_part(folder / part)
            return tensors
    raise InputError(f"{folder} has no weights: neither {SAFE} nor {BIN}")


def read_part(file: Path) -> Tensors:
    """The tensors of one file: safetensors, or what `read_pth` reads. Raises InputError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if file.suffix != ".safetensors":
        return state_dict(read_pth(file), file)
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is not a readable safetensors file: {error}") from None


def take_names(tensors: Tensors, names: Names, source: str) -> Tensors:
    """Tensors under our names, float32. Every tensor must have its place and every place its tensor; InputError names those that do not."""
    expected = {there for several in names.values() for there in several}
    problems = [f"missing {name}" for name in expected - tensors.keys()] + [f"unexpected {name}" for name in tensors.keys() - expected]
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InputError(f"{source} does not hold the tensors of this architecture: {'; '.join(sorted(problems)[:5])}{more}")
    return {ours: torch.cat([tensors[name] for name in several]).float() for ours, several in names.items()}


def give_names(tensors: Tensors, names: Names) -> Tensors:
    """The inverse of `take_names`; tensors that `names` does not list are left out."""
    found: Tensors = {}
    for ours, several in names.items():
        found |= {name: part.contiguous().clone() for name, part in zip(several, tensors[ours].chunk(len(several)), strict=True)}
    return found


def check_out(out: Path, source: Path, marks: tuple[str, ...]) -> None:
    """UsageError unless `out` is free, empty, or holds all of the files `marks` and neither is the source nor holds it."""
    if out.resolve() == source.resolve():
        raise UsageError(f"{out} is the source itself", "choose another --out")
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or all((out / mark).is_file() for mark in marks))):
        raise UsageError(f"{out} is not empty and holds no model", "choose another --out")
    if source.resolve().is_relative_to(out.resolve()):
        raise UsageError(f"{out} holds the source, and is replaced whole", "choose another --out")
    if out.resolve() == Path.cwd():
        raise UsageError(f"{out} is the folder you are in, and is replaced whole", "choose another --out")


def read_published(file: Path, source: str, sources: Mapping[str, str], out: Path) -> Tensors:
    """The tensors of a checkpoint of public code, their names without the `module.` of training on several GPUs.

    Args:
        file: as published.
        source: what it is.
        sources: the kinds that a task knows.
        out: the model folder to write; an existing model folder may be replaced.

    Raises:
        UsageError: unknown source, or `out` holds something else.
        InputError: the file cannot be read.
    """
    if source not in sources:
        raise UsageError(f"cannot convert from '{source}'", f"known sources: {', '.join(sources)}")
    check_out(out, file, (WEIGHTS, CONFIG))
    return {name.removeprefix("module."): tensor for name, tensor in state_dict(read_pth(file), file).items()}


def write_published(out: Path, content: Mapping[str, Any], network: str, reporter: Reporter) -> dict[str, Any]:
    """Writes a checkpoint for public code into `out`, which appears whole or not at all; returns what is reported.

    Args:
        out: a folder that `check_out` has let pass.
        content: what the file holds, with `state_dict`.
        network: what it is, for the report.
        reporter: told where it lies.
    """
    with replacing_folder(out) as partial:
        torch.save(dict(content), partial / PUBLISHED)
    reporter.info(f"wrote {out / PUBLISHED}")
    return {"file": str(out / PUBLISHED), "tensors": len(content["state_dict"]), "network": network}


def place_tensors(
    tensors: Tensors, places: Mapping[str, str], source: str, file: Path, inner: Callable[[str], str], left_out: tuple[str, ...] = ()
) -> Tensors:
    """Tensors of public code under our names, in float32.

    Args:
        tensors: by their names there.
        places: how a name begins there: how it begins here.
        source: what the file is said to be.
        file: named in errors.
        inner: from the rest of a name there to that here.
        left_out: beginnings of names that only training needs.

    Raises:
        InputError: a tensor has no place here, or two names of one tensor disagree.
    """
    found: Tensors = {}
    for name, tensor in tensors.items():
        start = next((start for start in places if name.startswith(start)), None)
        if start is None and left_out and name.startswith(left_out):
            continue
        if start is None:
            raise InputError(f"{file} is not a checkpoint of {source}: it has {name!r:.80}", f"known: {', '.join((*places, *left_out))}")
        ours = places[start] + inner(name.removeprefix(start))
        if ours in found and not torch.equal(found[ours], tensor):
            raise InputError(f"{file} has two different tensors for {ours}", "they are one in the public code")
        found[ours] = tensor.float() if tensor.is_floating_point() else tensor
    return found


def check_source(build: Callable[[], Any], weights: Tensors, source: Path) -> None:
    """InputError unless the module that `build()` makes has these tensors in these shapes; nothing is allocated."""
    try:
        check_fits(build, weights, str(source))
    except UsageError as error:
        raise InputError(error.message, error.hint) from None


def swap_flow_channels(weights: Tensors, stem: str) -> Tensors:
    """Weights of a network on flow as the public code of MemDPC and CoCLR has them, from ours, or the other way round.

    There pictures of flow hold (128, v, u), here (u, v, 128): the input channels of the first convolution run backwards.

    Args:
        weights: by name.
        stem: name of the first convolution's weight, (out, 3, ...).
    """
    return {**weights, stem: weights[stem].flip(1).contiguous()}


def flow_preprocessing(preprocessing: dict[str, Any]) -> dict[str, Any]:
    """The `preprocessing` of a network on flow with `swap_flow_channels`; means and deviations go with their channels."""
    flow = {"compute": FlowSettings().model_dump(mode="json"), "frames": False, "channels": 3}
    return {**preprocessing, "flow_input": flow, "mean": preprocessing["mean"][::-1], "std": preprocessing["std"][::-1]}


def public_flow_weights(weights: Tensors, stem: str, preprocessing: dict[str, Any], like: dict[str, Any], reporter: Reporter) -> Tensors:
    """Weights for the public code: where a network sees flow, with its channels as there.

    Args:
        weights: ours.
        stem: as `swap_flow_channels`.
        preprocessing: of the model.
        like: that of the public code, with its `mean` and `std`.
        reporter: warned where the network expects other means and deviations than the public code gives it.
    """
    if not preprocessing.get("flow_input"):
        return weights
    if any(list(preprocessing[name]) != like[name][::-1] for name in ("mean", "std")):
        reporter.warn("the public code normalises u and the constant otherwise than this network was trained with: features differ")
    return swap_flow_channels(weights, stem)
