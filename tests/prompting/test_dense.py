"""Features of whole videos in snippets, and what is inside a segment."""

import numpy as np
import prompting_toys as toys
import pytest
import torch

from tasks.core.data.grid import Grid
from tasks.prompting.config import PromptedConfig
from tasks.prompting.dense import Matcher, means_inside
from tasks.prompting.model import PromptedModel


def matcher(layers: int = 1, frames: int = 4) -> Matcher:
    torch.manual_seed(0)
    config = PromptedConfig(temporal={"layers": layers, "heads": 4}, frames=frames)
    return Matcher(torch.randn(3, toys.DIM), 0.07, PromptedModel(config, 64, 24, toys.DIM).eval())


def features(n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, toys.DIM)).astype(np.float32)


def joined(found: Matcher, *blocks: np.ndarray) -> np.ndarray:
    return np.concatenate(list(found.dense(blocks)))


@pytest.mark.parametrize("size", [1, 3, 4, 7, 50])
@pytest.mark.parametrize("n", [4, 8, 11])
def test_a_video_is_cut_into_snippets_whatever_the_blocks(n, size):
    found, values = matcher(), features(n)
    blocks = [values[first : first + size] for first in range(0, n, size)]
    with torch.no_grad():
        starts = [*range(0, n - 3, 4)]
        parts = [found.model.dense_features(torch.from_numpy(values[start : start + 4])[None])[0] for start in starts]
        if n % 4:  # the last snippet reaches back; what earlier ones have said stays
            parts.append(found.model.dense_features(torch.from_numpy(values[-4:])[None])[0, -(n % 4) :])
    np.testing.assert_allclose(joined(found, *blocks), torch.cat(parts).numpy(), atol=1e-5)


def test_a_video_shorter_than_a_snippet_ends_in_its_last_frame():
    found, values = matcher(), features(2)
    with torch.no_grad():
        expected = found.model.dense_features(torch.from_numpy(values[[0, 1, 1, 1]])[None])[0, :2]
    np.testing.assert_allclose(joined(found, values), expected.numpy(), atol=1e-6)


def test_without_layers_frames_stay_as_they_are():
    values = features(9)
    np.testing.assert_array_equal(joined(matcher(layers=0), values[:5], values[5:]), values)
    np.testing.assert_array_equal(joined(Matcher(torch.randn(3, toys.DIM), 0.07), values), values)


def test_the_mean_inside_a_segment():
    values, grid = features(10), Grid(0.5, 0.5, 2.0)  # middles at 2.25, 2.75, ... 6.75
    segments = np.array([[0.0, 60.0], [2.0, 7.0], [3.0, 4.0], [3.1, 3.1], [2.8, 3.2], [50.0, 60.0], [0.0, 1.0]])
    found = means_inside(values, grid, segments)
    whole = values.mean(0)
    expected = [whole, whole, values[2:4].mean(0), values[2], values[2], values[9], values[0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.isfinite(found).all()


def test_probabilities_are_the_softmax_of_cosines():
    found, values = matcher(), features(5)
    text = found.text.numpy().astype(np.float64)
    cosines = values @ text.T / np.linalg.norm(values, axis=1)[:, None] / np.linalg.norm(text, axis=1) / 0.07
    expected = np.exp(cosines) / np.exp(cosines).sum(1, keepdims=True)
    np.testing.assert_allclose(found.probabilities(values), expected, atol=1e-5)
