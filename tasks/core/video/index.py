"""Which frames a file really holds, and when each is shown: the timestamp index behind exact random access."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
import zlib

import numpy as np

from tasks.core.video.cursor import Cursor
from tasks.core.video.media import import_av, open_container, plain
from tasks.core.video.reader import VideoError
from tasks.core.video.structure import Fault, find_fault

if TYPE_CHECKING:
    import av

FULL_DECODE_PX = 400_000_000  # up to this many pixels (about 3 s of one core) every frame is decoded once when a file is first met
UNTIMED = ("avi", "mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "av1", "obu")  # containers whose packet times are not to be trusted
_KEY_PROBES = 6


@dataclass(frozen=True)
class VideoIndex:
    """What is known of one video file.

    Attributes:
        ticks: (n,) int64, presentation time of each decodable frame in units of `time_base` seconds; the ordinal where the file has no usable times.
        keys: (k,) int64, numbers of the frames at which decoding may start.
        seekable: whether frames can be found by their timestamp; else they are counted from the start of the file.
        skip_to_key: whether packets before the first keyframe are left out.
        height, width: as shown, px; rotation: degrees counter-clockwise that the decoded picture is turned by.
        fps: average frame rate; header_frames: the count that the header claims, 0 where it claims none.
        b_frames: whether frames are stored in another order than shown.
        verified: whether every frame was decoded when the index was made.
        damage: why frames are missing at the end, or None.
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

    @property
    def seconds(self) -> np.ndarray:
        """(n,) float64 presentation times in seconds."""
        return self.ticks * self.time_base


@dataclass
class _Packets:
    """The packets of the video stream in file order, without decoding."""

    pts: list[int | None]
    key: list[bool]
    discard: list[bool]
    fault: str | None = None


@dataclass
class _Decoded:
    """Frames in display order as the decoder gave them."""

    pts: list[int | None]
    key: list[bool]
    prints: dict[int, int]
    size: tuple[int, int, int]
    damage: str | None = None


def build_index(path: str | Path) -> VideoIndex:
    """Index one file.

    A small file is decoded once from start to end. A large one is only demuxed where its container stores presentation times, and its
    first and last group of pictures is decoded and compared; anything unclear leads to the full decode.

    Raises:
        VideoError: no frame can be decoded.
    """
    path = str(path)
    fault = find_fault(path)
    packets, facts = _demux(path, fault)
    timed = None not in packets.pts and facts["container"] not in UNTIMED
    pixels = len(packets.pts) * facts["coded"][0] * facts["coded"][1]
    if pixels > FULL_DECODE_PX and timed and fault is None and packets.fault is None:
        index = _from_packets(path, packets, facts)
        if index is not None:
            return index
    return _from_decode(path, packets, facts, fault)


def _facts(container: "av.container.InputContainer") -> dict:
    stream = container.streams.video[0]
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return {
        "codec": context.codec.canonical_name if hasattr(context.codec, "canonical_name") else context.name,
        "container": container.format.name.split(",")[0],
        "coded": (context.height, context.width),
        "fps": float(rate) if rate else 25.0,
        "time_base": float(stream.time_base) if stream.time_base else 0.0,
        "header_frames": int(stream.frames or 0),
    }


def _demux(path: str, fault: Fault | None) -> tuple[_Packets, dict]:
    av = import_av()
    found = _Packets([], [], [])
    with open_container(path, threads=1) as container:
        facts = _facts(container)
        try:
            for packet in container.demux(container.streams.video[0]):
                if not packet.size:
                    continue
                if packet.is_corrupt or _beyond(packet, fault):
                    found.fault = "a packet is cut short"
                    break
                found.pts.append(packet.pts)
                found.key.append(packet.is_keyframe)
                found.discard.append(packet.is_discard)
        except (av.error.FFmpegError, OSError) as error:
            found.fault = plain(error)
    return found, facts


def _beyond(packet: "av.Packet", fault: Fault | None) -> bool:
    return fault is not None and packet.pos is not None and packet.pos + packet.size > fault.offset


def _from_decode(path: str, packets: _Packets, facts: dict, fault: Fault | None) -> VideoIndex:
    decoded = _decode_all(path, any(packets.key), fault)
    shown = [p for p, drop in zip(packets.pts, packets.discard, strict=True) if not drop]
    _cut_at_lost_frames(decoded, shown, facts)
    if not decoded.pts:
        raise VideoError(path, f"no frame can be decoded ({decoded.damage or packets.fault or 'no pictures in it'})")
    timed = _increasing(decoded.pts)
    known = set(shown)
    seekable = timed and facts["time_base"] > 0 and all(p in known for p in decoded.pts)
    fps = facts["fps"]
    height, width, rotation = decoded.size
    keys = [i for i, key in enumerate(decoded.key) if key and i > 0]
    index = VideoIndex(
        ticks=np.asarray(decoded.pts if timed else range(len(decoded.pts)), np.int64),
        keys=np.asarray([0, *keys] if seekable else [0], np.int64),
        time_base=facts["time_base"] if timed else 1.0 / fps,
        seekable=seekable,
        skip_to_key=any(packets.key),
        height=height,
        width=width,
        rotation=rotation,
        fps=fps,
        header_frames=facts["header_frames"],
        codec=facts["codec"],
        container=facts["container"],
        b_frames=_reordered(shown),
        verified=True,
        damage=decoded.damage,
    )
    if seekable and not _seeks_are_exact(path, index, decoded.prints):
        from dataclasses import replace

        return replace(index, seekable=False, keys=np.zeros(1, np.int64))
    return index


