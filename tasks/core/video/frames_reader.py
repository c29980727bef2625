"""A folder of pictures read as a video."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tasks.core.data.parsing import IMAGE_SUFFIXES
from tasks.core.errors import InputError
from tasks.core.video.media import MAX_PICTURE_PX
from tasks.core.video.reader import VideoError, VideoReader, scaled_size


class FramesReader(VideoReader):
    """jpg, png, tif or bmp files in natural order (2 before 10); frame i is shown at i / fps seconds.

    Args:
        path: the folder.
        fps: frames per second, for pictures carry no time.

    Raises:
        VideoError: no folder, no picture in it, or the first cannot be read.
    """

    backend = "frames"

    def __init__(self, path: str | Path, fps: float = 25.0):
        self.path = str(path)
        try:
            found = [f for f in Path(path).iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
        except OSError as error:
            raise VideoError(path, f"cannot be listed ({error.strerror})") from None
        if not found:
            raise VideoError(path, "a folder without pictures")
        self._files = sorted(found, key=natural_key)
        self.n_frames = len(self._files)
        self.fps = float(fps)
        self.pts = np.arange(self.n_frames) / self.fps
        self.height, self.width = self._read(0).shape[:2]

    def get(self, indices: Sequence[int] | np.ndarray, short_side: int | None = None) -> np.ndarray:
        wanted = self._checked(indices)
        height, width = scaled_size(self.height, self.width, short_side)
        out = np.empty((len(wanted), height, width, 3), np.uint8)
        read: dict[int, int] = {}
        for place, number in enumerate(wanted.tolist()):
            if number in read:
                out[place] = out[read[number]]
            else:
                out[place] = self._scaled(number, height, width)
                read[number] = place
        return out

    def frames(self, start: int = 0, stop: int | None = None, short_side: int | None = None) -> Iterator[tuple[int, float, np.ndarray]]:
        height, width = scaled_size(self.height, self.width, short_side)
        for number in range(start, self.n_frames if stop is None else min(stop, self.n_frames)):
            yield number, float(self.pts[number]), self._scaled(number, height, width)

    def _read(self, number: int) -> np.ndarray:
        try:
            from PIL import Image
        except ImportError as error:
            raise InputError("reading pictures needs the package 'pillow'", "pip install pillow") from error
        file = self._files[number]
        try:
            with Image.open(file, formats=("JPEG", "PNG", "TIFF", "BMP")) as image:
                if image.width * image.height > MAX_PICTURE_PX:
                    raise ValueError(f"its header claims {image.width}x{image.height} px")
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:  # TypeError: fractions in a TIFF
            raise VideoError(self.path, f"picture {file.name} cannot be read ({error})") from None

    def _scaled(self, number: int, height: int, width: int) -> np.ndarray:
        image = self._read(number)
        if image.shape[:2] == (height, width):
            return image
        from PIL import Image

        way = Image.Resampling.BOX if image.shape[0] > height else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(image).resize((width, height), way))

    def close(self) -> None:
        """Nothing is held open."""


def natural_key(file: Path) -> tuple:
    """Sorts img2 before img10."""
    return tuple((0, int(part), part) if part.isdigit() else (1, 0, part.lower()) for part in re.split(r"(\d+)", file.name) if part)
