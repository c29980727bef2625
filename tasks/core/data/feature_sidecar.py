"""`features.json`: what all features of a folder were made with, so that no two encoders or grids get mixed in it."""

import hashlib
import json
import os
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.errors import UsageError
from tasks.core.files import write_json

SIDECAR, RECORD = "features.json", ".features.json"
SHARED = ("stride_s", "span_s")
_LARGEST = 10_000_000  # bytes


def describe(encoder: Mapping[str, Any], steps: Mapping[str, float | None] | None, format: str, dtype: np.dtype | str) -> dict[str, Any]:
    """The contents of a sidecar, but for `dim`.

    Args:
        encoder: `reference` (as people name it), `weights_hash` (None where there are no weights) and whatever else says what it sees.
        steps: `stride_s` and `span_s` of all files, None where each file's record has its own; None: one feature per video.
        format: `npz`, `npy` or `h5`.
        dtype: of the features.

    Returns:
        `version`, `encoder`, `format`, `dtype`, `grid` and `id`, which two folders share where their features can be mixed. `offset_s` of
        the grid is that of files whose record has none.
    """
    steps = None if steps is None else {name: steps[name] for name in SHARED}
    encoder = {"reference": None, "weights_hash": None, **encoder}
    known = {name: value for name, value in encoder.items() if name != "reference" or encoder["weights_hash"] is None}
    text = json.dumps([known, format, str(np.dtype(dtype)), steps], sort_keys=True)
    return {
        "version": 1,
        "encoder": encoder,
        "format": format,
        "dtype": str(np.dtype(dtype)),
        "grid": None if steps is None else {**steps, "offset_s": 0.0},
        "id": hashlib.sha256(text.encode()).hexdigest()[:16],
    }


def read_sidecar(folder: Path) -> dict[str, Any] | None:
    """The sidecar of a folder; None where there is none.

    Raises:
        UsageError: it cannot be read, or is not one.
    """
    path = folder / SIDECAR
    if not path.exists():
        return None
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}", _AGAIN) from None
    kinds = {"encoder": dict, "format": str, "dtype": str, "dim": int, "grid": dict | None, "id": str}
    wrong = [name for name, kind in kinds.items() if not isinstance(found, dict) or not isinstance(found.get(name, ...), kind)]
    if not wrong and found["grid"] is not None and {*found["grid"]} != {*SHARED, "offset_s"}:
        wrong = ["grid"]
    if wrong:
        raise UsageError(f"{path} does not describe features: '{wrong[0]}' is missing or of the wrong kind", _AGAIN)
    return found


_AGAIN = "extract the features again, into an empty folder"


def check_folder(folder: Path, described: Mapping[str, Any], redone: Collection[str] = ()) -> bool:
    """Whether a folder already holds features of this description; False: it holds none, or all that it holds is going to be redone.

    Args:
        described: of `describe`.
        redone: names whose files will all be written anew.

    Raises:
        UsageError: other features are there.
    """
    found = read_sidecar(folder)
    if found is not None and found["id"] == described["id"]:
        return True
    left = [name for name in recorded(folder) if name not in set(redone)]
    if left:
        theirs = name_of(found) if found else "features of an earlier version"
        many = f"{left[0]} and {len(left) - 1} more" if len(left) > 1 else left[0]
        raise UsageError(
            f"{folder} holds {theirs} ({many}); this is {name_of(described)}",
            "choose another folder, remove this one, or do all of its videos again in one command",
        )
    return False


def claim(folder: Path, described: Mapping[str, Any], dim: int, redone: Collection[str] = ()) -> None:
    """Makes a folder one of such features: writes its sidecar where `check_folder` lets it. Several processes may do so at once.

    Raises:
        UsageError: other features are there.
    """
    if check_folder(folder, described, redone):
        if (there := read_sidecar(folder)["dim"]) != dim:
            raise UsageError(f"{folder} holds features of {there} channels, not {dim}", "choose another folder")
        return
    contents = {**described, "dim": dim}
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / SIDECAR).exists():
        write_json(folder / SIDECAR, contents)
    elif not _create(folder / SIDECAR, contents):
        claim(folder, described, dim, redone)


def _create(path: Path, contents: Mapping[str, Any]) -> bool:
    """Writes a file that is not there yet, whole; False where another process was faster."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(json.dumps(contents, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            os.replace(temporary, path)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def recorded(folder: Path) -> list[str]:
    """The sorted names of the videos whose features are in a folder, by their records."""
    try:
        files = [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []
    return sorted(file.removesuffix(RECORD) for file in files if file.endswith(RECORD) and not file.startswith("."))


def name_of(described: Mapping[str, Any]) -> str:
    """Encoder, hash of its weights, grid, format and type in a few words."""
    encoder, grid = described["encoder"], described["grid"]
    weights = f" ({encoder['weights_hash']})" if encoder.get("weights_hash") else ""
    kind = f" as {described['format']} {described['dtype']}" if "format" in described and "dtype" in described else ""
    return f"{encoder.get('reference') or 'an unnamed encoder'}{weights}, {steps_of(grid)}{kind}"


def steps_of(grid: Mapping[str, float | None] | None) -> str:
    """Stride and span of a described grid in words."""
    if grid is None:
        return "one feature per video"
    return ", ".join(f"{name[:-2]} " + ("by frame rate" if grid.get(name) is None else f"{grid[name]:g} s") for name in SHARED)
