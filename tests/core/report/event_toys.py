"""A detection by hand."""

import numpy as np

from tasks.core.data.segments.predictions import Event
from tasks.core.report.events import Curves, EventDetection

EVENTS = [Event("dog, barking", 5.5, 8.25, 0.9), Event("rain", 1.0, 3.5, 0.6), Event("rain", 2.0, 9.0, 0.05)]


def detection(file="/videos/yard.mp4", **changes):
    """Of a video whose first frame is at 0.5 s."""
    facts = {
        "path": "yard.mp4",
        "file": str(file),
        "method": "runs/mine",
        "settings": {"min_score": 0.001},
        "events": EVENTS,
        "curves": Curves(0.6 + 0.2 * np.arange(50), np.full((50, 3), 0.25, np.float16), ["dog, barking", "rain", "wind"]),
        "shown_from": 0.2,
        "has_sound": True,
        "file_start_s": 0.5,
        "n_frames": 100,
        "fps": 10.0,
        "duration_s": 10.0,
        "start_s": 0.5,
        "width": 320,
        "height": 240,
        "damage": None,
    }
    return EventDetection(**{**facts, **changes})
