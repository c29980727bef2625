"""A labelled set of small motion videos whose single frames do not tell the classes apart; for the demo and for tests.

One striped shape lives on a torus (what leaves on one side returns on the other) in front of a still, textured background in which a
small blob drifts slowly. Where the shape stands, how it is turned and how large it is have the same distribution in every frame of every
class; the classes differ only in which of the three changes over time, and which way. The reverse of each class is another class.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np

from tasks.core.errors import UsageError
from tasks.core.reporter import Quiet, Reporter

SHAPE = 0.32  # smallest radius, as a share of the frame
CLASSES = ("circle_ccw", "circle_cw", "down", "grow", "left", "right", "shrink", "spin_ccw", "spin_cw", "up")
SPLITS = {"train": 0.4, "val": 0.2, "unlabelled": 0.4}
MANIFEST = "manifest.csv"
_SETTINGS, _FORMAT = "motion_set.json", 1
# Without mbtree=0 x264's bytes differ from run to run for about 1 in 30 of such small videos (measured; also with one thread).
_X264 = "open-gop=0:mbtree=0"

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From a shape's own coordinates to the signed distance from its edge in units of its radius, negative inside."""
Job = TypeVar("Job")


@dataclass(frozen=True)
class Motion:
    """The shape's state in each frame.

    Attributes:
        x, y: (T,) position as a share of the frame, any real number (the torus takes care of the rest).
        angle: (T,) radians, clockwise as seen.
        scale: (T,) in [0, 1): 0 smallest, 1 twice as large.
    """

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    scale: np.ndarray


def motion(label: str, frames: int, rng: np.random.Generator) -> Motion:
    """Draw one movement of class `label`: at every time, position, angle and scale are uniform and independent, whatever the class."""
    t = np.arange(frames)
    x, y, angle, scale = rng.uniform(0, (1, 1, 2 * np.pi, 1))
    pace = rng.uniform(0.8, 1.2)
    phase, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.16, 0.24)
    still = np.zeros(frames)
    state = {"x": x + still, "y": y + still, "angle": angle + still, "scale": scale + still}
    step, turn, growth = 0.04 * pace, 0.26 * pace, pace / frames
    match label:
        case "left" | "right":
            state["x"] = x + step * t * (1 if label == "right" else -1)
        case "up" | "down":
            state["y"] = y + step * t * (1 if label == "down" else -1)
        case "circle_cw" | "circle_ccw":
            around = phase + step / radius * t * (1 if label == "circle_cw" else -1)
            state["x"], state["y"] = x + radius * np.cos(around), y + radius * np.sin(around)
        case "spin_cw" | "spin_ccw":
            state["angle"] = angle + turn * t * (1 if label == "spin_cw" else -1)
        case "grow" | "shrink":
            state["scale"] = (scale + growth * t * (1 if label == "grow" else -1)) % 1
        case _:
            raise ValueError(f"no motion class '{label}'")
    return Motion(**state)


def render_clip(label: str, rng: np.random.Generator, size: int = 64, frames: int = 24) -> np.ndarray:
    """One clip of class `label`: uint8 (frames, size, size, 3) RGB."""
    moves = motion(label, frames, rng)
    shape = _SHAPES[int(rng.integers(len(_SHAPES)))]
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    picture = np.broadcast_to(background(grid, rng), (frames, size, size, 3)).copy()

    start, heading, speed = rng.uniform(0, 1, 2), rng.uniform(0, 2 * np.pi), rng.uniform(0.004, 0.01)
    drift = start + speed * np.arange(frames)[:, None] * np.array([np.cos(heading), np.sin(heading)])
    dx, dy = torus(grid, drift[:, 0]), torus(grid, drift[:, 1])
    blob = np.exp(-(dx[:, None, :] ** 2 + dy[:, :, None] ** 2) / (2 * rng.uniform(0.03, 0.05) ** 2))
    paint(picture, 0.8 * blob, _color(rng, 0.5, 0.9)[None])

    cover, u = covered(shape, moves, grid, SHAPE)
    stripes = 0.8 + 0.2 * np.cos(rng.uniform(4, 7) * u + rng.uniform(0, 2 * np.pi))
    paint(picture, cover, stripes[..., None] * _color(rng, 0.85, 1.0))
    return (picture * 255).round().astype(np.uint8)


