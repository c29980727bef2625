"""Optical flow between consecutive frames: ours, OpenCV's as references, and flow as network input and as pictures."""

from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import flow_to_image

from tasks.core.errors import UsageError
from tasks.core.flow.flow_config import TVL1Config
from tasks.core.flow.tvl1 import tvl1

__all__ = ["TVL1Config", "encode_flow", "flow_of", "flow_pictures", "flow_to_rgb", "opencv_flow", "to_grey", "tvl1"]

FlowMethod = Literal["tvl1", "opencv-tvl1", "opencv-dis"]
FlowEncoding = Literal["uv0", "uvmag", "hsv"]
FLOW_SCALE = 2
"""Flow is computed at this many times the size of its pictures."""
_WINDOW = 64  # frames brought to the device at a time
_SLOWEST_PX = 0.2  # of flow pictures: what is slower is noise


def flow_of(
    frames: Tensor | np.ndarray,
    method: FlowMethod = "tvl1",
    device: torch.device | str = "cpu",
    batch: int | None = None,
    config: TVL1Config | None = None,
) -> Tensor:
    """Flow from every frame to the next.

    Args:
        frames: `(T, H, W, 3)` uint8 RGB, T >= 1.
        method: `tvl1`, ours, on `device`; `opencv-tvl1` or `opencv-dis`, always on the CPU.
        batch: pairs worked on at a time; None: as many as suit the device, 64 at most.
        config: of TV-L1, ours or OpenCV's.

    Returns:
        `(T - 1, 2, H, W)` float32 on the CPU, px, as `tvl1`. A video's last frame has no flow.
    """
    frames = torch.as_tensor(frames)
    device = torch.device(device if method == "tvl1" else "cpu")
    window = batch or _WINDOW
    n, height, width, _ = frames.shape
    flow = torch.empty(n - 1, 2, height, width)
    for start in range(0, n - 1, window):
        grey = to_grey(frames[start : start + window + 1].to(device))
        if method == "tvl1":
            found = tvl1(grey[:-1], grey[1:], config, batch=batch)
        else:
            found = opencv_flow(grey[:-1], grey[1:], method.removeprefix("opencv-"), config)
        flow[start : start + window] = found
    return flow


def to_grey(frames: Tensor) -> Tensor:
    """RGB to grey as OpenCV's `COLOR_RGB2GRAY` does it, bit for bit: ITU-R BT.601 weights in 15-bit fixed point, rounded.

    Args:
        frames: `(..., 3)` uint8.

    Returns:
        `(...)` uint8.
    """
    red, green, blue = frames.int().unbind(-1)
    return ((red * 9798 + green * 19235 + blue * 3735 + (1 << 14)) >> 15).to(torch.uint8)


def opencv_flow(first: Tensor, second: Tensor, method: Literal["tvl1", "dis"] = "tvl1", config: TVL1Config | None = None) -> Tensor:
    """OpenCV's flow, pair by pair on the CPU: what ours is measured against.

    Args:
        first, second: `(N, H, W)` grey, 0..255; rounded to uint8 where they are float.
        method: `tvl1`: `DualTVL1OpticalFlow`; `dis`: `DISOpticalFlow` with its medium preset.
        config: of TV-L1.

    Returns:
        `(N, 2, H, W)` float32 on the CPU, as `tvl1`.

    Raises:
        UsageError: OpenCV, or its `optflow` module, is not installed.
    """
    solver = _opencv_solver(_opencv(method), method, config or TVL1Config())
    first, second = (
        grey.round().to("cpu", torch.uint8).numpy() if grey.is_floating_point() else grey.cpu().numpy() for grey in (first, second)
    )
    flow = torch.empty(len(first), 2, *first.shape[1:])
    for row, a, b in zip(flow, first, second, strict=True):
        row.copy_(torch.from_numpy(solver.calc(a, b, None)).permute(2, 0, 1))
    return flow


def _opencv(method: str) -> ModuleType:
    try:
        import cv2
    except ImportError:
        raise UsageError(
            "OpenCV's flow needs the package opencv-contrib-python-headless", "pip install opencv-contrib-python-headless"
        ) from None
    if method == "tvl1" and not hasattr(cv2, "optflow"):
        raise UsageError(
            f"OpenCV {cv2.__version__} is installed without its optflow module, which TV-L1 is in",
            "pip uninstall opencv-python opencv-python-headless; pip install opencv-contrib-python-headless",
        )
    return cv2


