"""Where in a clip the motion is, as a square: brings people near and far to the same size when the camera stands still."""

import torch
import torch.nn.functional as F
from torch import Tensor

_CELL_PX = 4
_TAIL = 0.05  # share of the motion left outside on each side
_SMALLEST_PX = 20.0


def motion_squares(video: Tensor, size: Tensor) -> Tensor:
    """The square around the middle 90 % of a clip's frame differences, per axis.

    Differences of grey values are averaged over time and over cells of 4 px; cells below twice the median (noise, flicker) do not count.
    A clip in which nothing moves gives its centre square.

    Args:
        video: `(N, T, 3, H, W)` uint8, zero-padded right and bottom. size: `(N, 2)` valid height and width, px.

    Returns:
        `(N, 3)` float32 on the CPU: centre row, centre column, half side in px;
        the half side is at least 20 px and at most half the short side.
    """
    n = len(video)
    if n == 0:
        return torch.zeros(0, 3)
    gray = video.float().mean(2)
    energy = (gray[:, 1:] - gray[:, :-1]).abs().mean(1) if gray.shape[1] > 1 else torch.zeros_like(gray[:, 0])
    cells = F.avg_pool2d(energy[:, None], _CELL_PX, ceil_mode=True)[:, 0]
    height, width = (size.to(cells.device)[:, axis].float() for axis in (0, 1))
    rows, columns = (torch.arange(count, device=cells.device) * _CELL_PX for count in cells.shape[1:])
    valid = (rows[None, :, None] < height[:, None, None]) & (columns[None, None, :] < width[:, None, None])
    level = cells.masked_fill(~valid, float("nan")).flatten(1).nanmedian(1).values
    cells = ((cells - 2 * level[:, None, None]).clamp(min=0)) * valid
    (top, bottom), (left, right) = (_middle(cells.sum(axis)) for axis in (2, 1))
    still = cells.sum((1, 2)) == 0
    half = torch.maximum(bottom - top, right - left) / 2 * _CELL_PX
    most = torch.minimum(height, width) / 2
    row = torch.where(still, height / 2, (top + bottom) / 2 * _CELL_PX)
    column = torch.where(still, width / 2, (left + right) / 2 * _CELL_PX)
    half = torch.where(still, most, torch.minimum(half.clamp(min=_SMALLEST_PX), most))
    return torch.stack((row, column, half), dim=1).cpu()


def _middle(profile: Tensor) -> tuple[Tensor, Tensor]:
    """First and last-plus-one cell of the part of `(N, cells)` that leaves `_TAIL` of the sum outside on each side."""
    share = profile.cumsum(1) / profile.sum(1, keepdim=True).clamp(min=1e-9)
    first = (share < _TAIL).sum(1)
    last = (share < 1 - _TAIL).sum(1)
    return first.float(), (last + 1).clamp(max=profile.shape[1]).float()


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
