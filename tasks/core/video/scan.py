"""One pass over a video file: its packets without decoding, or every frame that decodes up to the first sign of damage."""

import zlib
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tasks.core.video.cursor import decoded
from tasks.core.video.media import import_av, open_container, plain
from tasks.core.video.quirks import Trait, applies
from tasks.core.video.structure import Fault

if TYPE_CHECKING:
    import av

Pts = list[int | None]

_FAR = 32  # packets; no encoder stores a frame so far from its place in time
_PROBED_KEYS = {2**i for i in range(6)}


@dataclass(frozen=True)
class StreamFacts:
    """What the header says: FFmpeg's names, coded size in px, average rate, length of a tick in seconds, frame count (0: none), duration
    of the whole file in seconds (0: it does not say).
    """

    codec: str
    container: str
    coded_height: int
    coded_width: int
    fps: float
    time_base: float
    header_frames: int
    duration_s: float = 0.0


@dataclass
class Packets:
    """The packets of the video stream in file order."""

    facts: StreamFacts
    pts: Pts = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    discard: list[bool] = field(default_factory=list)
    fault: str | None = None

    @property
    def skip_to_key(self) -> bool:
        """Whether the stream may begin in the middle of a group of pictures, as a recorded broadcast does."""
        return applies(Trait.STARTS_ANYWHERE, self.facts.container) and any(self.key)

    @property
    def shown(self) -> Pts:
        """The times of the packets whose frames are meant to be shown."""
        return [pts for pts, drop in zip(self.pts, self.discard, strict=True) if not drop]


@dataclass
class Frames:
    """The frames in display order as the decoder gave them.

    Attributes:
        pts, key: time and keyframe mark of each.
        prints: checksums of some frames at and after keyframes.
        height, width, rotation: as shown, px, and degrees counter-clockwise.
        reorder: how many frames the decoder may hold back to sort them.
        packets: how many packets it was given before the first damage.
        damage: why the list is shorter than the file, or None.
    """

    pts: Pts = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    prints: dict[int, int] = field(default_factory=dict)
    height: int = 0
    width: int = 0
    rotation: int = 0
    reorder: int = 0
    packets: int = 0
    damage: str | None = None
    _keys_seen: int = 0

    def take(self, frame: "av.VideoFrame") -> None:
        """Append one frame."""
        number = len(self.pts)
        if number == 0:
            self.height, self.width, self.rotation = shown_size(frame)
        self._keys_seen += bool(frame.key_frame and number)
        if number and self._keys_seen in _PROBED_KEYS and (frame.key_frame or (number - 1 in self.prints and self.key[-1])):
            self.prints[number] = fingerprint(frame)
        self.pts.append(frame.pts)
        self.key.append(bool(frame.key_frame))

    def shorten(self, n: int, why: str) -> None:
        """Keep the first n frames."""
        n = max(n, 0)
        del self.pts[n:], self.key[n:]
        self.prints = {number: value for number, value in self.prints.items() if number < n}
        self.damage = self.damage or why

    def last_key(self, below: int) -> int:
        """The last keyframe before frame `below`, 0 where there is none."""
        return max((number for number in range(min(below, len(self.key))) if self.key[number]), default=0)


def read_packets(path: str, fault: Fault | None) -> Packets:
    """Demux the video stream up to its end, an error or the structural `fault`."""
    av = import_av()
    with open_container(path, threads=1) as container:
        found = Packets(_facts(container))
        try:
            for packet in container.demux(container.streams.video[0]):
                if not packet.size:
                    continue
                if _cut_short(packet, fault):
                    found.fault = "a packet is cut short"
                    break
                found.pts.append(packet.pts)
                found.key.append(packet.is_keyframe)
                found.discard.append(packet.is_discard)
        except (av.error.FFmpegError, OSError) as error:
            found.fault = plain(error)
    return found


def read_frames(path: str, packets: Packets, fault: Fault | None) -> Frames:
    """Decode until the end or the first sign of damage.

    After a cut (truncation) the decoder is drained, and as many frames as it may reorder are dropped: their neighbours may be missing.
    After a decoding error everything from the keyframe before it is dropped: damage shows later than it strikes. Frames that the file
    lists and the decoder does not give end the video too, for all later ones would carry wrong numbers.
    """
    out = Frames()
    with open_container(path, threads=1) as container:
        cut, error = _feed(container, packets.skip_to_key, fault, out)
        out.reorder = int(container.streams.video[0].codec_context.reorder_depth or 0)
        if fault is not None and cut is None and (error is None or out.packets >= len(packets.pts) - 1):
            if error is not None:  # the last packet of a cut file is expected to fail, and leaves rubbish in the decoder
                out = _fed(path, packets.skip_to_key, out)
            cut, error = fault.reason, None
        elif cut is not None:
            _drain(container, out)
        if cut is not None:
            out.shorten(len(out.pts) - out.reorder, f"cut short: {cut}")
        elif error is not None:
            out.shorten(out.last_key(len(out.pts)), f"damaged after frame {len(out.pts)}: {error}")
    _end_at_lost_frames(out, packets)
    _end_at_gap(out, packets.facts.header_frames)
    _end_at_broken_times(out, packets.facts.container)
    return out


def _feed(container: "av.container.InputContainer", skip_to_key: bool, fault: Fault | None, out: Frames) -> tuple[str | None, str | None]:
    """Decode into `out`; (why the data stops early, what the decoder objects to)."""
    av = import_av()
    waiting = skip_to_key
    try:
        for packet in container.demux(container.streams.video[0]):
            if waiting and packet.size and not packet.is_keyframe:
                continue
            waiting = False
            if packet.size and _cut_short(packet, fault):
                return (fault.reason if fault else "a packet is cut short"), None
            for frame in packet.decode():
                if frame.is_corrupt:
                    return None, "the decoder marks a frame as corrupt"
                out.take(frame)
            out.packets += packet.size > 0
    except (av.error.FFmpegError, OSError) as error:
        return None, plain(error)
    return None, None