def covered(outline: Outline, moves: Motion, grid: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a shape is in every frame.

    Args:
        outline: of the shape.
        moves: its state in T frames.
        grid: (S,) float32, the centres of pixels as shares of the frame.
        smallest: its smallest radius, as a share of the frame.

    Returns:
        (T, S, S) float32 each: opacity in [0, 1], and the first of the shape's own coordinates.
    """
    radius = (smallest * 2**moves.scale).astype(np.float32)[:, None, None]
    cos, sin = (f(moves.angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    dx, dy = torus(grid, moves.x)[:, None, :], torus(grid, moves.y)[:, :, None]
    u, v = (cos * dx + sin * dy) / radius, (cos * dy - sin * dx) / radius
    return np.clip(0.5 - outline(u, v) * radius * len(grid), 0, 1), u


def encode(frames: np.ndarray, fps: float) -> bytes:
    """H.264 in mp4, closed groups of 12 pictures, yuv420p; the same bytes for the same frames.

    Args:
        frames: uint8 (T, H, W, 3) RGB, H and W even.
        fps: frames per second.
    """
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "16", "preset": "veryfast", "g": "12", "threads": "1", "x264-params": _X264}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def render_motion_set(
    folder: Path,
    n_per_class: int,
    seed: int,
    size: int = 64,
    frames: int = 24,
    fps: float = 12,
    splits: Mapping[str, float] | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Write the set, or what is missing of it: a set that is complete is left alone, an interrupted one is continued.

    Args:
        folder: gets one folder per split, `manifest.csv` (path, label, split; no label for `unlabelled`) and `motion_set.json`.
        n_per_class: videos per class over all splits.
        seed: decides everything; no two videos, of whatever split, share random numbers.
        size: side of the square frames, px, even.
        frames, fps: length and rate; at the default rate a video lasts two seconds.
        splits: name -> share of the videos, adding up to 1; default `SPLITS`.
        reporter: told about progress.

    Returns:
        path of the manifest.

    Raises:
        UsageError: odd size, shares that do not add up or leave a split empty, or a folder that holds a different set.
    """
    shares = dict(SPLITS if splits is None else splits)
    counts = _counts(n_per_class, shares)
    if size < 16 or size % 2 or frames < 2:
        raise UsageError(f"motion videos of {frames} frames with side {size} px", "size must be even and at least 16, frames at least 2")
    settings = {"format": _FORMAT, "classes": list(CLASSES), "n_per_class": n_per_class, "seed": seed, "size": size}
    settings |= {"frames": frames, "fps": fps, "splits": shares}
    claim(folder / _SETTINGS, settings)
    rows, missing = [], []
    for split_number, (split, count) in enumerate(counts.items()):
        for i in range(count):
            for class_number, label in enumerate(CLASSES):
                hidden = split == "unlabelled"
                name = f"{split}/{i * len(CLASSES) + class_number:05d}.mp4" if hidden else f"{split}/{label}_{i:04d}.mp4"
                rows.append((name, "" if hidden else label, split))
                if not (folder / name).is_file():
                    missing.append((name, label, [seed, split_number, class_number, i]))

    def make(job: tuple[str, str, list[int]]) -> None:
        name, label, entropy = job
        write_file(folder / name, encode(render_clip(label, np.random.default_rng(entropy), size, frames), fps))

    render_all(missing, make, reporter)
    return write_manifest(folder / MANIFEST, [("path", "label", "split"), *rows])


def render_all(jobs: Sequence[Job], make: Callable[[Job], None], reporter: Reporter | None) -> None:
    """Makes videos, several at once."""
    if not jobs:
        return
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, (reporter or Quiet()).progress("rendering", len(jobs), "video") as bar:
        for _ in pool.map(make, jobs):
            bar.advance()


def write_manifest(path: Path, lines: Sequence[tuple]) -> Path:
    """Writes a CSV of header and rows; returns its path."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_file(path, text.getvalue().encode())
    return path


def _counts(n_per_class: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Videos per class of each split: rounded ends of the running shares, so that they add up."""
    if not shares or abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(f"split shares {dict(shares)} do not add up to 1")
    ends = np.rint(np.cumsum(list(shares.values())) * n_per_class).astype(int)
    counts = dict(zip(shares, np.diff(ends, prepend=0).tolist(), strict=True))
    if min(counts.values()) < 1:
        raise UsageError(f"{n_per_class} videos per class are too few for the splits {dict(shares)}", "ask for more videos per class")
    return counts


def claim(note: Path, settings: dict) -> None:
    """Notes the settings of a set of videos in its folder, or checks that it holds a set of these; UsageError where it holds another."""
    if not note.is_file():
        write_file(note, (json.dumps(settings, indent=1) + "\n").encode())
        return
    try:
        found = json.loads(note.read_text())
    except ValueError:
        found = None
    if found != settings:
        folder = note.parent
        raise UsageError(f"{folder} holds a set of motion videos with other settings", f"delete {folder} or choose another folder")


def write_file(path: Path, data: bytes) -> None:
    """Writes a file that appears whole, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def torus(grid: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Signed shortest way from each centre to each pixel on a circle of length 1: (S,), (T,) -> (T, S) float32."""
    return ((grid - center[:, None].astype(np.float32) + 0.5) % 1 - 0.5).astype(np.float32)


def paint(picture: np.ndarray, cover: np.ndarray, color: np.ndarray) -> None:
    """Blend `color` into (T, S, S, 3) with opacity `cover` (T, S, S), in place."""
    picture += cover[..., None] * (color - picture)


def _color(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """A saturated colour of brightness low..high, (3,) float32."""
    hue = rng.uniform(0, 1)
    wheel = np.clip(np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1, 0, 1)
    return ((0.25 + 0.75 * wheel) * rng.uniform(low, high)).astype(np.float32)


def background(grid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A few waves of random direction and colour, (S, S, 3) float32, darker than the shape."""
    x, y = grid[None, :, None], grid[:, None, None]
    texture = np.zeros((len(grid), len(grid), 3), dtype=np.float32)
    for wave in rng.uniform(-1, 1, (6, 6)).astype(np.float32):
        texture += wave[3:] * np.sin(np.float32(2 * np.pi) * (3 * wave[0] * x + 3 * wave[1] * y + wave[2]))
    return np.clip(0.25 + 0.03 * texture + 0.05 * rng.uniform(-1, 1, 3).astype(np.float32), 0, 0.65)


def box(u: np.ndarray, v: np.ndarray, center: tuple[float, float], half: tuple[float, float]) -> np.ndarray:
    return np.maximum(np.abs(u - center[0]) - half[0], np.abs(v - center[1]) - half[1])


def triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(0.866 * np.abs(v) + 0.5 * u, -u) - 0.5


def _bar(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return box(u, v, (0, 0), (0.95, 0.32))


def _arrow(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    head = np.maximum(-u, 0.645 * u + 0.764 * np.abs(v) - 0.62)
    return np.minimum(head, box(u, v, (-0.4, 0), (0.5, 0.27)))


def _ell(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(box(u, v, (-0.4, 0), (0.27, 0.85)), box(u, v, (0.05, 0.58), (0.7, 0.27)))


def _tee(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(box(u, v, (0, -0.55), (0.85, 0.27)), box(u, v, (0, 0.15), (0.27, 0.75)))


_SHAPES: tuple[Outline, ...] = (triangle, _bar, _arrow, _ell, _tee)
