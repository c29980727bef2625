"""A folder of precomputed flow: one file per video, found by what the video is, not by where it lies.

    flow.json                               how all of it was computed, and how to read it
    5e/clip7-1f0c9a33d2b4e871.flow.zip      the flow of one version of clip7.*: 000000.png, 000001.png, ... and video.json

A zip of PNG pictures because it is lossless, read at any frame without reading the others (some 0.4 ms a picture of 128 x 171), opened by
every zip tool and picture viewer, and one file per video: pictures in folders would be 72 million files for Kinetics-400. On videos of a
standing camera it takes 3 KiB a flow of 128 x 171, a fourteenth of the bare numbers.

Names carry the fingerprint of the video's content. So a folder stays right when videos move, a changed video is noticed because its new
version has no flow, and any number of processes may write without telling each other what is done.
"""

import glob
import hashlib
import io
import json
import os
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.config import build
from tasks.core.errors import UsageError
from tasks.core.files import replacing, write_json
from tasks.core.flow.flow_config import FlowSettings
from tasks.core.flow.levels import flow_of_frames, n_flows
from tasks.core.locks import one_at_a_time
from tasks.core.report.outputs import readable
from tasks.core.video.fingerprint import fingerprint
from tasks.core.video.reader import VideoError

SIDECAR, SUFFIX, FORMAT = "flow.json", ".flow.zip", 1
_RECORD = "video.json"
_OPEN = 4
_LONGEST_STEM = 180  # bytes, of the 255 that a file name may have
_DAMAGE = (OSError, ValueError, KeyError, SyntaxError, EOFError, zipfile.BadZipFile, zlib.error)
_EXPLAINED = {
    "files": "a zip per video, named after the video and a fingerprint of its content; pictures 000000.png, 000001.png, ...",
    "pictures": "level = round((px + bound_px) * 255 / (2 * bound_px)); red is u, to the right; green is v, downwards; blue is 128",
    "pairs": "picture i is the flow from frame i to frame i + gap_frames, in px; the last gap_frames frames repeat the last picture",
}


