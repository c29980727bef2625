"""The pieces of device-side augmentation: per-sample draws, crop boxes, batched colour jitter, RandAugment's operations.

Draws are made on the CPU with numpy from a counter-based generator keyed by the sample's seed, so that they depend on nothing else.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

CROP_DRAWS = 22
_ATTEMPTS = 10


def host(values: Tensor) -> np.ndarray:
    """A tensor as numpy; waits for the device if the tensor lives on one."""
    return values.detach().cpu().numpy()


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """numpy -> float32 tensor on `device` without waiting for it."""
    return torch.as_tensor(values).to(device, torch.float32, non_blocking=True)


def sample_generator(seed: int, stream: int) -> np.random.Generator:
    """The random numbers of one sample: a function of (seed, stream) alone, the same on every machine.

    Args:
        seed: the sample's augmentation seed, any int64.
        stream: 0 for transforms, 1 for mixing; different streams are independent.
    """
    key = np.array([seed & 0xFFFFFFFFFFFFFFFF, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def uniform_draws(seeds: np.ndarray, stream: int, n: int) -> np.ndarray:
    """`n` uniform numbers for every sample: (N,) int64 -> (N, n) float64 in [0, 1)."""
    draws = np.empty((len(seeds), n))
    for row, seed in zip(draws, seeds.tolist(), strict=True):
        sample_generator(seed, stream).random(out=row)
    return draws


def resized_boxes(size: np.ndarray, u: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float]) -> np.ndarray:
    """Random-resized-crop boxes (Szegedy et al. 2015, Inception; ten attempts, then the largest central box of a permitted ratio).

    Args:
        size: (N, 2) int, valid height and width, px.
        u: (N, CROP_DRAWS) uniform draws.
        scale: range of the box's area as a share of the frame.
        ratio: range of width / height.

    Returns:
        (N, 4) int64: top, left, height, width.
    """
    full_h, full_w = size[:, :1].astype(float), size[:, 1:].astype(float)
    area = full_h * full_w * (scale[0] + u[:, :_ATTEMPTS] * (scale[1] - scale[0]))
    log_lo, log_hi = math.log(ratio[0]), math.log(ratio[1])
    aspect = np.exp(log_lo + u[:, _ATTEMPTS : 2 * _ATTEMPTS] * (log_hi - log_lo))
    w, h = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (w >= 1) & (w <= full_w) & (h >= 1) & (h <= full_h)
    first = fits.argmax(axis=1)
    rows = np.arange(len(size))
    h, w, found = h[rows, first], w[rows, first], fits[rows, first]
    full_h, full_w = full_h[:, 0], full_w[:, 0]
    h = np.where(found, h, np.minimum(full_h, np.maximum(1, np.rint(full_w / ratio[0]))))
    w = np.where(found, w, np.minimum(full_w, np.maximum(1, np.rint(full_h * ratio[1]))))
    top = np.where(found, np.floor(u[:, -2] * (full_h - h + 1)), (full_h - h) // 2)
    left = np.where(found, np.floor(u[:, -1] * (full_w - w + 1)), (full_w - w) // 2)
    return np.stack([top, left, h, w], axis=1).astype(np.int64)


_GRID = np.array(
    [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)],
)


def multiscale_boxes(size: np.ndarray, u: np.ndarray, scales: tuple[float, ...]) -> np.ndarray:
    """Scale-jittered crops at thirteen fixed places (Wang et al. 2016, Temporal Segment Networks, section 3.2; used by VideoMAE).

    Height and width are the short side times two entries of `scales` that are at most one step apart; the places are the quarters of
    the free room: corners, centre, edge middles, and the centres of the quadrants. Arguments and result as `resized_boxes`.
    """
    n_scales = len(scales)
    pairs = np.array([(a, b) for a in range(n_scales) for b in range(n_scales) if abs(a - b) <= 1])
    base = size.min(axis=1)
    pair = pairs[(u[:, 0] * len(pairs)).astype(int)]
    sides = np.maximum(1, (base[:, None] * np.asarray(scales)[pair]).astype(np.int64))
    places = _GRID[(u[:, 1] * len(_GRID)).astype(int)]
    corners = places * ((size - sides) // 4)
    return np.concatenate([corners, sides], axis=1).astype(np.int64)


def center_boxes(size: np.ndarray) -> np.ndarray:
    """The largest central square. Result as `resized_boxes`."""
    side = np.repeat(size.min(axis=1, keepdims=True), 2, axis=1)
    return np.concatenate([(size - side) // 2, side], axis=1).astype(np.int64)


def full_boxes(size: np.ndarray) -> np.ndarray:
    """The whole valid frame. Result as `resized_boxes`."""
    return np.concatenate([np.zeros_like(size), size], axis=1).astype(np.int64)


def erasing_boxes(u: np.ndarray, size: int) -> np.ndarray:
    """Boxes of random erasing (Zhong et al. 2017; area 1/50 to 1/3, aspect 0.3 to 3.3, sides cut at the frame).

    Args:
        u: (N, 4) uniform draws.
        size: frame side, px.

    Returns:
        (N, 4) int64: top, left, height, width.
    """
    area = size * size * (0.02 + u[:, 0] * (1 / 3 - 0.02))
    aspect = np.exp(math.log(0.3) + u[:, 1] * (math.log(3.3) - math.log(0.3)))
    h = np.clip(np.rint(np.sqrt(area * aspect)), 1, size)
    w = np.clip(np.rint(np.sqrt(area / aspect)), 1, size)
    top, left = np.floor(u[:, 2] * (size - h + 1)), np.floor(u[:, 3] * (size - w + 1))
    return np.stack([top, left, h, w], axis=1).astype(np.int64)


def _column(factor: Tensor) -> Tensor:
    return factor.view(-1, 1, 1, 1, 1)


def brighten(video: Tensor, factor: Tensor) -> Tensor:
    """`F.adjust_brightness` with one factor per clip; (N, T, 3, H, W) float in [0, 1], (N,) -> same shape."""
    return (video * _column(factor)).clamp_(0, 1)


def saturate(video: Tensor, factor: Tensor) -> Tensor:
    """`F.adjust_saturation` with one factor per clip; factor 0 is grey scale."""
    return torch.lerp(F.rgb_to_grayscale(video, 3), video, _column(factor)).clamp_(0, 1)


def contrast(video: Tensor, factor: Tensor) -> Tensor:
    """`F.adjust_contrast` with one factor per clip, around the mean grey of the whole clip so that brightness does not flicker.

    The mean is taken clip by clip: the order of a sum over the batch would depend on the batch's size.
    """
    if not len(video):
        return video
    mean = torch.stack([F.rgb_to_grayscale(clip).mean() for clip in video])
    return torch.lerp(_column(mean), video, _column(factor)).clamp_(0, 1)


def shift_hue(video: Tensor, turns: Tensor) -> Tensor:
    """`F.adjust_hue` with one shift per clip, in turns of the colour circle; (N, T, 3, H, W) float in [0, 1], (N,) -> same shape."""
    high, low = video.amax(2), video.amin(2)
    chroma = high - low
    red, green, blue = video.unbind(2)
    span = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(high == green, 2 + (blue - red) / span, 4 + (red - green) / span)
    sixth = torch.where(high == red, (green - blue) / span, sixth)
    sixth = sixth + 6 * turns.view(-1, 1, 1, 1)
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = (sixth + offset).remainder_(6)
        channels.append(high - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, 2)


def blur(video: Tensor, sigma: np.ndarray, radius: int) -> Tensor:
    """`F.gaussian_blur` with one sigma per clip: reflected at the edges, rows first, then columns.

    Taps are added one by one rather than by a convolution, whose rounding may depend on the size of the batch.

    Args:
        video: (N, T, 3, H, W) float.
        sigma: (N,), px.
        radius: taps on each side of the middle; less where the frame is smaller.
    """
    for axis in (4, 3):
        reach = min(radius, video.shape[axis] - 1)
        taps = np.exp(-0.5 * (np.arange(reach + 1) / sigma[:, None]) ** 2)
        taps /= taps[:, :1] + 2 * taps[:, 1:].sum(1, keepdims=True)
        weights = to_device(taps, video.device)
        length = video.shape[axis]
        places = np.abs(np.arange(-reach, length + reach))  # reflect: -1 -> 1, length -> length - 2
        places = np.minimum(places, 2 * (length - 1) - places)
        wide = video.index_select(axis, torch.from_numpy(places).to(video.device, non_blocking=True))
        out = video * _column(weights[:, 0])
        for k in range(1, reach + 1):
            for start in (reach - k, reach + k):
                out.addcmul_(wide.narrow(axis, start, length), _column(weights[:, k]))
        video = out
    return video


def _whole(op: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Let an operation that looks at an image's statistics see all frames of a clip as one image."""

    def apply(clip: Tensor) -> Tensor:
        t, c, h, w = clip.shape
        image = clip.transpose(0, 1).reshape(c, t * h, w)
        return op(image).view(c, t, h, w).transpose(0, 1)

    return apply


