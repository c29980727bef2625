"""Small sound videos, one per container and codec, whose frames carry their number."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "core" / "video"))

from painted import paint, read_number, write_video  # noqa: E402 (the tests' painted frame numbers)

FRAMES, RATE = 60, 30
_X264 = "mbtree=0:scenecut=0"  # with mbtree the bytes differ from run to run


@dataclass(frozen=True)
class Sound:
    """An unharmed video. path: where it lies. times: seconds at which each painted number is shown; empty for a folder of pictures."""

    path: Path
    times: tuple[float, ...] = ()


_SETTINGS: dict[str, dict[str, Any]] = {
    "closed.mp4": {"options": {"crf": "8", "x264-params": f"{_X264}:keyint=12"}},
    "open.mp4": {"options": {"crf": "8", "x264-params": f"{_X264}:open-gop=1:keyint=12:bframes=3"}},
    "front.mp4": {"options": {"crf": "8", "x264-params": f"{_X264}:keyint=15"}, "container_options": {"movflags": "faststart"}},
    "hevc.mp4": {
        "codec": "libx265",
        "options": {"x265-params": "log-level=none:pools=1:frame-threads=1:keyint=15:min-keyint=15:bframes=4"},
    },
    "h264.mkv": {"options": {"crf": "8", "x264-params": f"{_X264}:keyint=12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}, "gop_size": 15, "bit_rate": 600_000},
    "h264.ts": {"options": {"crf": "8", "x264-params": f"{_X264}:keyint=12"}},
    "asp.avi": {"codec": "mpeg4", "max_b_frames": 2, "gop_size": 12, "bit_rate": 800_000},
    "mjpeg.avi": {"codec": "mjpeg", "options": {"qscale": "3"}, "pix_fmt": "yuvj420p"},
    "mpeg2.mpg": {"codec": "mpeg2video", "max_b_frames": 2, "gop_size": 15, "bit_rate": 1_500_000},
}
FOLDERS = {"pictures_png": ".png", "pictures_jpg": ".jpg"}


def render(folder: Path) -> dict[str, Sound]:
    """The sound videos by name, written into `folder`; a codec that this FFmpeg cannot encode is left out."""
    import av
    from PIL import Image

    from tasks.core.video.open import open_video

    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Sound] = {}
    for name, settings in _SETTINGS.items():
        try:
            av.codec.Codec(settings.get("codec", "libx264"), "w")
        except ValueError:
            continue
        write_video(folder / name, FRAMES, rate=RATE, **settings)
        with open_video(folder / name) as reader:
            numbers = [read_number(picture) for _, _, picture in reader.frames()]
            if numbers != list(range(FRAMES)):
                raise SystemExit(f"{name} does not show its frame numbers unharmed: {numbers}")
            made[name] = Sound(folder / name, tuple(reader.pts.tolist()))
    for name, suffix in FOLDERS.items():
        (folder / name).mkdir(exist_ok=True)
        for number in range(FRAMES):
            Image.fromarray(paint(number)).save(folder / name / f"img{number}{suffix}")
        made[name] = Sound(folder / name)
    return made
