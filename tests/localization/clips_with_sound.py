"""Small videos in which something moves and something sounds."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE, FPS, SIDE = 16_000, 10, 64
TONES = {"low": 300.0, "high": 3000.0}


def write_clip(
    path: Path,
    events: list[tuple[float, float, str]],
    seconds: float = 6.0,
    sound: bool = True,
    late_s: float = 0.0,
    sound_s: float | None = None,
    rate: int = RATE,
    layout: str = "mono",
    ticks: list[int] | None = None,
) -> Path:
    """A patch that moves while a tone sounds.

    Args:
        events: start, end (s) and one of TONES.
        sound: whether there is any.
        late_s: when the sound begins.
        sound_s: how long it lasts; None: to the end of the picture.
        rate, layout: of the sound.
        ticks: presentation times of the pictures in 1/1000 s; None: FPS.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        pictures = out.add_stream("libx264", rate=FPS, options={"crf": "16", "preset": "veryfast", "threads": "1"})
        pictures.width = pictures.height = SIDE
        pictures.pix_fmt = "yuv420p"
        if ticks is not None:
            pictures.codec_context.time_base = Fraction(1, 1000)
        heard = out.add_stream("aac", rate=rate, layout=layout) if sound else None
        for number in range(round(seconds * FPS) if ticks is None else len(ticks)):
            at = number / FPS if ticks is None else ticks[number] / 1000
            frame = av.VideoFrame.from_ndarray(_picture(at, events), format="rgb24")
            frame.pts, frame.time_base = (number, Fraction(1, FPS)) if ticks is None else (ticks[number], Fraction(1, 1000))
            out.mux(pictures.encode(frame))
        out.mux(pictures.encode(None))
        if heard is not None:
            _mux_sound(out, heard, events, late_s, seconds - late_s if sound_s is None else sound_s, rate, layout)
    return path


def _mux_sound(out, heard, events, late_s: float, sound_s: float, rate: int, layout: str) -> None:
    t = late_s + np.arange(round(sound_s * rate)) / rate
    wave = 0.001 * np.random.default_rng(0).standard_normal(len(t))
    for start, end, kind in events:
        wave += 0.3 * ((t >= start) & (t < end)) * np.sin(2 * np.pi * TONES[kind] * t)
    channels = av.AudioLayout(layout).nb_channels
    frame = av.AudioFrame.from_ndarray(np.tile(wave.astype(np.float32), (channels, 1)), format="fltp", layout=layout)
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(late_s * rate)
    for packet in (*heard.encode(frame), *heard.encode(None)):
        out.mux(packet)


def _picture(at: float, events: list[tuple[float, float, str]]) -> np.ndarray:
    texture = np.random.default_rng(7).integers(0, 255, (5, 5), np.uint8).repeat(4, 0).repeat(4, 1)
    found = np.full((SIDE, SIDE, 3), 128, np.uint8)
    moved = sum(max(0.0, min(at, end) - start) for start, end, _ in events)
    x = round(20 * moved) % (SIDE - 20)
    found[22:42, x : x + 20] = texture[..., None]
    return found
