"""Motion boundaries: what a moving camera leaves, analytic flow, and the windowed form of the public code."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from tasks.core.flow.motion_map import CODE_WINDOW, changing, code_map, code_window, paper_map, quantized

LEVEL_PX = 40 / 255


def random_flow(n=3, height=20, width=30, seed=0):
    return torch.randn((n, 2, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def constant(vectors, height=20, width=30):
    return torch.tensor(vectors, dtype=torch.float64)[:, :, None, None].expand(-1, -1, height, width)


def test_a_camera_that_moves_sideways_leaves_nothing():
    flow = constant([(3.0, -1.0), (-7.5, 2.25), (0.0, 0.0)])
    assert paper_map(flow).abs().max() == 0
    assert code_map(quantized(flow)).abs().max() == 0


def test_a_constant_flow_changes_no_map():
    flow, more = random_flow(), constant([(3.0, -1.0), (-7.5, 2.25), (0.5, 0.0)])
    torch.testing.assert_close(paper_map(flow + more), paper_map(flow), rtol=1e-10, atol=1e-10)
    whole = torch.round(more / LEVEL_PX) * LEVEL_PX  # the code counts in levels
    snapped = torch.round(flow.clamp(-5, 5) / LEVEL_PX) * LEVEL_PX + 0.1 * LEVEL_PX
    torch.testing.assert_close(code_map(quantized(snapped + whole)), code_map(quantized(snapped)), rtol=0, atol=0)


@pytest.mark.parametrize(("a", "b", "c", "d"), [(0.1, -0.2, 0.3, 0.05), (0.01, 0.0, 0.0, 0.01), (0.0, 0.0, 0.0, 0.0)])
def test_linear_flow_has_one_value_everywhere(a, b, c, d):
    y, x = torch.meshgrid(torch.arange(12.0, dtype=torch.float64), torch.arange(17.0, dtype=torch.float64), indexing="ij")
    flow = torch.stack((a * x + b * y, c * x + d * y))[None]
    expected = torch.full((1, 12, 17), (a * a + b * b + c * c + d * d) ** 0.5, dtype=torch.float64)
    torch.testing.assert_close(paper_map(flow), expected)


def test_the_map_of_the_code_is_that_of_its_kernels():
    """Each field is differentiated by itself with SciPy's convolution, as the code does it."""
    levels = quantized(6 * random_flow(CODE_WINDOW)).numpy()
    kernel = np.array([[-1, 0, 1]] * 3)
    size = []
    for plane in (0, 1):
        across, down = (sum(ndimage.convolve(field[plane], k) for field in levels) for k in (kernel, kernel.T))
        size.append(np.hypot(across, down))
    expected = np.minimum(np.floor(np.mean(size, 0)), 255)
    assert (expected == 255).any()
    assert (expected < 255).any()
    np.testing.assert_array_equal(code_map(torch.from_numpy(levels).sum(0, keepdim=True))[0].numpy(), expected)


@pytest.mark.parametrize("n", [1, 5, 8, 9, 30])
def test_windows_are_centred_and_shifted_at_the_ends(n):
    windows = [code_window(frame, n) for frame in range(n)]
    assert all(stop - start == min(8, n) and 0 <= start <= frame < stop <= n for frame, (start, stop) in enumerate(windows))
    middle = [(start, stop) for frame, (start, stop) in enumerate(windows) if 3 <= frame <= n - 5]
    assert all((start, stop) == (frame - 3, frame + 5) for frame, (start, stop) in enumerate(middle, 3))


def test_the_noise_of_a_codec_and_a_change_of_light_are_no_change():
    rng = np.random.default_rng(0)
    first = torch.from_numpy(rng.integers(40, 60, (1, 240, 320), dtype=np.uint8))
    second = first + torch.from_numpy(rng.integers(0, 4, (1, 240, 320), dtype=np.uint8)) + 30
    assert not changing(first, second).any()
    second[0, 100:110, 200:210] += 20
    found = changing(first, second)[0]
    rows, columns = found.any(1).nonzero(), found.any(0).nonzero()
    assert found[100:110, 200:210].all()
    assert 95 <= rows.min() <= rows.max() <= 114
    assert 195 <= columns.min() <= columns.max() <= 214
