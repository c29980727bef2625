"""Texts are encoded once, by the tower that is asked and no other."""

import os

import numpy as np
import pytest
import torch
from clip_toys import clip_folder

from tasks.core.errors import InputError
from tasks.core.towers import load_text_tower, text_cache
from tasks.core.towers.text_cache import text_features


class Counting:
    """A tower of three channels that remembers what it was asked."""

    dim = 3

    def __init__(self, weights_hash: str = "a" * 16, value: float = 1.0):
        self.source, self.value, self.asked = {"weights_hash": weights_hash}, value, []

    def __call__(self, texts):
        self.asked += texts
        return torch.tensor([[self.value, len(text), hash(text) % 97] for text in texts])


def test_only_what_is_new_is_encoded(tmp_path):
    tower = Counting()
    first = text_features(tower, ["a", "bb", "a", ""], tmp_path)
    assert tower.asked == ["a", "bb", ""]
    assert first.dtype == np.float32
    assert first[:, 1].tolist() == [1, 2, 1, 0]
    again = text_features(tower, ["ccc", "bb", "\ud800"], tmp_path)
    assert tower.asked == ["a", "bb", "", "ccc", "\ud800"]
    assert again[1].tolist() == first[1].tolist()
    assert text_features(tower, [], tmp_path).shape == (0, 3)
    other = Counting()
    assert np.array_equal(text_features(other, ["a", "ccc"], tmp_path), np.stack([first[0], again[0]]))
    assert other.asked == []


def test_another_tower_takes_nothing_from_it(tmp_path):
    text_features(Counting(), ["a"], tmp_path)
    changed = Counting("b" * 16, 2.0)
    assert text_features(changed, ["a"], tmp_path)[0, 0] == 2
    assert changed.asked == ["a"]
    os.rename(tmp_path / ("a" * 16), tmp_path / ("c" * 16))  # a file says of which tower it is
    moved = Counting("c" * 16, 3.0)
    assert text_features(moved, ["a"], tmp_path)[0, 0] == 3


def test_a_folder_of_changed_weights_is_another_tower(tmp_path):
    clip = clip_folder(tmp_path / "clip")
    first = text_features(load_text_tower(clip), ["a red square"], tmp_path / "cache")
    clip_folder(clip, activation="gelu")
    changed = load_text_tower(clip)
    second = text_features(changed, ["a red square"], tmp_path / "cache")
    assert not np.allclose(first, second, atol=1e-4)
    assert np.allclose(second, changed(["a red square"]).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "damage", [lambda file: os.truncate(file, 60), lambda file: file.write_bytes(b""), lambda file: file.write_bytes(b"x")]
)
def test_damaged_files_count_as_none(tmp_path, damage):
    text_features(Counting(), ["a"], tmp_path)
    damage(next(tmp_path.rglob("*.npz")))
    tower = Counting()
    assert text_features(tower, ["a"], tmp_path)[0, 0] == 1
    assert tower.asked == ["a"]


def test_what_was_done_before_a_stop_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(text_cache, "CHUNK", 2)
    tower = Counting()
    fails = lambda texts: tower(texts) if "c" not in texts else 1 / 0  # noqa: E731
    fails.source, fails.dim = tower.source, tower.dim
    with pytest.raises(ZeroDivisionError):
        text_features(fails, ["a", "b", "c", "d"], tmp_path)
    other = Counting()
    text_features(other, ["a", "b", "c"], tmp_path)
    assert other.asked == ["c"]


def test_vectors_that_are_not_finite_are_named(tmp_path):
    with pytest.raises(InputError, match="no finite vector of 'bad'"):
        text_features(Counting(value=float("nan")), ["bad"], tmp_path)
    assert not list(tmp_path.rglob("*.npz"))


def test_the_cache_of_the_suite_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path))
    text_features(Counting(), ["a"])
    assert [file.parent.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.npz")] == [f"text/{'a' * 16}"]
