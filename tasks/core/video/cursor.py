"""A decoder that can be put on any frame of a file and knows which frame it holds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tasks.core.video.media import import_av, open_container, plain
from tasks.core.video.quirks import Trait, applies
from tasks.core.video.reader import VideoError

if TYPE_CHECKING:
    import av

STEPS_BACK_S = (0.0, 0.5, 1.0, 2.0, 4.0)
WORTH_A_SEEK = 8  # frames; decoding fewer than these is cheaper than a seek


class Times(Protocol):
    """What a cursor must know of a file: see `tasks.core.video.index.VideoIndex`."""

    ticks: np.ndarray
    keys: np.ndarray
    seekable: bool
    skip_to_key: bool
    packets: int | None
    codec: str
    container: str


class Cursor:
    """Frames of one file by number.

    A seek goes to a keyframe at or before the target; decoding starts at a packet known to be a keyframe, pictures that precede it in
    display order are thrown away (their references are missing), and a frame is accepted by its exact timestamp only. A miss steps
    further back, in the end to the start of the file. Where timestamps cannot be trusted the frames are counted from the start.

    After `expect` the decoder need not make the pictures in between that no other picture refers to (H.264's non-reference pictures, in
    usual files about half of all); those that it makes are the same. Behind the last of them all are made, so that who reads block by
    block goes on where he stands.
    """

    def __init__(self, path: str, index: Times, threads: int | None = None):
        self.path = path
        self._index = index
        self._may_skip = applies(Trait.SKIPS_UNREFERENCED, index.container, index.codec)
        self._threads = threads
        self._container = None
        self._frames: Iterator[tuple[int, av.VideoFrame]] = iter(())
        self._next: int | None = None
        self._held: tuple[int, av.VideoFrame] | None = None
        self._expected: frozenset[int] = frozenset()  # ticks; empty: any
        self._until = 0  # the last of them

    def expect(self, numbers: np.ndarray | None) -> None:
        """The only frames that will be fetched from here on, as far as is known; None: any."""
        skips = numbers is not None and self._index.seekable and self._may_skip
        self._expected = frozenset(self._index.ticks[numbers].tolist()) if skips else frozenset()
        self._until = max(self._expected, default=0)

    def fetch(self, target: int) -> "av.VideoFrame":
        """Decode frame `target`; raises VideoError where it cannot be had."""
        if self._held is not None and self._held[0] == target:
            return self._held[1]
        if self._expected and int(self._index.ticks[target]) not in self._expected:
            self.expect(None)
        ahead = self._next is not None and self._next <= target and not self._seek_pays(target)
        if ahead and self._advance(target):
            return self._held[1]
        if self._index.seekable:
            key = self._key_before(target)
            for seconds in STEPS_BACK_S:
                if self._container is None:
                    self._open()
                self._start(self._seek(key, seconds))
                if self._advance(target):
                    return self._held[1]
        self._open()
        self._start(self._from_start())
        if self._advance(target):
            return self._held[1]
        raise VideoError(self.path, f"frame {target} cannot be decoded")

    def close(self) -> None:
        """Give back the file."""
        self._frames, self._held, self._next = iter(()), None, None
        if self._container is not None:
            self._container.close()
            self._container = None

    def _key_before(self, target: int) -> int:
        keys = self._index.keys
        return int(keys[np.searchsorted(keys, target, side="right") - 1])

    def _seek_pays(self, target: int) -> bool:
        return self._index.seekable and self._key_before(target) > self._next + WORTH_A_SEEK

    def _start(self, frames: Iterator[tuple[int, "av.VideoFrame"]]) -> None:
        self._frames, self._next, self._held = frames, None, None

    def _advance(self, target: int) -> bool:
        av = import_av()
        try:
            for number, frame in self._frames:
                self._next, self._held = number + 1, (number, frame)
                if number >= target:
                    return number == target
        except av.error.FFmpegError as error:
            self.close()
            if not self._index.seekable:
                raise VideoError(self.path, f"damaged near frame {target} ({plain(error)})") from None
        self._next = None
        return False

    def _open(self) -> None:
        self.close()
        self._container, self._leaving_out = open_container(self.path, self._threads), False

    def _from_start(self) -> Iterator[tuple[int, "av.VideoFrame"]]:
        for number, frame in enumerate(decoded(self._container, self._index.skip_to_key, self._index.packets)):
            if frame.is_corrupt:
                raise VideoError(self.path, f"damaged at frame {number}")
            if self._index.seekable and (number >= len(self._index.ticks) or frame.pts != self._index.ticks[number]):
                raise VideoError(self.path, f"frame {number} carries another time than when the file was indexed")
            yield number, frame

    def _seek(self, key: int, back_s: float) -> Iterator[tuple[int, "av.VideoFrame"]]:
        ticks = self._index.ticks
        stream = self._container.streams.video[0]
        key_ticks = int(ticks[key])
        self._container.seek(key_ticks - round(back_s / float(stream.time_base)), stream=stream, backward=True)
        floor: int | None = None
        for packet in self._container.demux(stream):
            if floor is None:
                if not packet.size or packet.pts is None or (packet.is_keyframe and packet.pts > key_ticks):
                    return
                if not packet.is_keyframe or not self._is_key(packet.pts):
                    continue
                floor = packet.pts
            self._leave_out(packet)
            for frame in packet.decode():
                if frame.pts is None or frame.pts < floor:
                    continue
                number = int(np.searchsorted(ticks, frame.pts))
                if number >= len(ticks) or ticks[number] != frame.pts or frame.is_corrupt:
                    return
                yield number, frame

    def _leave_out(self, packet: "av.Packet") -> None:
        """Tells the decoder whether it may leave out the picture in this packet where no other refers to it."""
        skip = bool(self._expected) and packet.pts is not None and packet.pts < self._until and packet.pts not in self._expected
        if skip != self._leaving_out:
            packet.stream.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"
            self._leaving_out = skip

    def _is_key(self, ticks: int) -> bool:
        """Whether decoding may start at the keyframe packet of this time: it is in the index, or an edit list hides it before frame 0."""
        if ticks < self._index.ticks[0]:
            return True
        keys = self._index.ticks[self._index.keys]
        at = int(np.searchsorted(keys, ticks))
        return at < len(keys) and keys[at] == ticks


def decoded(container: "av.container.InputContainer", skip_to_key: bool, packets: int | None = None) -> Iterator["av.VideoFrame"]:
    """Every frame of the first video stream from the start.

    Args:
        skip_to_key: leave out what stands before the first keyframe.
        packets: give the decoder only this many packets, then drain it; None: all.
    """
    stream = container.streams.video[0]
    waiting, fed = skip_to_key, 0
    for packet in container.demux(stream):
        if waiting and packet.size and not packet.is_keyframe:
            continue
        waiting = False
        if fed == packets:
            yield from stream.codec_context.decode(None)
            return
        fed += packet.size > 0
        yield from packet.decode()
