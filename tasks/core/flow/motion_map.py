"""Motion boundaries: the spatial derivatives of optical flow, in which a camera that moves sideways leaves no trace.

`paper` and `code` are the two forms of MOFO (Ahmadian et al. 2023): the formula of the paper, and what its public code computes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.core.flow.box_rules import REFERENCE_PX
from tasks.core.flow.levels import to_levels

CODE_WINDOW = 8
"""Flow fields that the public code sums."""
_BEFORE = 3  # of them lie before the frame
_BOUND_PX = 20.0
_CHANGE_LEVELS, _REACH_PX = 5.0, 4


def paper_map(flow: Tensor) -> Tensor:
    """m = sqrt(u_x^2 + u_y^2 + v_x^2 + v_y^2) by central differences, one-sided at the edges.

    Args:
        flow: `(N, 2, H, W)` float, px.

    Returns:
        `(N, H, W)`, px per px, dtype of `flow`.
    """
    down, right = torch.gradient(flow, dim=(-2, -1))
    return (down.square() + right.square()).sum(1).sqrt()


def changing(first: Tensor, second: Tensor) -> Tensor:
    """Where the picture changes, or is near to where it does: on what stays as it is, a wall with the noise of a codec, flow is invented.

    The change is the difference of the frames, less its median over the frame (a camera that adapts to the light), in the mean of 3 x 3 px.
    Our addition to the paper.

    Args:
        first, second: `(N, H, W)` grey, uint8.

    Returns:
        `(N, H, W)` bool: 5 of 255 grey levels or more within a square of 9 px at a short side of 240, scaled with others.
    """
    change = second.float() - first.float()
    change = change - change.flatten(1).median(1).values.view(-1, 1, 1)
    change = F.avg_pool2d(change.unsqueeze(1), 3, 1, 1).abs()
    reach = round(_REACH_PX * min(first.shape[1:]) / REFERENCE_PX)
    for window, pad in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
        change = F.max_pool2d(change, window, 1, pad)
    return change.squeeze(1) >= _CHANGE_LEVELS


def quantized(flow: Tensor) -> Tensor:
    """Flow as the public code stores it: 255 levels from -20 to 20 px, as float so that sums stay exact."""
    return to_levels(flow, _BOUND_PX).to(flow.dtype)


def code_window(frame: int, n_frames: int) -> tuple[int, int]:
    """First, and one past the last, of the flow fields that are summed for a frame: centred on it, shifted at the ends of the video."""
    first = min(max(frame - _BEFORE, 0), max(n_frames - CODE_WINDOW, 0))
    return first, min(first + CODE_WINDOW, n_frames)


def code_map(summed: Tensor) -> Tensor:
    """(|grad u| + |grad v|) / 2 with 3 x 3 Prewitt kernels, rounded down and clipped to 8 bits. (The public code lets it overflow.)

    Args:
        summed: `(N, 2, H, W)` float, sums of `quantized` flow over the fields of `code_window`; the gradient of the sum is the sum of
            the gradients.

    Returns:
        `(N, H, W)` whole numbers 0..255, dtype of `summed`.
    """
    padded = F.pad(summed, (1, 1, 1, 1), mode="replicate")
    three_rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    three_columns = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    across = three_rows[..., 2:] - three_rows[..., :-2]
    down = three_columns[..., 2:, :] - three_columns[..., :-2, :]
    return torch.hypot(across, down).mean(1).floor().clamp(max=255)
