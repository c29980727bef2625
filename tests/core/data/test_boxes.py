"""Files of boxes."""

import numpy as np
import pytest

from tasks.core.data.boxes import BoxFile, write_boxes
from tasks.core.errors import InputError, UsageError

HEAD = "video,frame,x1_px,y1_px,x2_px,y2_px,score\n"


@pytest.fixture
def box_file(tmp_path):
    file = tmp_path / "boxes.csv"
    file.write_text(
        f"{HEAD}train/01.mp4,3,0,0,60,40,0.9\ntrain/01.mp4,0,10,20,30,40,0.9\ntrain/01.mp4,0,10,20,30,41,0.2\n"
        "train/01.mp4,3,1.5,2,6,4,\ntest/01.mp4,0,1,1,5,5,.1\n"
    )
    return file


def plain(found):
    return {frame: boxes.tolist() for frame, boxes in found.items()}


def test_boxes_belong_to_the_video_whose_path_ends_so(box_file, tmp_path):
    boxes = BoxFile(box_file, 0.5)
    assert plain(boxes.of("/data/ped2/train/01.mp4")) == {0: [[10, 20, 30, 40]], 3: [[0, 0, 60, 40], [1.5, 2, 6, 4]]}
    assert boxes.find(str(tmp_path / "test" / "01.mp4")) == {}
    assert plain(BoxFile(box_file).of(str(tmp_path / "test" / "01.mp4"))) == {0: [[1, 1, 5, 5]]}
    assert boxes.find("/data/ped2/train/02.mp4") is None
    assert boxes.find("/data/retrain/01.mp4") is None


def test_the_longest_name_that_fits_counts(tmp_path):
    file = tmp_path / "b.csv"
    file.write_text(f"{HEAD}01.mp4,0,0,0,1,1,\na/01.mp4,0,0,0,2,2,\n/x/y/a/01.mp4,0,0,0,3,3,\n")
    boxes = BoxFile(file)
    widths = {path: boxes.of(path)[0][0, 2] for path in ("/q/01.mp4", "/q/a/01.mp4", "/x/y/a/01.mp4")}
    assert widths == {"/q/01.mp4": 1, "/q/a/01.mp4": 2, "/x/y/a/01.mp4": 3}
    file.write_text(f"{HEAD}a/01.mp4,0,0,0,1,1,\n./a/01.mp4,0,0,0,2,2,\n")
    with pytest.raises(InputError, match="names it in several ways"):
        BoxFile(file).of("/q/a/01.mp4")


def test_a_missing_video_names_the_nearest_and_the_way_to_boxes(box_file):
    with pytest.raises(InputError, match=r"no boxes of it in .*boxes.csv; the nearest that it has is train/01.mp4") as caught:
        BoxFile(box_file).of("/data/train/02.mp4")
    assert "vid motion-boxes" in caught.value.hint


def test_boxes_are_clipped_to_the_frame_and_not_outside_of_it(tmp_path):
    file = tmp_path / "b.csv"
    file.write_text(f"{HEAD}a.mp4,0,-5,3,12,9,\na.mp4,1,20,0,30,5,\n")
    boxes = BoxFile(file)
    assert plain(boxes.of("/q/a.mp4", size=(8, 25))) == {0: [[0, 3, 12, 8]], 1: [[20, 0, 25, 5]]}
    with pytest.raises(InputError, match="the box 20 0 30 5 of frame 1 lies outside its 20x8 px"):
        boxes.of("/q/a.mp4", size=(8, 20))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("video,frame,x,y\n", UsageError, "no column x1, y1, x2, y2"),
        ("", UsageError, "no column video, frame"),
        ("video,frame,x1,y1,x2,y2\na.mp4,0,5,5,3,9\n", InputError, "line 2: an empty box"),
        ("video,frame,x1,y1,x2,y2\na.mp4,0,5,5,7,5\n", InputError, "line 2: an empty box"),
        ("video,frame,x1,y1,x2,y2\na.mp4,0,5,5,nan,9\n", InputError, "line 2: a number that is not finite"),
        ("video,frame,x1,y1,x2,y2\na.mp4,0,5,5,inf,9\n", InputError, "line 2: a number that is not finite"),
        ("video,frame,x1,y1,x2,y2\na.mp4,0.5,5,5,7,9\n", InputError, "line 2: not a frame number"),
        ("video,frame,x1,y1,x2,y2\na.mp4,0,5,5,7\n", InputError, "line 2: not a frame number"),
        ("video,frame,x1,y1,x2,y2\na.mp4,-1,5,5,7,9\n", InputError, "line 2: frame -1; frames are counted from 0"),
    ],
)
def test_malformed_box_files(tmp_path, text, error, words):
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(error, match=words):
        BoxFile(tmp_path / "b.csv")


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        BoxFile(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"video,frame,x1,y1,x2,y2\n\xff\xfe.mp4,0,1,1,2,2\n")
    with pytest.raises(InputError, match="not UTF-8 text"):
        BoxFile(tmp_path / "b.csv")


def test_what_is_written_is_read_again(tmp_path):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 50, (7, 2))
    made = np.concatenate((low, low + rng.uniform(1, 50, (7, 2))), 1)
    write_boxes(tmp_path / "b.csv", [("a, b.mp4", 4, made[:3]), ("c.mp4", 0, made[3:])])
    boxes = BoxFile(tmp_path / "b.csv")
    for name, first, part in (("a, b.mp4", 4, made[:3]), ("c.mp4", 0, made[3:])):
        found = boxes.of(str(tmp_path / name))
        assert list(found) == list(range(first, first + len(part)))
        np.testing.assert_allclose(np.concatenate(list(found.values())), part, atol=0.005 + 1e-9)
