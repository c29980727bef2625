"""Optical flow as 16-bit PNG in the form of the KITTI benchmark: R = 64 u + 2^15, G = 64 v + 2^15, B = 1."""

from pathlib import Path
from types import ModuleType

import numpy as np

from tasks.core.errors import InputError

_UNIT, _ZERO = 64.0, 1 << 15
FLOW_LIMIT_PX = (_ZERO - 1) / _UNIT
"""Flow beyond this, 511.98 px, is clipped."""


def write_flow(path: Path, flow: np.ndarray) -> None:
    """Writes `(2, H, W)` float32 px; exact to 1/128 px. Raises InputError without OpenCV."""
    cv2 = _opencv()
    levels = np.round(np.clip(flow, -FLOW_LIMIT_PX, FLOW_LIMIT_PX) * _UNIT + _ZERO).astype(np.uint16)
    valid = np.ones_like(levels[0])
    done, data = cv2.imencode(".png", np.dstack((valid, levels[1], levels[0])), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise OSError(f"{path}: OpenCV cannot write 16-bit PNG")
    path.write_bytes(data.tobytes())


def read_flow(path: Path) -> np.ndarray:
    """Back to `(2, H, W)` float32 px. Raises InputError where the file is none, and without OpenCV."""
    cv2 = _opencv()
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if picture is None or picture.dtype != np.uint16 or picture.ndim != 3:
        raise InputError(f"{path} cannot be read as 16-bit flow", "make the folder again: vid gen-pseudo")
    return (picture[..., :0:-1].transpose(2, 0, 1).astype(np.float32) - _ZERO) / _UNIT  # OpenCV keeps blue first


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError:
        raise InputError("flow as 16-bit PNG needs OpenCV", "pip install opencv-contrib-python-headless") from None
    return cv2
