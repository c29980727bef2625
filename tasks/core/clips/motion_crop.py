"""Where in a clip the motion is, as a square: brings people near and far to the same size when the camera stands still."""

import torch
import torch.nn.functional as F
from torch import Tensor

_CELL_PX = 4
_AROUND = 2  # cells: a change of light reaches neighbours at this distance alike
_NOISE = (6.0, 1.5)  # grey levels that flicker and compression reach; the second where the first leaves too little
_NOISE_DEVIATIONS = 5.0  # of a sensor's noise
_LEAST = 0.05  # grey levels, on average over time: less in a cell is an accident
_LEAST_CELLS = 16
_SHARPEN = 1.5
_SPREAD = 2.0  # standard deviations from the centre to the square's side
_OUTSIDE = 2.5  # standard deviations: farther away is something else
_ROUNDS = 8
_SMALLEST_PX = 10.0


def motion_squares(video: Tensor, size: Tensor) -> Tensor:
    """The square around a clip's motion: two standard deviations of it to each side, of the axis with the larger one.

    Motion is how much more than its surroundings a place changes from frame to frame, so that exposure and slow light do not count, less
    what noise reaches; averaged over time and over cells of 4 px. Cells below twice the median (a trembling camera) do not count. Centre
    and standard deviation are those of the motion within two and a half standard deviations of the centre, found in a few rounds, which
    leave out something smaller that moves far away. A clip in which nothing moves but noise gives its centre square.

    Args:
        video: `(N, T, 3, H, W)` uint8, zero-padded right and bottom.
        size: `(N, 2)` valid height and width, px.

    Returns:
        `(N, 3)` float32 on the CPU: centre row, centre column, half side in px;
        the half side is at least 10 px and at most half the short side.
    """
    if len(video) == 0:
        return torch.zeros(0, 3)
    sizes = size.tolist()
    rows, columns = (-(-length // _CELL_PX) for length in video.shape[-2:])
    maps = torch.zeros(len(video), len(_NOISE), rows, columns, device=video.device)
    for place, clip, (height, width) in zip(maps, video, sizes, strict=True):
        if len(clip) > 1:
            found = _cells(clip[:, :, :height, :width])
            place[:, : found.shape[1], : found.shape[2]] = found
    return torch.stack([_square(levels, *valid) for levels, valid in zip(maps.cpu(), sizes, strict=True)])


def _cells(clip: Tensor) -> Tensor:
    """How much moves in each cell of `(T, 3, H, W)`, `(levels of noise, rows, columns)` float32."""
    gray = _half(clip)
    change = gray[1:] - gray[:-1]
    change = (change - _surroundings(change)).abs()
    deviation = change[..., ::4, ::4].median() / 0.6745  # most of a picture stands still
    side, found = _CELL_PX // 2, []
    for noise in _NOISE:
        above = (change - (_NOISE_DEVIATIONS * deviation).clamp(min=noise)).clamp(min=0).mean(0, keepdim=True)
        cells = F.avg_pool2d(F.avg_pool2d(above, side, ceil_mode=True), 3, 1, 1, count_include_pad=False)[0]
        found.append((cells - (2 * cells.median()).clamp(min=_LEAST)).clamp(min=0))
    return torch.stack(found)


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


def _square(levels: Tensor, height: int, width: int) -> Tensor:
    """Centre row, centre column and half side, px, of `_cells` on the CPU."""
    most = min(height, width) / 2
    levels = levels[:, : -(-height // _CELL_PX), : -(-width // _CELL_PX)]
    cells = next((cells for cells in levels if int((cells > 0).sum()) >= _LEAST_CELLS), None)
    if cells is None:
        return torch.tensor([height / 2, width / 2, most])
    cells = cells**_SHARPEN
    rows, columns = ((torch.arange(count) + 0.5) * _CELL_PX for count in cells.shape)
    inside = torch.ones_like(cells)
    for _ in range(_ROUNDS):
        weight = cells * inside
        row, row_spread = _moments(weight.sum(1), rows)
        column, column_spread = _moments(weight.sum(0), columns)
        near = (rows - row).abs() < _OUTSIDE * row_spread + _CELL_PX
        inside = (near[:, None] & ((columns - column).abs() < _OUTSIDE * column_spread + _CELL_PX)).to(cells)
    half = (_SPREAD * torch.maximum(row_spread, column_spread)).clamp(min(_SMALLEST_PX, most), most)
    return torch.stack((row, column, half))


def _moments(weight: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation of places; zeros where there is no weight."""
    weight = weight / weight.sum().clamp(min=1e-12)
    mean = (weight * places).sum()
    return mean, (weight * (places - mean).square()).sum().sqrt()


def boxes_around(squares: Tensor, size: Tensor, factor: Tensor | float, shift: Tensor | float = 0.0) -> Tensor:
    """Boxes `(N, 4)` int64 (top, left, height, width) inside the frames.

    Args:
        squares: of `motion_squares`.
        size: `(N, 2)`.
        factor: `(N,)` or one number, on the half side.
        shift: `(N, 2)` or one number, moves the centre by this share of the half side.
    """
    size = size.float()
    half = torch.minimum(squares[:, 2] * factor, size.min(1).values / 2)
    centre = squares[:, :2] + shift * half[:, None]
    centre = torch.minimum(torch.maximum(centre, half[:, None]), size - half[:, None])
    side = (2 * half).floor().clamp(min=1)
    return torch.cat(((centre - half[:, None]).floor().clamp(min=0), side[:, None], side[:, None]), dim=1).long()
