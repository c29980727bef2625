"""Boxes that come with clips: from a file, from the frames, and what becomes of those that are missing."""

import numpy as np
import pytest
import torch
from sliding import texture

from tasks.core.clips.box_source import BoxSource, check_boxes
from tasks.core.clips.config import BoxInput, DataConfig
from tasks.core.clips.loader import ClipDataset, collate, make_train_loader
from tasks.core.clips.prepare import boxes_for_model, boxes_input, boxes_of
from tasks.core.config import build
from tasks.core.data.manifest import Row
from tasks.core.errors import InputError, UsageError
from tasks.registry import schema

HEADER = "video,frame,x1_px,y1_px,x2_px,y2_px\n"


@pytest.fixture
def footage(tmp_path):
    """Two videos as folders of pictures, 64 x 48: in `a` a textured square moves over a still ground, `b` stands still."""
    from PIL import Image

    ground, square = texture(48, 64, 0), texture(16, 16, 1)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(8):
            picture = ground.copy()
            x = 8 + 3 * number if name == "a" else 8
            picture[16:32, x : x + 16] = square
            Image.fromarray(picture).save(tmp_path / name / f"{number:02d}.png")
    return tmp_path


def dataset(footage, boxes, names="ab", **changes):
    settings = {"clip": {"frames": 4, "stride_frames": 2}, "workers": 0, "boxes": boxes, **changes}
    return ClipDataset([Row(str(footage / name)) for name in names], DataConfig(**settings), None, "views", 1)


def write(footage, text):
    (footage / "boxes.csv").write_text(HEADER + text)
    return str(footage / "boxes.csv")


@pytest.mark.parametrize("preload", [False, True])
def test_boxes_of_a_file_are_scaled_with_the_frames(footage, preload):
    file = write(footage, "a,0,8,16,24,32\na,2,14,16,30,32\na,2,40,4,44,8\n")
    sample = dataset(footage, file, "a", short_side=24, preload=preload)[(0, 0)]
    assert sample.clips[0].shape == (4, 24, 32, 3)
    around = [14 / 2, 4 / 2, 44 / 2, 32 / 2]  # of both boxes of frame 2, and of every frame after it
    assert sample.boxes[0].tolist() == [[4, 8, 12, 16], around, around, around]