def _degrees(slope: float) -> float:
    return math.degrees(math.atan(slope))


# name -> (strength in [-1, 1], side of the square, px) -> angle, degrees; translation, px; shear, degrees. Strongest as below.
_WARPS: dict[str, Callable[[float, int], tuple[float, tuple[int, int], tuple[float, float]]]] = {
    "shear_x": lambda m, side: (0.0, (0, 0), (_degrees(0.3 * m), 0.0)),
    "shear_y": lambda m, side: (0.0, (0, 0), (0.0, _degrees(0.3 * m))),
    "translate_x": lambda m, side: (0.0, (int(150 / 331 * side * m), 0), (0.0, 0.0)),
    "translate_y": lambda m, side: (0.0, (0, int(150 / 331 * side * m)), (0.0, 0.0)),
    "rotate": lambda m, side: (30.0 * m, (0, 0), (0.0, 0.0)),
}


def _warp(name: str) -> Callable[[Tensor, float, list[float]], Tensor]:
    def apply(clip: Tensor, m: float, fill: list[float]) -> Tensor:
        angle, translate, shear = _WARPS[name](m, clip.shape[-1])
        return F.affine(clip, angle, list(translate), 1.0, list(shear), interpolation=InterpolationMode.BILINEAR, fill=fill)

    return apply


