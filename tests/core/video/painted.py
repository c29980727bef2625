"""Small videos whose every frame carries its own number as a block barcode, so that a reader cannot be wrong unnoticed."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, BITS = 96, 64, 8


def paint(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(height, width, 3) uint8: `number` in two rows of BITS blocks, the lower row inverted, over a background that moves."""
    image = np.full((height, width, 3), 96, np.uint8)
    image[:, (np.arange(width) + 3 * number) % 32 < 8] = 128
    block = width // BITS
    for bit in range(BITS):
        value = 235 if number >> bit & 1 else 20
        columns = slice(bit * block, (bit + 1) * block)
        image[height // 4 : height // 2, columns] = value
        image[height // 2 : height * 3 // 4, columns] = 255 - value
    return image


def read_number(image: np.ndarray) -> int | None:
    """The number painted into `image` (H, W, 3), whatever its size; None where the blocks are not clear."""
    height, width = image.shape[:2]
    gray = image.astype(np.float32).mean(-1)
    block, number = width / BITS, 0
    for bit in range(BITS):
        columns = slice(int((bit + 0.3) * block), int((bit + 0.7) * block) + 1)
        upper = gray[int(height * 0.31) : int(height * 0.44), columns].mean()
        lower = gray[int(height * 0.56) : int(height * 0.69), columns].mean()
        if abs(upper - lower) < 80:
            return None
        number |= int(upper > lower) << bit
    return number


def write_video(
    path: Path,
    n: int = 120,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    rate: int = 30,
    ticks: list[int] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    **context: int,
) -> Path:
    """Encode frames 0..n-1.

    `ticks`: presentation times in 1/1000 s for a variable frame rate; `context`: attributes of the encoder (gop_size, ...).
    """
    with av.open(str(path), "w", format=container_format, options={"fflags": "bitexact", **(container_options or {})}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        if ticks is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(n):
            frame = av.VideoFrame.from_ndarray(paint(number), format="rgb24")
            frame.pts = number if ticks is None else ticks[number]
            frame.time_base = Fraction(1, rate) if ticks is None else Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path