def _decode_all(path: str, skip_to_key: bool, fault: Fault | None) -> _Decoded:
    """Decode until the end or the first sign of damage.

    After a cut (truncation) the decoder is drained, and as many frames as it may reorder are dropped: their neighbours may be missing.
    After a decoding error everything from the keyframe before it is dropped: damage shows later than it strikes.
    """
    av = import_av()
    out = _Decoded([], [], {}, (0, 0, 0))
    wanted_keys, seen_keys = {2**i for i in range(_KEY_PROBES)}, 0
    follow = False

    def take(frame: "av.VideoFrame") -> None:
        nonlocal seen_keys, follow
        number = len(out.pts)
        if number == 0:
            rotation = round(frame.rotation / 90) * 90 % 360
            size = (frame.height, frame.width) if rotation % 180 == 0 else (frame.width, frame.height)
            out.size = (*size, rotation)
        probe = False
        if frame.key_frame and number:
            seen_keys += 1
            probe = seen_keys in wanted_keys
        if probe or follow:
            out.prints[number] = fingerprint(frame)
        follow = probe
        out.pts.append(frame.pts)
        out.key.append(bool(frame.key_frame))

    with open_container(path, threads=1) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        cut: str | None = None
        error: str | None = None
        waiting = skip_to_key
        try:
            for packet in container.demux(stream):
                if waiting and packet.size and not packet.is_keyframe:
                    continue
                waiting = False
                if packet.size and (packet.is_corrupt or _beyond(packet, fault)):
                    cut = fault.reason if fault else "a packet is cut short"
                    break
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise av.error.InvalidDataError(1, "the decoder marks a frame as corrupt")
                    take(frame)
        except (av.error.FFmpegError, OSError) as problem:
            error = plain(problem)
        if fault is not None and cut is None:
            cut, error = fault.reason, None
        if cut is not None:
            try:
                for frame in context.decode(None):
                    take(frame)
            except (av.error.FFmpegError, OSError, ValueError):
                pass  # what the decoder cannot finish after a cut is not needed
            _shorten(out, len(out.pts) - int(context.reorder_depth or 0), f"cut short: {cut}")
        elif error is not None:
            _shorten(out, _last_key(out), f"damaged after frame {len(out.pts)}: {error}")
    return out


def _last_key(decoded: _Decoded) -> int:
    return max((i for i, key in enumerate(decoded.key) if key), default=0)


def _shorten(decoded: _Decoded, n: int, why: str) -> None:
    n = max(n, 0)
    del decoded.pts[n:], decoded.key[n:]
    decoded.prints = {i: p for i, p in decoded.prints.items() if i < n}
    decoded.damage = decoded.damage or why


def _cut_at_lost_frames(decoded: _Decoded, shown: list[int | None], facts: dict) -> None:
    """Frames that the file lists and the decoder did not give: later frames would carry wrong numbers, so the video ends before."""
    if not decoded.pts or None in shown or not _increasing(decoded.pts) or len(decoded.pts) >= len(shown):
        return
    first, last = decoded.pts[0], decoded.pts[-1]
    missing = sorted(p for p in set(shown) - set(decoded.pts) if first < p < last)
    if missing:
        at = int(np.searchsorted(np.asarray(decoded.pts), missing[0]))
        _shorten(decoded, max((i for i in range(at) if decoded.key[i]), default=0), f"damaged: a frame after number {at - 1} cannot be decoded")


def _from_packets(path: str, packets: _Packets, facts: dict) -> VideoIndex | None:
    """The index from packet times alone, or None where the first or last group of pictures does not decode to just these times."""
    shown = sorted((p, key) for p, key, drop in zip(packets.pts, packets.key, packets.discard, strict=True) if not drop)
    ticks = np.asarray([p for p, _ in shown], np.int64)
    keys = np.asarray([i for i, (_, key) in enumerate(shown) if key], np.int64)
    header = facts["header_frames"]
    if not len(keys) or keys[0] != 0 or (np.diff(ticks) <= 0).any() or (header and header != len(packets.pts)):
        return None
    with open_container(path, threads=1) as container:
        first = next(iter(container.decode(container.streams.video[0])), None)
    if first is None:
        return None
    rotation = round(first.rotation / 90) * 90 % 360
    index = VideoIndex(
        ticks=ticks,
        keys=keys,
        seekable=True,
        skip_to_key=True,
        height=first.height if rotation % 180 == 0 else first.width,
        width=first.width if rotation % 180 == 0 else first.height,
        rotation=rotation,
        b_frames=_reordered(packets.pts),
        verified=False,
        **{k: facts[k] for k in ("time_base", "fps", "header_frames", "codec", "container")},
    )
    ends = [(0, int(keys[1]) if len(keys) > 1 else len(ticks)), (int(keys[-1]), len(ticks))]
    cursor = Cursor(path, index, threads=1)
    try:
        for start, stop in ends:
            for number in range(start, stop):
                cursor.fetch(number)
    except VideoError:
        return None
    finally:
        cursor.close()
    return index


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


def fingerprint(frame: "av.VideoFrame") -> int:
    """A checksum of the brightness of a decoded frame."""
    return zlib.crc32(np.ascontiguousarray(frame.reformat(format="gray").to_ndarray()))


def _increasing(pts: list[int | None]) -> bool:
    return None not in pts and all(a < b for a, b in zip(pts, pts[1:], strict=False))


def _reordered(pts: list[int | None]) -> bool:
    known = [p for p in pts if p is not None]
    return len(known) < len(pts) or any(a > b for a, b in zip(known, known[1:], strict=False))
