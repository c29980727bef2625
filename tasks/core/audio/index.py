"""What sound a file really holds and when it is heard: decoded once from start to end, in a process that may be killed."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from tasks.core.audio.clock import Run, find_runs
from tasks.core.audio.decode import Chunk, SoundCursor, decoded, open_sound_stream
from tasks.core.video.cache import cached_file, looked_at, write_cached
from tasks.core.video.guard import survive
from tasks.core.video.reader import VideoError
from tasks.core.video.structure import Fault, find_fault

if TYPE_CHECKING:
    import av

VERSION = "sound 1"
# Their times are guessed from the size of the file, or counted packet by packet, whatever is lost in between.
UNTIMED = ("mp3", "aac", "ac3", "eac3", "avi")
BARE = ("mp3", "aac", "ac3", "eac3")  # no container around the sound: their times begin anywhere, here at 0
DAY_S = 86_400.0
_SPAN_DAMAGE_S = 0.1


@dataclass(frozen=True)
class SoundIndex:
    """What is known of the sound of one file.

    Attributes:
        ticks: (m,) int64, time of each decoded frame of sound, in `time_base` seconds.
        begins: (m,) int64, number of its first sample;
        n: how many samples there are.
        rate: Hz, of the first frame;
        channels, codec, container: FFmpeg's.
        runs: unbroken sound, in order; empty: the file has no sound.
        seekable: whether frames can be found by their time; else samples are counted from the start.
        picture: when its pictures begin and end, seconds; None: there are none.
        damage: what is missing and why, or None.
    """

    ticks: np.ndarray
    begins: np.ndarray
    n: int
    time_base: float
    rate: int
    channels: int
    codec: str
    container: str
    runs: tuple[Run, ...]
    seekable: bool
    picture: tuple[float, float] | None
    damage: str | None = None


NO_SOUND = SoundIndex(np.zeros(0, np.int64), np.zeros(0, np.int64), 0, 1.0, 0, 0, "", "", (), False, None)
"""What is known of a file without sound."""


def sound_index_of(path: str | Path) -> SoundIndex:
    """The index of the sound of a file, made when the file is first met or has changed since; without runs where it has no sound.

    Raises:
        VideoError: no such file, not one of pictures or sound, its sound cannot be decoded, or the decoder crashed or hung on it (for a day
            it is not tried again).
    """
    path = str(path)
    kept = cached_file(path, VERSION, ".npz")
    index = _load(kept)
    if index is None:
        index = looked_at(path, cached_file(path, VERSION, ".refused"), lambda: survive(build_sound_index, path))
        write_cached(kept, _packed(index))
    return index


def build_sound_index(path: str) -> SoundIndex:
    """Decode all the sound of a file once; errors as `sound_index_of`."""
    container, stream = open_sound_stream(path)
    with container:
        survey = _Survey(path, container, stream)
        if stream is None:
            for _ in survey.packets():
                pass
            return replace(NO_SOUND, container=survey.container_name, picture=survey.shown())
        fault = find_fault(path)
        for chunk in decoded(path, survey.packets(), stream, fault, survey.lose):
            survey.take(chunk)
        index = survey.index(fault)
    return replace(index, seekable=index.seekable and _seeks_are_exact(path, index, survey.kept))


class _Survey:
    """What is noted on the way through a file."""

    def __init__(self, path: str, container: "av.container.InputContainer", stream: "av.AudioStream | None"):
        self.path, self._container, self._stream = path, container, stream
        self.container_name = container.format.name.split(",")[0]
        self.ticks: list[int | None] = []
        self.counts: list[int] = []
        self.rates: list[int] = []
        self.kept: dict[int, np.ndarray] = {}  # some frames, to prove seeks with
        self.lost: list[tuple[float, str]] = []
        self.picture: tuple[float, float] | None = None
        self._pictures = next((s for s in container.streams.video if not s.disposition & s.disposition.attached_pic), None)
        self._keyed, self._shown_s = False, 0.0

    def packets(self) -> "Iterator[av.Packet]":
        """Packets of sound and pictures; of pictures only their times are looked at."""
        streams = [stream for stream in (self._stream, self._pictures) if stream is not None]
        for packet in self._container.demux(streams) if streams else ():
            if self._pictures is not None and packet.stream_index == self._pictures.index:
                self._see(packet)
            yield packet

    def _see(self, packet: "av.Packet") -> None:
        self._keyed = self._keyed or packet.is_keyframe
        if not packet.size or packet.pts is None or packet.is_discard or not self._keyed:
            return
        begin = float(packet.pts * packet.time_base)
        length = float((packet.duration or 0) * packet.time_base)
        end, self._shown_s = begin + length, self._shown_s + length
        self.picture = (begin, end) if self.picture is None else (min(begin, self.picture[0]), max(end, self.picture[1]))

    def shown(self) -> tuple[float, float] | None:
        """`picture` of `SoundIndex`. AVI has no times: as in the index of its pictures, they are counted from 0."""
        if self.picture is None:
            return None
        self._check_span("pictures", self.picture[1] - self.picture[0], self._shown_s)
        if self.container_name != "avi":
            return self.picture
        return 0.0, self.picture[1] - self.picture[0]

    def _check_span(self, what: str, span_s: float, filled_s: float) -> None:
        """Days that hold next to nothing are one damaged time; who takes them for silence runs out of memory."""
        if span_s > DAY_S and span_s > 2 * filled_s:
            raise VideoError(self.path, f"the times of its {what} make no sense ({span_s / DAY_S:.3g} days from the first to the last)")

    def take(self, chunk: Chunk) -> None:
        number = len(self.ticks)
        if number & (number - 1) == 0:
            self.kept[number] = chunk.samples
        self.ticks.append(chunk.ticks)
        self.counts.append(len(chunk.samples))
        self.rates.append(chunk.rate)

    def lose(self, packet: "av.Packet", reason: str) -> None:
        self.lost.append((float(packet.pts * packet.time_base) if packet.pts is not None else float("nan"), reason))

    def index(self, fault: Fault | None) -> SoundIndex:
        if not self.ticks:
            raise VideoError(self.path, f"its sound cannot be decoded ({self.lost[0][1] if self.lost else 'there is nothing in it'})")
        counts, rates = np.asarray(self.counts, np.int64), np.asarray(self.rates, np.int64)
        tick_s = float(self._stream.time_base)
        times = np.asarray([np.nan if tick is None else tick * tick_s for tick in self.ticks])
        if self.container_name in BARE and not np.isnan(times).all():
            times -= np.nanmin(times)
        runs, overlap_s = find_runs(times, counts, rates, tick_s)
        self._check_span("sound", runs[-1].end_s - runs[0].start_s, float((counts / rates).sum()))
        known = [tick for tick in self.ticks if tick is not None]
        timed = len(known) == len(self.ticks) and bool((np.diff(known) > 0).all()) and self.container_name not in UNTIMED
        return SoundIndex(
            ticks=np.asarray(known if timed else range(len(counts)), np.int64),
            begins=np.cumsum(counts) - counts,
            n=int(counts.sum()),
            time_base=tick_s,
            rate=self.rates[0],
            channels=self._stream.codec_context.layout.nb_channels,
            codec=self._stream.codec_context.codec.canonical_name,
            container=self.container_name,
            runs=tuple(runs),
            seekable=timed,
            picture=self.shown(),
            damage=self._damage(fault, overlap_s),
        )

    def _damage(self, fault: Fault | None, overlap_s: float) -> str | None:
        if fault is not None:
            return f"its sound is cut short: {fault.reason}"
        if self.lost:
            when, reason = self.lost[0]
            where = "" if np.isnan(when) else f", the first at {when:.2f} s"
            return f"{len(self.lost)} packet{'s' * (len(self.lost) > 1)} of its sound cannot be decoded ({reason}{where}): silence there"
        if overlap_s > _SPAN_DAMAGE_S:
            return f"the times of its sound step back: {overlap_s:.2f} s that overlap are left out"
        return None


def _seeks_are_exact(path: str, index: SoundIndex, kept: dict[int, np.ndarray]) -> bool:
    """Seek to frames that are known from the sequential pass. Lossy codecs fill some bands with noise, which may differ."""
    cursor = SoundCursor(path, replace(index, seekable=True))
    try:
        for number in sorted(kept)[-3:]:
            first = int(index.begins[number])
            found, expected = cursor.sought(first, first + len(kept[number])), kept[number]
            if found is None or np.square(found - expected).sum() > 0.1 * np.square(expected).sum() + 1e-6 * len(expected):
                return False
    finally:
        cursor.close()
    return True


def _packed(index: SoundIndex) -> bytes:
    plain = ("n", "time_base", "rate", "channels", "codec", "container", "seekable", "picture", "damage")
    facts = {name: getattr(index, name) for name in plain}
    knots = [np.stack([np.full(len(run.at), float(k)), run.at, run.times]) for k, run in enumerate(index.runs)]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        ticks=index.ticks,
        begins=index.begins,
        runs=np.asarray([(run.first, run.n, run.rate) for run in index.runs], np.int64).reshape(-1, 3),
        knots=np.concatenate(knots, 1) if knots else np.zeros((3, 0)),
        facts=np.asarray(json.dumps(facts)),
    )
    return buffer.getvalue()


def _load(file: Path) -> SoundIndex | None:
    """A broken or foreign cache file counts as none."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            of_run, at, times = stored["knots"]
            ends = np.flatnonzero(np.diff(of_run)) + 1
            runs = zip(stored["runs"].tolist(), np.split(at, ends), np.split(times, ends), strict=False)
            facts = json.loads(str(stored["facts"]))
            picture = facts.pop("picture")
            return SoundIndex(
                ticks=stored["ticks"],
                begins=stored["begins"],
                runs=tuple(Run(*facts_of_run, at, times) for facts_of_run, at, times in runs),
                picture=None if picture is None else (picture[0], picture[1]),
                **facts,
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None
