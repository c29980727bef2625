"""Sound stands where its file says, on the clock of the pictures, whatever container, codec, hole or shift."""

import wave as wavefile
from fractions import Fraction

import av
import numpy as np
import pytest
from sounds import CLICKS_S, clicks, late_s, write_sound

from tasks.core.audio import decode, index
from tasks.core.audio.index import build_sound_index, sound_index_of
from tasks.core.audio.read import open_sound
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError

VIDEOS = [
    ("mp4", "aac", 48_000),
    ("mp4", "libmp3lame", 44_100),
    ("mkv", "libopus", 48_000),
    ("mkv", "aac", 44_100),
    ("mkv", "flac", 44_100),
    ("mkv", "vorbis", 44_100),
    ("mov", "pcm_s16le", 44_100),
    ("ts", "aac", 48_000),
    ("ts", "mp2", 48_000),
    ("avi", "pcm_s16le", 44_100),
]
SOUNDS = [
    ("wav", "pcm_s16le", 44_100),
    ("flac", "flac", 48_000),
    ("mp3", "libmp3lame", 44_100),
    ("m4a", "aac", 44_100),
    ("ogg", "libopus", 48_000),
    ("ogg", "vorbis", 44_100),
]


def made(folder, ending, codec, rate, picture=True, **how):
    stereo = codec == "vorbis"  # FFmpeg's encoder knows nothing else
    return write_sound(
        folder / f"{codec}.{ending}",
        codec,
        rate,
        picture=picture,
        layout="stereo" if stereo else "mono",
        wave=(lambda t: np.stack([clicks(t)] * 2)) if stereo else clicks,
        **how,
    )


@pytest.mark.parametrize(("ending", "codec", "rate"), VIDEOS)
def test_clicks_stand_where_the_pictures_say(tmp_path, ending, codec, rate):
    path = made(tmp_path, ending, codec, rate)
    with open_sound(path, 16_000) as sound, open_video(path) as video:
        found, start_s = sound.read(), sound.start_s
        assert start_s == video.pts[0]
        assert sound.end_s == pytest.approx(video.pts[-1] + 0.04, abs=2e-3)
        assert (len(sound.index.runs), sound.damage, sound.has_sound) == (1, None, True)
    assert found.dtype == np.float32
    assert len(found) == pytest.approx(4 * 16_000, abs=33)
    for at in CLICKS_S:
        assert abs(late_s(found, start_s, 16_000, video.pts[0] + at)) < 1 / rate
    assert np.abs(found).max() == pytest.approx(0.7, abs=0.04)


@pytest.mark.parametrize(("ending", "codec", "rate"), SOUNDS)
def test_files_of_sound_alone(tmp_path, ending, codec, rate):
    path = made(tmp_path, ending, codec, rate, picture=False)
    with open_sound(path, 22_050) as sound:
        assert sound.start_s == 0
        assert sound.end_s == pytest.approx(4, abs=0.03)
        found = sound.read()
    for at in CLICKS_S:
        assert abs(late_s(found, 0.0, 22_050, at)) < 1 / rate


@pytest.mark.parametrize(
    ("ending", "codec", "least_s"),
    [
        ("mp4", "aac", 1 / 48_000),
        ("ts", "aac", 1 / 48_000),
        ("mkv", "libopus", 1.1e-3),  # its times and what is to be skipped are both written in whole milliseconds
    ],
)
@pytest.mark.parametrize("start_s", [0.7305, 0.04])
def test_sound_that_begins_later_than_the_pictures(tmp_path, ending, codec, least_s, start_s):
    fine = {"movie_timescale": "48000"} if ending == "mp4" else {}  # else MP4 writes the shift in whole milliseconds too
    path = made(tmp_path, ending, codec, 48_000, start_s=start_s, container_options=fine)
    with open_sound(path, 16_000) as sound, open_video(path) as video:
        found = sound.read(video.pts[0], video.pts[0] + 5)
    for at in CLICKS_S:
        assert abs(late_s(found, video.pts[0], 16_000, video.pts[0] + start_s + at)) < least_s
    assert np.abs(found[: round((start_s - 0.03) * 16_000)]).max(initial=0) == 0


