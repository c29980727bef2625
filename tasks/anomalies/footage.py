"""Normal videos and their pseudo-anomalies: which frames count, and where the twins made by `vid gen-pseudo` lie.

A pseudo-anomaly folder holds `videos.csv` (path, source, n_frames), `frames/NAME/` with one picture per frame of the source,
`flow/NAME/` and `flow_pseudo/NAME/` with flow as 16-bit PNG (u and v times 64 plus 2^15, KITTI's form), and `pseudo.json`; what was not
asked for is absent.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.errors import InputError, UsageError
from tasks.core.video.clips import frame_range
from tasks.core.video.manifest import Row
from tasks.core.video.reader import VideoError, open_video

KITTI_SCALE, KITTI_ZERO = 64.0, 2**15


@dataclass(frozen=True)
class Footage:
    """A normal video, or the part of one that counts, and its twins.

    Attributes:
        path: the video. low, high: frames [low, high) count; those of the twins have the same numbers.
        frames: a folder of pictures or a video, its spatial pseudo-anomalies. flow, flow_pseudo: folders of 16-bit PNG. None: not there.
    """

    path: str
    low: int
    high: int
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
                f"{folder} is no folder of pseudo-anomalies: it has no videos.csv", "make one: vid gen-pseudo VIDEOS --out FOLDER"
            )
        with open(table, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if any(not row.get("path") or not row.get("source") for row in rows):
            raise UsageError(f"{table}: every row needs a path and a source")
        self._by_source = {row["source"]: row for row in rows}
        names: dict[str, list[dict]] = {}
        for row in rows:
            names.setdefault(Path(row["source"]).name, []).append(row)
        self._by_name = {name: found[0] for name, found in names.items() if len(found) == 1}

    @property
    def facts(self) -> dict[str, Any]:
        """The contents of pseudo.json, for a model's provenance; empty where it is missing or damaged."""
        try:
            found = json.loads((self.folder / "pseudo.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {k: v for k, v in found.items() if k not in ("videos", "finished")} if isinstance(found, dict) else {}

    def twins(self, path: str, n_frames: int) -> dict[str, Any]:
        """Fields `frames`, `flow`, `flow_pseudo` of the footage of a video: by its path, else by its file name where that is unique.

        Raises:
            InputError: the twins have another number of frames than the video.
        """
        row = self._by_source.get(path) or self._by_name.get(Path(path).name)
        if row is None:
            return {}
        if row.get("n_frames") and int(row["n_frames"]) != n_frames:
            raise InputError(
                f"{path} has {n_frames} frames, its pseudo-anomalies in {self.folder} were made from {row['n_frames']}",
                "make them again from these videos: vid gen-pseudo",
            )
        twin = self.folder / row["path"]
        name = twin.name if twin.is_dir() else twin.stem
        flows = {kind: self.folder / kind / name for kind in ("flow", "flow_pseudo")}
        made = row.get("spatial") != "none" and twin.exists()
        return {"frames": str(twin) if made else None, **{k: p if p.is_dir() else None for k, p in flows.items()}}


def find_footage(rows: list[Row], length: int, decoder: str, pseudo: PseudoFolder | None) -> tuple[list[Footage], list[tuple[str, str]]]:
    """Footage of every readable row, and (path, reason) of the others; a video shorter than `length` frames is one of those.

    Raises:
        InputError: no video is usable. UsageError: the pseudo-anomalies belong to none of these videos.
    """
    found, skipped = [], []
    for row in rows:
        try:
            with open_video(row.path, decoder) as reader:
                n_frames = reader.n_frames
                low, high = frame_range(reader.pts, row.start_s, row.end_s)
        except VideoError as error:
            skipped.append((row.path, error.reason))
            continue
        if high - low < length:
            skipped.append((row.path, f"{high - low} frames, a clip has {length}"))
            continue
        found.append(Footage(row.path, low, high, **(pseudo.twins(row.path, n_frames) if pseudo else {})))
    if not found:
        path, reason = skipped[0]
        raise InputError(f"none of the {len(rows)} training videos is usable; {path}: {reason}", "run: vid data check")
    if pseudo and not any(item.frames or item.flow_pseudo for item in found):
        raise UsageError(
            f"{pseudo.folder} holds no pseudo-anomalies of these videos (the first is {found[0].path})",
            "make them from the training videos: vid gen-pseudo",
        )
    return found, skipped


def read_flow_png(file: Path) -> np.ndarray:
    """`(2, H, W)` float32, px, from a 16-bit PNG in KITTI's form. Raises InputError."""
    try:
        import cv2
    except ImportError:
        raise InputError("reading 16-bit flow needs OpenCV", "pip install opencv-contrib-python-headless") from None
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16 or image.ndim != 3:
        raise InputError(f"{file} cannot be read as 16-bit flow", "make the folder again: vid gen-pseudo")
    u, v = image[..., 2], image[..., 1]  # OpenCV keeps blue first
    return (np.stack((u, v)).astype(np.float32) - KITTI_ZERO) / KITTI_SCALE
