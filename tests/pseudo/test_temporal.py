"""Flow mixup and the flow pictures."""

import numpy as np
import pytest
import torch

from tasks.core.flow.flow import encode_flow
from tasks.core.flow.flow_png import read_flow, write_flow
from tasks.pseudo.config import TemporalConfig
from tasks.pseudo.pictures import write_picture
from tasks.pseudo.temporal import FlowMixup, mix, place


def field(seed=0, height=30, width=44):
    return np.random.default_rng(seed).normal(0, 5, (2, height, width)).astype(np.float32)


def boxes(n, height=30, width=44):
    rng = np.random.default_rng(1)
    for _ in range(n):
        x1, x2 = np.sort(rng.choice(width + 1, 2, replace=False))
        y1, y2 = np.sort(rng.choice(height + 1, 2, replace=False))
        yield int(x1), int(y1), int(x2), int(y2)


def test_inside_it_mixes_outside_it_is_bit_equal():
    mixup = FlowMixup(TemporalConfig(segment_frames=1), [3])
    for t, box in enumerate(boxes(40)):
        flow = field(t)
        before = flow.copy()
        made = mixup(t, flow, box)
        (x1, y1, x2, y2), (sx, sy, _, _) = box, made.source
        for y in range(30):
            for x in range(44):
                if x1 <= x < x2 and y1 <= y < y2:
                    other = before[:, sy + y - y1, sx + x - x1].astype(np.float64)
                    expected = made.weight * before[:, y, x] + (1 - made.weight) * other
                    np.testing.assert_allclose(made.flow[:, y, x], expected, rtol=1e-5, atol=1e-5)
                else:
                    assert (made.flow[:, y, x] == before[:, y, x]).all()
        np.testing.assert_array_equal(flow, before)


def test_the_other_place_has_the_same_size_and_lies_inside():
    rng = np.random.default_rng(0)
    for box in boxes(300):
        x1, y1, x2, y2 = place(30, 44, box, *rng.random(2))
        assert (x2 - x1, y2 - y1) == (box[2] - box[0], box[3] - box[1])
        assert 0 <= x1 < x2 <= 44
        assert 0 <= y1 < y2 <= 30
    every = {place(30, 44, (0, 0, 42, 28), a, b)[:2] for a, b in np.random.default_rng(0).random((500, 2))}
    assert every == {(x, y) for x in range(3) for y in range(3)}


def test_weight_one_is_the_identity():
    flow = field()
    flow[0, 3, 3] = np.float32(1e-30)
    np.testing.assert_array_equal(mix(flow, (2, 2, 20, 20), (10, 5, 28, 23), 1.0), flow)


def test_weights_are_beta():
    """Beta(.4, .4): mean 1/2, variance 1 / (4 * 1.8) = .1389."""
    mixup = FlowMixup(TemporalConfig(per_frame=True), [5])
    weights = np.array([mixup.draw(t)[0] for t in range(6000)])
    assert weights.mean() == pytest.approx(0.5, abs=0.015)
    assert weights.var() == pytest.approx(0.25 / 1.8, abs=0.005)


def test_a_segment_shares_weight_and_place_and_per_frame_does_not():
    box = (4, 4, 12, 14)
    held = [FlowMixup(TemporalConfig(segment_frames=4), [1])(t, field(), box) for t in range(8)]
    assert len({(m.weight, m.source) for m in held[:4]}) == len({(m.weight, m.source) for m in held[4:]}) == 1
    assert held[0].weight != held[4].weight
    loose = FlowMixup(TemporalConfig(segment_frames=4, per_frame=True), [1])
    assert len({loose(t, field(), box).weight for t in range(8)}) == 8
    assert FlowMixup(TemporalConfig(), [2]).draw(0) != FlowMixup(TemporalConfig(), [1]).draw(0)


def test_a_shift_survives_flow_picture_and_encoding(tmp_path):
    """B11.5: TV-L1 on a pattern moved by 3 px, stored, read, encoded: 3 / 20."""
    from tasks.core.flow.flow import flow_of

    y, x = np.mgrid[:64, :96].astype(np.float32)
    frames = [128 + 60 * np.sin(0.35 * (x - 3 * t)) * np.cos(0.3 * y) for t in range(2)]
    flow = flow_of(np.repeat(np.stack(frames)[..., None], 3, -1).round().astype(np.uint8))[0].numpy()
    write_flow(tmp_path / "f.png", flow)
    encoded = encode_flow(torch.from_numpy(read_flow(tmp_path / "f.png")))
    inner = encoded[:, 16:-16, 16:-16]
    assert float(inner[0].median()) == pytest.approx(3 / 20, abs=0.01)
    assert float(inner[1].abs().mean()) < 0.01
    assert (encoded[2] == 0).all()


def test_pictures_of_frames_and_masks(tmp_path):
    from PIL import Image

    frame = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
    mask = frame[..., 0] > 100
    write_picture(tmp_path / "a.png", frame)
    write_picture(tmp_path / "b.png", mask)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), frame)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), mask * np.uint8(255))
