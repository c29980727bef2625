"""Optical flow: known motions, the paper's iteration in slow float64, OpenCV on made and on real frames, encodings."""

import colorsys
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tasks.core.errors import UsageError
from tasks.core.flow import tvl1 as solver
from tasks.core.flow.flow import TVL1Config, encode_flow, flow_of, flow_pictures, flow_to_rgb, opencv_flow, to_grey, tvl1
from tasks.core.video.open import open_video


def texture(x: torch.Tensor, y: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Smooth random grey values 0..255, defined between the pixels too: forty waves of 16 to 80 px."""
    generator = torch.Generator().manual_seed(seed)
    angle, phase, length = torch.rand(3, 40, generator=generator, dtype=torch.float64)
    k = 2 * math.pi / (16 + 64 * length)
    waves = torch.cos(k * (angle * 2 * math.pi).cos() * x[..., None] + k * (angle * 2 * math.pi).sin() * y[..., None] + phase * 2 * math.pi)
    return (128 + waves.sum(-1) * 14).clamp(0, 255).float()


def grid(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    y, x = torch.meshgrid(torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij")
    return x, y


def moved(height: int, width: int, u: float, v: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A texture and the same moved by (u, v) px: two (1, H, W)."""
    x, y = grid(height, width)
    return texture(x, y, seed)[None], texture(x - u, y - v, seed)[None]


def turned(height: int, width: int, degrees: float, zoom: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A texture and the same turned and zoomed around the middle, as a camera's 8 bits: two (1, H, W) uint8."""
    x, y = grid(height, width)
    cx, cy, c, s = width / 2, height / 2, math.cos(math.radians(degrees)) / zoom, math.sin(math.radians(degrees)) / zoom
    there = cx + c * (x - cx) + s * (y - cy), cy - s * (x - cx) + c * (y - cy)
    return tuple(frame.round().to(torch.uint8)[None] for frame in (texture(x, y, seed), texture(*there, seed)))


def off(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """End-point difference per pixel, px: (N, 2, H, W) twice -> (N, H, W)."""
    return (a - b).norm(dim=1)


@pytest.mark.parametrize(("u", "v"), [(0.4, -0.3), (-1.7, 0.0), (2.5, 1.25), (-7.0, 5.0)])
def test_known_translations_are_found(u, v):
    flow = tvl1(*moved(96, 120, u, v))
    assert flow.shape == (1, 2, 96, 120)
    assert flow.dtype == torch.float32
    inside = off(flow, torch.tensor([u, v]).view(1, 2, 1, 1))[:, 12:-12, 12:-12]
    assert inside.mean() < 0.1
    assert inside.max() < 0.3


def test_no_motion_is_exactly_zero():
    first, _ = moved(50, 61, 1, 1)
    assert torch.equal(tvl1(first, first), torch.zeros(1, 2, 50, 61))


def slow_iterations(first: np.ndarray, second: np.ndarray, config: TVL1Config, n: int) -> np.ndarray:
    """`n` iterations from rest on one level, pixel by pixel as in IPOL 2013, algorithm 1: (2, H, W) float64."""
    height, width = first.shape
    u, p = np.zeros((2, height, width)), np.zeros((2, 2, height, width))  # p[flow channel, direction x or y]

    def at(image, y, x):
        return image[min(max(y, 0), height - 1), min(max(x, 0), width - 1)]

    for _ in range(n):
        new = np.zeros_like(u)
        for y in range(height):
            for x in range(width):
                gx = (at(second, y, x + 1) - at(second, y, x - 1)) / 2
                gy = (at(second, y + 1, x) - at(second, y - 1, x)) / 2
                square = gx * gx + gy * gy
                rho = second[y, x] + gx * u[0, y, x] + gy * u[1, y, x] - first[y, x]
                if rho < -config.lam * config.theta * square:
                    step = config.lam * config.theta
                elif rho > config.lam * config.theta * square:
                    step = -config.lam * config.theta
                else:
                    step = -rho / square if square else 0.0
                for c, g in enumerate((gx, gy)):
                    left = p[c, 0, y, x - 1] if x > 0 else 0.0
                    above = p[c, 1, y - 1, x] if y > 0 else 0.0
                    divergence = p[c, 0, y, x] - left + p[c, 1, y, x] - above
                    new[c, y, x] = u[c, y, x] + step * g + config.theta * divergence
        u = new
        rate = config.tau / config.theta
        for c in range(2):
            for y in range(height):
                for x in range(width):
                    dx = u[c, y, x + 1] - u[c, y, x] if x < width - 1 else 0.0
                    dy = u[c, y + 1, x] - u[c, y, x] if y < height - 1 else 0.0
                    p[c, :, y, x] = (p[c, :, y, x] + rate * np.array([dx, dy])) / (1 + rate * math.hypot(dx, dy))
    return u


@pytest.mark.parametrize("n", [1, 2, 7])
def test_iterations_are_those_of_the_paper(n):
    config = TVL1Config(scales=1, warps=1, median=1, outer_iterations=1, inner_iterations=n, epsilon=0, lam=0.07, theta=0.4, tau=0.2)
    first, second = moved(9, 12, 0.7, -0.4)
    second[0, :4, :4] = 77.0  # no gradient here
    slow = slow_iterations(first[0].double().numpy(), second[0].double().numpy(), config, n)
    assert np.abs(slow).max() > 0.1
    assert tvl1(first, second, config)[0].numpy() == pytest.approx(slow, abs=2e-5)


@pytest.mark.parametrize(
    ("size", "degrees", "zoom"),
    [((120, 160), 2.0, 1.0), ((97, 131), -1.0, 1.03), ((33, 41), 1.0, 1.0), ((15, 40), 1.0, 1.0)],
)
def test_agrees_with_opencv_on_made_frames(size, degrees, zoom):
    pytest.importorskip("cv2")
    pair = turned(*size, degrees, zoom)
    theirs = opencv_flow(*pair)
    assert theirs.norm(dim=1).max() > 0.1
    assert off(tvl1(*pair), theirs).mean() < 0.05


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"lam": 0.05},
        {"theta": 0.5},
        {"tau": 0.1},
        {"scale_step": 0.5},
        {"scales": 1},
        {"warps": 1},
        {"epsilon": 0.1},
        {"median": 3},
        {"median": 1},
        {"inner_iterations": 3, "outer_iterations": 2},
    ],
)
def test_settings_mean_what_they_mean_in_opencv(change):
    """Over few iterations, which do not amplify the last bits of the arithmetic, the agreement is very close."""
    cv2 = pytest.importorskip("cv2")
    ramp, nearly = np.arange(64, dtype=np.float32).reshape(8, 8), np.full((1, 1), 4.01, dtype=np.float32)
    if cv2.remap(ramp, nearly, nearly, cv2.INTER_CUBIC) == ramp[4, 4]:
        pytest.skip(f"OpenCV {cv2.__version__} warps by whole 1/32 px")
    short = {"scales": 2, "warps": 2}
    pair, config = turned(60, 80, 2.0, 1.0), TVL1Config(**short | change)
    theirs = opencv_flow(*pair, config=config)
    assert off(tvl1(*pair, config), theirs).mean() < 5e-4
    if change:
        assert off(tvl1(*pair, TVL1Config(**short)), theirs).mean() > 5e-3


