"""Normal videos and their pseudo-anomalies: which frames count, and where the twins made by `vid gen-pseudo` lie.

A pseudo-anomaly folder holds `videos.csv` (path, source, n_frames), `frames/NAME/` with one picture per frame of the source,
`flow/NAME/` and `flow_pseudo/NAME/` with flow (`core.flow.flow_png`), and `pseudo.json`; what was not asked for is absent. Pictures are
named by the number of their frame, so that of a video used in part the first is not 000000.png.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.clips.clips import frame_range
from tasks.core.data.manifest import Row
from tasks.core.data.parsing import IMAGE_SUFFIXES
from tasks.core.errors import InputError, UsageError
from tasks.core.flow.flow_config import TVL1Config
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError


@dataclass(frozen=True)
class Footage:
    """A normal video, or the part of one that counts, and its twins.

    Attributes:
        path: the video.
        low, high: frames [low, high) count.
        first: frame of the video that the twins begin with, at most low.
        frames: a folder of pictures or a video, its spatial pseudo-anomalies.
        flow, flow_pseudo: folders of 16-bit PNG. None: not there.
    """

    path: str
    low: int
    high: int
    first: int = 0
    frames: str | None = None
    flow: Path | None = None
    flow_pseudo: Path | None = None

    def starts(self, length: int) -> range:
        """First frames of every run of `length` consecutive frames."""
        return range(self.low, self.high - length + 1)


class PseudoFolder:
    """What `vid gen-pseudo` wrote.

    Raises:
        UsageError: the folder is none of its.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        table = self.folder / "videos.csv"
        if not table.is_file():
            raise UsageError(
                f"{folder} is not a folder of pseudo-anomalies: it has no videos.csv", "make one: vid gen-pseudo VIDEOS --out FOLDER"
            )
        with open(table, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if any(not row.get("path") or not row.get("source") or not (row.get("n_frames") or "").isdigit() for row in rows):
            raise UsageError(f"{table}: every row needs a path, a source and n_frames")
        self._by_source: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            self._by_source.setdefault(row["source"], []).append(row)

    @property
    def facts(self) -> dict[str, Any]:
        """The contents of pseudo.json, for a model's provenance; empty where it is missing or damaged."""
        try:
            found = json.loads((self.folder / "pseudo.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        idle = ("finished", "host", "slurm", "platform")
        return {name: value for name, value in found.items() if name not in idle} if isinstance(found, dict) else {}

    @property
    def tvl1(self) -> TVL1Config | None:
        """How the folder's flow was found; None where it does not say."""
        kept = self.facts.get("settings", {}).get("temporal", {}).get("flow")
        return TVL1Config(**kept) if kept else None

    def sources_of(self, paths: Iterable[str]) -> dict[str, str]:
        """Which source each of these videos was, as far as there is one: the same path; where that is true of none of them, as after a
        move, the same file name, if only one video and only one source are called so.
        """
        paths = set(paths)
        if same := paths & self._by_source.keys():
            return {path: path for path in same}
        names = Counter(Path(path).name for path in paths)
        sources = Counter(Path(source).name for source in self._by_source)
        by_name = {Path(source).name: source for source in self._by_source if sources[Path(source).name] == 1}
        return {path: by_name[name] for path in paths if names[name := Path(path).name] == 1 and name in by_name}

    def twins(self, source: str | None, path: str, low: int, high: int) -> dict[str, Any]:
        """Fields `first`, `frames`, `flow`, `flow_pseudo` of footage [low, high) of a video that was `source` (None: no twins).

        Raises:
            InputError: there are twins of this video, but not of all these frames.
        """
        if source is None:
            return {}
        found = [self._fields(row) for row in self._by_source[source]]
        covering = [(fields, n) for fields, n in found if fields["first"] <= low and high <= fields["first"] + n]
        if not covering:
            made, n = found[0][0]["first"], found[0][1]
            raise InputError(
                f"{path}: frames {low} to {high - 1} are to be used, {self.folder} was made from {made} to {made + n - 1}",
                "make it again from these videos: vid gen-pseudo",
            )
        return covering[0][0]

    def _fields(self, row: dict[str, str]) -> tuple[dict[str, Any], int]:
        """What `twins` gives of one row, and its number of frames."""
        twin = self.folder / row["path"]
        name = twin.name if twin.is_dir() else twin.stem
        flow, flow_pseudo = (path if (path := self.folder / kind / name).is_dir() else None for kind in ("flow", "flow_pseudo"))
        frames = twin if row.get("spatial") != "none" and twin.exists() else None
        named = next((pictures(folder)[0].stem for folder in (frames, flow_pseudo) if folder and folder.is_dir()), "0")
        first = int(named) if named.isdigit() else 0
        return {"first": first, "frames": str(frames) if frames else None, "flow": flow, "flow_pseudo": flow_pseudo}, int(row["n_frames"])


def find_footage(
    rows: list[Row], length: int, decoder: str, pseudo: PseudoFolder | None, what: str = "training"
) -> tuple[list[Footage], list[tuple[str, str]]]:
    """Footage of every readable row, and (path, reason) of the others; a video shorter than `length` frames is one of those.

    Args:
        what: the videos are, for the person who reads that none of them can be used.

    Raises:
        InputError: no video is usable.
        UsageError: the pseudo-anomalies belong to none of these videos.
    """
    found, skipped = [], []
    sources = pseudo.sources_of(row.path for row in rows) if pseudo else {}
    for row in rows:
        try:
            with open_video(row.path, decoder) as reader:
                low, high = frame_range(reader.pts, row.start_s, row.end_s)
        except VideoError as error:
            skipped.append((row.path, error.reason))
            continue
        if high - low < length:
            skipped.append((row.path, f"{high - low} frames, a clip has {length}"))
            continue
        found.append(Footage(row.path, low, high, **(pseudo.twins(sources.get(row.path), row.path, low, high) if pseudo else {})))
    if not found:
        path, reason = skipped[0]
        raise InputError(f"none of the {len(rows)} {what} videos is usable; {path}: {reason}", "run: vid data check")
    if pseudo and not any(item.frames or item.flow_pseudo for item in found):
        raise UsageError(
            f"{pseudo.folder} holds no pseudo-anomalies of these videos (the first is {found[0].path})",
            "make them from the training videos: vid gen-pseudo",
        )
    return found, skipped


def pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, by name; those of `vid gen-pseudo` have names of one length. Raises InputError where there is none."""
    found = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise InputError(f"{folder} holds no pictures", "run vid gen-pseudo again to complete it")
    return found