def open_for_writing(folder: Path, settings: FlowSettings) -> None:
    """Makes the folder, or takes it up again.

    Raises:
        UsageError: the folder holds something else, or flow that was computed otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder / ".lock"):
        if not (folder / SIDECAR).exists():
            if any(not path.name.startswith(".") for path in folder.iterdir()):
                raise UsageError(f"{folder} is not empty and holds no optical flow", "choose another --out")
            write_json(folder / SIDECAR, {"format": FORMAT, "settings": settings.model_dump(mode="json"), "meaning": _EXPLAINED})
        there = read_settings(folder)
    if there != settings:
        theirs, ours = there.model_dump(), settings.model_dump()
        changed = "; ".join(f"{key} is {theirs[key]}, not {ours[key]}" for key in ours if theirs[key] != ours[key])
        raise UsageError(f"{folder} holds flow that was computed otherwise: {changed}", "repeat its settings, or choose another --out")


def read_settings(folder: Path) -> FlowSettings:
    """How the flow of a folder was computed; UsageError where it holds none."""
    hint = "write one with: vid data flow MANIFEST -o FOLDER"
    try:
        known = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        if known["format"] != FORMAT:
            raise ValueError
        return build(FlowSettings, known["settings"])
    except OSError:
        raise UsageError(f"{folder} is not a folder of optical flow: it has no {SIDECAR}", hint) from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{folder / SIDECAR} cannot be understood: damaged, or of another version", hint) from None


def file_for(folder: Path, video: str | Path, mark: str) -> Path:
    """Where the flow of a video with this fingerprint belongs."""
    shelf, stem = _shelf(folder, video)
    return shelf / f"{stem}-{mark}{SUFFIX}"


def _shelf(folder: Path, video: str | Path) -> tuple[Path, str]:
    """The subfolder of all videos of this name, one of 256, and their name."""
    name = os.path.basename(os.path.abspath(video))
    stem = name if os.path.isdir(video) else os.path.splitext(name)[0] or name
    return folder / hashlib.sha256(os.fsencode(stem)).hexdigest()[:2], os.fsdecode(os.fsencode(stem)[:_LONGEST_STEM])


def write_video(file: Path, facts: dict[str, Any], parts: Iterable[np.ndarray]) -> dict[str, Any]:
    """Writes the flow of one video, whole or not at all.

    Args:
        file: of `file_for`.
        facts: JSON-able; `n_frames` of the video and its absolute path, `source`, among them.
        parts: `(k, h, w, 3)` uint8 pictures each, in order; one picture at least.

    Returns:
        the facts, with `n_flows`, `height` and `width` of the pictures.
    """
    from PIL import Image

    with replacing(file) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as store:
        number, height, width = 0, 0, 0
        for part in parts:
            _, height, width, _ = part.shape
            for picture in part:
                data = io.BytesIO()
                Image.fromarray(picture).save(data, "PNG")
                store.writestr(_member(number), data.getvalue())
                number += 1
        known = {**facts, "n_flows": number, "height": height, "width": width}
        store.writestr(_RECORD, json.dumps(known, indent=2))
    return known


def read_facts(file: Path) -> dict[str, Any] | None:
    """What `write_video` returned; None where the file is not there or damaged."""
    try:
        with zipfile.ZipFile(file) as store:
            return _facts(store)
    except _DAMAGE:
        return None


def _facts(store: zipfile.ZipFile) -> dict[str, Any]:
    found = json.loads(store.read(_RECORD))
    if not isinstance(found, dict):
        raise ValueError(f"{_RECORD} is not an object")
    return found


def _member(number: int) -> str:
    return f"{number:06d}.png"


class FlowFolder:
    """Reads a folder of flow. Can be sent to other processes.

    Args:
        folder: UsageError where it holds no flow.

    Attributes:
        settings: how the flow was computed.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.settings = read_settings(self.folder)
        self._open: OrderedDict[tuple, zipfile.ZipFile] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def pictures(self, video: str, n_frames: int, frames: np.ndarray) -> np.ndarray:
        """The flow of some frames of a video.

        Args:
            video: its path.
            n_frames: how many it has.
            frames: `(T,)` numbers.

        Returns:
            `(T, h, w, 3)` uint8.

        Raises:
            VideoError: the folder has no flow of this video as it is now, or it is damaged.
        """
        from PIL import Image

        store = self._store(video, n_frames)
        flows, back = np.unique(flow_of_frames(frames, n_frames, self.settings.gap_frames), return_inverse=True)
        found = []
        try:
            for number in flows.tolist():
                with Image.open(io.BytesIO(store.read(_member(number))), formats=("PNG",)) as picture:
                    found.append(np.asarray(picture.convert("RGB")))
            return np.stack(found)[back]
        except _DAMAGE as error:
            raise VideoError(video, f"its flow, {store.filename}, is damaged ({error})") from None

    def _store(self, video: str, n_frames: int) -> zipfile.ZipFile:
        """The open file of a video; kept open as long as the video stays as it is."""
        key = (video, *_state(video))
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        file = file_for(self.folder, video, fingerprint(video))
        try:
            store = zipfile.ZipFile(file)
            facts = _facts(store)
        except FileNotFoundError:
            raise VideoError(video, self._missing(video)) from None
        except _DAMAGE as error:
            raise VideoError(video, f"its flow, {file}, is damaged ({error})") from None
        if (facts.get("n_frames"), facts.get("n_flows")) != (n_frames, n_flows(n_frames, self.settings.gap_frames)):
            raise VideoError(video, f"its flow, {file}, is of {facts.get('n_frames')} frames, and {n_frames} can be decoded here")
        self._open[key] = store
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)[1].close()
        return store

    def _missing(self, video: str) -> str:
        shelf, stem = _shelf(self.folder, video)
        here = readable(os.path.abspath(video))
        for other in shelf.glob(f"{glob.escape(stem)}-*{SUFFIX}"):
            if (read_facts(other) or {}).get("source") == here:
                return f"its flow in {self.folder} is stale: the file has changed since; vid data flow makes it again"
        return f"no flow of it in {self.folder}"


def _state(video: str) -> tuple[int, int]:
    try:
        info = os.stat(video)
    except OSError as error:
        raise VideoError(video, f"cannot be opened ({error.strerror})") from None
    return info.st_size, info.st_mtime_ns
