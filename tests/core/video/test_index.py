"""Damage that the table of containers and codecs does not have; found by scripts/fuzz."""

import struct

import av
import numpy as np
import pytest
from painted import read_number, write_video

from tasks.core.video import cache, scan
from tasks.core.video.index import build_index
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError


def chunks_of(path):
    """(first byte, length with head) of every video chunk of an AVI."""
    with av.open(str(path)) as file:
        return [(packet.pos, packet.size + 8) for packet in file.demux(video=0) if packet.size]


def test_a_picture_that_decodes_only_in_part_at_a_break_does_not_count(tmp_path):
    path = write_video(tmp_path / "a.avi", 60, codec="mpeg4", max_b_frames=2, gop_size=12, bit_rate=800_000)
    whole, chunks = path.read_bytes(), chunks_of(path)
    for number in range(30, 42):
        (at, length), content = chunks[number], bytearray(whole)
        content[at + 8 + length // 2 : at + length + 40] = bytes(length - 8 - length // 2 + 40)  # half of it, and the head of the next
        path.write_bytes(content)
        with open_video(path) as reader:
            numbers = [read_number(picture) for _, _, picture in reader.frames()]
            assert reader.damage
        assert numbers == list(range(len(numbers)))


def test_a_first_picture_of_absurd_size_is_a_finding(tmp_path):
    codec = {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}}
    path = write_video(tmp_path / "a.webm", 10, gop_size=5, **codec)
    content = bytearray(path.read_bytes())
    content = content.replace(b"\xb0\x81\x60\xba\x81\x40", b"\xb0\x81\x7f\xba\x81\x7f")
    at = content.find(b"\x49\x83\x42")  # the sync code of a key frame; then 4 bits of colour, 16 of width - 1, 16 of height - 1
    while at >= 0:
        found = int.from_bytes(content[at + 3 : at + 8], "big")
        assert found >> 4 & 0xFFFFFFFF == 95 << 16 | 63
        content[at + 3 : at + 8] = (found & ~(0xFFFFFFFF << 4) | (19999 << 16 | 8190) << 4).to_bytes(5, "big")
        at = content.find(b"\x49\x83\x42", at + 1)
    path.write_bytes(content)
    with pytest.raises(VideoError, match="no frame can be decoded"):
        build_index(path)


@pytest.mark.parametrize("rate", [2**31 - 1, 10_000_000])
def test_times_that_no_clock_can_tell_apart_are_refused(tmp_path, rate):
    path = write_video(tmp_path / "a.avi", 10, codec="mpeg4", bit_rate=800_000)
    content = path.read_bytes()
    with open_video(path) as reader:
        assert np.allclose(np.diff(reader.pts), 1 / 30)
    path.write_bytes(content.replace(struct.pack("<II", 1, 30), struct.pack("<II", 1, rate), 1))
    with pytest.raises(VideoError, match="frame times make no sense"):
        build_index(path)


def with_silence(path, target, seconds):
    """A video with a track of silence beside its pictures."""
    with av.open(str(path)) as given, av.open(str(target), "w") as out:
        pictures, sound = out.add_stream_from_template(given.streams.video[0]), out.add_stream("aac", rate=16000)
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                out.mux(packet)
        for start in range(0, int(seconds * 16000), 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return target


def test_frames_that_all_have_one_time_are_spread_over_the_file(tmp_path):
    """As a writer leaves them that gives its frames no times: 20 in the 2 s that the sound lasts, thousands a second by their table."""
    made = write_video(tmp_path / "a.mp4", 20, rate=10, ticks=[*range(0, 1900, 100), 1950], options={"bf": "0"})
    path = with_silence(made, tmp_path / "b.mp4", 2)
    content = bytearray(path.read_bytes())
    table = content.index(b"stts") + 12
    for entry in range(struct.unpack(">I", content[table - 4 : table])[0] - 1):
        content[table + 8 * entry + 4 : table + 8 * entry + 8] = bytes(4)
    path.write_bytes(content)
    index = build_index(path)
    np.testing.assert_allclose(index.seconds, 0.1 * np.arange(20), atol=0.05)
    assert index.fps == pytest.approx(10, rel=0.05)


def test_times_that_step_back_end_the_video(tmp_path):
    path = write_video(tmp_path / "twice.mkv", 40, gop_size=10)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[whole.find(b"\x1f\x43\xb6\x75") : whole.rfind(b"\x1c\x53\xbb\x6b")])  # its clusters again
    with open_video(path) as reader:
        assert reader.damage == "damaged: the times step back after frame 39"
        assert np.allclose(np.diff(reader.pts), 1 / 30, atol=1e-3)
        assert [read_number(picture) for _, _, picture in reader.frames()] == list(range(40))


@pytest.mark.parametrize(
    ("container", "pts", "kept"),
    [
        ("matroska", [*range(50), *range(30, 60)], 50),
        ("mpegts", [*range(50), None, *range(50, 60)], 50),
        ("matroska", [number + 5 * (number % 3 == 0) for number in range(60)], 60),  # none to be trusted: a broken muxer
        ("matroska", [number // 2 for number in range(60)], 60),  # coarse
        ("avi", [*range(50), *range(30, 60)], 80),  # counted, not stored
        ("matroska", [None] * 60, 60),
    ],
)
def test_where_times_end(container, pts, kept):
    frames = scan.Frames(pts=list(pts), key=[True] * len(pts))
    scan._end_at_broken_times(frames, container)
    assert len(frames.pts) == kept
    assert bool(frames.damage) == (kept < len(pts))


def test_indexes_in_memory_are_bounded_by_their_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_memory", type(cache._memory)())
    monkeypatch.setattr(cache, "_FRAMES", 20)
    for number in range(3):
        assert len(cache.index_of(write_video(tmp_path / f"{number}.mp4", 8)).ticks) == 8
    assert len(cache._memory) == 2
    assert len(cache.index_of(write_video(tmp_path / "long.mp4", 30)).ticks) == 30  # kept, alone
    assert len(cache._memory) == 1


def test_frames_whose_durations_are_zero_are_spread_over_the_length_of_the_movie(tmp_path):
    """Some writers note a duration of 0 for every frame but one; the header of the movie still knows how long it lasts."""
    path = write_video(tmp_path / "v.mp4", n=60, rate=30, options={"bf": "0"})
    data = bytearray(path.read_bytes())
    box = data.index(b"stts")
    assert int.from_bytes(data[box + 8 : box + 12]) == 1  # one run of frames of the same duration
    data[box + 16 : box + 20] = (0).to_bytes(4)
    path.write_bytes(data)
    found = build_index(path)
    assert len(found.ticks) == 60
    assert found.fps == pytest.approx(30, rel=0.02)
    assert found.seconds[-1] == pytest.approx(59 / 30, rel=0.02)
