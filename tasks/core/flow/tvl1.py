"""TV-L1 optical flow of many pairs of frames at once, on any device.

Zach, Pock, Bischof 2007, "A Duality Based Approach for Realtime TV-L1 Optical Flow"; in the form of Sánchez, Meinhardt-Llopis, Facciolo
2013 (IPOL), with the median filter and the border rules of OpenCV's `DualTVL1OpticalFlow`, which is the implementation to agree with.

The frames are linearised around the flow so far, and u (the flow) is found by turns with the dual variable p of its total variation:

    v = u + TH(u)                     the data term, solved per pixel by thresholding        (IPOL eq. 16)
    u = v + theta div p               what the total variation makes of it                   (eq. 18)
    p = (p + tau/theta grad u) / (1 + tau/theta |grad u|)                                    (eq. 19)

With w the warped gradient of the second frame and rho the linearised residual, TH(u) = w clamp(-rho / |w|^2, -lam theta, lam theta):
one clamp instead of three cases. The code keeps theta p, called `px` and `py`, instead of p.

Where it differs from OpenCV: over few iterations by 1e-5 px. Over the hundreds that a pair takes, rounding decides where the data term is
ambiguous (at borders, behind what moves, without texture): some 0.01 px in the mean, less than between OpenCV's flow of two frames and of
their mirror images. OpenCV 4 warps by whole 1/32 px, OpenCV 5 and this file do not, which makes it 0.02 px.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.core.flow.flow_config import TVL1Config
from tasks.core.flow.median import median_filter

_SMALLEST_LEVEL_PX = 16
_CPU_PIXELS = 1 << 17  # pairs go through together while they fit the caches
_MOST_WORKERS = 8  # Python itself is busy for a tenth of the time that one thread takes
_GPU_PIXELS = 1 << 23  # enough to fill a large GPU; about 1 GB of its memory
# iterations between two looks at which pairs still move; a look waits for the device, and pairs stop at their own iteration anyway
_CHECK_EVERY = {"cpu": 1, "cuda": 4}
_FLAT = torch.finfo(torch.float32).eps

_Step = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


def tvl1(
    first: Tensor, second: Tensor, config: TVL1Config | None = None, *, batch: int | None = None, compiled: bool | None = None
) -> Tensor:
    """Optical flow from each first to each second frame: `second[y + v, x + u]` looks like `first[y, x]`.

    A pair stops by its own change, so its flow does not depend on what else is in the batch.

    Args:
        first, second: `(N, H, W)` grey, 0..255, uint8 or float, on one device; at least 3 x 3 px.
        config: None: the original's defaults.
        batch: pairs worked on at a time; None: as many as suit the device. Bounds the memory, changes nothing else.
        compiled: fuse the iteration by `torch.compile`, which takes some seconds once and needs a C++ compiler (CPU) or Triton (GPU); None:
            only on CUDA, where it gains most, and where it works.

    Returns:
        `(N, 2, H, W)` float32 on the same device, px: channel 0 is u, to the right; channel 1 is v, downwards.

    Raises:
        ValueError: shapes, types or devices do not fit each other.
    """
    _check(first, second)
    config = config or TVL1Config()
    n, height, width = first.shape
    on_cpu = first.device.type == "cpu"
    threads = torch.get_num_threads() if on_cpu and not compiled else 1
    if batch is None:
        room = (_CPU_PIXELS if on_cpu else _GPU_PIXELS) // (height * width)
        batch = max(1, min(room, math.ceil(n / threads)))
    step = _chosen_step(first.device.type, compiled)
    flow = torch.empty(n, 2, height, width, device=first.device)

    @torch.no_grad()
    def solve(part: slice) -> Tensor:
        return _coarse_to_fine(torch.stack((first[part], second[part]), 1).float(), config, step)

    parts = [slice(start, start + batch) for start in range(0, n, batch)]
    for part, found in zip(parts, _each(solve, parts, threads), strict=True):
        flow[part] = found
    return flow


def _each(solve: Callable[[slice], Tensor], parts: list[slice], threads: int) -> Iterator[Tensor]:
    """`solve` of every part, in as many Python threads as pay; the threads of torch are shared out between them.

    To split pairs over cores beats splitting every operation: the operations are short, and after each of them all cores would wait for
    the slowest, which on a machine with other work to do takes many times as long as the operation.
    """
    workers = min(threads, len(parts), _MOST_WORKERS)
    if workers < 2:
        yield from map(solve, parts)
        return
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            yield from pool.map(solve, parts)
    finally:
        # the number counts for the thread that sets it, and for threads that are made later
        torch.set_num_threads(threads)


@cache
def _chosen_step(device_type: str, compiled: bool | None) -> _Step:
    """`_step` as it is written, or compiled; where nothing is asked for, compiled on CUDA if a trial of it succeeds."""
    if not compiled and (compiled is False or device_type != "cuda"):
        return _step
    step = torch.compile(_step, dynamic=True)
    if compiled:
        return step
    planes = [torch.zeros(3, 2, 17, 23, device="cuda") for _ in range(5)]
    offset, live = torch.zeros(3, 17, 23, device="cuda"), torch.ones(3, 1, 1, 1, dtype=torch.bool, device="cuda")
    try:
        with torch.no_grad():
            step(*planes, offset, live, 0.045, 0.25, 0.3, 0.01)
    except Exception as error:  # whatever is missing or too old for it: the flow is the same without
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(f"TV-L1 runs uncompiled and several times slower, because torch.compile failed: {reason}", stacklevel=4)
        return _step
    return step


def _check(first: Tensor, second: Tensor) -> None:
    for what, a, b in (
        ("shape", tuple(first.shape), tuple(second.shape)),
        ("dtype", first.dtype, second.dtype),
        ("device", first.device, second.device),
    ):
        if a != b:
            raise ValueError(f"flow between frames of different {what}: {a} and {b}")
    if first.dim() != 3 or min(first.shape[1:]) < 3:
        raise ValueError(f"flow needs grey frames (N, H, W) of at least 3 x 3 px, got {tuple(first.shape)}")
    if first.dtype != torch.uint8 and not first.is_floating_point():
        raise ValueError(f"flow needs frames of uint8 or float, 0..255, got {first.dtype}")


def _coarse_to_fine(frames: Tensor, config: TVL1Config, step: _Step) -> Tensor:
    """`(N, 2, H, W)` first and second frames -> flow `(N, 2, H, W)`."""
    pyramid = [frames]
    while len(pyramid) < config.scales:
        size = tuple(round(side * config.scale_step) for side in pyramid[-1].shape[-2:])
        if min(size) < _SMALLEST_LEVEL_PX:
            break
        pyramid.append(_resized(pyramid[-1], size, (1 / config.scale_step,) * 2))
    flow = _one_level(torch.zeros_like(pyramid[-1]), pyramid[-1], config, step)
    for level in reversed(pyramid[:-1]):
        height, width = level.shape[-2:]
        flow = _resized(flow, (height, width), (flow.shape[2] / height, flow.shape[3] / width)) / config.scale_step
        flow = _one_level(flow, level, config, step)
    return flow


def _one_level(flow: Tensor, frames: Tensor, config: TVL1Config, step: _Step) -> Tensor:
    """The flow `(N, 2, H, W)` improved on first and second frames `(N, 2, H, W)`."""
    first, second = frames.unbind(1)
    source = _warp_source(second)
    px, py = torch.zeros_like(flow), torch.zeros_like(flow)
    for _ in range(config.warps):
        linear = _linearised(first, source, flow)
        flow, px, py = _minimised(flow, px, py, linear, config, step)
    return flow


def _minimised(
    flow: Tensor, px: Tensor, py: Tensor, linear: tuple[Tensor, Tensor, Tensor], config: TVL1Config, step: _Step
) -> tuple[Tensor, Tensor, Tensor]:
    """Iterations on one linearisation until every pair has come to rest; a pair at rest keeps what it has."""
    n = len(flow)
    every = _CHECK_EVERY.get(flow.device.type, 4)
    mask = None if every == 1 else torch.ones(n, 1, 1, 1, dtype=torch.bool, device=flow.device)
    done = 0
    for _ in range(config.outer_iterations):
        smooth = median_filter(flow, config.median)
        flow = smooth if mask is None else torch.where(mask, smooth, flow)
        for _ in range(config.inner_iterations):
            flow, px, py, live = step(flow, px, py, *linear, mask, config.lam * config.theta, config.tau, config.theta, config.epsilon)
            done += 1
            if every > 1:
                mask = live
                if done % every:
                    continue
            moving = int(live.sum())
            if not moving:
                return flow, px, py
            if moving < n:
                mask = live
    return flow, px, py


def _step(
    flow: Tensor,
    px: Tensor,
    py: Tensor,
    w: Tensor,
    slope: Tensor,
    offset: Tensor,
    live: Tensor | None,
    most: float,
    tau: float,
    theta: float,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One iteration on u and p.

    Args:
        flow, px, py: `(N, 2, H, W)`.
        w, slope, offset: of `_linearised`.
        live: `(N, 1, 1, 1)` bool, the pairs to change; None: all.
        most: lam theta, the longest step of the data term in units of the gradient.

    Returns:
        flow, px, py after it, and which pairs are still live: those whose flow changed by more than `epsilon` px.
    """
    along = torch.addcmul(offset, slope[:, 0], flow[:, 0]).addcmul_(slope[:, 1], flow[:, 1]).clamp_(-most, most)
    new = torch.addcmul(flow, w, along[:, None])
    # divergence by backward differences; forward differences end in zeros, so the last column of px and the last row of py are zero
    new += px
    new -= F.pad(px[..., :-1], (1, 0))
    new += py
    new -= F.pad(py[..., :-1, :], (0, 0, 1, 0))
    # row by row first: the order of summation, so the last bit, is then the same for every N
    change = (new - flow).square_().sum(3).flatten(1).sum(1)
    moving = (change > epsilon * epsilon * flow.shape[2] * flow.shape[3]).view(-1, 1, 1, 1)
    if live is not None:
        new = torch.where(live, new, flow)
    dx = F.pad(new[..., 1:] - new[..., :-1], (0, 1))
    dy = F.pad(new[..., 1:, :] - new[..., :-1, :], (0, 0, 0, 1))
    norm = torch.addcmul(dx * dx, dy, dy).sqrt_().mul_(tau / theta).add_(1)
    new_px = torch.add(px, dx, alpha=tau).div_(norm)
    new_py = torch.add(py, dy, alpha=tau).div_(norm)
    if live is not None:
        new_px, new_py, moving = torch.where(live, new_px, px), torch.where(live, new_py, py), live & moving
    return new, new_px, new_py, moving


