"""Whether the reader's frames are those that their times say, told by the numbers painted into them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.sources import RATE, Sound, read_number
from tasks.core.video.media import open_container
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError, VideoReader

RIGHT, UNCLEAR, ALTERED, WRONG, ELSEWHERE = "right", "unclear", "altered", "wrong", "elsewhere"
KINDS = (RIGHT, UNCLEAR, ALTERED, WRONG, ELSEWHERE)
"""What a delivered frame can be: the one its time says; visibly damaged; another one, but the file's own bits decode to it there without
any sign of damage, so that no reader can know; another one by the reader's fault; not the same by random access as in order."""


@dataclass(frozen=True)
class Job:
    """A file to judge. path: the file. sound: what it was made from. times_hold: whether the times in it are those of the sound video."""

    path: Path
    sound: Sound
    times_hold: bool = True


def judge(job: Job, note: Callable[[Any], None]) -> dict[str, Any]:
    """Counts of what the frames of one file are, by RIGHT, ...; `error` where it is refused, `damage` where it is said to be damaged."""
    try:
        with open_video(job.path) as reader:
            note("open")
            return _judge(job, reader)
    except VideoError as error:
        return {"error": error.reason}


def _judge(job: Job, reader: VideoReader) -> dict[str, Any]:
    try:
        seen = [(number, t, shown_in(picture)) for number, t, picture in reader.frames()]
    except VideoError as error:
        return {"error": error.reason}
    plain = None
    count: Counter[str] = Counter()
    examples = []
    for number, t, shown in seen:
        if shown is None:
            count[UNCLEAR] += 1
        elif shown == _expected(job, number, t):
            count[RIGHT] += 1
        else:
            plain = _plain(job.path) if plain is None else plain
            kind = ALTERED if shown in plain.get(round(t, 3), ()) or shown in plain.get(number, ()) else WRONG
            count[kind] += 1
            examples += [f"frame {number} at {t:.3f} s shows {shown}"] if kind == WRONG else []
    for number, shown, what in _asked_elsewhere(reader):
        if shown != seen[number][2]:
            count[ELSEWHERE] += 1
            examples.append(f"frame {number} {what} shows {shown}, in order {seen[number][2]}")
    return {**count, "n": len(seen), "damage": reader.damage, "examples": examples[:3]}


def _picture(file: Path) -> int | None:
    """What one picture of a folder shows when it is opened by itself."""
    from PIL import Image

    with Image.open(file) as image:
        return shown_in(np.asarray(image.convert("RGB")))


def shown_in(picture: np.ndarray) -> int | None:
    """The number painted into a picture; None where it cannot be told."""
    return read_number(picture) if min(picture.shape[:2]) >= 16 else None


def _expected(job: Job, number: int, t: float) -> int | None:
    """The number painted into what is shown at that time in the sound video."""
    if not job.sound.times or not job.times_hold:
        return number
    times = np.asarray(job.sound.times)
    near = int(np.abs(times - t).argmin())
    return near if abs(times[near] - t) < 0.4 / RATE else None


def _asked_elsewhere(reader: VideoReader) -> list[tuple[int, int | None, str]]:
    """(frame, number shown, how it was asked for) of frames that are not read one after the other."""
    n = reader.n_frames
    rng = np.random.default_rng(n)
    single = [*range(n - 1, -1, -9), *rng.integers(0, n, 6).tolist()]
    found = [(i, shown_in(reader.get([i])[0]), "alone") for i in single]
    every = list(range(0, n, 4))
    found += [(i, shown_in(picture), "in a clip") for i, picture in zip(every, reader.get(every), strict=True)]
    some = rng.integers(0, n, 4)
    pictures = reader.get_at(reader.pts[some])
    return found + [(int(i), shown_in(picture), "by its time") for i, picture in zip(some, pictures, strict=True)]


def _plain(path: Path) -> dict[float | int, set[int | None]]:
    """What a bare sequential decode, which knows no index and never seeks, shows at each time (s, to the ms) and in each place, up to
    the first error or mark of damage."""
    shown: dict[float | int, set[int | None]] = {}
    if path.is_dir():
        return {place: {_picture(file)} for place, file in enumerate(sorted(path.iterdir(), key=lambda file: int(file.stem[3:])))}
    try:
        with open_container(path, threads=1) as container:
            for place, frame in enumerate(container.decode(container.streams.video[0])):
                if frame.is_corrupt:
                    break
                number = shown_in(frame.to_ndarray(format="rgb24"))
                shown.setdefault(place, set()).add(number)
                if frame.time is not None:
                    shown.setdefault(round(frame.time, 3), set()).add(number)
    except (OSError, ValueError):
        pass  # an error ends what is undoubted
    return shown
