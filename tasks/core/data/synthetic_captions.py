"""A captioned set of small videos: a shape of some colour moves in some way, and a sentence says so.

Every combination of colour, shape and motion is either seen in training or held out: one in five is, so that every colour, every shape and
every motion, and every pair of them, is seen in other combinations.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from tasks.core.data.synthetic import (
    MANIFEST,
    Outline,
    background,
    box,
    claim,
    covered,
    encode,
    motion,
    paint,
    render_all,
    triangle,
    write_file,
    write_manifest,
)
from tasks.core.errors import UsageError
from tasks.core.reporter import Reporter

COLORS = {
    "red": (0.95, 0.15, 0.15),
    "green": (0.15, 0.8, 0.2),
    "blue": (0.2, 0.35, 1.0),
    "yellow": (0.95, 0.9, 0.15),
    "purple": (0.7, 0.2, 0.9),
    "white": (0.97, 0.97, 0.97),
}
MOTIONS = {
    "left": "moves to the left",
    "right": "moves to the right",
    "up": "moves up",
    "down": "moves down",
    "grow": "grows",
    "shrink": "shrinks",
}
"""Motion of `synthetic.motion` -> what a sentence says of it."""
SENTENCES = ("a {color} {shape} {moves}", "the {shape} is {color} and {moves}", "one {color} {shape} that {moves}")
"""The first is that of videos to be tested; those to be learned from have any."""
RADIUS = 0.22
"""Smallest, as a share of the frame."""
HELD = 5
"""One combination in so many is held out."""
VIDEOS = {"train": 1440, "val": 144, "held": 36}
_SETTINGS, _FORMAT = "caption_set.json", 1
_HELD = "held"


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) - 0.8


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return box(u, v, (0, 0), (0.7, 0.7))


def _bar(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return box(u, v, (0, 0), (1.0, 0.3))


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(box(u, v, (0, 0), (0.95, 0.24)), box(u, v, (0, 0), (0.24, 0.95)))


SHAPES: dict[str, Outline] = {"circle": _circle, "square": _square, "triangle": triangle, "bar": _bar, "cross": _cross}


@dataclass(frozen=True)
class Combination:
    """What a scene shows: keys of COLORS, SHAPES and MOTIONS."""

    color: str
    shape: str
    motion: str

    @property
    def label(self) -> str:
        """As a class name, `red_circle_left`."""
        return f"{self.color}_{self.shape}_{self.motion}"

    def sentence(self, form: int = 0) -> str:
        """In a form of SENTENCES."""
        return SENTENCES[form].format(color=self.color, shape=self.shape, moves=MOTIONS[self.motion])


def combinations(held: bool) -> list[Combination]:
    """All that are seen in training, or all that are held out."""
    numbered = product(enumerate(COLORS), enumerate(SHAPES), enumerate(MOTIONS))
    return [Combination(c, s, m) for (i, c), (j, s), (k, m) in numbered if ((i + j + k) % HELD == 0) == held]


def render_scene(shown: Combination, rng: np.random.Generator, size: int = 64, frames: int = 24) -> np.ndarray:
    """One scene: uint8 (frames, size, size, 3) RGB."""
    moves = motion(shown.motion, frames, rng)
    moves = replace(moves, angle=np.full(frames, rng.uniform(-0.3, 0.3)))
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    picture = np.broadcast_to(background(grid, rng), (frames, size, size, 3)).copy()
    cover, _ = covered(SHAPES[shown.shape], moves, grid, RADIUS)
    paint(picture, cover, np.array(COLORS[shown.color], np.float32) * np.float32(rng.uniform(0.85, 1.0)))
    return (picture * 255).round().astype(np.uint8)


def render_caption_set(
    folder: Path,
    seed: int = 0,
    videos: Mapping[str, int] | None = None,
    scenes: int = 1,
    size: int = 64,
    frames: int = 24,
    fps: float = 12,
    reporter: Reporter | None = None,
) -> Path:
    """Writes the set, or what is missing of it: a set that is complete is left alone, an interrupted one is continued.

    The scenes of a split show its combinations in turns, each once before any of them is shown again, and never two alike in one video. In
    `train` and `val` they are those that are seen, in `held` the others.

    Args:
        folder: gets one folder per split, `caption_set.json` and `manifest.csv`, a row for every scene: path, label (`red_circle_left`),
            split, text (the sentence), color, shape, motion; of videos of several scenes also start and end in seconds.
        seed: decides everything.
        videos: how many of `train`, `val` and `held`; None: VIDEOS, in which every combination of `val` and `held` is shown once.
        scenes: of a video, one after the other.
        size: side of the square frames, px, even.
        frames: of a scene.
        fps: frames per second; at the default rate a scene lasts two seconds.
        reporter: told about progress.

    Returns:
        path of the manifest.

    Raises:
        UsageError: sizes that cannot be, another split, or a folder that holds a different set.
    """
    counts = dict(VIDEOS if videos is None else videos)
    if size < 16 or size % 2 or frames < 2:
        raise UsageError(f"videos of {frames} frames with side {size} px", "size must be even and at least 16, frames at least 2")
    if strange := sorted(set(counts) - set(VIDEOS)):
        raise UsageError(f"a captioned set has no split '{strange[0]}'", f"its splits: {', '.join(VIDEOS)}")
    if not 1 <= scenes <= len(combinations(True)):
        raise UsageError(f"videos of {scenes} scenes", f"from 1 to {len(combinations(True))}")
    kinds = {"colors": list(COLORS), "shapes": list(SHAPES), "motions": list(MOTIONS), "held": HELD}
    settings = {"format": _FORMAT, **kinds, "seed": seed, "videos": counts, "scenes": scenes, "size": size, "frames": frames, "fps": fps}
    claim(folder / _SETTINGS, settings)
    films = [film for number, split in enumerate(VIDEOS) for film in _films(split, counts.get(split, 0), scenes, [seed, number])]
    missing = [film for film in films if not (folder / film.name).is_file()]

    def make(film: _Film) -> None:
        shown = (render_scene(scene, np.random.default_rng([*film.entropy, i]), size, frames) for i, scene in enumerate(film.scenes))
        write_file(folder / film.name, encode(np.concatenate(list(shown)), fps))

    render_all(missing, make, reporter)
    times = ("start", "end") if scenes > 1 else ()
    lines = [line for film in films for line in film.lines(frames / fps if times else None)]
    return write_manifest(folder / MANIFEST, [("path", "label", "split", "text", "color", "shape", "motion", *times), *lines])


@dataclass(frozen=True)
class _Film:
    """A video to be made: its file, what its scenes show, the forms of their sentences, and the seed of its pictures."""

    name: str
    scenes: tuple[Combination, ...]
    forms: tuple[int, ...]
    entropy: tuple[int, ...]

    def lines(self, seconds: float | None) -> Iterator[tuple]:
        """Rows of the manifest; with times where a scene lasts so many seconds."""
        for number, (scene, form) in enumerate(zip(self.scenes, self.forms, strict=True)):
            times = () if seconds is None else (round(number * seconds, 6), round((number + 1) * seconds, 6))
            split = self.name.partition("/")[0]
            yield (self.name, scene.label, split, scene.sentence(form), scene.color, scene.shape, scene.motion, *times)


def _films(split: str, count: int, scenes: int, entropy: list[int]) -> list[_Film]:
    rng, known = np.random.default_rng(entropy), combinations(split == _HELD)
    waiting: list[Combination] = []
    films = []
    for number in range(count):
        chosen: list[Combination] = []
        while len(chosen) < scenes:
            if not waiting:
                waiting = [known[i] for i in rng.permutation(len(known))]
            chosen.append(waiting.pop(next(i for i in range(len(waiting)) if waiting[i] not in chosen)))
        forms = rng.integers(len(SENTENCES), size=scenes).tolist() if split == "train" else [0] * scenes
        films.append(_Film(f"{split}/{number:05d}.mp4", tuple(chosen), tuple(forms), (*entropy, number)))
    return films
