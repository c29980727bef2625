"""Containers and codecs against frame numbers painted into the pictures: `auto` is never wrong, damaged files are cut or refused."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from painted import HEIGHT, WIDTH, paint, read_number, write_video

from tasks.core.video.open import open_video

N = 120
LIMIT_S = 120  # for all files together; they take a few seconds
QUIET_X265 = "log-level=none:pools=1:frame-threads=1"
VARIABLE = [33 * i if i < 60 else 33 * 60 + 100 * (i - 60) for i in range(N)]

WHOLE = {
    "closed_gop.mp4": {"options": {"x264-params": "keyint=30:scenecut=0"}},
    "one_gop.mp4": {"options": {"x264-params": "keyint=250:scenecut=0"}},
    "open_gop.mp4": {"options": {"x264-params": "open-gop=1:keyint=24:bframes=3:scenecut=0"}},
    "hevc_open_gop.mp4": {"codec": "libx265", "options": {"x265-params": f"{QUIET_X265}:keyint=24:min-keyint=24:bframes=4"}},
    "intra_refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=30"}},
    "variable_rate.mp4": {"ticks": VARIABLE, "gop_size": 30},
    "asp_b_frames.mp4": {"codec": "mpeg4", "max_b_frames": 2, "gop_size": 24, "bit_rate": 800_000},
    "asp_b_frames.avi": {"codec": "mpeg4", "max_b_frames": 2, "gop_size": 24, "bit_rate": 800_000},
    "long_gop_b_frames.avi": {"codec": "mpeg4", "max_b_frames": 2, "gop_size": 250, "bit_rate": 800_000},
    "h264.avi": {"gop_size": 24},
    "h264.mkv": {"gop_size": 24},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}, "gop_size": 24, "bit_rate": 600_000},
    "h264.ts": {"gop_size": 24},
    "mpeg2.mpg": {"codec": "mpeg2video", "max_b_frames": 2, "gop_size": 15, "bit_rate": 1_500_000},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "8", "crf": "20", "svtav1-params": "keyint=24"}},
    "equal_times.mkv": {"rate": 2500, "gop_size": 20, "max_b_frames": 0},
}
SOURCES_TO_CUT = {
    "front.mp4": {"gop_size": 30, "container_options": {"movflags": "faststart"}},
    "front_one_gop.mp4": {"options": {"x264-params": "keyint=250:scenecut=0"}, "container_options": {"movflags": "faststart"}},
    "cut.mkv": {"gop_size": 30},
    "cut.webm": WHOLE["vp9.webm"],
    "cut.avi": WHOLE["asp_b_frames.avi"],
    "cut.ts": {"gop_size": 30},
    "cut.mpg": WHOLE["mpeg2.mpg"],
}
CUTS = (0.31, 0.5, 0.77, 0.93)
FLIPPED = ("closed_gop.mp4", "open_gop.mp4", "asp_b_frames.mp4", "h264.mkv", "h264.avi")  # decoders of other codecs accept any bits
SEEDS = 6
FRAMES = "frames"


def encode(path, settings):
    codec = settings.get("codec", "libx264")
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        return False
    write_video(path, N, **settings)
    return True


def cut(source, target, share):
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])


def flip(source, target, seed, places, length):
    """Invert one bit of `length` bytes in a row at `places` places of the middle of the file."""
    content = bytearray(source.read_bytes())
    rng = random.Random(seed)
    for _ in range(places):
        first = rng.randrange(len(content) * 3 // 10, len(content) * 7 // 10)
        for at in range(first, first + length):
            content[at] ^= 1 << rng.randrange(8)
    target.write_bytes(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every video of the table."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("table")
    for name, settings in WHOLE.items():
        encode(folder / name, settings)
    for name, settings in SOURCES_TO_CUT.items():
        encode(folder / f"whole_{name}", settings)
        for share in CUTS:
            cut(folder / f"whole_{name}", folder / f"cut{round(share * 100)}_{name}", share)
    for name in FLIPPED:
        for seed in range(SEEDS):
            flip(folder / name, folder / f"run{seed}_{name}", seed, places=2, length=200)
            flip(folder / name, folder / f"bit{seed}_{name}", seed, places=12, length=1)
    (folder / "zero.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is not a video\n" * 200)
    (folder / "playlist.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:4,\n{folder / 'h264.ts'}\n#EXT-X-ENDLIST\n")
    (folder / "noise.mkv").write_bytes(random.Random(0).randbytes(20_000))
    (folder / FRAMES).mkdir()
    for number in range(30):
        Image.fromarray(paint(number)).save(folder / FRAMES / f"img{number}.png")
    return folder


@pytest.fixture(scope="module")
def seen(folder):
    """What `auto` read from each file, found out by another process that may not take longer than LIMIT_S."""
    names = sorted(str(path) for path in folder.iterdir() if not path.name.startswith("whole_"))
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(here.parents[2]), str(here)))}
    command = [sys.executable, str(here / "readback.py"), "auto", *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {Path(name).name: found for name, found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", [*WHOLE, FRAMES])
def test_auto_is_never_wrong(seen, name):
    if name not in seen:
        pytest.skip("this FFmpeg has no encoder for it")
    found = seen[name]
    assert found.get("error") is None
    assert found["wrong"] == {way: [] for way in found["wrong"]}
    assert found["n"] == (30 if name == FRAMES else N)
    assert found["damage"] is None
    assert (np.diff(found["pts"]) > 0).all()


def test_times_are_presentation_times(seen):
    assert np.allclose(seen["variable_rate.mp4"]["pts"], np.array(VARIABLE) / 1000, atol=1e-4)
    assert np.allclose(seen["closed_gop.mp4"]["pts"], np.arange(N) / 30, atol=1e-4)
    assert seen["h264.ts"]["pts"][0] > 0
    assert np.allclose(np.diff(seen["asp_b_frames.avi"]["pts"]), 1 / 30, atol=1e-4)


@pytest.mark.parametrize("name", SOURCES_TO_CUT)
def test_truncated_files_give_what_is_left(seen, name):
    counts = []
    for share in CUTS:
        found = seen[f"cut{round(share * 100)}_{name}"]
        if "error" in found:
            assert share < 0.6, "enough is left to show something"
            assert "cut short" in found["error"]
            counts.append(0)
        else:
            assert found["wrong"] == {way: [] for way in found["wrong"]}
            counts.append(found["n"])
    assert counts == sorted(counts)
    assert N / 2 < counts[-1] <= N


@pytest.mark.parametrize("name", FLIPPED)
def test_damaged_stretches_give_a_prefix_or_an_error(seen, name):
    for seed in range(SEEDS):
        found = seen[f"run{seed}_{name}"]
        assert "error" not in found or "n" not in found, "the index promised frames that cannot be read"
        if "error" not in found:
            assert found["damage"]
            assert found["wrong"] == {way: [] for way in found["wrong"]}


def test_single_bits(seen):
    """Entropy-coded bits can decode to other, well-formed pictures, which no reader can know; all but a few are caught."""
    wrong = []
    for name in FLIPPED:
        for seed in range(SEEDS):
            found = seen[f"bit{seed}_{name}"]
            assert "error" not in found or "n" not in found
            wrong += [(name, seed)] if any(found.get("wrong", {}).values()) else []
    assert len(wrong) <= 5, wrong


@pytest.mark.parametrize(
    ("name", "reason"),
    [("zero.mp4", "empty file"), ("text.mp4", "not a readable video"), ("noise.mkv", "not a readable"), ("playlist.mp4", "not a readable")],
)
def test_what_is_no_video_is_refused_at_once(seen, name, reason):
    assert reason in seen[name]["error"]
    assert seen[name]["seconds"] < 1


def test_an_edit_list_hides_frames(folder, tmp_path):
    trimmed = tmp_path / "trimmed.mp4"
    first, key = 35, 30
    with av.open(str(folder / "closed_gop.mp4")) as source, av.open(str(trimmed), "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        tick = round(1 / 30 / stream.time_base)
        started = False
        for packet in source.demux(stream):
            started = started or (packet.is_keyframe and packet.pts == key * tick)
            if started and packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - first * tick, packet.dts - first * tick, copy
                target.mux(packet)
    with open_video(trimmed) as reader:
        assert [read_number(picture) for picture in reader.get(range(reader.n_frames))] == list(range(first, N))
        assert [read_number(reader.get([i])[0]) for i in (50, 3, 0)] == [first + 50, first + 3, first]
        assert reader.pts[0] == 0


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(tmp_path, degrees):
    path = tmp_path / "turned.mp4"
    upright = np.rot90(paint(5), -degrees // 90)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = upright.shape[1], upright.shape[0], "yuv420p"
        stream.set_display_rotation(degrees)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(upright), format="rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with open_video(path, "pyav") as reader:
        assert (reader.height, reader.width) == (HEIGHT, WIDTH)
        assert read_number(reader.get([1])[0]) == 5
        assert reader.get([1], short_side=32).shape == (1, 32, 48, 3)