def _fed(path: str, skip_to_key: bool, before: Frames) -> Frames:
    """The frames of the packets that decoded without an error, from a fresh decoder, as a cursor will read them."""
    av = import_av()
    out = Frames(reorder=before.reorder, packets=before.packets)
    with open_container(path, threads=1) as container:
        try:
            for frame in decoded(container, skip_to_key, before.packets):
                out.take(frame)
        except (av.error.FFmpegError, OSError):
            pass  # what it still held cannot be finished
    return out


def _drain(container: "av.container.InputContainer", out: Frames) -> None:
    av = import_av()
    try:
        for frame in container.streams.video[0].codec_context.decode(None):
            out.take(frame)
    except (av.error.FFmpegError, OSError):
        return  # drained before, or holding what cannot be finished after a cut


def _cut_short(packet: "av.Packet", fault: Fault | None) -> bool:
    if packet.is_corrupt:
        return True
    return fault is not None and fault.cuts(packet)


def _end_at_lost_frames(frames: Frames, packets: Packets) -> None:
    if not applies(Trait.ONE_PACKET_ONE_FRAME, packets.facts.container, packets.facts.codec) or not frames.pts:
        return
    if _hides_at_random(packets) or (any(packets.discard) and not increasing(frames.pts)):
        frames.shorten(0, "damaged: its table of frame times makes no sense")
        return
    place = {pts: at for at, pts in enumerate(packets.shown)}  # in file order
    number = {pts: at for at, pts in enumerate(frames.pts)}
    if None in place or None in number or len(place) < len(packets.shown):
        return
    reached = max((place[pts] for pts in number if pts in place), default=0)
    for pts, at in place.items():
        inside = frames.pts[0] < pts < frames.pts[-1] if increasing(frames.pts) else at + _FAR < reached
        if pts not in number and inside:
            after = min((n for other, n in number.items() if place.get(other, -1) > at), default=len(frames.pts))
            frames.shorten(frames.last_key(after), f"damaged: a frame near number {after} cannot be decoded")
            return


def _hides_at_random(packets: Packets) -> bool:
    """Whether frames are marked as not to be shown in the midst of others: an edit list hides a beginning and an end."""
    earliest: list[int] = []  # times of frames stored later in the file: the _FAR + 1 smallest, sorted
    for pts, hidden in zip(reversed(packets.pts), reversed(packets.discard), strict=True):
        if pts is None:
            return False
        if not hidden:
            insort(earliest, pts)
            del earliest[_FAR + 1 :]
        elif bisect_left(earliest, pts) > _FAR:
            return True
    return False


def _end_at_gap(frames: Frames, header_frames: int) -> None:
    """A stream that announces no length may have been cut between frames stored out of order: its last frames then lack a neighbour.

    Only an otherwise even frame rate shows it; the gap must lie among the last frames that the decoder may have reordered.
    """
    if header_frames or frames.damage or not frames.reorder or len(frames.pts) < 8 or not increasing(frames.pts):
        return
    steps = np.diff(np.asarray(frames.pts, np.int64))
    usual = int(np.median(steps))
    tail = len(steps) - frames.reorder
    wide = np.flatnonzero(steps[tail:] > 1.5 * usual)
    if len(wide) and np.abs(steps[:tail] - usual).max() <= max(1, usual // 10):
        frames.shorten(tail + int(wide[0]) + 1, "cut short: frames are missing before the last one")


def _end_at_broken_times(frames: Frames, container: str) -> None:
    """Where times that run forward step back or stop once or twice, something is lost or stands there twice; were they put right by
    counting, frames on both sides would carry wrong times. Times that do so all along are none, and counting is all there is.
    """
    if applies(Trait.COUNTED_TIMES, container) or not frames.pts or None in frames.pts[:2]:
        return
    steps = enumerate(pairwise(frames.pts))
    breaks = [number for number, (now, after) in steps if now is not None and (after is None or after < now)]
    if breaks and len(breaks) <= max(2, len(frames.pts) // 50):
        frames.shorten(breaks[0] + 1, f"damaged: the times step back after frame {breaks[0]}")


def _facts(container: "av.container.InputContainer") -> StreamFacts:
    stream = container.streams.video[0]
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return StreamFacts(
        codec=context.codec.canonical_name,
        container=container.format.name.split(",")[0],
        coded_height=context.height,
        coded_width=context.width,
        fps=float(rate) if rate else 25.0,
        time_base=float(stream.time_base) if stream.time_base else 0.0,
        header_frames=int(stream.frames or 0),
        duration_s=(container.duration or 0) / 1e6,
    )


def shown_size(frame: "av.VideoFrame") -> tuple[int, int, int]:
    """(height, width, rotation): size in px after turning by `rotation` degrees counter-clockwise (0, 90, 180 or 270)."""
    rotation = round(frame.rotation / 90) * 90 % 360
    return (frame.height, frame.width, rotation) if rotation % 180 == 0 else (frame.width, frame.height, rotation)


def fingerprint(frame: "av.VideoFrame") -> int:
    """A checksum of the brightness of a decoded frame."""
    return zlib.crc32(np.ascontiguousarray(frame.reformat(format="gray").to_ndarray()))


def increasing(pts: Pts) -> bool:
    """Whether every frame has a time and each is later than the one before."""
    return None not in pts and all(a < b for a, b in pairwise(pts))


def reordered(pts: Pts) -> bool:
    """Whether packets, listed in file order, are shown in another order (or do not say)."""
    return None in pts or any(a > b for a, b in pairwise(pts))
