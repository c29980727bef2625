"""Frame labels: CSV, and the files that the field's data sets come with."""

from pathlib import Path

import numpy as np

from tasks.anomalies.predictions import Predicted, number, ordered, table
from tasks.core.errors import InputError

_TRACKS = "_tracks.txt"
Labels = dict[str, tuple[np.ndarray, np.ndarray]]
"""Video -> ((n,) int64 frame numbers, increasing; (n,) int64 labels, 1 = anomalous)."""


def read_labels(path: str | Path, predicted: list[Predicted]) -> Labels:
    """Labels of every video.

    Args:
        path: a CSV with the columns video, frame, label; `frame_labels_*.npy` as LNTRA publishes them (Astrid et al., BMVC 2021), shape (1,
            total), the frames of all videos one after the other in the order of their names; a folder of `VIDEO.npy` with the labels of one
            video each (ShanghaiTech's `test_frame_mask`); or a folder that holds `VIDEO_tracks.txt` (UBnormal: rows of id, first, last
            frame; where there is none, videos whose names begin with `normal` are all normal).
        predicted: tell how long the videos are where labels do not (`.npy` of all videos, tracks).

    Raises:
        InputError: it cannot be read or used.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path, predicted)
    if path.suffix.lower() == ".npy":
        return _joined(path, predicted)
    return _csv(path)


def _csv(path: Path) -> Labels:
    rows: dict[str, tuple[list[int], list[int]]] = {}
    for line, row in table(path, ("video", "frame", "label")):
        frames, labels = rows.setdefault(row["video"], ([], []))
        frames.append(number(row["frame"], int, f"{path}, line {line}"))
        labels.append(_label(number(row["label"], int, f"{path}, line {line}"), f"{path}, line {line}"))
    found = {}
    for video, (frames, labels) in rows.items():
        frame, columns = ordered(video, frames, {"label": labels}, str(path))
        found[video] = frame, columns["label"]
    return found


def _folder(path: Path, predicted: list[Predicted]) -> Labels:
    tracks = {file.name.removesuffix(_TRACKS): file for file in sorted(path.rglob(f"*{_TRACKS}"))}
    if tracks:
        lengths = {video.video: video.length() for video in predicted}
        return {video: _numbered(_tracks(tracks, video, length)) for video, length in lengths.items() if _is_labelled(tracks, video)}
    files = sorted(path.glob("*.npy"))
    if not files:
        raise InputError(f"{path}: no *.npy and no *{_TRACKS} in this folder", "or give a CSV with the columns video,frame,label")
    return {file.stem: _numbered(_array(file)) for file in files}


def _joined(path: Path, predicted: list[Predicted]) -> Labels:
    labels, videos = _array(path), sorted(predicted, key=lambda video: video.video)
    ends = np.cumsum([video.length() for video in videos])
    if ends[-1] != len(labels):
        known = "" if all(video.n_frames for video in videos) else "; lengths are taken from the last scored frames"
        raise InputError(
            f"{path} labels {len(labels)} frames, the {len(videos)} predicted videos have {ends[-1]}{known}",
            "predict exactly the labelled videos, or give labels as a CSV with the columns video,frame,label",
        )
    parts = np.split(labels, ends[:-1])
    return {video.video: _numbered(part) for video, part in zip(videos, parts, strict=True)}


def _is_labelled(tracks: dict[str, Path], video: str) -> bool:
    return Path(video).stem in tracks or Path(video).stem.startswith("normal")


def _tracks(tracks: dict[str, Path], video: str, length: int) -> np.ndarray:
    labels = np.zeros(length, np.int64)
    file = tracks.get(Path(video).stem)
    if file is None:
        return labels
    try:
        rows = np.loadtxt(file, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: no tracks ({error})", "rows of id, first frame, last frame are expected") from None
    if rows.size and rows.shape[1] < 3:
        raise InputError(f"{file}: rows of id, first frame, last frame are expected")
    for row in rows:
        labels[int(row[1]) : int(row[2]) + 1] = 1
    return labels


def _array(file: Path) -> np.ndarray:
    try:
        labels = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: no labels ({error})") from None
    labels = labels.reshape(-1)
    if not np.isin(labels, (0, 1)).all():
        raise InputError(f"{file}: labels must be 0 (normal) or 1 (anomalous)")
    return labels.astype(np.int64)


def _numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(len(labels), dtype=np.int64), labels


def _label(value: int, where: str) -> int:
    if value not in (0, 1):
        raise InputError(f"{where}: label {value}", "labels are 0 (normal) or 1 (anomalous)")
    return value
