"""Flow as pictures."""

import cv2
import numpy as np
import pytest

from tasks.core.errors import InputError
from tasks.core.flow.flow_png import FLOW_LIMIT_PX, read_flow, write_flow


def test_flow_pictures_are_kittis(tmp_path):
    """Read back by OpenCV alone: R = 64 u + 2^15, G = 64 v + 2^15, B = 1."""
    flow = np.random.default_rng(0).normal(0, 10, (2, 20, 30)).astype(np.float32)
    flow[:, 0, 0] = 1e6, -1e6
    write_flow(tmp_path / "f.png", flow)
    blue, green, red = cv2.split(cv2.imread(str(tmp_path / "f.png"), cv2.IMREAD_UNCHANGED))
    assert red.dtype == np.uint16
    assert (blue == 1).all()
    np.testing.assert_allclose((red[1:].astype(float) - 2**15) / 64, flow[0, 1:], atol=1 / 128 + 1e-4)
    np.testing.assert_allclose((green[1:].astype(float) - 2**15) / 64, flow[1, 1:], atol=1 / 128 + 1e-4)
    back = read_flow(tmp_path / "f.png")
    np.testing.assert_allclose(back[:, 0, 0], (FLOW_LIMIT_PX, -FLOW_LIMIT_PX))
    np.testing.assert_allclose(back[:, 1:], flow[:, 1:], atol=1 / 128 + 1e-4)


@pytest.mark.parametrize("content", [None, b"", b"no picture", cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()])
def test_what_is_no_flow_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "f.png").write_bytes(content)
    with pytest.raises(InputError, match=r"f\.png cannot be read"):
        read_flow(tmp_path / "f.png")