def _opencv_solver(cv2: ModuleType, method: str, config: TVL1Config) -> Any:
    if method == "dis":
        return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    solver = cv2.optflow.DualTVL1OpticalFlow_create()
    solver.setTau(config.tau)
    solver.setLambda(config.lam)
    solver.setTheta(config.theta)
    solver.setScalesNumber(config.scales)
    solver.setScaleStep(config.scale_step)
    solver.setWarpingsNumber(config.warps)
    solver.setEpsilon(config.epsilon)
    solver.setInnerIterations(config.inner_iterations)
    solver.setOuterIterations(config.outer_iterations)
    solver.setMedianFiltering(config.median)
    return solver


def encode_flow(flow: Tensor, encoding: FlowEncoding = "uv0", limit_px: float = 20.0) -> Tensor:
    """Flow as three channels in [-1, 1], the range of a Tanh output; speed stays comparable between frames.

    Args:
        flow: `(..., 2, H, W)` float, px.
        encoding: `uv0`: u, v over `limit_px`, clipped, and zeros. `uvmag`: the third channel is the speed over `limit_px`, in [0, 1].
            `hsv`: the RGB picture with the direction as hue and the speed as value, saturation full; black (-1) is rest.
        limit_px: what becomes 1; more is clipped.

    Returns:
        `(..., 3, H, W)`, dtype of `flow`.
    """
    scaled = flow / limit_px
    u, v = scaled.unbind(-3)
    speed = torch.hypot(u, v).clamp(max=1)
    if encoding == "hsv":
        # the three channels of HSV -> RGB at full saturation are the same tent over the hue, a third of a turn apart
        sixth = torch.atan2(v, u) * (3 / torch.pi)
        shifts = torch.tensor([5.0, 3.0, 1.0], dtype=flow.dtype, device=flow.device).view(3, 1, 1)
        k = (sixth.unsqueeze(-3) + shifts).remainder(6)
        rgb = speed.unsqueeze(-3) * (1 - torch.minimum(k, 4 - k).clamp(0, 1))
        return 2 * rgb - 1
    third = speed if encoding == "uvmag" else torch.zeros_like(speed)
    return torch.cat((scaled.clamp(-1, 1), third.unsqueeze(-3)), dim=-3)


def flow_pictures(clips: Tensor, method: Literal["dis", "tvl1"] = "dis") -> Tensor:
    """Flow to the next frame as pictures at 1 / `FLOW_SCALE` of the size: red is u, green is v, 0.5 is rest; blue is 0.5 everywhere.

    The mean speed of a clip's fastest fiftieth, at least 0.2 px a frame, becomes full colour (0 or 1), however near the camera; what is
    faster is clipped. The last flow stands for the last frame too.

    Args:
        clips: `(N, T, 3, H, W)` uint8 RGB, H and W multiples of `FLOW_SCALE`.
        method: `dis`, OpenCV's on the CPU, or `tvl1`, ours on the device of `clips`.

    Returns:
        `(N, T, 3, H / FLOW_SCALE, W / FLOW_SCALE)` float32 in [0, 1], on the device of `clips`.
    """
    n, t, _, height, width = clips.shape
    pictures = clips.new_full((n, t, 3, height // FLOW_SCALE, width // FLOW_SCALE), 0.5, dtype=torch.float32)
    if n and t > 1:
        grey = to_grey(clips.movedim(2, -1))
        first, second = grey[:, :-1].flatten(0, 1), grey[:, 1:].flatten(0, 1)
        found = tvl1(first, second) if method == "tvl1" else opencv_flow(first, second, "dis")
        flow = F.avg_pool2d(found.to(clips.device), FLOW_SCALE).unflatten(0, (n, t - 1))
        speed = flow.square().sum(2).sqrt().flatten(1)
        fastest = speed.topk(max(1, speed.shape[1] // 50)).values.mean(1).clamp(min=_SLOWEST_PX)
        pictures[:, :-1] += encode_flow(flow / fastest.view(n, 1, 1, 1, 1), limit_px=1.0) / 2
        pictures[:, -1] = pictures[:, -2]
    return pictures


def flow_to_rgb(flow: Tensor, limit_px: float | None = None) -> Tensor:
    """Flow as pictures with the colour wheel of Baker et al. 2011 (Middlebury): hue is the direction, white is rest.

    Args:
        flow: `(N, 2, H, W)` float, px.
        limit_px: the speed of the full colour; more is clipped. None: the largest of all N.

    Returns:
        `(N, H, W, 3)` uint8 on the CPU.
    """
    flow = flow.float().cpu()
    if limit_px is not None:
        speed = flow.norm(dim=1, keepdim=True)
        flow = flow * (limit_px / speed.clamp(min=limit_px))
        # torchvision scales by the largest speed it sees: let it see the limit, in a column that is cut off again
        flow = F.pad(flow, (0, 1))
        flow[:, 0, :, -1] = limit_px
        return flow_to_image(flow)[..., :-1].permute(0, 2, 3, 1).contiguous()
    return flow_to_image(flow).permute(0, 2, 3, 1).contiguous()