def test_what_lies_outside_is_cut_and_a_video_without_boxes_has_none(footage):
    file = write(footage, "a,0,-8,16,24,320\na,3,100,100,120,120\n")
    batch = collate([dataset(footage, file)[(number, 0)] for number in range(2)])
    assert batch["boxes"].dtype == torch.float32
    assert batch["boxes"][0].tolist() == [[0, 16, 24, 48], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert not batch["boxes"][1].any()
    assert batch["still"].tolist() == [False, False]
    assert "box_control" not in batch


def test_computed_boxes_lie_around_what_moves(footage):
    sample = dataset(footage, "compute", "a", clip={"frames": 8, "stride_frames": 1})[(0, 0)]
    middle = sample.boxes[0][3]
    assert middle[0] < 8 + 9 + 8 < middle[2]
    assert middle[1] < 24 < middle[3]
    area = (sample.boxes[0][:, 2] - sample.boxes[0][:, 0]) * (sample.boxes[0][:, 3] - sample.boxes[0][:, 1])
    assert area.max() < 0.75 * 64 * 48
    assert not sample.still[0]


def test_a_clip_in_which_nothing_moves_gets_the_central_half_and_is_counted(footage):
    batch = collate([dataset(footage, {})[(number, 0)] for number in range(2)])
    assert batch["still"].tolist() == [False, True]
    assert batch["boxes"][1].tolist() == [[16, 12, 48, 36]] * 4


@pytest.mark.parametrize("control", ["whole", "random"])
def test_controls(footage, control):
    batch = collate([dataset(footage, {"control": control})[(0, 0)]])
    if control == "whole":
        assert batch["boxes"][0].tolist() == [[0, 0, 64, 48]] * 4
    assert batch["box_control"] == control  # places are drawn when the squares are cut


def test_boxes_go_through_worker_processes(footage):
    data = DataConfig(clip={"frames": 4, "stride_frames": 2}, workers=1, boxes="compute")
    rows = [Row(str(footage / "a")), Row(str(footage / "b"))]
    batch = next(iter(make_train_loader(rows, data, None, 2)))
    own = next(iter(make_train_loader(rows, data.model_copy(update={"workers": 0}), None, 2)))
    assert torch.equal(batch["boxes"], own["boxes"])
    assert sorted(batch["still"].tolist()) == [False, True]


def test_a_file_of_other_videos_is_one_line_before_training(footage):
    rows = [Row(str(footage / "a")), Row(str(footage / "b"))]
    from tasks.core.data.rows import Rows

    def missing(text):
        return check_boxes(DataConfig(boxes=write(footage, text)), Rows.of(rows))

    assert missing("a,0,1,1,5,5\nb,0,1,1,5,5\n") == 0
    assert missing("a,0,1,1,5,5\n") == 1
    with pytest.raises(InputError, match=r"boxes of none of the 2 training videos, the first is .*a"):
        missing("c,0,1,1,5,5\n")
    for wrong in ("a,0,nan,1,5,5\n", "a,0,5,1,5,5\n"):
        with pytest.raises(InputError, match=r"boxes\.csv, line 2: "):
            missing(wrong)
    assert check_boxes(DataConfig(boxes="compute"), Rows.of(rows)) == 0


def test_short_forms_and_who_takes_boxes():
    assert BoxInput.model_validate("compute") == BoxInput()
    assert BoxInput.model_validate("x.csv") == BoxInput(file="x.csv")
    with pytest.raises(UsageError, match="does not look at boxes"):
        build(schema("boundaries", "pretrain"), {"data": {"boxes": "compute"}})
    with pytest.raises(UsageError, match="does not look at boxes"):
        build(schema("contrastive", "pretrain"), {"data": {"boxes": "compute"}})
    with pytest.raises(UsageError, match="the sampler tube does not look at boxes"):
        build(schema("masked", "pretrain"), {"sampler": {"name": "tube"}, "data": {"boxes": "compute"}})
    with pytest.raises(UsageError, match=r"mofo needs boxes.*data.boxes to compute"):
        build(schema("masked", "pretrain"), {"sampler": {"name": "mofo"}})
    flow = {"boxes": "compute", "flow": {"compute": {"method": "dis"}, "frames": False}}
    with pytest.raises(UsageError, match="frames, which are not read here"):
        build(schema("masked", "pretrain"), {"sampler": {"name": "mofo"}, "data": flow})


def test_a_model_says_how_it_finds_boxes_and_takes_a_file_at_most():
    trained = BoxInput(file="boxes.csv", compute={"mode": "code"}, control="random")
    saved = boxes_input(trained)
    assert boxes_input(None) == {}
    assert saved["boxes"]["compute"]["mode"] == "code"
    assert "file" not in saved["boxes"]
    own = boxes_of(saved)
    assert own == trained.model_copy(update={"file": None})
    assert boxes_for_model(None, saved) == own
    assert boxes_for_model(BoxInput(file="test.csv"), saved) == trained.model_copy(update={"file": "test.csv"})
    assert boxes_for_model(None, {}) is None
    with pytest.raises(UsageError, match="does not look at boxes"):
        boxes_for_model(BoxInput(), {})
    with pytest.raises(UsageError, match="part of the model"):
        boxes_for_model(BoxInput(control="whole"), saved)


def test_motion_is_found_in_pictures_of_any_size(footage):
    large = dataset(footage, "compute", "a", clip={"frames": 8, "stride_frames": 1})[(0, 0)].boxes[0][3] / 48
    small = dataset(footage, "compute", "a", clip={"frames": 8, "stride_frames": 1}, short_side=24)[(0, 0)].boxes[0][3] / 24
    assert np.abs(large - small).max() < 0.2


def test_a_box_source_survives_a_trip_to_a_worker(footage):
    import pickle

    source = pickle.loads(pickle.dumps(BoxSource(BoxInput(file=write(footage, "a,0,1,2,5,6\n")))))
    video = type("Video", (), {"height": 48, "width": 64})
    boxes, still = source.of_clip(str(footage / "a"), video, np.array([0, 1]), np.zeros((2, 48, 64, 3), np.uint8))
    assert boxes.tolist() == [[1, 2, 5, 6]] * 2
    assert not still


def test_pictures_too_small_for_flow_are_skipped_with_the_reason(footage):
    assert "too small for optical flow" in dataset(footage, "compute", "a", short_side=8)[(0, 0)].skipped


@pytest.mark.real
def test_boxes_of_gestures_lie_where_the_motion_is(real_data):
    """The centre of what moves, found in another way, is mostly inside of a clip's boxes, which leave most of the frame out."""
    from tasks.core.clips.motion_crop import motion_squares
    from tasks.core.data.manifest import read_sources

    rows = read_sources([f"{real_data}/gestures/manifest.csv@val"], "val")[::7]
    data = DataConfig(clip={"frames": 12, "stride_s": 0.1}, short_side=240, workers=0, boxes="compute")
    batch = collate([ClipDataset(rows, data, None, "views", 1)[(number, 0)] for number in range(len(rows))])
    row, column, _ = motion_squares(batch["video"], batch["size"]).unbind(1)
    low, high = batch["boxes"][..., :2].amin(1), batch["boxes"][..., 2:].amax(1)
    inside = (low[:, 0] <= column) & (column <= high[:, 0]) & (low[:, 1] <= row) & (row <= high[:, 1])
    assert inside.sum() >= 4  # of six
    area = (high - low).prod(1) / batch["size"].prod(1)
    assert area.median() < 0.5
    assert batch["still"].sum() <= 1  # a head that is shaken six metres away