def warp_of(name: str, strength: float, side: int) -> np.ndarray | None:
    """Where an operation of `RANDAUGMENT` shows what was at a place: `(2, 3)` from (x, y, 1) to (x, y), px; None: where it was.

    Args:
        name: of the operation.
        strength: in [-1, 1].
        side: of the square pictures, px.
    """
    if name not in _WARPS:
        return None
    angle, translate, shear = _WARPS[name](strength, side)
    turn, (x, y) = math.radians(angle), (math.radians(value) for value in shear)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    down = np.array([[1.0, 0.0], [-math.tan(y), 1.0]])
    along = np.array([[1.0, -math.tan(x)], [0.0, 1.0]])
    linear, centre = rotation @ down @ along, np.full(2, side / 2)
    return np.concatenate([linear, (centre + translate - linear @ centre)[:, None]], axis=1)


# name -> (clip (T, 3, S, S) uint8, strength in [-1, 1], fill) -> clip. The strongest setting of each is torchvision's (bin 30 of 31).
RANDAUGMENT: dict[str, Callable[[Tensor, float, list[float]], Tensor]] = {
    "identity": lambda clip, m, fill: clip,
    **{name: _warp(name) for name in _WARPS},
    "brightness": lambda clip, m, fill: F.adjust_brightness(clip, 1 + 0.9 * m),
    "color": lambda clip, m, fill: F.adjust_saturation(clip, 1 + 0.9 * m),
    "contrast": lambda clip, m, fill: _whole(lambda image: F.adjust_contrast(image, 1 + 0.9 * m))(clip),
    "sharpness": lambda clip, m, fill: F.adjust_sharpness(clip, 1 + 0.9 * m),
    "posterize": lambda clip, m, fill: F.posterize(clip, 8 - round(4 * abs(m))),
    "solarize": lambda clip, m, fill: F.solarize(clip, 255 * (1 - abs(m))),
    "autocontrast": lambda clip, m, fill: _whole(F.autocontrast)(clip),
    "equalize": lambda clip, m, fill: _whole(F.equalize)(clip),
}