@pytest.mark.parametrize(("ending", "codec"), [("mp4", "aac"), ("mkv", "libopus"), ("mkv", "flac"), ("ts", "aac")])
def test_a_hole_is_silence_and_what_follows_stays_in_place(tmp_path, ending, codec):
    path = made(tmp_path, ending, codec, 48_000, drop=range(30, 34) if codec == "flac" else range(70, 85))
    with open_sound(path, 16_000) as sound, open_video(path) as video:
        zero, (before, after) = video.pts[0], sound.index.runs
        found = sound.read()
    assert 0.1 < after.start_s - before.end_s < 0.5
    for at in CLICKS_S:
        if not before.end_s - 0.05 < zero + at < after.start_s + 0.05:
            assert abs(late_s(found, zero, 16_000, zero + at)) < 1 / 48_000
    hole = slice(*(round((t - zero) * 16_000) for t in (before.end_s + 0.01, after.start_s - 0.01)))
    assert np.abs(found[hole]).max() == 0


def test_times_that_jump_ahead_and_back(tmp_path):
    def moved(seconds, at):
        return lambda number, packet: round(seconds / packet.time_base) * (number >= at)

    ahead = made(tmp_path, "mkv", "flac", 48_000, move=moved(1.0, 20))  # frames of 4608 samples: at 1.92 s
    with open_sound(ahead, 16_000) as sound:
        found = sound.read(0, 5)
        assert [late_s(found, 0, 16_000, at) for at in (0.5, 1.25, 3.0, 4.3)] == pytest.approx([0] * 4, abs=1e-4)
        assert np.abs(found[round(1.94 * 16_000) : round(2.9 * 16_000)]).max() == 0
    back = write_sound(tmp_path / "back.mp4", "flac", 48_000, move=moved(-0.5, 20))
    with open_sound(back, 16_000) as sound:
        found = sound.read(0, 3)
        assert "step back: 0.50 s" in sound.damage
    assert [late_s(found, 0, 16_000, at) for at in (0.5, 1.25, 2.8)] == pytest.approx([0] * 3, abs=1e-4)


def test_a_clock_that_runs_slow_is_followed(tmp_path):
    """Times of 44.1 kHz sound from a clock that is 0.2 % off, as some recorders write them."""

    def tones(t):
        return 0.5 * np.sin(2 * np.pi * 440 * t)

    path = write_sound(
        tmp_path / "slow.mkv", "flac", 44_100, 20, tones, picture=False, move=lambda number, packet: round(packet.pts * 0.002)
    )
    with open_sound(path, 16_000) as sound:
        assert sound.sound == pytest.approx((0, 20 * 1.002), abs=2e-3)
        found = sound.read(5, 15)
    t = 5 + np.arange(len(found)) / 16_000
    assert found == pytest.approx(tones(t / 1.002), abs=0.5 * 2 * np.pi * 440 * 1e-3)  # within a millisecond


def test_edit_lists_and_priming(tmp_path):
    """The sound of an MP4 whose first samples are to be thrown away begins before 0 in the file and at 0 when played."""
    path = made(tmp_path, "mp4", "aac", 48_000)
    with av.open(str(path)) as container:
        assert next(container.demux(container.streams.audio[0])).pts == -1024
    with open_sound(path, 48_000) as sound:
        assert sound.sound[0] == 0


