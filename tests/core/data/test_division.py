"""Dividing lists of videos."""

import numpy as np
import pytest

from tasks.core.data.division import divide
from tasks.core.data.rows import Row, Rows
from tasks.core.errors import UsageError


def rows_of(labels, people=None, paths=None):
    people = people or [None] * len(labels)
    paths = paths or [f"/v/{i}.mp4" for i in range(len(labels))]
    return Rows.of(Row(path, label, extra={"person": who} if who else {}) for path, label, who in zip(paths, labels, people, strict=True))


def test_every_class_gives_its_share():
    labels = ["a"] * 40 + ["b"] * 10 + ["c"] * 2
    trained = divide(rows_of(labels), 0.8, seed=0)
    counts = {name: int(sum(t for t, label in zip(trained, labels, strict=True) if label == name)) for name in "abc"}
    assert counts == {"a": 32, "b": 8, "c": 1}  # of two one each way
    assert (divide(rows_of(labels), 0.8, seed=0) == trained).all()
    assert (divide(rows_of(labels), 0.8, seed=1) != trained).any()


def test_rows_of_a_video_and_of_a_group_stay_together():
    rng = np.random.default_rng(0)
    people = [f"P{n}" for n in rng.integers(0, 10, 200)]
    labels = [str(n) for n in rng.integers(0, 3, 200)]
    for seed in range(5):
        trained = divide(rows_of(labels, people), 0.7, seed, "person")
        sides = {who: {bool(t) for t, w in zip(trained, people, strict=True) if w == who} for who in people}
        assert all(len(side) == 1 for side in sides.values())
        assert 0.6 <= trained.mean() <= 0.8
    paths = [f"/v/{n}.mp4" for n in rng.integers(0, 30, 200)]
    trained = divide(rows_of(["x"] * 200, paths=paths), 0.5, 0)
    assert not {p for p, t in zip(paths, trained, strict=True) if t} & {p for p, t in zip(paths, trained, strict=True) if not t}


def test_both_parts_get_something():
    assert divide(rows_of(["a", "b", "c"]), 0.8, 0).tolist().count(False) == 1  # every class has one video
    assert sorted(divide(rows_of(["a", "a"]), 0.99, 0).tolist()) == [False, True]
    assert sorted(divide(rows_of(["a", "a"]), 0.01, 0).tolist()) == [False, True]
    sizes = divide(rows_of([None] * 100, ["big"] * 99 + ["small"]), 0.5, 0, "person")
    assert 0 < sizes.sum() < 100


def test_what_cannot_be_divided():
    with pytest.raises(UsageError, match="no column 'persn'") as unknown:
        divide(rows_of(["a", "b"], ["x", "y"]), 0.5, 0, "persn")
    assert "did you mean 'person'" in unknown.value.hint
    with pytest.raises(UsageError, match="1 of 2 rows have no person"):
        divide(rows_of(["a", "b"], ["x", None]), 0.5, 0, "person")
    with pytest.raises(UsageError, match="there is one person"):
        divide(rows_of(["a", "b"], ["x", "x"]), 0.5, 0, "person")
