"""Folders of features: one file per video on a regular grid in time, and a sidecar that says what made them."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.data.feature_files import FORMATS, LAYOUTS, SUFFIXES, TIMES, FeatureError, read_features, write_arrays
from tasks.core.data.feature_sidecar import RECORD, SHARED, SIDECAR, claim, describe, read_sidecar, recorded, steps_of
from tasks.core.data.grid import Grid, same_s
from tasks.core.data.inputs import output_names
from tasks.core.data.rows import Row
from tasks.core.errors import UsageError
from tasks.core.files import write_json


@dataclass(frozen=True)
class Features:
    """The features of one video.

    Attributes:
        values: (n, d) float16, float32 or float64; in an npy folder a view of the file, read where it is touched.
        grid: where they lie in time; None: one feature of the whole video.
    """

    values: np.ndarray
    grid: Grid | None

    @property
    def times(self) -> np.ndarray | None:
        """(n, 2) float64: begin and end of what each feature sees, presentation time in seconds; None without a grid."""
        return None if self.grid is None else self.grid.times(len(self.values))


def write_features(
    folder: Path,
    name: str,
    features: np.ndarray,
    grid: Grid | None,
    encoder: Mapping[str, Any],
    format: str = "npz",
    t: np.ndarray | None = None,
    record: Mapping[str, Any] | None = None,
    steps: Mapping[str, float | None] | None = None,
    redone: Collection[str] = (),
) -> list[Path]:
    """Writes the features of one video into a folder of features, which is made, or must hold such features already.

    The record is written last: without it the features do not count. Several processes may write into one folder at once.

    Args:
        folder: of features.
        name: of the video, as `core.data.inputs.gather` names outputs.
        features: (n, d), or (d,) without a grid; float16 or float32, others are written as float32.
        grid: of this video's features; None: one feature of the whole video.
        encoder: JSON-able; `reference`, `weights_hash` and whatever else says what the encoder sees.
        format: `npz`, `npy` or `h5`.
        t: (n, 2) presentation times of the first and last frame that each feature saw, seconds; for other programs.
        record: JSON-able, more to keep in the record.
        steps: `stride_s` and `span_s` of the whole folder, None for what follows each video's frame rate; None: those of `grid`.
        redone: names whose files will all be written anew, so that another encoder may take over the folder.

    Returns:
        the files: NAME.features.json, then the arrays.

    Raises:
        UsageError: the folder holds features of another encoder or grid; unknown format; h5py is not installed.
    """
    if format not in FORMATS:
        raise UsageError(f"cannot write features as '{format}'", f"known: {', '.join(FORMATS)}")
    features = np.asarray(features)
    if features.dtype != np.float16:
        features = features.astype(np.float32, copy=False)
    if not features.size or features.ndim != (1 if grid is None else 2):
        raise ValueError(f"features of shape {features.shape} {'without a' if grid is None else 'on a'} grid")
    described = describe(encoder, grid and (steps or grid.facts()), format, features.dtype)
    claim(folder, described, features.shape[-1], redone)
    kept = folder / f"{name}{RECORD}"
    for stale in (kept, *(folder / f"{name}.features{ending}" for ending in (*SUFFIXES, TIMES))):
        stale.unlink(missing_ok=True)
    arrays = {"features": features} | ({} if t is None else {"t": np.asarray(t, np.float64)})
    files = write_arrays(folder / f"{name}.features.{format}", arrays)
    facts = {"n": len(np.atleast_2d(features)), "dim": features.shape[-1], "grid": grid and grid.facts(), "id": described["id"]}
    write_json(kept, {**(record or {}), **facts})
    return [kept, *files]


class FeatureFolder:
    """The features in a folder: what `write_features` wrote, or one array per video that another program wrote.

    Args:
        path: the folder.
        grid: of features that another program wrote; it is never guessed.
        files: how their files are named, e.g. `v_{name}_rgb.npy`; None: `{name}` with any known ending. They may lie in subfolders.
        layout: `nd`, a row per feature, or `dn`, a column per feature.
        key: the array in files that hold several; None: `features`, or the only one.
        encoder: what made them, in a word; a model that learns from them records it.
        where: the settings that `grid` and the others are, for messages.

    Attributes:
        encoder: as `write_features` was given it; `reference` alone, perhaps None, for other programs' features.
        grid: stride and span of every file, `offset_s` of those whose record has none; None where each file has its own (`Features.grid`)
            or where there is one feature per video.
        whole: one feature per video, no grid.
        steps: `stride_s` and `span_s`, None for what follows each video's frame rate; None where `whole`.
        names: of the videos, sorted.

    Raises:
        UsageError: no such folder, no features in it, no grid, or settings that contradict its sidecar.
    """

    def __init__(
        self,
        path: str | Path,
        grid: Grid | None = None,
        files: str | None = None,
        layout: str = "nd",
        key: str | None = None,
        encoder: str | None = None,
        where: str = "grid",
    ):
        self.path, self._layout, self._key = Path(path), layout, key
        if not self.path.is_dir():
            raise UsageError(f"{path}: no such folder of features", "make one: vid extract-features VIDEOS --per window --out FOLDER")
        if layout not in LAYOUTS:
            raise UsageError(f"features cannot have the layout '{layout}'", "nd: a row per feature, dn: a column per feature")
        self.sidecar = read_sidecar(self.path)
        if self.sidecar is None:
            self._open_foreign(grid, files, encoder, where)
        else:
            self._open_own(grid, {"files": files, "key": key, "encoder": encoder, "layout": None if layout == "nd" else layout})
        self.names = sorted(self._files)
        if not self.names:
            raise UsageError(f"{path}: no features in this folder" + (f" by the name {files}" if files else ""))
        self._by_stem = defaultdict(list)
        for name in self.names:
            self._by_stem[name.rpartition("/")[2]].append(name)
        self._dim = self.sidecar["dim"] if self.sidecar else None

    def _open_own(self, grid: Grid | None, settings: dict[str, str | None]) -> None:
        steps = self.sidecar["grid"]
        if given := next((name for name, value in settings.items() if value is not None), None):
            raise UsageError(f"{self.path} has a {SIDECAR}: '{given}' is for features of other programs", f"leave {given} out")
        if grid is not None and (steps is None or any(steps[k] and not same_s(steps[k], getattr(grid, k)) for k in SHARED)):
            raise UsageError(f"{self.path} has {steps_of(steps)}, by its {SIDECAR}; the settings say {grid}", "leave the grid out")
        self.encoder, self.whole = self.sidecar["encoder"], steps is None
        self.steps = None if steps is None else {name: steps[name] for name in SHARED}
        self.grid = Grid(**steps) if steps and None not in steps.values() else None
        ending = f".features.{self.sidecar['format']}"
        there = {entry.name for entry in os.scandir(self.path)}
        self._files = {name: self.path / f"{name}{ending}" for name in recorded(self.path) if f"{name}{ending}" in there}

    def _open_foreign(self, grid: Grid | None, files: str | None, encoder: str | None, where: str) -> None:
        if grid is None:
            raise UsageError(
                f"{self.path} has no {SIDECAR}: it does not say when its features are",
                f"set {where}.stride_s, {where}.span_s and {where}.offset_s, in seconds, to what made them",
            )
        self.encoder, self.grid, self.whole = {"reference": encoder, "weights_hash": None}, grid, False
        self.steps = {name: getattr(grid, name) for name in SHARED}
        self._files = _named_files(self.path, files)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    @property
    def dim(self) -> int:
        """Channels d of a feature."""
        if self._dim is None:
            self._dim = int(read_features(self._files[self.names[0]], self._key, self._layout).shape[1])
        return self._dim

    def get(self, name: str) -> Features:
        """The features of one video.

        Raises:
            FeatureError: they are not there, cannot be read, or were made with something else than the others.
        """
        if name not in self._files:
            raise FeatureError(self.path, f"has no features of {name}" + _near(name, self.names))
        values = read_features(self._files[name], self._key, self._layout)
        grid = self._own_grid(name, len(values)) if self.sidecar else self.grid
        if values.shape[1] != self.dim:
            raise FeatureError(self._files[name], f"has {values.shape[1]} channels, the others {self.dim}" + self._perhaps_layout(values))
        return Features(values, grid)

    def of(self, row: Row) -> Features:
        """The features of a manifest row's video, all of them; raises FeatureError as `find` and `get`."""
        return self.get(self.find(row))

    def find(self, row: Row) -> str:
        """The name under which the features of a manifest row's video are kept; the video itself need not be there.

        Ours are named after the file, with a hash of its path where two had the same name; those of a part of a video (`start`, `end`) are
        taken where there are none of the whole. Other programs' files are named like the video, or lie in subfolders like it.

        Raises:
            FeatureError: there are none, or several that it could be.
        """
        if self.sidecar:
            whole, part = output_names(Row(row.path)), output_names(row)
            found = next((name for name in (*whole, *part) if name in self._files), None)
            wanted = " nor ".join(whole[::-1])
        else:
            found, wanted = self._find_foreign(row.path)
        if found is None:
            raise FeatureError(row.path, f"no features in {self.path}: neither {wanted} is there{_near(output_names(row)[1], self.names)}")
        return found

    def _find_foreign(self, path: str) -> tuple[str | None, str]:
        for whole in dict.fromkeys((os.path.splitext(path)[0], path)):
            parts = whole.strip(os.sep).split(os.sep)
            for first in range(len(parts)):
                if (name := "/".join(parts[first:])) in self._files:
                    return name, name
            alike = self._by_stem.get(parts[-1], [])
            if len(alike) > 1:
                raise FeatureError(path, f"several features in {self.path} could be its own: {', '.join(alike[:3])}")
            if alike:
                return alike[0], alike[0]
        return None, f"{os.path.splitext(os.path.basename(path))[0]} nor {os.path.basename(path)}"

    def _own_grid(self, name: str, n: int) -> Grid | None:
        file = self.path / f"{name}{RECORD}"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            made, count, grid = record["id"], record["n"], record["grid"]
            grid = None if grid is None else Grid(**grid)
        except (OSError, ValueError, TypeError, KeyError, UsageError) as error:
            raise FeatureError(file, f"cannot be read ({error})", "extract the features again") from None
        if made != self.sidecar["id"] or count != n or (grid is None) != self.whole:
            raise FeatureError(file, f"these features are not those that {SIDECAR} describes", "extract them again, by the same command")
        return grid

    def _perhaps_layout(self, values: np.ndarray) -> str:
        return "; is a column a feature? Then set layout to dn" if not self.sidecar and len(values) == self.dim else ""


