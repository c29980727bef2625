"""Indexes, and files that no decoder survives, kept in memory and on disk so that a file is examined once."""

import hashlib
import io
import json
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np

from tasks.core.video.guard import DecoderCrash, first_look, guarded
from tasks.core.video.index import VideoIndex
from tasks.core.video.media import require_file
from tasks.core.video.quirks import TABLE, index_version

VERSION = index_version(TABLE)
REFUSED_S = 86_400.0  # a crash or a hang may have been the machine's fault
_MEMORY = 4096
_FRAMES = 8 << 20  # of all indexes in memory: 64 MiB of times, however long the videos are
_memory: OrderedDict[str, VideoIndex] = OrderedDict()
_lock = Lock()
Found = TypeVar("Found")


def cache_folder() -> Path:
    """Where indexes are kept: $VID_CACHE, else ~/.cache/vid (XDG_CACHE_HOME respected)."""
    chosen = os.environ.get("VID_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vid"


def index_of(path: str | Path, full: bool = False) -> VideoIndex:
    """The index of a video file, made when the file is first met or has changed since.

    Args:
        full: accept only an index for which every frame was decoded.

    Raises:
        VideoError: no frame can be decoded, or the decoder crashed or hung on the file (for a day it is not tried again).
    """
    key = _key(path)
    with _lock:
        index = _memory.get(key)
        if index is not None and (index.verified or not full):
            _memory.move_to_end(key)
            return index
    index = _load(_file(key, ".npz"))
    if index is None or (full and not index.verified):
        index = looked_at(str(path), _file(key, ".refused"), lambda: first_look(str(path), full))
        _save(_file(key, ".npz"), index)
    with _lock:
        _memory[key] = index
        while len(_memory) > _MEMORY or (len(_memory) > 1 and sum(len(each.ticks) for each in _memory.values()) > _FRAMES):
            _memory.popitem(last=False)
    return index


def looked_at(path: str, refused: Path, look: Callable[[], Found]) -> Found:
    """What `look` finds out about a file, unless a decoder crashed or hung on it within a day.

    Args:
        path: the file.
        refused: where such an end is remembered.
        look: see `tasks.core.video.guard.survive`.

    Raises:
        VideoError: as `look`.
        DecoderCrash: the decoder crashed or hung, now or before.
    """
    try:
        if guarded() and time.time() - refused.stat().st_mtime < REFUSED_S:
            raise DecoderCrash(path, refused.read_text(encoding="utf-8"), "vid data check looks at it again")
    except OSError:
        pass
    try:
        return look()
    except DecoderCrash as error:
        write_cached(refused, error.reason.encode())
        raise


def cached_file(path: str | Path, version: str, suffix: str) -> Path:
    """Where what is known of a file is kept: another place when the file or the version changes. VideoError as `require_file`."""
    return _file(_key(path, version), suffix)


def _key(path: str | Path, version: str = str(VERSION)) -> str:
    info = require_file(path)
    text = f"{version}|{os.path.abspath(path)}|{info.st_size}|{info.st_mtime_ns}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _file(key: str, suffix: str) -> Path:
    return cache_folder() / "index" / key[:2] / f"{key[2:]}{suffix}"


def _load(file: Path) -> VideoIndex | None:
    """A broken or foreign cache file counts as none."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            return VideoIndex(ticks=stored["ticks"], keys=stored["keys"], **facts)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None


def _save(file: Path, index: VideoIndex) -> None:
    facts = {k: v for k, v in asdict(index).items() if k not in ("ticks", "keys")}
    buffer = io.BytesIO()
    np.savez(buffer, ticks=index.ticks, keys=index.keys, facts=np.asarray(json.dumps(facts)))
    write_cached(file, buffer.getvalue())


def write_cached(file: Path, content: bytes) -> None:
    """Write by temporary name and rename; a cache that cannot be written is done without."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(content)
            os.replace(name, file)
        except OSError:
            os.unlink(name)
    except OSError:
        return
