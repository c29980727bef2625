import io

import numpy as np
import pytest
from PIL import Image

from tasks.core.report.strips import heatmap, outline, overlay_mask, tile


def open_png(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_heatmap_fills_cells_and_spans_the_palette_over_the_whole_clip():
    values = np.array([[[0.0, 1.0], [2.0, 3.0]], [[3.0, 3.0], [3.0, 3.0]]])
    colors = heatmap(values, 8)
    assert colors.shape == (2, 8, 8, 3)
    assert colors.dtype == np.uint8
    assert all(len(np.unique(colors[0, y : y + 4, x : x + 4].reshape(-1, 3), axis=0)) == 1 for y in (0, 4) for x in (0, 4))
    assert np.array_equal(colors[1, 0, 0], colors[0, 7, 7])
    brightness = [colors[0, y, x].sum() for y in (0, 4) for x in (0, 4)]
    assert brightness == sorted(brightness)


def test_heatmap_of_odd_input():
    assert (heatmap(np.full((1, 2, 2), 5.0), 4) == heatmap(np.zeros((1, 2, 2)), 4)).all()
    holes = heatmap(np.array([[[np.nan, 0.0], [np.inf, 1.0]]]), (4, 6))
    assert holes.shape == (1, 4, 6, 3)
    assert (holes[0, 0, 0] == 128).all()
    assert (heatmap(np.full((1, 1, 1), np.nan), 2) == 128).all()
    fixed = heatmap(np.array([[[-5.0, 9.0]]]), 2, low=0, high=1)
    assert (fixed == heatmap(np.array([[[0.0, 1.0]]]), 2)).all()


def test_overlay_paints_masked_tokens_in_all_frames_of_a_tubelet():
    frames = np.full((4, 8, 8, 3), 200, dtype=np.uint8)
    mask = np.zeros((2, 2, 2), dtype=bool)
    mask[0, 0, 1] = True
    out = overlay_mask(frames, mask, color=(1, 2, 3))
    assert (out[:2, :4, 4:] == (1, 2, 3)).all()
    assert (out[:2, :4, :4] == 200).all()
    assert (out[2:] == 200).all()
    assert (frames == 200).all()
    with pytest.raises(ValueError, match="3 steps do not divide 4 frames"):
        overlay_mask(frames, np.zeros((3, 2, 2), dtype=bool))


def test_tile_shows_first_and_last_frame_in_order():
    frames = np.repeat(np.arange(10, dtype=np.uint8)[:, None, None, None] * 20, 3, axis=3) + np.zeros((1, 32, 32, 1), np.uint8)
    sheet = open_png(tile([("frames", frames)], columns=4, frame_px=32))
    middle = sheet[sheet.shape[0] // 2, ::-1, 0]
    runs = [value for value in dict.fromkeys(middle.tolist()) if value != 255]
    assert runs[:4] == [180, 120, 60, 0]


def test_tile_aligns_rows_of_tubelets_and_frames():
    frames = np.zeros((8, 16, 24, 3), dtype=np.uint8)
    sheet = open_png(
        tile([("frames", frames), ("mask\nper tubelet", frames[:4]), ("größer", np.zeros((8, 160, 240, 3), np.uint8))], frame_px=48)
    )
    columns = (sheet == 0).all(2)[-20]
    assert columns.sum() == 8 * 48
    with pytest.raises(ValueError, match="3 steps do not divide 8"):
        tile([("a", frames), ("b", frames[:3])])
    with pytest.raises(ValueError, match="nothing"):
        tile([])


def test_an_outline_is_drawn_inside_its_box_and_nowhere_without_one():
    frames = np.zeros((2, 12, 16, 3), np.uint8)
    drawn = outline(frames, np.array([[2.2, 3, 9, 8], [0, 0, 0, 0]]), (9, 9, 9))
    assert drawn[0, 3:8, 2:9].any(-1).sum() == 2 * 7 + 2 * 3
    assert not drawn[0, 4:7, 3:8].any()
    assert not drawn[1].any()
    assert not frames.any()