@pytest.mark.real
@pytest.mark.parametrize("folder", ["ped2/test", "gestures", "fights", "clips"])
@pytest.mark.slow
def test_agrees_with_opencv_on_real_frames(real_data, folder):
    pytest.importorskip("cv2")
    videos = sorted(path for path in (real_data / folder).rglob("*") if path.suffix in (".mp4", ".mkv", ".webm"))
    for path in videos[:: len(videos) // 3][:3]:
        with open_video(path) as video:
            middle = len(video) // 2
            grey = to_grey(torch.from_numpy(video.get([middle, middle + 1], 160)))
        difference = off(tvl1(grey[:1], grey[1:]), opencv_flow(grey[:1], grey[1:]))
        assert difference.mean() < 0.1, path


@pytest.mark.slow
def test_a_pair_does_not_depend_on_its_batch():
    pairs = [moved(40, 52, u, v, seed) for seed, (u, v) in enumerate([(0.2, 0.0), (3.0, -2.0), (0.0, 0.0), (-1.0, 6.0), (1.0, 1.0)])]
    first, second = (torch.cat(frames) for frames in zip(*pairs, strict=True))
    alone = torch.cat([tvl1(*pair) for pair in pairs])
    together = tvl1(first, second, batch=5)
    assert torch.equal(together, alone)
    assert torch.equal(tvl1(first, second, batch=2), alone)
    assert torch.equal(tvl1(first.flip(0), second.flip(0), batch=5).flip(0), alone)


def test_looking_at_the_device_less_often_changes_nothing(monkeypatch):
    """What a GPU does, on the CPU: pairs at rest are held by a mask until all are at rest."""
    first, second = (torch.cat(frames) for frames in zip(moved(40, 52, 2.0, 1.0), moved(40, 52, 0.1, 0.0, 1), strict=True))
    expected = tvl1(first, second)
    monkeypatch.setitem(solver._CHECK_EVERY, "cpu", 4)
    assert torch.equal(tvl1(first, second, batch=2), expected)
    assert torch.equal(tvl1(first[1:], second[1:]), expected[1:])


def test_threads_change_nothing():
    first, second = (torch.cat(frames) for frames in zip(moved(40, 52, 2.0, 1.0), moved(40, 52, 0.1, 0.0, 1), strict=True))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                found.append(tvl1(first, second))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_any_size_and_type():
    for height, width in ((3, 3), (3, 50), (17, 16), (20, 129)):
        first, second = moved(height, width, 0.5, 0.5)
        flow = tvl1(first, second)
        assert flow.shape == (1, 2, height, width)
        assert flow.isfinite().all()
    assert torch.equal(tvl1(first.round().byte(), second.round().byte()), tvl1(first.round().double(), second.round().double()))
    assert tvl1(first[:0], second[:0]).shape == (0, 2, 20, 129)


def test_frames_that_do_not_fit_are_named():
    frames = torch.zeros(2, 8, 9)
    for other, what in ((frames[:1], "shape"), (frames.double(), "dtype"), (frames.to("meta"), "device")):
        with pytest.raises(ValueError, match=f"different {what}"):
            tvl1(frames, other)
    for bad in (torch.zeros(2, 3, 8, 9), torch.zeros(2, 2, 9)):
        with pytest.raises(ValueError, match=r"at least 3 x 3 px, got \(2"):
            tvl1(bad, bad)
    with pytest.raises(ValueError, match=r"0\.\.255, got torch.int64"):
        tvl1(frames.long(), frames.long())


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile on the CPU needs a C++ compiler")
@pytest.mark.slow
def test_compiled_is_the_same(monkeypatch):
    """In a cache of its own for every instruction set: inductor would take a kernel made for another from it, which does not compile."""
    cache = Path(tempfile.gettempdir()) / f"inductor-{os.getuid()}-{torch.backends.cpu.get_cpu_capability()}"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
    first, second = (torch.cat(frames) for frames in zip(moved(40, 52, 2.0, 1.0), moved(40, 52, 0.1, 0.0, 1), strict=True))
    short = TVL1Config(scales=2, warps=2)
    assert off(tvl1(first, second, short, compiled=True, batch=2), tvl1(first, second, short)).mean() < 5e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compiled", [False, None])
def test_a_gpu_finds_the_same(compiled):
    pairs = [turned(96, 120, 1.5, 1.0, seed) for seed in range(3)]
    first, second = (torch.cat(frames) for frames in zip(*pairs, strict=True))
    found = tvl1(first.cuda(), second.cuda(), compiled=compiled)
    assert found.device.type == "cuda"
    assert off(found.cpu(), tvl1(first, second)).mean() < 0.02


def test_grey_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    frames = torch.randint(0, 256, (2, 200, 300, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    frames[0, 0, :256] = torch.arange(256, dtype=torch.uint8)[:, None]
    assert np.array_equal(to_grey(frames).numpy(), np.stack([cv2.cvtColor(frame.numpy(), cv2.COLOR_RGB2GRAY) for frame in frames]))


def test_flow_of_a_clip():
    x, y = grid(40, 48)
    frames = torch.stack([texture(x - 0.5 * t * t, y).round().byte() for t in range(4)])[..., None].expand(-1, -1, -1, 3)
    flow = flow_of(frames.numpy(), batch=2)
    assert flow.shape == (3, 2, 40, 48)
    for t in range(3):
        assert flow[t, 0, 8:-8, 8:-8].mean() == pytest.approx(0.5 + t, abs=0.1)
    assert flow_of(frames[:1]).shape == (0, 2, 40, 48)


@pytest.mark.parametrize("method", ["opencv-tvl1", "opencv-dis"])
def test_flow_of_a_clip_by_opencv(method):
    pytest.importorskip("cv2")
    first, second = turned(64, 80, 0.0, 1.05)
    frames = torch.cat((first, second))[..., None].expand(-1, -1, -1, 3)
    assert off(flow_of(frames, method), flow_of(frames))[:, 8:-8, 8:-8].mean() < 0.3


def test_opencv_missing_is_said(monkeypatch):
    frames = torch.zeros(1, 20, 20, dtype=torch.uint8)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match="opencv-contrib-python-headless"):
        opencv_flow(frames, frames)
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(__version__="4.0"))
    with pytest.raises(UsageError, match="without its optflow module"):
        opencv_flow(frames, frames)


def some_flow() -> torch.Tensor:
    """(3, 2, 1, 4): rest, one axis, diagonal, far beyond the limit; times 1, -1, 0.3."""
    flow = torch.tensor([[[0.0, 10.0, 4.0, 60.0]], [[0.0, 0.0, -3.0, -80.0]]])
    return torch.stack((flow, -flow, 0.3 * flow))


def test_encodings_with_u_and_v():
    flow = some_flow()
    encoded = encode_flow(flow)
    assert encoded.shape == (3, 3, 1, 4)
    assert torch.equal(encoded[:, :2], (flow / 20).clamp(-1, 1))
    assert (encoded[:, 2] == 0).all()
    with_speed = encode_flow(flow, "uvmag", 10)
    assert torch.equal(with_speed[:, :2], (flow / 10).clamp(-1, 1))
    assert with_speed[0, 2, 0].tolist() == pytest.approx([0, 1, 0.5, 1])
    assert torch.equal(encode_flow(flow[0], "uvmag", 10), with_speed[0])


def test_encoding_as_hsv():
    flow = some_flow()
    encoded = encode_flow(flow, "hsv", 20)
    for n in range(3):
        for x in range(4):
            u, v = flow[n, :, 0, x].tolist()
            expected = colorsys.hsv_to_rgb(math.atan2(v, u) / (2 * math.pi) % 1, 1, min(1, math.hypot(u, v) / 20))
            assert encoded[n, :, 0, x].tolist() == pytest.approx([2 * part - 1 for part in expected], abs=1e-5)


def test_pictures_of_flow():
    flow = some_flow()
    pictures = flow_to_rgb(flow, limit_px=20)
    assert pictures.shape == (3, 1, 4, 3)
    assert pictures.dtype == torch.uint8
    assert (pictures[:, 0, 0] == 255).all()
    assert torch.equal(pictures[2:], flow_to_rgb(flow[2:], limit_px=20))
    assert not torch.equal(pictures[0, 0, 1], pictures[1, 0, 1])
    assert torch.equal(flow_to_rgb(flow)[0, 0, 3], pictures[0, 0, 3])
    assert not torch.equal(flow_to_rgb(flow)[0, 0, 1], pictures[0, 0, 1])


@pytest.mark.real
@pytest.mark.slow
def test_bench_prints_both_numbers(real_data):
    bench = Path(__file__).parents[3] / "scripts/bench"
    words = ["flow", "--data", real_data / "sequences", "--size", "64x48", "--pairs", "2", "--repeats", "1", "--device", "cpu"]
    done = subprocess.run([sys.executable, bench, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "sequences |" in line]
    assert [row[1] for row in rows] == ["OpenCV TV-L1", "OpenCV DIS", "our TV-L1"]
    assert [float(rows[0][place]) for place in (3, 4)] == [1, 0]
    assert float(rows[2][4]) < 0.1


def panning(u: float, v: float, n: int = 4, side: int = 96) -> torch.Tensor:
    """(1, T, 3, H, W) uint8: a texture that moves by (u, v) px a frame."""
    x, y = grid(side, side)
    frames = torch.stack([texture(x - u * t, y - v * t) for t in range(n)]).round().to(torch.uint8)
    return frames[None, :, None].expand(-1, -1, 3, -1, -1)


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_flow_pictures_show_directions_at_half_the_size(method):
    """All of a panning clip moves alike, so all of it has about the speed of full colour."""
    fast, slow = panning(1.5, -2.0), panning(0.75, -1.0)
    pictures = flow_pictures(torch.cat((fast, slow, fast.flip(-1))), method)
    assert pictures.shape == (3, 4, 3, 48, 48)
    inside = pictures[..., 8:-8, 8:-8]
    expected = torch.tensor([0.5 + 0.5 * 0.6, 0.5 - 0.5 * 0.8, 0.5]).view(3, 1, 1)
    assert (inside[0] - expected).abs().mean() < 0.03
    assert (inside[1] - expected).abs().mean() < 0.05  # the same from twice as far
    assert (inside[2, :, 0].mean() - 0.2).abs() < 0.03  # mirrored
    assert torch.equal(pictures[:, 3], pictures[:, 2])  # the last frame has no next one
    assert torch.allclose(pictures[:1], flow_pictures(fast, method), atol=1e-6)


def test_stillness_noise_and_single_frames_are_grey():
    still = panning(0.0, 0.0)
    assert torch.equal(flow_pictures(still), torch.full((1, 4, 3, 48, 48), 0.5))
    assert torch.equal(flow_pictures(still[:, :1]), torch.full((1, 1, 3, 48, 48), 0.5))
    noisy = still + torch.randn(still.shape, generator=torch.Generator().manual_seed(0))
    assert (flow_pictures(noisy.round().clamp(0, 255).to(torch.uint8)) - 0.5).abs().mean() < 0.05
