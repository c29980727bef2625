"""Decoding the sound of a file: mono float32, by the number of its samples."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from tasks.core.video.media import DEMUXERS, STRICT, import_av, open_file, plain
from tasks.core.video.reader import VideoError
from tasks.core.video.structure import Fault, find_fault

if TYPE_CHECKING:
    import av

SOUND_DEMUXERS = f"{DEMUXERS},wav,w64,aiff,caf,mp3,flac,aac,ac3,eac3"
RATES = (1_000, 768_000)  # Hz; what is outside is a damaged header
MAX_CHANNELS = 64
PREROLL_S = 1.0  # decoded and thrown away after a seek: what most codecs put out depends on what they put out before
BEHIND_S = 1.0  # kept of what has been read: the next read may begin a little before the end of this one
WORTH_A_SEEK_S = 8.0  # decoding less than this is cheaper than a seek


class Chunk(NamedTuple):
    """One decoded frame of sound.

    Attributes:
        ticks: its time in ticks of the stream; None where it has none.
        rate: Hz.
        samples: (n,) float32, the mean of the channels.
    """

    ticks: int | None
    rate: int
    samples: np.ndarray


class Places(Protocol):
    """What a cursor must know of a sound stream: see `tasks.core.audio.index.SoundIndex`."""

    ticks: np.ndarray
    begins: np.ndarray
    n: int
    rate: int
    time_base: float
    seekable: bool


def open_sound_stream(path: str | Path) -> "tuple[av.container.InputContainer, av.AudioStream | None]":
    """An open file and its first sound stream, None where it has none.

    Raises:
        VideoError: no file, not a file of pictures or sound, or no decoder for its sound.
    """
    container = open_file(path, SOUND_DEMUXERS, "video or sound file")
    stream = next(iter(container.streams.audio), None)
    if stream is None:
        return container, None
    if stream.codec_context is None:
        container.close()
        raise VideoError(path, "no decoder for its sound")
    stream.codec_context.options = {"err_detect": STRICT["err_detect"]}
    stream.codec_context.thread_count = 1
    return container, stream


def decoded(
    path: str,
    packets: "Iterator[av.Packet]",
    stream: "av.AudioStream",
    fault: Fault | None,
    lost: "Callable[[av.Packet, str], None]" = lambda packet, reason: None,
) -> Iterator[Chunk]:
    """Every frame of sound in `packets`; packets of other streams are passed over.

    A packet that is damaged or cannot be decoded is left out: the times of the frames after it show the hole.

    Args:
        fault: what lies beyond it is left out.
        lost: called with each packet that is left out and the reason.

    Raises:
        VideoError: rate or number of channels make no sense.
    """
    av = import_av()
    try:
        for packet in packets:
            if packet.stream_index != stream.index:
                continue
            if packet.size and (packet.is_corrupt or (fault is not None and fault.cuts(packet))):
                lost(packet, "damaged")
                continue
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, OSError) as error:
                if packet.size:
                    lost(packet, plain(error))
                continue
            for frame in frames:
                if frame.samples:
                    yield Chunk(frame.pts, frame.sample_rate, _mono(path, frame))
    except (av.error.FFmpegError, OSError, IndexError):
        return  # the demuxer gives up, or PyAV does at the end where a stream turned up on the way: what came before counts


def _mono(path: str, frame: "av.AudioFrame") -> np.ndarray:
    """(n,) float32, nominally in [-1, 1): the mean of the channels; what is not a number is silence."""
    channels = frame.layout.nb_channels
    if not RATES[0] <= frame.sample_rate <= RATES[1] or not 1 <= channels <= MAX_CHANNELS:
        raise VideoError(path, f"its sound makes no sense ({channels} channels, {frame.sample_rate} Hz)")
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, channels).T
    if array.dtype == np.uint8:
        array = (array.astype(np.float32) - 128) / 128
    elif array.dtype.kind == "i":
        array = array.astype(np.float64 if array.dtype.itemsize > 2 else np.float32) / -float(np.iinfo(array.dtype).min)
    mono = array.mean(0).astype(np.float32) if channels > 1 else array[0].astype(np.float32)
    return mono if np.isfinite(mono).all() else np.nan_to_num(mono, nan=0.0, posinf=0.0, neginf=0.0)


class SoundCursor:
    """Samples of one file by number, read mostly forward.

    After a seek a frame is accepted by its exact time only; where none is found the samples are counted from the start.
    """

    def __init__(self, path: str, index: Places):
        self.path, self._index = path, index
        self._container: av.container.InputContainer | None = None
        self._chunks: Iterator[tuple[int, np.ndarray]] = iter(())
        self._sought = False
        self._held, self._at = np.zeros(0, np.float32), 0  # samples in hand, and the number of the first of them

    def read(self, first: int, stop: int) -> np.ndarray:
        """(stop - first,) float32: samples first <= number < stop, which exist.

        Raises:
            VideoError: they do not come again as they came when the file was indexed.
        """
        far = first - self._at - len(self._held) > WORTH_A_SEEK_S * self._index.rate
        if self._container is None or first < self._at or (far and self._index.seekable):
            by_time = self._index.seekable and first > WORTH_A_SEEK_S * self._index.rate
            if not (by_time and self._seek(first)):
                self._rewind()
        found = self._collect(first, stop)
        if found is None and self._sought:
            self._rewind()
            found = self._collect(first, stop)
        if found is None:
            raise VideoError(
                self.path, f"its sound breaks off before sample {stop} of the {self._index.n} that were there when it was indexed"
            )
        return found

    def sought(self, first: int, stop: int) -> np.ndarray | None:
        """`read`, by a seek in any case; None where that does not find the times of the index."""
        return self._collect(first, stop) if self._seek(first) else None

    def _collect(self, first: int, stop: int) -> np.ndarray | None:
        """Decode on from where the cursor stands; None where other samples come than those of the index."""
        parts, at = [self._held], self._at
        have = at + len(self._held)
        while have < stop:
            number, samples = next(self._chunks, (-1, None))
            if samples is None or number != have:
                return None
            have += len(samples)
            if have + round(BEHIND_S * self._index.rate) <= first:
                parts, at = [], have
            else:
                parts.append(samples)
        joined = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        kept = max(0, first - at - round(BEHIND_S * self._index.rate))
        self._held, self._at = joined[kept:], at + kept
        return joined[first - at : stop - at]

    def close(self) -> None:
        """Give back the file."""
        self._chunks, self._held, self._at = iter(()), np.zeros(0, np.float32), 0
        if self._container is not None:
            self._container.close()
            self._container = None

    def _rewind(self) -> None:
        self._open()
        self._chunks, self._sought = self._from_start(), False

    def _seek(self, first: int) -> bool:
        """Be on the frame that holds sample `first` or on one before it; False where its time is not found."""
        self._open()
        self._chunks, self._sought = self._from(first), True
        number, samples = next(self._chunks, (-1, None))
        if samples is None or number > first:
            return False
        self._held, self._at = samples, number
        return True

    def _open(self) -> None:
        self.close()
        self._container, self._stream = open_sound_stream(self.path)
        if self._stream is None:
            raise VideoError(self.path, "has no sound any more")
        self._fault = find_fault(self.path)

    def _decoded(self) -> Iterator[Chunk]:
        return decoded(self.path, self._container.demux(self._stream), self._stream, self._fault)

    def _from_start(self) -> Iterator[tuple[int, np.ndarray]]:
        number = 0
        for chunk in self._decoded():
            yield number, chunk.samples
            number += len(chunk.samples)

    def _from(self, first: int) -> Iterator[tuple[int, np.ndarray]]:
        """(number, samples) of the frames from `PREROLL_S` before sample `first` on, as far as their times are those of the index."""
        ticks, begins = self._index.ticks, np.append(self._index.begins, self._index.n)
        early, target = np.searchsorted(begins, [max(0.0, first - PREROLL_S * self._index.rate), first], side="right") - 1
        self._container.seek(int(ticks[early]), stream=self._stream, backward=True)
        place: int | None = None
        for chunk in self._decoded():
            if place is None:
                if chunk.ticks is None or chunk.ticks > ticks[target]:
                    return
                place = int(np.searchsorted(ticks, chunk.ticks))
            if chunk.ticks != ticks[place] or len(chunk.samples) != begins[place + 1] - begins[place]:
                place = None  # the first frame after a seek may be a part of one
                continue
            yield int(begins[place]), chunk.samples
            place += 1
            if place == len(ticks):
                return
