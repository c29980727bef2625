"""Which frames a file really holds, and when each is shown: the timestamp index behind exact random access."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tasks.core.video.cursor import Cursor
from tasks.core.video.media import import_av, open_container
from tasks.core.video.quirks import Trait, applies
from tasks.core.video.reader import VideoError
from tasks.core.video.scan import Packets, StreamFacts, fingerprint, increasing, read_frames, read_packets, reordered, shown_size
from tasks.core.video.structure import Fault, find_fault

FULL_DECODE_PX = 400_000_000  # up to this many pixels (about 3 s of one core) every frame is decoded once when a file is first met
_FAR_OFF = 2  # a frame rate is not believed where the length of the file says one so many times higher or lower
STEPS_S = (1e-5, 86_400.0)  # a usual time between two frames outside of this is a damaged header; no picture could be found by its time


@dataclass(frozen=True)
class VideoIndex:
    """What is known of one video file.

    Attributes:
        ticks: (n,) int64, when each decodable frame is shown, in `time_base` seconds; the ordinal where the file has no usable times.
        keys: (k,) int64, numbers of the frames at which decoding may start.
        seekable: whether frames can be found by their timestamp; else they are counted from the start.
        skip_to_key: whether packets before the first keyframe are left out.
        height, width: as shown, px;
        rotation: degrees counter-clockwise that the decoded picture is turned by.
        fps: average frame rate;
        header_frames: the count that the header claims, 0 where it claims none.
        b_frames: whether frames are stored in another order than shown.
        verified: whether every frame was decoded when the index was made.
        damage: why frames are missing at the end, or None.
        packets: how many packets may be given to the decoder from the start; None: all. A damaged file is read from the start only.
    """

    ticks: np.ndarray
    keys: np.ndarray
    time_base: float
    seekable: bool
    skip_to_key: bool
    height: int
    width: int
    rotation: int
    fps: float
    header_frames: int
    codec: str
    container: str
    b_frames: bool
    verified: bool
    damage: str | None = None
    packets: int | None = None

    @property
    def seconds(self) -> np.ndarray:
        """(n,) float64 presentation times in seconds."""
        return self.ticks * self.time_base


def build_index(path: str | Path, full: bool = False) -> VideoIndex:
    """Index one file.

    A small file is decoded once from start to end. A large one is only demuxed where its container stores presentation times, and its
    first and last group of pictures is decoded and compared; anything unclear, or `full`, leads to the full decode.

    Raises:
        VideoError: no frame can be decoded, or the frames' times make no sense.
    """
    index = _build(str(path), full)
    step = float(np.median(np.diff(index.seconds))) if len(index.ticks) > 1 else 1 / index.fps
    if not STEPS_S[0] <= step <= STEPS_S[1]:
        raise VideoError(path, f"its frame times make no sense ({step:.3g} s from one frame to the next)")
    return index


def _build(path: str, full: bool) -> VideoIndex:
    fault = find_fault(path)
    packets = read_packets(path, fault)
    facts = packets.facts
    pixels = len(packets.pts) * facts.coded_height * facts.coded_width
    timed = None not in packets.pts and not applies(Trait.DECODE_TO_INDEX, facts.container)
    if not full and pixels > FULL_DECODE_PX and timed and fault is None and packets.fault is None:
        index = _from_packets(path, packets)
        if index is not None:
            return index
    return _from_frames(path, packets, fault)


def _from_frames(path: str, packets: Packets, fault: Fault | None) -> VideoIndex:
    frames = read_frames(path, packets, fault)
    n = len(frames.pts)
    if not n:
        raise VideoError(path, f"no frame can be decoded ({frames.damage or packets.fault or 'there are no pictures in it'})")
    facts, shown = packets.facts, packets.shown
    timed = increasing(frames.pts) and facts.time_base > 0
    rate = _average_rate(frames.pts, facts.time_base) if timed and n > 1 else _counted_rate(facts)
    seekable = timed and not frames.damage and set(frames.pts) <= set(shown)
    marked = {pts for pts, key in zip(packets.pts, packets.key, strict=True) if key}
    keys = [i for i in range(1, n) if frames.key[i] and frames.pts[i] in marked] if seekable else []
    index = VideoIndex(
        ticks=np.asarray(frames.pts if timed else range(n), np.int64),
        keys=np.asarray([0, *keys], np.int64),
        time_base=facts.time_base if timed else 1.0 / rate,
        seekable=seekable,
        skip_to_key=packets.skip_to_key,
        height=frames.height,
        width=frames.width,
        rotation=frames.rotation,
        fps=rate,
        header_frames=facts.header_frames,
        codec=facts.codec,
        container=facts.container,
        b_frames=reordered(shown),
        verified=True,
        damage=frames.damage,
        packets=frames.packets if frames.damage else None,
    )
    if seekable and not _seeks_are_exact(path, index, frames.prints):
        return replace(index, seekable=False, keys=np.zeros(1, np.int64))
    return index


def _from_packets(path: str, packets: Packets) -> VideoIndex | None:
    """The index from packet times alone, or None where the first or last group of pictures does not decode to just these times."""
    facts = packets.facts
    shown = sorted((p, key) for p, key, drop in zip(packets.pts, packets.key, packets.discard, strict=True) if not drop)
    ticks = np.asarray([pts for pts, _ in shown], np.int64)
    keys = np.asarray([i for i, (_, key) in enumerate(shown) if key], np.int64)
    counted = facts.header_frames in (0, len(packets.pts))
    if not counted or not len(keys) or keys[0] != 0 or (np.diff(ticks) <= 0).any():
        return None
    size = _first_size(path)
    if size is None:
        return None
    height, width, rotation = size
    index = VideoIndex(
        ticks=ticks,
        keys=keys,
        time_base=facts.time_base,
        seekable=True,
        skip_to_key=packets.skip_to_key,
        height=height,
        width=width,
        rotation=rotation,
        fps=_average_rate(ticks.tolist(), facts.time_base),
        header_frames=facts.header_frames,
        codec=facts.codec,
        container=facts.container,
        b_frames=reordered(packets.pts),
        verified=False,
    )
    return index if _ends_decode(path, index) else None


def _first_size(path: str) -> tuple[int, int, int] | None:
    """`shown_size` of the first frame; None where it does not decode."""
    av = import_av()
    with open_container(path, threads=1) as container:
        try:
            return shown_size(next(container.decode(container.streams.video[0])))
        except (av.error.FFmpegError, OSError, StopIteration):
            return None


def _average_rate(ticks: list[int], time_base: float) -> float:
    return (len(ticks) - 1) / ((ticks[-1] - ticks[0]) * time_base)


def _counted_rate(facts: StreamFacts) -> float:
    """Frames a second where frames have no usable times: the header's rate, unless the file lasts more than twice as long, or less than
    half as long, as it says (`Trait.EVEN_OVER_LENGTH`); sound that is somewhat longer than the pictures is no reason to doubt it.
    """
    if not (applies(Trait.EVEN_OVER_LENGTH, facts.container) and facts.header_frames and facts.duration_s):
        return facts.fps
    lasts = facts.header_frames / facts.duration_s
    return facts.fps if 1 / _FAR_OFF < facts.fps / lasts < _FAR_OFF else lasts


def _ends_decode(path: str, index: VideoIndex) -> bool:
    """Whether every frame of the first and the last group of pictures is found at its time."""
    n, keys = len(index.ticks), index.keys
    first_group = range(0, int(keys[1]) if len(keys) > 1 else n)
    cursor = Cursor(path, index, threads=1)
    try:
        for number in [*first_group, *range(int(keys[-1]), n)]:
            cursor.fetch(number)
    except VideoError:
        return False
    finally:
        cursor.close()
    return True


def _seeks_are_exact(path: str, index: VideoIndex, prints: dict[int, int]) -> bool:
    """Seek to frames whose picture is known from the sequential pass."""
    for number, expected in prints.items():
        cursor = Cursor(path, index, threads=1)
        try:
            if fingerprint(cursor.fetch(number)) != expected:
                return False
        except VideoError:
            return False
        finally:
            cursor.close()
    return True
