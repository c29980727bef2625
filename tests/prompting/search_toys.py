"""A small index without a model or a video: vectors as they are given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.data.captions import Sentence
from tasks.core.data.grid import Grid
from tasks.core.data.rows import Row
from tasks.core.reporter import Quiet
from tasks.prompting.search.store import Index, Part, claim

GRID = Grid(2.0, 0.04)


def head(dim: int = 4, dtype: str = "float16", **changes: Any) -> dict[str, Any]:
    """index.json of an index of the model `toy`."""
    made = {"reference": "toy", "vocabulary": None, "text": None, "picture_hash": "a" * 16, "text_hash": "b" * 16, "preprocessing": {}}
    return {"version": 1, "id": "c" * 16, "model": made, "dim": dim, "dtype": dtype, "hop_s": 2.0, **changes}


def unit(*values: float) -> np.ndarray:
    """A vector of length 1."""
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def write_index(
    folder: Path, videos: Mapping[str, np.ndarray], said: Mapping[str, list[Sentence]] | None = None, part: str = "1-of-1", **changes: Any
) -> Index:
    """An index of videos by path; several calls with other shares fill one.

    Args:
        videos: path -> (n, 4).
        said: path -> sentences.
    """
    described = head(**changes)
    claim(folder, described)
    share = Part(folder, part, described, Quiet())
    for path, vectors in videos.items():
        share.add(Row(path), path, vectors, GRID if len(vectors) else None, 2.0 * len(vectors))
    for path, sentences in (said or {}).items():
        share.say(Row(path), sentences, "x")
    share.close()
    return Index(folder)
