"""Small files with sound whose every moment is known."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CLICKS_S = (0.5, 1.25, 2.0, 3.3)


def clicks(t: np.ndarray) -> np.ndarray:
    """Short bursts of 1.5 kHz centred on `CLICKS_S`; t in seconds."""
    return sum(0.7 * np.exp(-0.5 * ((t - at) / 4e-4) ** 2) * np.cos(2 * np.pi * 1500 * (t - at)) for at in CLICKS_S)


def late_s(sound: np.ndarray, start_s: float, rate: int, at: float) -> float:
    """How much later than `at` the burst near it stands in `sound`, seconds, to a fraction of a sample."""
    t = start_s + np.arange(len(sound)) / rate
    near = np.abs(t - at) < 0.1
    template = np.arange(-0.004, 0.004, 1 / rate)
    template = np.exp(-0.5 * (template / 4e-4) ** 2) * np.exp(2j * np.pi * 1500 * template)
    match = np.abs(np.correlate(sound[near].astype(complex), template, "same"))
    peak = int(match.argmax())
    before, here, after = match[peak - 1 : peak + 2]
    # the template runs from -4 ms in whole samples, so that its middle lies a fraction of a sample off
    middle = len(template) // 2 / rate - 0.004
    return float(t[near][peak] + (before - after) / (2 * (before - 2 * here + after)) / rate - middle - at)


def write_sound(
    path: Path,
    codec: str,
    rate: int = 48_000,
    seconds: float = 4.0,
    wave: Callable[[np.ndarray], np.ndarray] = clicks,
    picture: bool = True,
    start_s: float = 0.0,
    drop: range = range(0),
    layout: str = "mono",
    sample_format: str | None = None,
    move: Callable[[int, av.Packet], int] | None = None,
    move_picture: Callable[[int, av.Packet], int] | None = None,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode a wave, with 25 grey pictures a second.

    Args:
        wave: from seconds since the first sample, (n,) or one row per channel.
        start_s: time of the first sample.
        drop: numbers of packets of sound that are left out.
        move, move_picture: from number and packet to what is added to its times, ticks.
    """
    t = np.arange(round(seconds * rate)) / rate
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as out:
        pictures = out.add_stream("libx264", rate=25) if picture else None
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        stream = out.add_stream(codec, rate=rate, layout=layout, options={"strict": "experimental"})
        if sample_format:
            stream.codec_context.format = sample_format
        sound = [packet for i, packet in enumerate(_encoded(stream, wave(t), rate, layout, start_s)) if i not in drop]
        for number, packet in enumerate(sound if move else ()):
            packet.pts = packet.dts = packet.pts + move(number, packet)
        shown = [] if pictures is None else _shown(pictures, round(seconds * 25))
        for number, packet in enumerate(shown if move_picture else ()):
            packet.pts, packet.dts = (ticks + move_picture(number, packet) for ticks in (packet.pts, packet.dts))
        for packet in sorted(shown + sound, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


def _encoded(stream: av.AudioStream, wave: np.ndarray, rate: int, layout: str, start_s: float) -> list[av.Packet]:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(np.atleast_2d(wave), np.float64), format="dblp", layout=layout)
    frame.sample_rate = rate
    convert = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate)
    fifo = av.AudioFifo()
    for part in [*convert.resample(frame), *convert.resample(None)]:
        fifo.write(part)
    packets: list[av.Packet] = []
    at = round(start_s * rate)
    while (frame := fifo.read(stream.codec_context.frame_size or 1024, partial=True)) is not None:
        frame.pts, frame.time_base, at = at, Fraction(1, rate), at + frame.samples
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


def _shown(stream: av.VideoStream, n: int) -> list[av.Packet]:
    packets: list[av.Packet] = []
    for number in range(n):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 5 % 255, np.uint8), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]
