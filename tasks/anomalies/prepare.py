"""What is computed once before a part is trained: flow of every video, and features of every frame. Files that are there are kept."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tasks.anomalies.config import FlowConfig
from tasks.anomalies.footage import Footage, pictures
from tasks.core.errors import InputError
from tasks.core.files import replacing
from tasks.core.flow.flow import flow_of
from tasks.core.flow.flow_config import TVL1Config
from tasks.core.flow.flow_png import read_flow
from tasks.core.towers.visual import FrameEncoder
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoReader

CHUNK = 32
"""Frames in memory at a time."""
Tick = Callable[[int], None]


def resized(flow: torch.Tensor, size: int) -> torch.Tensor:
    """Flow `(n, 2, H, W)` on the grid of the square that the autoencoder sees, `(n, 2, size, size)`; vectors keep their px."""
    return F.interpolate(flow, (size, size), mode="bilinear", antialias=True)


def flow_used(footage: list[Footage], config: FlowConfig, tvl1: TVL1Config | None) -> FlowConfig:
    """How flow is really found: where the pseudo-anomalies bring some, at its short side and by `tvl1`, so that scoring does the same."""
    for item in footage:
        if item.flow is not None:
            short_side = min(read_flow(pictures(item.flow)[0]).shape[1:])
            return config.model_copy(update={"short_side": short_side, "tvl1": tvl1 or config.tvl1})
    return config


def prepared(folder: Path, item: Footage, source: str | Path | None) -> Path:
    """The file of what is made of footage from `source`, a twin, or None: from the video itself. Its name tells what is in it, so that
    files of an interrupted run are found again by the same footage only, whatever became of other videos in between.
    """
    key = json.dumps([item.path, item.low, item.high, item.first, source and str(source)])
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"


def flow_files(
    footage: list[Footage], config: FlowConfig, size: int, folder: Path, device: torch.device, decoder: str, share: slice, tick: Tick
) -> list[tuple[Path, Path | None]]:
    """Files of the flow of every video, `(n, 2, size, size)` float16, and of its twin; row i belongs to frame low + i.

    Args:
        share: the videos whose files this process makes.
        tick: called with the frames done since the last call; may raise.
    """
    files = [
        (prepared(folder, item, item.flow), prepared(folder, item, item.flow_pseudo) if item.flow_pseudo else None) for item in footage
    ]
    for item, (normal, pseudo) in list(zip(footage, files, strict=True))[share]:
        if not normal.exists():
            _write(normal, item, size, stored(item, item.flow) if item.flow else computed(item, config, device, decoder), tick)
        if pseudo and not pseudo.exists():
            _write(pseudo, item, size, stored(item, item.flow_pseudo), lambda n: tick(0))
    return files


def _write(file: Path, item: Footage, size: int, flows: Iterator[torch.Tensor], tick: Tick) -> None:
    with replacing(file) as temporary:
        shape = (item.high - item.low, 2, size, size)
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        at = 0
        for flow in flows:
            out[at : at + len(flow)] = resized(flow, size).cpu().numpy()
            at += len(flow)
            tick(len(flow))
        out.flush()


def stored(item: Footage, folder: Path) -> Iterator[torch.Tensor]:
    """Flow of frames [low, high) from PNG, chunks of `(n, 2, H, W)` float32. Raises InputError where pictures are missing."""
    files, low, high = pictures(folder), item.low - item.first, item.high - item.first
    if len(files) < high:
        raise InputError(f"{folder} has {len(files)} pictures of flow, {high} expected", "run vid gen-pseudo again to complete it")
    for start in range(low, high, CHUNK):
        yield torch.from_numpy(np.stack([read_flow(file) for file in files[start : min(start + CHUNK, high)]]))


def computed(item: Footage, config: FlowConfig, device: torch.device, decoder: str) -> Iterator[torch.Tensor]:
    """TV-L1 flow of frames [low, high), chunks of `(n, 2, H, W)`; the last frame repeats the flow before it."""
    with open_video(item.path, decoder) as reader:
        yield from flow_stream(reader.frames(item.low, item.high, side(reader, config.short_side)), config, device)


def side(reader: VideoReader, short_side: int | None) -> int | None:
    """Never larger than the video itself: enlarging adds nothing."""
    return None if short_side is None or short_side >= min(reader.height, reader.width) else short_side


def flow_stream(frames: Iterator[tuple[int, float, np.ndarray]], config: FlowConfig, device: torch.device) -> Iterator[torch.Tensor]:
    """Flow of a stream of frames, chunks of `(n, 2, H, W)` float32, as many rows as frames: the last repeats the one before it, and is
    zero where there is no other frame.
    """
    held: list[np.ndarray] = []
    last = None
    for _, _, frame in frames:
        held.append(frame)
        if len(held) > CHUNK:
            flow = flow_of(np.stack(held), device=device, config=config.tvl1)
            held, last = held[-1:], flow[-1:]
            yield flow
    if len(held) > 1:
        flow = flow_of(np.stack(held), device=device, config=config.tvl1)
        last = flow[-1:]
        yield flow
    if held:
        yield last if last is not None else torch.zeros(1, 2, *held[0].shape[:2])


def feature_files(
    footage: list[Footage], encoder: FrameEncoder, folder: Path, device: torch.device, decoder: str, share: slice, tick: Tick
) -> list[tuple[Path, Path | None]]:
    """Files of the features of every frame, `(n, dim)` float32, and of its twin; arguments as `flow_files`."""
    files = [(prepared(folder, item, None), prepared(folder, item, item.frames) if item.frames else None) for item in footage]
    for item, pair in list(zip(footage, files, strict=True))[share]:
        for file, path, first in zip(pair, (item.path, item.frames), (0, item.first), strict=True):
            if file is None or file.exists():
                continue
            low, high = item.low - first, item.high - first
            with open_video(path, decoder) as reader:
                if reader.n_frames < high:
                    raise InputError(f"{path} has {reader.n_frames} frames, {high} expected", "run vid gen-pseudo again")
                parts = []
                for start in range(low, high, CHUNK):
                    parts.append(encoder(as_batch(reader.get(range(start, min(start + CHUNK, high))), device)).cpu().numpy())
                    tick(len(parts[-1]))
            with replacing(file) as temporary, open(temporary, "wb") as out:
                np.save(out, np.concatenate(parts))
    return files


def as_batch(frames: np.ndarray, device: torch.device) -> torch.Tensor:
    """(n, H, W, 3) uint8 to `(n, 3, H, W)` on the device."""
    return torch.from_numpy(frames).to(device, non_blocking=True).permute(0, 3, 1, 2).contiguous()
