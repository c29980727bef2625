"""Reads painted videos in every way and prints what was seen as JSON; run as a process of its own, so that a hang is a failed test."""

import json
import random
import sys
import time

from painted import read_number

from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError


def numbers(pictures):
    return [read_number(picture) for picture in pictures]


def read_back(path, backend):
    """What `backend` gives for each way of asking, beside what was asked."""
    began = time.monotonic()
    try:
        reader = open_video(path, backend)
    except VideoError as error:
        return {"error": error.reason, "seconds": time.monotonic() - began}
    n = reader.n_frames
    rng = random.Random(0)
    anywhere = [rng.randrange(n) for _ in range(20)]
    try:
        asked = {
            "random": (anywhere, [numbers(reader.get([i]))[0] for i in anywhere]),
            "backward": (list(range(n - 1, -1, -7)), [numbers(reader.get([i]))[0] for i in range(n - 1, -1, -7)]),
            "forward": (list(range(0, n, 3)), numbers(reader.get(range(0, n, 3)))),
            "repeated": ([n // 2, n // 2, 0, n // 2], numbers(reader.get([n // 2, n // 2, 0, n // 2]))),
            "shuffled": (anywhere, numbers(reader.get(anywhere))),
            "scaled": (anywhere[:6], numbers(reader.get(anywhere[:6], short_side=48))),
            "times": (anywhere, numbers(reader.get_at(reader.pts[anywhere] + 1e-4))),
            "stream": (list(range(n)), [read_number(picture) for _, _, picture in reader.frames()]),
        }
    except VideoError as error:
        return {"error": error.reason, "seconds": time.monotonic() - began, "n": n}
    return {
        "n": n,
        "backend": reader.backend,
        "damage": reader.damage,
        "pts": reader.pts.tolist(),
        "wrong": {way: [pair for pair in zip(want, got, strict=True) if pair[0] != pair[1]] for way, (want, got) in asked.items()},
        "seconds": time.monotonic() - began,
    }


if __name__ == "__main__":
    for name in sys.argv[2:]:
        print(json.dumps([name, read_back(name, sys.argv[1])]), flush=True)
