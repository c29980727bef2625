"""Where in a clip the motion is, as a square: brings people near and far to the same size when the camera stands still."""

import torch
import torch.nn.functional as F
from torch import Tensor

_CELL_PX = 4
_AROUND = 2  # cells: a change of light reaches neighbours at this distance alike
_NOISE = (6.0, 1.5)  # grey levels that flicker and compression reach; the second where nothing exceeds the first
_SHARPEN = 1.5
_SPREAD = 2.0  # standard deviations from the centre to the square's side
_OUTSIDE = 2.5  # standard deviations: farther away is something else
_ROUNDS = 8
_SMALLEST_PX = 10.0


def motion_squares(video: Tensor, size: Tensor) -> Tensor:
    """The square around most of a clip's motion: two standard deviations of it to each side, of the axis with the larger one.

    Motion is what differs between frames beyond what the surroundings do too, so that exposure and slow light do not count, averaged over
    time and over cells of 4 px; cells below twice the median (noise, a trembling camera) do not count. Centre and deviation are those of
    the motion within two and a half deviations of the centre, found in a few rounds: a second thing that moves far away is left out.
    A clip in which nothing moves gives its centre square.

    Args:
        video: `(N, T, 3, H, W)` uint8, zero-padded right and bottom. size: `(N, 2)` valid height and width, px.

    Returns:
        `(N, 3)` float32 on the CPU: centre row, centre column, half side in px;
        the half side is at least 10 px and at most half the short side.
    """
    found = [_square(clip[:, :, :height, :width]) for clip, (height, width) in zip(video, size.tolist(), strict=True)]
    return torch.stack(found).cpu() if found else torch.zeros(0, 3)


def _square(clip: Tensor) -> Tensor:
    """Centre row, centre column and half side, px, of `(T, 3, H, W)`."""
    height, width = clip.shape[-2:]
    most = min(height, width) / 2
    centre = torch.tensor([height / 2, width / 2, most], device=clip.device)
    if len(clip) < 2:
        return centre
    gray = _half(clip)
    change = gray[1:] - gray[:-1]
    change = (change - _surroundings(change)).abs()
    cells = _cells(change, _NOISE[0])
    if not cells.any():
        cells = _cells(change, _NOISE[1])
    rows, columns = ((torch.arange(count, device=clip.device) + 0.5) * _CELL_PX for count in cells.shape)
    inside = torch.ones_like(cells)
    for _ in range(_ROUNDS):
        weight = cells * inside
        (row, high), (column, wide) = (_moments(weight.sum(axis), places) for axis, places in ((1, rows), (0, columns)))
        near = [(places - at).abs() < _OUTSIDE * spread + _CELL_PX for places, at, spread in ((rows, row, high), (columns, column, wide))]
        inside = (near[0][:, None] & near[1]).to(cells)
    moving = torch.stack((row, column, (_SPREAD * torch.maximum(high, wide)).clamp(min(_SMALLEST_PX, most), most)))
    return torch.where(cells.sum() > 0, moving, centre)


def _half(clip: Tensor) -> Tensor:
    """Grey levels at half the size, `(T, ceil(H / 2), ceil(W / 2))` float32, of `(T, 3, H, W)` uint8; whole numbers as long as possible."""
    total = clip[:, 0].short() + clip[:, 1] + clip[:, 2]
    for axis in (-1, -2):
        if total.shape[axis] % 2:
            total = torch.cat((total, total.narrow(axis, -1, 1)), axis)
    total = total[..., ::2] + total[..., 1::2]
    return (total[..., ::2, :] + total[..., 1::2, :]).float() / 12


def _surroundings(change: Tensor) -> Tensor:
    """What changes alike around each place, `(T, h, w)` as given: means over 3 x 3 squares of `_AROUND` cells each."""
    side = _AROUND * _CELL_PX // 2
    blocks = F.avg_pool2d(F.avg_pool2d(change, side, ceil_mode=True), 3, 1, 1, count_include_pad=False)
    return blocks.repeat_interleave(side, -1).repeat_interleave(side, -2)[..., : change.shape[-2], : change.shape[-1]]


def _cells(change: Tensor, noise: float) -> Tensor:
    """How much moves in each cell, `(rows, columns)`, of absolute changes `(T - 1, h, w)` at half the size."""
    energy = (change - noise).clamp(min=0).sum(0, keepdim=True) / len(change)
    cells = F.avg_pool2d(F.avg_pool2d(energy, _CELL_PX // 2, ceil_mode=True), 3, 1, 1, count_include_pad=False)[0]
    return (cells - 2 * cells.median()).clamp(min=0) ** _SHARPEN


def _moments(weight: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation of places; zeros where there is no weight."""
    weight = weight / weight.sum().clamp(min=1e-12)
    mean = (weight * places).sum()
    return mean, (weight * (places - mean).square()).sum().sqrt()


def boxes_around(squares: Tensor, size: Tensor, factor: Tensor | float, shift: Tensor | float = 0.0) -> Tensor:
    """Boxes `(N, 4)` int64 (top, left, height, width) inside the frames.

    Args:
        squares: of `motion_squares`. size: `(N, 2)`. factor: `(N,)` or one number, on the half side.
        shift: `(N, 2)` or one number, moves the centre by this share of the half side.
    """
    size = size.float()
    half = torch.minimum(squares[:, 2] * factor, size.min(1).values / 2)
    centre = squares[:, :2] + shift * half[:, None]
    centre = torch.minimum(torch.maximum(centre, half[:, None]), size - half[:, None])
    side = (2 * half).floor().clamp(min=1)
    return torch.cat(((centre - half[:, None]).floor().clamp(min=0), side[:, None], side[:, None]), dim=1).long()