def test_pictures_that_an_edit_list_hides(tmp_path):
    """The first pictures of a trimmed MP4 are in the file and not shown; sound and features begin with the first that is."""
    path = made(tmp_path, "mp4", "aac", 48_000, move_picture=lambda number, packet: -round(Fraction(3, 10) / packet.time_base))
    with av.open(str(path)) as container:
        assert any(packet.is_discard for packet in container.demux(container.streams.video[0]))
    with open_sound(path, 16_000) as sound, open_video(path) as video:
        assert sound.start_s == pytest.approx(video.pts[0], abs=1e-6)
        found = sound.read()
    assert abs(late_s(found, video.pts[0], 16_000, 0.5)) < 1 / 48_000


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Twenty seconds of noise that grows, in several files."""
    folder = tmp_path_factory.mktemp("noise")
    kinds = [("mp4", "aac"), ("mkv", "libopus"), ("mov", "pcm_s16le"), ("ts", "aac"), ("avi", "libmp3lame"), ("mp3", "libmp3lame")]
    rng = np.random.default_rng(0)

    def wave(t):
        return np.convolve(rng.normal(size=len(t)), np.hanning(30), "same") * t / 400

    return [
        write_sound(folder / f"{codec}.{ending}", codec, 48_000, 20, wave, picture=ending in ("mp4", "ts", "avi"), drop=range(300, 305))
        for ending, codec in kinds
    ]


def test_blocks_joined_are_the_whole_bit_for_bit(noise):
    for path in noise:
        with open_sound(path, 16_000) as sound:
            whole = sound.read()
            for block_s in (0.37, 4.0):
                blocks = list(sound.blocks(block_s=block_s))
                assert {len(block) for block in blocks[:-1]} == {round(block_s * 16_000)}
                assert np.array_equal(np.concatenate(blocks), whole)


def test_a_part_is_a_piece_of_the_whole(noise):
    for path in noise:
        with open_sound(path, 16_000) as sound:
            zero, whole = sound.start_s, sound.read()
        for start_s, end_s in ((0.0, 0.5), (14.3, 15.0), (12.0, 12.001), (9.0, 9.25), (18.0, 18.9)):
            with open_sound(path, 16_000) as sound:
                part = sound.read(zero + start_s, zero + end_s)
                assert sound._cursor._sought == (sound.index.seekable and start_s > 8)
            expected = whole[round(start_s * 16_000) :][: round((end_s - start_s) * 16_000)]
            assert len(part) == len(expected)
            assert np.abs(part - expected).max() < 2e-2 * np.abs(whole).max(), (path.name, start_s)


def test_seeking_is_believed_where_it_is_proven(noise, monkeypatch):
    assert {path.suffix: build_sound_index(str(path)).seekable for path in noise} == {
        ".mp4": True,
        ".mkv": True,
        ".mov": True,
        ".ts": True,
        ".avi": False,
        ".mp3": False,
    }
    monkeypatch.setattr(decode.SoundCursor, "sought", lambda self, first, stop: np.zeros(stop - first))
    assert not build_sound_index(str(noise[0])).seekable


def test_a_seek_that_leads_astray_is_made_good_from_the_start(noise, monkeypatch):
    with open_sound(noise[0], 16_000) as sound:
        whole = sound.read()

    def astray(self, first):
        for k in range(3):
            yield first - 10 + 20 * k, np.zeros(15, np.float32)  # the second does not follow on the first

    monkeypatch.setattr(decode.SoundCursor, "_from", astray)
    with open_sound(noise[0], 16_000) as sound:
        assert np.array_equal(sound.read(15, 16), whole[15 * 16_000 : 16 * 16_000])


def test_memory_does_not_grow_with_the_file(noise):
    with open_sound(noise[2], 16_000) as sound:
        held = [len(sound._cursor._held) for _ in sound.blocks(block_s=1.0)]
    assert max(held) < 3 * 48_000


def test_outside_of_the_file_there_is_silence(tmp_path):
    path = made(tmp_path, "mp4", "aac", 48_000)
    with open_sound(path, 16_000) as sound:
        assert np.array_equal(sound.read(-3, -2), np.zeros(16_000))
        assert np.array_equal(sound.read(10, 10.5), np.zeros(8_000))
        assert abs(late_s(sound.read(-1, 2), -1, 16_000, 0.5)) < 1e-5
        assert len(sound.read(2, 1)) == 0
        assert len(sound.read(0, 0.1 + 0.2)) == 4800


@pytest.mark.parametrize("kind", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_sample_formats_and_the_mean_of_channels(tmp_path, kind):
    def wave(t):
        return np.stack([0.6 * np.sin(2 * np.pi * 300 * t), 0.2 * np.sin(2 * np.pi * 300 * t)])

    path = write_sound(tmp_path / "a.wav", kind, 16_000, 1.0, wave, picture=False, layout="stereo")
    with open_sound(path, 16_000) as sound:
        assert sound.index.channels == 2
        found = sound.read()
    assert found == pytest.approx(0.4 * np.sin(2 * np.pi * 300 * np.arange(16_000) / 16_000), abs=0.01 if kind == "pcm_u8" else 1e-4)


def test_numbers_that_are_none_become_silence(tmp_path):
    def wave(t):
        return np.where((t > 0.2) & (t < 0.4), np.nan, 0.5)

    path = write_sound(tmp_path / "a.wav", "pcm_f32le", 16_000, 1.0, wave, picture=False)
    with open_sound(path, 16_000) as sound:
        found = sound.read()
    assert set(np.unique(found)) == {0.0, 0.5}


def test_without_sound_it_is_an_error_or_silence(tmp_path):
    with av.open(str(tmp_path / "mute.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number + 25, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"mute.mp4: has no sound\n.*silence"):
        open_sound(tmp_path / "mute.mp4")
    with open_sound(tmp_path / "mute.mp4", 8_000, missing="silence") as sound, open_video(tmp_path / "mute.mp4") as video:
        assert (sound.start_s, sound.end_s) == pytest.approx((video.pts[0], video.pts[-1] + 0.04))
        assert np.array_equal(sound.read(), np.zeros(16_000))
        assert not sound.has_sound
        assert sound.sound is None


def test_a_folder_of_pictures(tmp_path):
    from PIL import Image

    for number in range(5):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{number}.png")
    with pytest.raises(VideoError, match="a folder of pictures has no sound"):
        open_sound(tmp_path)
    with open_sound(tmp_path, 1_000, missing="silence") as sound:
        assert np.array_equal(sound.read(), np.zeros(200))


def test_a_cover_picture_is_no_video(tmp_path):
    from PIL import Image

    path = made(tmp_path, "m4a", "aac", 48_000, picture=False)
    Image.new("RGB", (16, 16)).save(tmp_path / "cover.png")
    with (
        av.open(str(path)) as sound,
        av.open(str(tmp_path / "cover.png")) as cover,
        av.open(str(tmp_path / "b.m4a"), "w", format="mp4") as out,
    ):
        streams = [out.add_stream_from_template(part.streams[0]) for part in (sound, cover)]
        streams[1].disposition = av.stream.Disposition.attached_pic
        for part, stream in ((cover, streams[1]), (sound, streams[0])):
            for packet in part.demux():
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    assert sound_index_of(tmp_path / "b.m4a").picture is None


@pytest.mark.parametrize("missing", ["error", "silence"])
def test_what_is_no_sound_file(tmp_path, missing):
    (tmp_path / "text.txt").write_text("nothing to hear\n" * 500)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nother.mp4\n")
    import os

    os.mkfifo(tmp_path / "pipe.wav")
    for name, reason in (
        ("text.txt", "not a readable video or sound file|cannot be decoded"),
        ("empty.wav", "empty file"),
        ("list.m3u8", "not a readable video or sound file"),
        ("pipe.wav", "not a regular file"),
        ("none.wav", "no such file"),
    ):
        with pytest.raises(VideoError, match=reason):
            open_sound(tmp_path / name, missing=missing)


def test_a_header_that_makes_no_sense(tmp_path):
    path = tmp_path / "odd.wav"
    with wavefile.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(900_000)
        out.writeframes(b"\0" * 20_000)
    with pytest.raises(VideoError, match="its sound makes no sense"):
        open_sound(path)
    far = made(tmp_path, "mkv", "flac", 48_000, move=lambda number, packet: 10**12 * (number > 20))
    with pytest.raises(VideoError, match="times of its sound make no sense"):
        open_sound(far)
    far = made(tmp_path, "mkv", "flac", 48_000, move_picture=lambda number, packet: 10**10 * (number > 90))
    with pytest.raises(VideoError, match="times of its pictures make no sense"):
        open_sound(far)


@pytest.mark.parametrize(("ending", "codec"), [("mkv", "flac"), ("mp4", "aac"), ("mp4", "libopus"), ("avi", "libmp3lame"), ("ts", "mp2")])
def test_a_file_that_ends_early(tmp_path, ending, codec):
    """What is left is as it was; the last packet, of which a part is missing, is not decoded."""
    options = {"movflags": "faststart"} if ending == "mp4" else {}
    path = made(tmp_path, ending, codec, 48_000, container_options=options, picture=False)
    whole = path.read_bytes()
    for share in (0.55, 0.6, 0.65):
        (tmp_path / f"cut{share}.{ending}").write_bytes(whole[: int(len(whole) * share) // 188 * 188 + 50])
        with open_sound(path, 16_000) as sound, open_sound(tmp_path / f"cut{share}.{ending}", 16_000) as cut:
            assert 0.3 < cut.sound[1] < 3.9
            assert "cut short" in cut.damage
            assert sound.damage is None
            end = int((cut.sound[1] - 0.01) * 16_000)
            assert cut.read(0, 4)[:end] == pytest.approx(sound.read(0, 4)[:end], abs=1e-6)
            assert np.abs(cut.read(cut.sound[1] + 0.01, 4)).max() == 0


def test_damage_is_silence_and_said(tmp_path):
    path = made(tmp_path, "mkv", "flac", 48_000)
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(container.streams.audio[0]) if packet.size]
    content = bytearray(path.read_bytes())
    for place, size in places[20:22]:
        at = content.index(bytes(content[place : place + size])) + size // 2
        content[at : at + 3] = bytes(255 - byte for byte in content[at : at + 3])
    (tmp_path / "bad.mkv").write_bytes(content)
    with open_sound(path, 16_000) as sound, open_sound(tmp_path / "bad.mkv", 16_000) as bad:
        good, found = sound.read(), bad.read()
        assert "2 packets of its sound cannot be decoded" in bad.damage
        (before, after) = bad.index.runs
    assert after.start_s - before.end_s == pytest.approx(2 * 4608 / 48_000, abs=1e-3)
    assert late_s(found, 0, 16_000, 3.3) == pytest.approx(0, abs=1e-4)
    assert found[:20_000] == pytest.approx(good[:20_000], abs=1e-6)


def test_an_index_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    path = made(tmp_path, "mkv", "libopus", 48_000, drop=range(70, 85))
    built = []
    monkeypatch.setattr(index, "build_sound_index", lambda name: built.append(name) or build_sound_index(name))
    first, again = sound_index_of(path), sound_index_of(path)
    assert len(built) == 1
    assert len(first.runs) == 2
    for one, other in zip(first.runs, again.runs, strict=True):
        assert (one.first, one.n, one.rate, *one.at, *one.times) == (other.first, other.n, other.rate, *other.at, *other.times)
    assert {k: v for k, v in vars(first).items() if not isinstance(v, (np.ndarray, tuple))} == {
        k: v for k, v in vars(again).items() if not isinstance(v, (np.ndarray, tuple))
    }
    assert first.picture == again.picture
    assert np.array_equal(first.ticks, again.ticks)
    assert np.array_equal(first.begins, again.begins)
    path.write_bytes(path.read_bytes() + b"\0")
    sound_index_of(path)
    assert len(built) == 2


def test_a_file_that_is_another_now(tmp_path):
    path = made(tmp_path, "wav", "pcm_s16le", 44_100, picture=False)
    with open_sound(path) as sound:
        write_sound(path, "pcm_s16le", 44_100, 1.0, picture=False)
        with pytest.raises(VideoError, match="breaks off"):
            sound.read()


@pytest.mark.real
def test_events_of_real_videos_are_heard_where_they_are_marked(real_data):
    """Sound gets louder where marked events begin and softer where they end: to 30 ms, over the validation videos."""
    import json

    import torch

    from tasks.core.audio.logmel import LogMel

    frames_of = LogMel()
    lags = np.arange(-100, 101)
    louder, softer = np.zeros(len(lags)), np.zeros(len(lags))
    marked = json.loads((real_data / "av_events" / "annotations.json").read_text())["database"]
    for name in sorted(name for name, video in marked.items() if video["subset"] == "validation")[:8]:
        with open_sound(real_data / "av_events" / f"{name}.mp4") as sound:
            loud = frames_of(torch.as_tensor(sound.read())).mean(1).numpy()
        total = np.cumsum(np.pad(loud, (1, 0)))
        k = np.arange(20, len(loud) - 20)
        step = np.zeros(len(loud))
        step[k] = total[k + 20] - 2 * total[k] + total[k - 20]
        for event in marked[name]["annotations"]:
            begin, end = (round(100 * t) for t in event["segment"])
            if begin > 130:
                louder += np.maximum(step[begin + lags], 0) ** 2
            if end < len(loud) - 130:
                softer += np.maximum(-step[end + lags], 0) ** 2
    for found in (louder, softer):
        assert abs(lags[found.argmax()]) <= 3
        assert found.max() > 4 * np.median(found)


@pytest.mark.real
def test_real_clips(real_data):
    has = {}
    for path in sorted((real_data / "clips").iterdir()):
        try:
            with open_sound(path) as sound:
                found = sound.read()
                assert sound.damage is None
                assert len(sound.index.runs) == 1
                assert 0.01 < np.abs(found).max() < 1.5
                assert len(found) == pytest.approx((sound.end_s - sound.start_s) * 16_000, abs=1)
                part = sound.read(sound.start_s + 1, sound.start_s + 2)
                assert part == pytest.approx(found[16_000:32_000], abs=1e-6)
                has[path.name] = True
        except VideoError as error:
            has[path.name] = error.reason
    assert set(has.values()) == {True, "has no sound"}
