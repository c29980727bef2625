"""MotionSqueeze against a triple loop, a shift that is known, and finite differences."""

import math

import pytest
import torch

from tasks.core.nn.config import MotionConfig
from tasks.core.nn.motion_squeeze import MotionSqueeze, correlation, displacement, unit


def slow_correlation(first, second, patch):
    n, _, h, w = first.shape
    reach = patch // 2
    out = torch.zeros(n, h, w, patch, patch, dtype=torch.float64)
    for y in range(h):
        for x in range(w):
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    if 0 <= y + dy < h and 0 <= x + dx < w:
                        out[:, y, x, dy + reach, dx + reach] = (first[:, :, y, x] * second[:, :, y + dy, x + dx]).sum(1).clamp(min=0)
    return out


def slow_displacement(scores, sigma, temperature):
    """The public formula, place by place."""
    n, h, w, patch, _ = scores.shape
    reach = patch // 2
    out = torch.zeros(n, 3, h, w, dtype=torch.float64)
    cells = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    for i, y, x in ((i, y, x) for i in range(n) for y in range(h) for x in range(w)):
        values = [float(scores[i, y, x, dy + reach, dx + reach]) for dy, dx in cells]
        best = cells[values.index(max(values))]
        raised = [
            v * math.exp(-((c[0] - best[0]) ** 2 + (c[1] - best[1]) ** 2) / (2 * sigma**2)) for v, c in zip(values, cells, strict=True)
        ]
        weights = [math.exp((v - max(raised)) / temperature) for v in raised]
        for channel, part in ((0, 1), (1, 0)):
            out[i, channel, y, x] = sum(k * c[part] for k, c in zip(weights, cells, strict=True)) / sum(weights) / reach
        out[i, 2, y, x] = max(values)
    return out


@pytest.mark.parametrize(("h", "w", "patch"), [(5, 6, 3), (4, 7, 5), (3, 3, 9)])
def test_correlation_is_the_triple_loop(h, w, patch):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(2, 4, h, w, dtype=torch.float64, generator=generator) for _ in range(2))
    assert torch.allclose(correlation(first, second, patch).double(), slow_correlation(first, second, patch), atol=1e-12)


def test_displacement_is_the_public_formula():
    scores = torch.rand(2, 3, 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(displacement(scores, 1.5, 0.05), slow_displacement(scores, 1.5, 0.05), atol=1e-10)


def random_features(seed=0):
    return torch.randn(1, 256, 28, 28, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 0), (0, -5), (-7, 2), (6, 7)])
def test_a_known_shift_is_found(dx, dy):
    """Content that moves by (dx, dy) from one map to the next: to the right is positive x, downwards positive y."""
    first = random_features()
    second = first.roll((dy, dx), (2, 3))
    maps = MotionSqueeze(256, MotionConfig()).match(torch.cat([first, second]), 2)[0, 0, :, 7:-7, 7:-7]
    assert (maps[0] - dx / 7).abs().max() < 0.05
    assert (maps[1] - dy / 7).abs().max() < 0.05
    assert maps[2].min() > 0.99


def test_a_shift_out_of_reach_has_low_confidence():
    first = random_features()
    layer = MotionSqueeze(256, MotionConfig())
    maps = layer.match(torch.cat([first, first.roll((0, 10), (2, 3))]), 2)[0, 0, :, 7:-7, 7:-7]
    assert maps[2].max() < 0.5


def test_gradient_agrees_with_finite_differences():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=generator).requires_grad_()
    weights = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=generator)

    def loss(x):
        first, second = unit(x).split(1)
        return (displacement(correlation(first, second, 3), 1.0, 0.1) * weights).sum()

    assert torch.autograd.gradcheck(loss, (features,), eps=1e-6, atol=1e-5)


def test_parameters_and_shape_of_the_layer():
    layer = MotionSqueeze(512, MotionConfig())
    assert sum(p.numel() for p in layer.parameters()) == 38_009
    features = torch.randn(8, 512, 7, 7)
    moved = layer(features, 4) - features
    assert moved.shape == features.shape
    assert torch.allclose(moved[3], moved[2], atol=1e-5)  # the last frame repeats the motion of the pair before
    assert not torch.allclose(moved[1], moved[0], atol=1e-2)


def test_a_lone_frame_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        MotionSqueeze(8, MotionConfig())(torch.randn(4, 8, 5, 5), 1)


def test_bf16_does_not_reach_the_match():
    layer, features = MotionSqueeze(64, MotionConfig(patch=3)), torch.randn(2, 64, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer.match(features, 2)
    assert torch.equal(inside, layer.match(features, 2))