def _named_files(folder: Path, template: str | None) -> dict[str, Path]:
    """Name of the video (with the subfolder, where there is one) -> file."""
    pattern = None
    if template is not None:
        if template.count("{name}") != 1 or not template.endswith(SUFFIXES):
            raise UsageError(f"files of features cannot be named '{template}'", "for example: {name}.npy, v_{name}_rgb.npz")
        pattern = re.compile("(.+)".join(map(re.escape, template.split("{name}"))))
    found: dict[str, Path] = {}
    for inside, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        above = "" if Path(inside) == folder else Path(inside).relative_to(folder).as_posix() + "/"
        for file in sorted(files):
            name = _stem_of(file, pattern)
            if name is None:
                continue
            if above + name in found:
                both = f"{found[above + name].name} and {file}"
                raise UsageError(f"{folder} has two files for {above}{name}: {both}", "say which: files={name}.npy, for example")
            found[above + name] = Path(inside, file)
    return found


def _stem_of(file: str, pattern: re.Pattern | None) -> str | None:
    if pattern is not None:
        match = pattern.fullmatch(file)
        return match and match[1]
    if file.startswith(".") or not file.endswith(SUFFIXES):
        return None
    return os.path.splitext(file)[0].removesuffix(".features")


def _near(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names[:10_000], 1)
    return f"; did you mean {close[0]}?" if close else f" (there are {len(names)}, the first is {names[0]})"
