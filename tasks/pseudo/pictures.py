"""Pictures of a pseudo-anomaly folder: 8-bit PNG of frames and masks, 16-bit PNG of flow as KITTI writes it."""

from pathlib import Path

import numpy as np

_FLOW_UNIT, _FLOW_ZERO = 64.0, 1 << 15
FLOW_LIMIT_PX = (_FLOW_ZERO - 1) / _FLOW_UNIT
"""Flow beyond this, 511.98 px, is clipped."""


def write_picture(path: Path, picture: np.ndarray) -> None:
    """`(H, W, 3)` uint8 RGB or `(H, W)` bool (255 = True) as PNG."""
    from PIL import Image

    Image.fromarray(picture.astype(np.uint8) * 255 if picture.dtype == bool else picture).save(path, compress_level=3)


def write_flow(path: Path, flow: np.ndarray) -> None:
    """`(2, H, W)` float32 px as 16-bit PNG: R = 64 u + 2^15, G = 64 v + 2^15, B = 1; exact to 1/128 px."""
    import cv2

    levels = np.round(np.clip(flow, -FLOW_LIMIT_PX, FLOW_LIMIT_PX) * _FLOW_UNIT + _FLOW_ZERO).astype(np.uint16)
    valid = np.ones_like(levels[0])
    done, data = cv2.imencode(".png", np.dstack((valid, levels[1], levels[0])), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise OSError(f"{path}: OpenCV cannot write 16-bit PNG")
    path.write_bytes(data.tobytes())


def read_flow(path: Path) -> np.ndarray:
    """Back to `(2, H, W)` float32 px."""
    import cv2

    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    return (picture[..., :0:-1].transpose(2, 0, 1).astype(np.float32) - _FLOW_ZERO) / _FLOW_UNIT
