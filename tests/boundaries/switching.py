"""Small videos in which something changes at known times, with their annotation."""

import json
from pathlib import Path

import numpy as np

from tasks.core.data.synthetic import encode

FPS, SECONDS, SIZE = 12, 8, 48


def switching_frames(rng: np.random.Generator, kind: str, switches: list[float], fps: int = FPS, seconds: float = SECONDS) -> np.ndarray:
    """A disc over a still texture, uint8 (T, SIZE, SIZE, 3). At every switch either the texture turns (`colour`: its channels change
    places) or the disc changes the way it moves (`motion`).
    """
    n = round(seconds * fps)
    grid = (np.arange(SIZE) + 0.5) / SIZE
    waves = rng.uniform(-1, 1, (4, 3))
    texture = np.zeros((SIZE, SIZE, 3))
    for u, v, phase in waves:
        texture += np.sin(2 * np.pi * (4 * u * grid[None, :, None] + 4 * v * grid[:, None, None]) + phase + np.arange(3))
    texture = 0.4 + 0.12 * texture * np.array([1.0, 0.4, 0.1])
    part = np.searchsorted(np.asarray(switches) * fps - 1e-9, np.arange(n), side="right")
    angle = rng.uniform(0, 2 * np.pi)
    place, frames = rng.uniform(0.3, 0.7, 2), []
    for i in range(n):
        turn = angle + (part[i] * 2.5 if kind == "motion" else 0)
        place = (place + 0.03 * np.array([np.cos(turn), np.sin(turn)])) % 1
        picture = np.roll(texture, part[i] if kind == "colour" else 0, axis=2).copy()
        dx, dy = (np.abs(grid - place[0]) + 0.5) % 1 - 0.5, (np.abs(grid - place[1]) + 0.5) % 1 - 0.5
        picture[(dx[None] ** 2 + dy[:, None] ** 2) < 0.15**2] = 0.9
        frames.append(picture)
    return (np.clip(frames, 0, 1) * 255).astype(np.uint8)


def switching_set(folder: Path, n: int = 8, seed: int = 0, kinds: tuple[str, ...] = ("colour", "motion")) -> Path:
    """`n` videos and `truth.json` in the challenge's format; two or three switches a video, at least 1.5 s apart."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        count = int(rng.integers(2, 4))
        switches = [float((i + 0.5 + 0.4 * rng.uniform(-0.5, 0.5)) * SECONDS / count) for i in range(count)]
        switches = [round(t * FPS) / FPS for t in switches]
        name = f"v{number}"
        (folder / f"{name}.mp4").write_bytes(encode(switching_frames(rng, kinds[number % len(kinds)], switches), FPS))
        truth[name] = {
            "path": f"{name}.mp4",
            "fps": float(FPS),
            "num_frames": SECONDS * FPS,
            "video_duration": float(SECONDS),
            "f1_consis": [0.4, 0.9],
            "f1_consis_avg": 0.65,
            "substages_timestamps": [[1.0], switches],
        }
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder / "truth.json"