def _warp_source(second: Tensor) -> Tensor:
    """What is warped, `(N, 3, H', W')`: the frame and its centred differences, in zeros up to the next powers of two.

    Beyond the border OpenCV's warp reads zeros too. With sides of powers of two `grid_sample`'s coordinates are exact for whole pixels:
    where nothing moves, the warped frame is the frame, bit for bit.
    """
    n, height, width = second.shape
    around = F.pad(second[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    source = second.new_zeros(n, 3, 1 << (height - 1).bit_length(), 1 << (width - 1).bit_length())
    source[:, 0, :height, :width] = second
    source[:, 1, :height, :width] = 0.5 * (around[:, 1:-1, 2:] - around[:, 1:-1, :-2])
    source[:, 2, :height, :width] = 0.5 * (around[:, 2:, 1:-1] - around[:, :-2, 1:-1])
    return source


def _linearised(first: Tensor, source: Tensor, flow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The data term around `flow`.

    Returns:
        w `(N, 2, H, W)`, the warped gradient; slope `(N, 2, H, W)` and offset `(N, H, W)` with -rho(u) / |w|^2 = offset + slope . u.
    """
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    grid = torch.stack(((2 * x + 1) / source.shape[3] - 1, (2 * y + 1) / source.shape[2] - 1), -1)
    warped = F.grid_sample(source, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    w = warped[:, 1:].contiguous()
    square = (w * w).sum(1)
    rest = warped[:, 0] - (w * flow).sum(1) - first
    scale = -1 / square.clamp_(min=_FLAT)
    return w, w * scale[:, None], rest * scale


def _resized(planes: Tensor, size: tuple[int, int], shrink: tuple[float, float]) -> Tensor:
    """Bilinear, between the two nearest pixels whatever the factor (no smoothing), as OpenCV's `INTER_LINEAR`.

    Args:
        planes: `(N, C, H, W)`.
        size: new height and width.
        shrink: old side over new side, for height and width; `1 / scale_step` is not quite the ratio of the rounded sizes.
    """
    for dim, n_out, ratio in ((3, size[1], shrink[1]), (2, size[0], shrink[0])):
        n_in = planes.shape[dim]
        place = ((torch.arange(n_out, dtype=torch.float64) + 0.5) * ratio - 0.5).clamp_(0, n_in - 1)
        below = place.long()
        above = (below + 1).clamp_(max=n_in - 1).to(planes.device)
        weight = (place - below).float().view(-1, *[1] * (3 - dim)).to(planes.device)
        below = below.to(planes.device)
        planes = planes.index_select(dim, below) * (1 - weight) + planes.index_select(dim, above) * weight
    return planes
